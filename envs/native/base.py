"""What a native environment is: pure functions of arrays, for any number of environments at once."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import gymnasium
import numpy as np
from gymnasium import Space, spaces

from envs.actions import ActionCodec
from envs.api import Array, Obs
from envs.errors import UserError, words_of
from envs.native.painters import Painter
from envs.spaces import ObservationCodec, leaf_spaces


class Dynamics(Protocol):
    """The rules of one task, as a frozen dataclass of its parameters, which all have defaults.

    `xp` is the array module, `numpy` or `torch`. N environments are one state array `[k, N]`, float64 or int64,
    one row for each quantity. Nothing is kept between calls, nothing given is written to, and what is returned
    shares no memory with it, observations apart. All randomness is in the numbers given. No Python branch looks at an
    array's values, so that each of `init`, `step` and `observe` can be compiled, and captured in a CUDA graph.

    Derive from this class for the defaults of what has any.
    """

    # Gymnasium's id where ours shall take the place of its environment, with the same transitions and arguments;
    # else an id of its own, such as "Bricks-v0"
    env_id: ClassVar[str]
    reward_threshold: ClassVar[float | None] = None  # mean return at which the task counts as solved
    render_fps: ClassVar[int] = 30  # steps a second that look natural
    uniforms: ClassVar[int] = 0  # how many random numbers one initial state takes
    step_uniforms: ClassVar[int] = 0  # how many one step takes
    # whether `step` takes one environment without its axis too, all as below but no N; the class that has it says so
    single: ClassVar[bool] = False

    max_episode_steps: int  # episodes are truncated after this many steps

    @property
    def observation_space(self) -> Space:
        """Space of the observations: Box, Discrete or MultiDiscrete from 0, MultiBinary, or a flat Dict of those.

        A leaf named "action_mask" says which actions are legal, 1 or 0.
        """
        ...

    @property
    def action_space(self) -> Space:
        """Space of the actions: Discrete from 0, Box float32 `[d]`, MultiDiscrete or MultiBinary `[k]`."""
        ...

    def init(self, xp: Any, uniform: Array) -> Array:
        """Return initial states `[k, N]` for random numbers in [0, 1), float64 `[uniforms, N]`."""
        ...

    def step(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Array, Array, Array]:
        """Return the next states `[k, N]`, the rewards `[N]`, of any dtype, and whether each terminated, bool `[N]`.

        Args:
            xp: the array module.
            state: `[k, N]`.
            action: int64 `[N]` (Discrete) or `[N, k]`, or float32 `[N, d]` (Box, beyond the bounds too).
            uniform: random numbers in [0, 1), float64 `[step_uniforms, N]`.
        """
        ...

    def observe(self, xp: Any, state: Array) -> Obs:
        """Return the observations `[N, ...]`, or a dict of such arrays, of any dtype and in any memory order.

        They may be views of `state`; `Observed` makes of them what the space says.
        """
        ...

    def painter(self, render_mode: str) -> Painter:
        """Return what draws single states `[k]`, `render_mode` "rgb_array" or "human"; may be left out."""
        ...


class Observed:
    """A task whose observations come in the dtypes of `space`, contiguous, and share no memory with the state.

    Args:
        dynamics: the task.
        space: its observation space, or the canonical form of that.
    """

    def __init__(self, dynamics: Dynamics, space: Space) -> None:
        self.init, self.step, self._observe = dynamics.init, dynamics.step, dynamics.observe
        self.uniforms, self.step_uniforms = dynamics.uniforms, dynamics.step_uniforms
        self.single = _is_single(type(dynamics))
        self.max_episode_steps = dynamics.max_episode_steps
        dtypes = {key: np.dtype(leaf.dtype).name for key, leaf in leaf_spaces(space).items()}
        self._dtypes = dtypes if isinstance(space, spaces.Dict) else dtypes[""]

    def step_numpy(
        self, state: np.ndarray, action: np.ndarray, uniform: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Do `step` with NumPy, for one environment by numbers instead of arrays of one, which take it longer."""
        if state.shape[1] > 1 or not self.single:
            return self.step(np, state, action, uniform)
        following, reward, terminated = self.step(np, state[:, 0], action[0], uniform[:, 0])
        return following[:, None], np.asarray(reward)[None], np.asarray(terminated)[None]

    def observe(self, xp: Any, state: Array) -> Obs:
        """Return the observations of states `[k, N]`."""
        obs, dtypes = self._observe(xp, state), self._dtypes
        if isinstance(dtypes, dict):
            return {key: _cast(xp, obs[key], dtype) for key, dtype in dtypes.items()}
        return _cast(xp, obs, dtypes)


