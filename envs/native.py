"""Our own dynamics as a `VecEnv` (NumPy on the CPU, torch elsewhere) and as ordinary Gymnasium environments.

Importing this module registers "native/CartPole-v1" and so on with Gymnasium, so that
`gymnasium.make("envs.native:native/CartPole-v1")` works from anywhere; those of our own invention also under their
plain ids, "Bricks-v0".
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, Protocol

import gymnasium
import numpy as np

from envs import saved
from envs.api import Array, InProcess, Step
from envs.dynamics.acrobot import Acrobot
from envs.dynamics.base import Dynamics, state_like
from envs.dynamics.bricks import Bricks
from envs.dynamics.cartpole import CartPole
from envs.dynamics.corridor import Corridor
from envs.dynamics.mountaincar import MountainCar, MountainCarContinuous
from envs.dynamics.painters import Painter
from envs.dynamics.pendulum import Pendulum
from envs.errors import UserError
from envs.seeding import derive_seed
from envs.spaces import ActionCodec, refuse_nan

_TASKS: tuple[type[Dynamics], ...] = (
    CartPole,
    Acrobot,
    MountainCar,
    MountainCarContinuous,
    Pendulum,
    Bricks,
    Corridor,
)
DYNAMICS: dict[str, type[Dynamics]] = {
    **{task.env_id: task for task in _TASKS},
    **{f"native/{task.env_id}": task for task in _TASKS},
}


def parameters(task: type[Dynamics]) -> list[str]:
    """Return the names of the keyword arguments that `task` takes."""
    return [field.name for field in fields(task)]  # type: ignore[arg-type]


def build_dynamics(env_id: str, arguments: dict[str, Any]) -> Dynamics:
    """Return the dynamics of `env_id` with these parameters.

    Raises:
        UserError: a value is not a number of the parameter's type.
    """
    task = DYNAMICS[env_id]
    for name, default in ((field.name, field.default) for field in fields(task)):  # type: ignore[arg-type]
        value = arguments.get(name, default)
        wanted = (int, float) if type(default) is float else (type(default),)
        if type(value) not in wanted or not math.isfinite(value) or (name == "max_episode_steps" and value < 1):
            kind = {int: "an integer of at least 1", float: "a number", bool: "true or false"}[type(default)]
            raise UserError(f"{env_id}: {name} must be {kind}, got {value!r}")
    return task(**arguments)


def observation(xp: Any, dynamics: Dynamics, state: Array) -> Array:
    """Return the observations of states `[k, N]`, contiguous `[N, ...]`, in their space's dtype."""
    obs = dynamics.observe(xp, state)
    if obs.ndim > 2:  # images are uint8 already
        return obs
    return obs.astype(np.float32, order="C") if xp is np else obs.to(xp.float32).contiguous()


def tick(
    xp: Any, dynamics: Dynamics, state: Array, steps: Array, action: Array, uniform: Array
) -> tuple[Array, Array, Array, Array, Array, Array, Array]:
    """Step N environments once and begin a new episode where one ended; a pure function, to be compiled or captured.

    Args:
        xp: the array module.
        state: `[k, N]`.
        steps: int64 `[N]`, taken in each environment's episode.
        action: what `NativeVecEnv.decode` returned.
        uniform: float64 `[dynamics.uniforms, N]` in [0, 1), for the episodes that begin.

    Returns:
        The next state and steps, and `obs`, `reward`, `terminated`, `truncated` and `next_obs` of `envs.api.Step`.
    """
    state, reward, terminated = dynamics.step(xp, state, action)
    steps = steps + 1
    truncated = steps >= dynamics.max_episode_steps
    done = terminated | truncated
    next_obs = observation(xp, dynamics, state)
    state = xp.where(done, dynamics.init(xp, uniform), state)
    steps = xp.where(done, 0, steps)
    reward = xp.asarray(reward, dtype=xp.float32)
    return state, steps, observation(xp, dynamics, state), reward, terminated, truncated, next_obs


class Arrays(Protocol):
    """An array module with its random generator and the few operations in which the modules differ."""

    xp: Any
    device: str

    def seed(self, seed: int) -> None: ...

    def uniform(self, *shape: int) -> Array:
        """Draw float64 in [0, 1)."""
        ...

    def zeros(self, count: int) -> Array:
        """Return int64 zeros `[count]`."""
        ...

    def assign(self, old: Array | None, new: Array) -> Array:
        """Return `new`, in the memory of `old` where a captured graph needs it to stay."""
        ...

    def to_numpy(self, values: Array) -> np.ndarray: ...

    def from_numpy(self, values: np.ndarray) -> Array: ...

    def generator_state(self) -> dict[str, Any]: ...

    def set_generator_state(self, state: dict[str, Any]) -> None: ...


