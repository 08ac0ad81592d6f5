"""What an environment of our own is: pure functions of arrays, for any number of environments at once."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields
from types import ModuleType
from typing import Any, ClassVar, Protocol

import numpy as np
from gymnasium import Space

from envs.api import Array
from envs.errors import UserError
from envs.native.painters import Painter


class Dynamics(Protocol):
    """The rules of one task, as a frozen dataclass of its parameters.

    `xp` is the array module, `numpy` or `torch`. N environments are one state array `[k, N]`, float64 or int64,
    one row for each quantity. Nothing is kept between calls, nothing given is written to, and what is returned
    shares no memory with it, observations apart. No Python branch looks at an array's values, so that each of
    `init`, `step` and `observe` can be compiled, and captured in a CUDA graph.
    """

    env_id: ClassVar[str]  # Gymnasium's id where the transitions are those of its environment, else an id of our own
    reward_threshold: ClassVar[float | None]  # mean return at which the task counts as solved
    render_fps: ClassVar[int]  # steps a second that look natural
    uniforms: ClassVar[int]  # how many random numbers one initial state takes

    @property
    def max_episode_steps(self) -> int:
        """Episodes are truncated after this many steps."""
        ...

    @property
    def observation_space(self) -> Space:
        """Canonical space of one environment's observation: Box float32 `[d]`, or images, uint8 `[H, W, C]`."""
        ...

    @property
    def action_space(self) -> Space:
        """Canonical space of one environment's action."""
        ...

    def init(self, xp: Any, uniform: Array) -> Array:
        """Return initial states `[k, N]` for random numbers in [0, 1), float64 `[uniforms, N]`."""
        ...

    def step(self, xp: Any, state: Array, action: Array) -> tuple[Array, Array, Array]:
        """Return the next states `[k, N]`, the rewards `[N]`, of any dtype, and whether each task ended, bool `[N]`.

        `action` is int64 `[N]` (Discrete) or float32 `[N, d]` (Box, beyond the bounds too).
        """
        ...

    def observe(self, xp: Any, state: Array) -> Array:
        """Return the observations: float64 `[N, d]` in any memory order (it may be a view), or uint8 `[N, H, W, C]`."""
        ...

    def painter(self, render_mode: str) -> Painter:
        """Return what draws single states `[k]`, `render_mode` "rgb_array" or "human"."""
        ...


def state_like(dynamics: Dynamics, num_envs: int) -> np.ndarray:
    """Return some state of `num_envs` environments, to read its shape and dtype from."""
    return dynamics.init(np, np.zeros((dynamics.uniforms, num_envs)))


def parameters(task: type[Dynamics]) -> list[str]:
    """Return the names of the keyword arguments that `task` takes."""
    return [field.name for field in fields(task)]  # type: ignore[arg-type]


def is_dynamics(value: Any, module: ModuleType) -> bool:
    """Whether `value` is a class of `module` that has the methods of `Dynamics`."""
    methods = all(callable(getattr(value, name, None)) for name in ("init", "step", "observe"))
    return inspect.isclass(value) and value.__module__ == module.__name__ and methods


def build_dynamics(task: type[Dynamics], arguments: dict[str, Any]) -> Dynamics:
    """Return the dynamics `task` with these parameters.

    Raises:
        UserError: a value is not a number of the parameter's type.
    """
    for name, default in ((field.name, field.default) for field in fields(task)):  # type: ignore[arg-type]
        value = arguments.get(name, default)
        wanted = (int, float) if type(default) is float else (type(default),)
        if type(value) not in wanted or not math.isfinite(value) or (name == "max_episode_steps" and value < 1):
            kind = {int: "an integer of at least 1", float: "a number", bool: "true or false"}[type(default)]
            raise UserError(f"{task.env_id}: {name} must be {kind}, got {value!r}")
    return task(**arguments)


def observation(xp: Any, dynamics: Dynamics, state: Array) -> Array:
    """Return the observations of states `[k, N]`, contiguous `[N, ...]`, in their space's dtype."""
    obs = dynamics.observe(xp, state)
    if obs.ndim > 2:  # images are uint8 already
        return obs
    return obs.astype(np.float32, order="C") if xp is np else obs.to(xp.float32).contiguous()