def _is_single(task: type) -> bool:
    """Return what the class says of `step` that defines it: who derives from it may have written another."""
    return next((vars(kind).get("single", False) for kind in task.__mro__ if "step" in vars(kind)), False)


def _cast(xp: Any, values: Array, dtype: str) -> Array:
    copies = dtype in ("int64", "float64")  # as states are, of which it may be a view
    if xp is np:
        return np.array(values, dtype, order="C", copy=True if copies else None)
    return values.to(getattr(xp, dtype), copy=copies, memory_format=xp.contiguous_format).contiguous()


def state_like(dynamics: Dynamics | Observed, num_envs: int) -> np.ndarray:
    """Return some state of `num_envs` environments, to read its shape and dtype from."""
    return dynamics.init(np, np.zeros((dynamics.uniforms, num_envs)))


def is_dynamics(value: Any) -> bool:
    """Whether `value` is a class that has the methods of `Dynamics`."""
    if not inspect.isclass(value) or value is Dynamics or issubclass(value, gymnasium.Env):
        return False
    return all(callable(getattr(value, name, None)) for name in ("init", "step", "observe"))


def name_of(task: type[Dynamics]) -> str:
    """Return what messages call a task: its id, or its class's name."""
    return getattr(task, "env_id", task.__name__)


def paints(task: type[Dynamics]) -> bool:
    """Whether states of a task can be drawn."""
    return getattr(task, "painter", Dynamics.painter) is not Dynamics.painter


def painter_of(dynamics: Dynamics, render_mode: str) -> Painter:
    """Return what draws states of `dynamics`.

    Raises:
        UserError: it has no painter.
    """
    if not paints(type(dynamics)):
        raise UserError(f"{name_of(type(dynamics))} cannot be drawn: it has no painter(render_mode)")
    return dynamics.painter(render_mode)


def parameters(task: type[Dynamics]) -> list[str]:
    """Return the names of the keyword arguments that `task` takes.

    Raises:
        UserError: it is no dataclass.
    """
    return [field.name for field in _fields(task)]


def _fields(task: type[Dynamics]) -> tuple[dataclasses.Field[Any], ...]:
    if not dataclasses.is_dataclass(task):
        raise UserError(f"{name_of(task)} must be a dataclass: write @dataclass(frozen=True) above the class")
    return dataclasses.fields(task)


def build_dynamics(task: type[Dynamics], arguments: dict[str, Any]) -> Dynamics:
    """Return the dynamics `task` with these parameters, tried out on two environments.

    Raises:
        UserError: a value is not of its parameter's type, or the class breaks a rule of `Dynamics`.
    """
    name = name_of(task)
    for field in _fields(task):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{name}: {field.name} must have a default")
        if field.name in arguments:
            _check_argument(name, field, arguments[field.name])
    wanted = ("reward_threshold", "render_fps", "uniforms", "step_uniforms", "max_episode_steps")
    missing = [one for one in (*wanted, "observation_space", "action_space") if not hasattr(task, one)]
    if missing:
        raise UserError(f"{name} has no {', '.join(missing)}: derive it from envs.native.base.Dynamics for defaults")
    try:
        dynamics = task(**arguments)
        reason = _fault(dynamics)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} raised {type(error).__name__} when it was tried out: {words_of(error)}") from error
    if reason is not None:
        raise UserError(f"{name}: {reason}")
    return dynamics


