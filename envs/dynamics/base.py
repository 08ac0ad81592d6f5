"""What an environment of our own is: pure functions of arrays, for any number of environments at once."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from gymnasium import Space

from envs.api import Array


class Dynamics(Protocol):
    """The rules of one task, as a frozen dataclass of its parameters.

    `xp` is the array module, `numpy` or `torch`. N environments are one state array `[k, N]`, float64,
    one row for each quantity. Nothing is kept between calls, and nothing given is written to.
    """

    gymnasium_id: ClassVar[str]  # the Gymnasium environment whose transitions these are
    render_fps: ClassVar[int]  # steps a second that look natural
    uniforms: ClassVar[int]  # how many random numbers one initial state takes

    @property
    def max_episode_steps(self) -> int:
        """Episodes are truncated after this many steps."""
        ...

    @property
    def observation_space(self) -> Space:
        """Canonical space of one environment's observation, Box float32 `[d]`."""
        ...

    @property
    def action_space(self) -> Space:
        """Canonical space of one environment's action."""
        ...

    def init(self, xp: Any, uniform: Array) -> Array:
        """Return initial states `[k, N]` for random numbers in [0, 1), `[uniforms, N]`."""
        ...

    def step(self, xp: Any, state: Array, action: Array) -> tuple[Array, Array, Array]:
        """Return the next states `[k, N]`, the rewards `[N]` and whether each task ended, bool `[N]`.

        `action` is int64 `[N]` (Discrete) or float32 `[N, d]` (Box, beyond the bounds too).
        """
        ...

    def observe(self, xp: Any, state: Array) -> Array:
        """Return the observations with one row for each of their entries, `[d, N]`."""
        ...

    def pose(self, state: Any) -> dict[str, Any]:
        """Return the attributes that make Gymnasium's own environment draw one state `[k]`."""
        ...
