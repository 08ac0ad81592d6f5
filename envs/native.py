"""Our own dynamics as a `VecEnv` (NumPy on the CPU, torch elsewhere) and as ordinary Gymnasium environments.

Importing this module registers "native/CartPole-v1" and "native/Pendulum-v1" with Gymnasium, so that
`gymnasium.make("envs.native:native/CartPole-v1")` works from anywhere.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, Protocol

import gymnasium
import numpy as np

from envs import saved
from envs.api import Array, InProcess, Step
from envs.dynamics.base import Dynamics
from envs.dynamics.cartpole import CartPole
from envs.dynamics.pendulum import Pendulum
from envs.errors import UserError
from envs.seeding import derive_seed
from envs.spaces import ActionCodec, refuse_nan

_TASKS: tuple[type[Dynamics], ...] = (CartPole, Pendulum)
DYNAMICS: dict[str, type[Dynamics]] = {
    **{task.gymnasium_id: task for task in _TASKS},
    **{f"native/{task.gymnasium_id}": task for task in _TASKS},
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


class Arrays(Protocol):
    """An array module with its random generator and the few operations in which the modules differ."""

    xp: Any
    device: str

    def seed(self, seed: int) -> None: ...

    def uniform(self, rows: int, columns: int) -> Array: ...

    def observation(self, rows: Array) -> Array:
        """Return rows `[d, N]` as float32 `[N, d]`."""
        ...

    def float32(self, values: Array) -> Array: ...

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

    def uniform(self, rows: int, columns: int) -> np.ndarray:
        return self._generator.random((rows, columns))

    def observation(self, rows: np.ndarray) -> np.ndarray:
        return rows.T.astype(np.float32, order="C")

    def float32(self, values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32, copy=False)

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
        self.generator = torch.Generator(device)  # a graph that captures step() must register it

    def seed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def uniform(self, rows: int, columns: int) -> Array:
        xp = self.xp
        return xp.rand((rows, columns), dtype=xp.float64, device=self.device, generator=self.generator)

    def observation(self, rows: Array) -> Array:
        return rows.T.to(self.xp.float32).contiguous()

    def float32(self, values: Array) -> Array:
        return values.to(self.xp.float32)

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
    """N environments of our own, stepped as one set of arrays. See `envs.api.VecEnv`."""

    backend = "native"

    def __init__(self, dynamics: Dynamics, num_envs: int, arrays: Arrays, rescale_action: bool = False) -> None:
        self.num_envs = num_envs
        self.device = arrays.device
        self.capturable = arrays.device == "cuda"
        self.observation_space = dynamics.observation_space
        self.action_space = ActionCodec(dynamics.action_space, rescale_action).space
        self._dynamics = dynamics
        self._arrays = arrays
        # On other devices looking would wait for the device, and nothing may wait in a captured step.
        self._watch_actions = arrays.xp is np and isinstance(self.action_space, gymnasium.spaces.Box)
        self._rescale: tuple[Array, Array] | None = None
        if rescale_action and isinstance(dynamics.action_space, gymnasium.spaces.Box):
            low, high = dynamics.action_space.low, dynamics.action_space.high
            self._rescale = arrays.from_numpy((high - low) / 2), arrays.from_numpy((high + low) / 2)
        self._state: Array = None
        self._steps: Array = None
        self._renderer: gymnasium.Env | None = None

    def reset(self, seed: int) -> Array:
        arrays, dynamics = self._arrays, self._dynamics
        arrays.seed(derive_seed(seed, "env"))
        state = dynamics.init(arrays.xp, arrays.uniform(dynamics.uniforms, self.num_envs))
        self._state = arrays.assign(self._state, state)
        self._steps = arrays.assign(self._steps, arrays.zeros(self.num_envs))
        return arrays.observation(dynamics.observe(arrays.xp, state))

    def step(self, action: Array) -> Step:
        arrays, dynamics, xp = self._arrays, self._dynamics, self._arrays.xp
        if self._watch_actions:
            refuse_nan(action)
        if self._rescale is not None:
            scale, middle = self._rescale
            action = action.clip(-1.0, 1.0) * scale + middle
        state, reward, terminated = dynamics.step(xp, self._state, action)
        steps = self._steps + 1
        truncated = steps >= dynamics.max_episode_steps
        done = terminated | truncated
        obs = next_obs = arrays.observation(dynamics.observe(xp, state))
        if self.device != "cpu" or xp.count_nonzero(done):
            fresh = dynamics.init(xp, arrays.uniform(dynamics.uniforms, self.num_envs))
            state = xp.where(done, fresh, state)
            steps = xp.where(done, 0, steps)
            obs = arrays.observation(dynamics.observe(xp, state))
        self._state = arrays.assign(self._state, state)
        self._steps = arrays.assign(self._steps, steps)
        return Step(obs, arrays.float32(reward), terminated, truncated, next_obs)

    def state_dict(self) -> dict[str, Any]:
        arrays = self._arrays
        return {
            "state": arrays.to_numpy(self._state),
            "steps": arrays.to_numpy(self._steps),
            "generator": arrays.generator_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        arrays, dynamics = self._arrays, self._dynamics
        shape = np.shape(dynamics.init(np, np.zeros((dynamics.uniforms, self.num_envs))))
        state_array = saved.array(state.get("state"), "state", shape, np.float64)
        steps = saved.array(state.get("steps"), "steps", (self.num_envs,), np.int64)
        try:
            arrays.set_generator_state(saved.entry(state, "generator", dict))
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"the saved environment position has no random state for {self.device}: {error}") from error
        self._state = arrays.assign(self._state, arrays.from_numpy(state_array))
        self._steps = arrays.assign(self._steps, arrays.from_numpy(steps))
        return []

    def render(self, index: int = 0) -> np.ndarray:
        if self._renderer is None:
            self._renderer = _renderer(self._dynamics, "rgb_array")
        return _draw(self._renderer, self._dynamics, self._arrays.to_numpy(self._state[:, index]))

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


class NativeEnv(gymnasium.Env):
    """One environment of our own, as Gymnasium knows them; from one seed it starts as Gymnasium's does.

    Args:
        task: a key of `DYNAMICS`.
        render_mode: None, "rgb_array" or "human"; Gymnasium's own renderer draws.
        parameters: of the dynamics. The time limit is Gymnasium's `TimeLimit`, put around by `gymnasium.make`.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012 (Gymnasium's declaration)

    def __init__(self, task: str, render_mode: str | None = None, **parameters: Any) -> None:
        self._dynamics = DYNAMICS[task](**parameters)
        self.observation_space = self._dynamics.observation_space
        self.action_space = self._dynamics.action_space
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self._dynamics.render_fps}
        self._state: np.ndarray = np.empty(0)
        self._renderer: gymnasium.Env | None = None

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
        if self._renderer is None:
            self._renderer = _renderer(self._dynamics, self.render_mode)
        return _draw(self._renderer, self._dynamics, self._state[:, 0])

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _observe(self) -> np.ndarray:
        if self.render_mode == "human":
            self.render()
        return self._dynamics.observe(np, self._state)[:, 0].astype(np.float32)


def _renderer(dynamics: Dynamics, render_mode: str) -> gymnasium.Env:
    return gymnasium.make(dynamics.gymnasium_id, render_mode=render_mode, disable_env_checker=True).unwrapped


def _draw(renderer: gymnasium.Env, dynamics: Dynamics, state: np.ndarray) -> Any:
    for name, value in dynamics.pose(state).items():
        setattr(renderer, name, value)
    return renderer.render()


for _task in _TASKS:
    if f"native/{_task.gymnasium_id}" not in gymnasium.registry:
        gymnasium.register(
            f"native/{_task.gymnasium_id}",
            entry_point="envs.native:NativeEnv",
            max_episode_steps=_task().max_episode_steps,
            kwargs={"task": _task.gymnasium_id},
        )