def _check_argument(name: str, field: dataclasses.Field[Any], value: Any) -> None:
    kind = type(field.default)
    wanted = (int, float) if kind is float else (kind,)
    if field.default is None or field.default is dataclasses.MISSING:
        return
    finite = not isinstance(value, int | float) or math.isfinite(value)
    if type(value) not in wanted or not finite or (field.name == "max_episode_steps" and value < 1):
        kinds = {int: "an integer of at least 1", float: "a number", bool: "true or false"}
        raise UserError(f"{name}: {field.name} must be {kinds.get(kind, f'a {kind.__name__}')}, got {value!r}")


def _fault(dynamics: Dynamics, count: int = 2) -> str | None:
    """Return what is wrong with a task, stepped once for `count` environments, or None."""
    for name, codec in (("observation_space", ObservationCodec), ("action_space", ActionCodec)):
        space = getattr(dynamics, name)
        if not isinstance(space, Space):
            return f"{name} must be a gymnasium.Space, but it is {space!r}"
        if codec is ActionCodec and isinstance(space, spaces.Dict | spaces.Tuple):
            return f"action_space is {space}, and a native environment's has one part"
        plain, wanted = leaf_spaces(space), leaf_spaces(codec(space).space)
        counts_from_zero = not any(np.any(getattr(leaf, "start", 0)) for leaf in plain.values())
        if not counts_from_zero or [*_shapes(plain)] != [*_shapes(wanted)]:
            return f"{name} is {space}, but a native environment's is flat and counts from 0"
    state = dynamics.init(np, np.zeros((dynamics.uniforms, count)))
    if state.ndim != 2 or state.shape[1] != count or state.dtype not in (np.float64, np.int64):
        return f"init must return states [k, N], float64 or int64, but for N = {count} it returned {_of(state)}"
    space = ActionCodec(dynamics.action_space).space
    action = np.zeros((count, *(space.shape or ())), np.float32 if isinstance(space, spaces.Box) else np.int64)
    if isinstance(space, spaces.Box):
        action = action.clip(space.low, space.high)
    following, reward, ended = dynamics.step(np, state, action, np.zeros((dynamics.step_uniforms, count)))
    if (following.shape, following.dtype) != (state.shape, state.dtype):
        return f"step must return states like those of init, {_of(state)}, but returned {_of(following)}"
    if np.shape(reward) != (count,) or np.shape(ended) != (count,) or np.asarray(ended).dtype != bool:
        found = f"rewards {_of(reward)} and {_of(ended)}"
        return f"step must return rewards [N] and, bool [N], whether each ended; for N = {count} it returned {found}"
    alone = Observed(dynamics, dynamics.observation_space).step_numpy(
        state[:, :1], action[:1], np.zeros((dynamics.step_uniforms, 1))
    )
    among = (np.asarray(found)[..., :1] for found in (following, reward, ended))
    if not all(map(np.array_equal, among, alone)):
        return "its step is `single`, but for one environment without its axis it returns something else"
    obs = dynamics.observe(np, following)
    for key, leaf in leaf_spaces(dynamics.observation_space).items():
        if bool(key) != isinstance(obs, dict) or (key and key not in obs):
            return f"observe must return what {dynamics.observation_space} says, but it returned {obs!r}"
        value, shape = obs[key] if key else obs, (count, *(leaf.shape or ()))
        if np.shape(value) != shape:
            where = f"observe's {key!r}" if key else "observe"
            return f"{where} must have shape {[*shape]} for N = {count}, but it returned {_of(value)}"
    return None


def _shapes(named: dict[str, Space]) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    return ((key, leaf.shape) for key, leaf in sorted(named.items()))


def _of(values: Any) -> str:
    array = np.asarray(values)
    return f"{array.dtype} {list(array.shape)}"
