"""Mountain car: a car in a valley, too weak to drive straight up to the flag; discrete and continuous.

Source: Moore (1990), as in Gymnasium's MountainCar-v0 and MountainCarContinuous-v0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from envs.api import Array
from envs.native.base import Dynamics
from envs.native.painters import GymnasiumPainter

LEFT, RIGHT = -1.2, 0.6  # the positions' bounds
MAX_SPEED = 0.07
GRAVITY = 0.0025
FORCE = 0.001  # of the discrete car
POWER = 0.0015  # of the continuous one
FLAG = 0.5  # the discrete task's goal
CONTINUOUS_FLAG = 0.45


def _start(xp: Any, uniform: Array) -> Array:
    """Return states at rest, at a position between -0.6 and -0.4."""
    position = uniform[0] * 0.2 - 0.6
    return xp.stack((position, position * 0.0))


def _move(xp: Any, state: Array, push: Array) -> Array:
    """Return the states after one step with the acceleration `push` of the engine; the left end stops the car."""
    position, speed = state
    following = xp.empty_like(state)
    speed = (speed + push).clip(-MAX_SPEED, MAX_SPEED)
    following[0] = position = (position + speed).clip(LEFT, RIGHT)
    following[1] = xp.where((position <= LEFT) & (speed < 0), 0.0, speed)
    return following


class _Valley(Dynamics):
    """What both tasks share."""

    uniforms: ClassVar[int] = 1

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(np.array([LEFT, -MAX_SPEED], np.float32), np.array([RIGHT, MAX_SPEED], np.float32))

    def observe(self, xp: Any, state: Array) -> Array:
        return state.T


@dataclass(frozen=True, slots=True)
class MountainCar(_Valley):
    """The state's rows are the position and the speed.

    Attributes:
        goal_velocity: the least speed at the flag that counts as arriving.
        max_episode_steps: episodes are truncated after this many steps.
    """

    env_id: ClassVar[str] = "MountainCar-v0"
    reward_threshold: ClassVar[float | None] = -110.0
    single: ClassVar[bool] = True

    goal_velocity: float = 0.0
    max_episode_steps: int = 200

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(3)

    def init(self, xp: Any, uniform: Array) -> Array:
        return _start(xp, uniform)

    def step(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Array, Array, Array]:
        following = _move(xp, state, (action - 1 - xp.cos(3 * state[0]) * (GRAVITY / FORCE)) * FORCE)
        arrived = (following[0] >= FLAG) & (following[1] >= self.goal_velocity)
        return following, xp.full_like(state[0], -1.0), arrived

    def painter(self, render_mode: str) -> GymnasiumPainter:
        return GymnasiumPainter(MountainCar.env_id, render_mode, lambda state: {"state": state})


@dataclass(frozen=True, slots=True)
class MountainCarContinuous(_Valley):
    """The state's rows are the position and the speed, rounded to float32, as Gymnasium rounds them in every step.

    Attributes:
        goal_velocity: the least speed at the flag that counts as arriving.
        max_episode_steps: episodes are truncated after this many steps.
    """

    env_id: ClassVar[str] = "MountainCarContinuous-v0"
    reward_threshold: ClassVar[float | None] = 90.0
    single: ClassVar[bool] = True

    goal_velocity: float = 0.0
    max_episode_steps: int = 999

    @property
    def action_space(self) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (1,))

    def init(self, xp: Any, uniform: Array) -> Array:
        return xp.asarray(xp.asarray(_start(xp, uniform), dtype=xp.float32), dtype=xp.float64)

    def step(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Array, Array, Array]:
        effort = action[..., 0]
        state = xp.asarray(state, dtype=xp.float32)
        slope = xp.cos(xp.asarray(3 * state[0], dtype=xp.float64)) * GRAVITY  # Gymnasium's one term of float64
        following = _move(xp, state, effort.clip(-1.0, 1.0) * POWER - xp.asarray(slope, dtype=xp.float32))
        arrived = (following[0] >= CONTINUOUS_FLAG) & (following[1] >= self.goal_velocity)
        following = xp.asarray(following, dtype=xp.float64)
        return following, arrived * 100.0 - xp.square(effort) * 0.1, arrived

    def painter(self, render_mode: str) -> GymnasiumPainter:
        return GymnasiumPainter(MountainCarContinuous.env_id, render_mode, lambda state: {"state": state})