class NumpyArrays:
    """NumPy, on the CPU."""

    xp: Any = np
    device = "cpu"

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)

    def seed(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def uniform(self, *shape: int) -> np.ndarray:
        return self._generator.random(shape)

    def zeros(self, count: int) -> np.ndarray:
        return np.zeros(count, np.int64)

    def assign(self, old: np.ndarray | None, new: np.ndarray) -> np.ndarray:
        return new

    def to_numpy(self, values: np.ndarray) -> np.ndarray:
        return values.copy()

    def from_numpy(self, values: np.ndarray) -> np.ndarray:
        return values

    def generator_state(self) -> dict[str, Any]:
        return dict(self._generator.bit_generator.state)

    def set_generator_state(self, state: dict[str, Any]) -> None:
        self._generator.bit_generator.state = state


class TorchArrays:
    """torch, on any of its devices, without a word to the host between two steps."""

    def __init__(self, device: str) -> None:
        import torch

        self.xp: Any = torch
        self.device = device
        self.generator = torch.Generator(device)

    def seed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def uniform(self, *shape: int) -> Array:
        return self.xp.rand(shape, dtype=self.xp.float64, device=self.device, generator=self.generator)

    def zeros(self, count: int) -> Array:
        return self.xp.zeros(count, dtype=self.xp.int64, device=self.device)

    def assign(self, old: Array | None, new: Array) -> Array:
        return new if old is None else old.copy_(new)

    def to_numpy(self, values: Array) -> np.ndarray:
        return values.cpu().numpy().copy()

    def from_numpy(self, values: np.ndarray) -> Array:
        return self.xp.from_numpy(values).to(self.device)

    def generator_state(self) -> dict[str, Any]:
        return {"torch": self.generator.get_state().numpy()}

    def set_generator_state(self, state: dict[str, Any]) -> None:
        self.generator.set_state(self.xp.from_numpy(np.array(state["torch"])))


class NativeVecEnv(InProcess):
    """N environments of our own, stepped as one set of arrays. See `envs.api.VecEnv`.

    Attributes:
        dynamics: the task.
        state: `[k, N]`, where they stand.
        steps: int64 `[N]`, taken in their episodes.
    """

    backend = "native"

    def __init__(self, dynamics: Dynamics, num_envs: int, arrays: Arrays, rescale_action: bool = False) -> None:
        self.dynamics = dynamics
        self.num_envs = num_envs
        self.device = arrays.device
        self.capturable = arrays.xp is not np
        self.observation_space = dynamics.observation_space
        self.action_space = ActionCodec(dynamics.action_space, rescale_action).space
        self.state: Array = None
        self.steps: Array = None
        self._arrays = arrays
        self._numpy = arrays.xp is np
        self._limit = dynamics.max_episode_steps
        self._bounds: tuple[Array, Array] | None = None
        self._scale: tuple[Array, Array] | None = None
        if isinstance(self.action_space, gymnasium.spaces.Box):
            self._bounds = arrays.from_numpy(self.action_space.low), arrays.from_numpy(self.action_space.high)
        if rescale_action and isinstance(dynamics.action_space, gymnasium.spaces.Box):
            low, high = dynamics.action_space.low, dynamics.action_space.high
            self._scale = arrays.from_numpy((high - low) / 2), arrays.from_numpy((high + low) / 2)
        self._painter: Painter | None = None

    def reset(self, seed: int) -> Array:
        arrays = self._arrays
        arrays.seed(derive_seed(seed, "env"))
        self.state = arrays.assign(self.state, self.dynamics.init(arrays.xp, self.draw()))
        self.steps = arrays.assign(self.steps, arrays.zeros(self.num_envs))
        return observation(arrays.xp, self.dynamics, self.state)

    def step(self, action: Array) -> Step:
        return self._step_numpy(self.decode(action)) if self._numpy else self.step_drawn(action, self.draw())

    def step_drawn(self, action: Array, uniform: Array) -> Step:
        """`step` with the randomness that `draw` returned (tensors only)."""
        arrays, action = self._arrays, self.decode(action)
        state, steps, *step = tick(arrays.xp, self.dynamics, self.state, self.steps, action, uniform)
        self.state = arrays.assign(self.state, state)
        self.steps = arrays.assign(self.steps, steps)
        return Step(*step)

    def _step_numpy(self, action: np.ndarray) -> Step:
        """`tick`, which draws and begins episodes only where some ended."""
        dynamics = self.dynamics
        self.state, reward, terminated = dynamics.step(np, self.state, action)
        self.steps += 1
        truncated = self.steps >= self._limit
        done = terminated | truncated
        obs = next_obs = observation(np, dynamics, self.state)
        if np.count_nonzero(done):
            (rows,) = done.nonzero()
            fresh = dynamics.init(np, self.draw().take(rows, axis=1))
            self.state[:, rows] = fresh
            self.steps[rows] = 0
            obs = next_obs.copy()
            obs[rows] = observation(np, dynamics, fresh)
        return Step(obs, np.asarray(reward, np.float32), terminated, truncated, next_obs)

    def decode(self, action: Array) -> Array:
        """Return canonical actions as the dynamics take them: clipped to the bounds, or rescaled to them.

        Raises:
            UserError: an action is NaN (NumPy only: nothing waits for a device, or may in a captured step).
        """
        if self._bounds is None:
            return action
        if self._numpy:
            refuse_nan(action)
        low, high = self._bounds
        xp = self._arrays.xp
        action = xp.minimum(xp.maximum(action, low), high)
        return action if self._scale is None else action * self._scale[0] + self._scale[1]

    def draw(self, *ticks: int) -> Array:
        """Draw what `tick` takes as `uniform`, `[*ticks, dynamics.uniforms, N]`, from these environments' generator."""
        return self._arrays.uniform(*ticks, self.dynamics.uniforms, self.num_envs)

    def state_dict(self) -> dict[str, Any]:
        arrays = self._arrays
        return {
            "state": arrays.to_numpy(self.state),
            "steps": arrays.to_numpy(self.steps),
            "generator": arrays.generator_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        arrays, like = self._arrays, state_like(self.dynamics, self.num_envs)
        state_array = saved.array(state.get("state"), "state", like.shape, like.dtype)
        steps = saved.array(state.get("steps"), "steps", (self.num_envs,), np.int64)
        try:
            arrays.set_generator_state(saved.entry(state, "generator", dict))
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"the saved environment position has no random state for {self.device}: {error}") from error
        self.state = arrays.assign(self.state, arrays.from_numpy(state_array))
        self.steps = arrays.assign(self.steps, arrays.from_numpy(steps))
        return []

    def render(self, index: int = 0) -> np.ndarray:
        if self._painter is None:
            self._painter = self.dynamics.painter("rgb_array")
        picture = self._painter.paint(self._arrays.to_numpy(self.state[:, index]))
        assert picture is not None
        return picture

    def close(self) -> None:
        if self._painter is not None:
            self._painter.close()
            self._painter = None


class NativeEnv(gymnasium.Env):
    """One environment of our own, as Gymnasium knows them; from one seed it starts as Gymnasium's does.

    Args:
        task: a key of `DYNAMICS`.
        render_mode: None, "rgb_array" or "human".
        parameters: of the dynamics. The time limit is Gymnasium's `TimeLimit`, put around by `gymnasium.make`.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012 (Gymnasium's declaration)

    def __init__(self, task: str, render_mode: str | None = None, **parameters: Any) -> None:
        self._dynamics = build_dynamics(task, parameters)
        self.observation_space = self._dynamics.observation_space
        self.action_space = self._dynamics.action_space
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self._dynamics.render_fps}
        self._state: np.ndarray = np.empty(0)
        self._painter: Painter | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._state = self._dynamics.init(np, self.np_random.random((self._dynamics.uniforms, 1)))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if isinstance(self.action_space, gymnasium.spaces.Discrete) and not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}")
        actions = np.asarray(action, self.action_space.dtype)[None]
        self._state, reward, terminated = self._dynamics.step(np, self._state, actions)
        return self._observe(), float(reward[0]), bool(terminated[0]), False, {}

    def render(self) -> Any:
        if self.render_mode is None:
            return None
        if self._painter is None:
            self._painter = self._dynamics.painter(self.render_mode)
        return self._painter.paint(self._state[:, 0])

    def close(self) -> None:
        if self._painter is not None:
            self._painter.close()
            self._painter = None

    def _observe(self) -> np.ndarray:
        if self.render_mode == "human":
            self.render()
        return observation(np, self._dynamics, self._state)[0]


for _id, _task in DYNAMICS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(
            _id,
            entry_point="envs.native:NativeEnv",
            reward_threshold=_task.reward_threshold,
            max_episode_steps=_task().max_episode_steps,
            kwargs={"task": _task.env_id},
        )
