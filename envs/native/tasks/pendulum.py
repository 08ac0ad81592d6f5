"""Pendulum: swing a pendulum up with a torque too weak to lift it straight.

Source: Gymnasium's Pendulum-v1, operation for operation, so that rounding agrees too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from envs.api import Array
from envs.native.base import Dynamics
from envs.native.painters import GymnasiumPainter

MAX_SPEED = 8.0  # rad/s
MAX_TORQUE = 2.0  # newton metres
SECONDS = 0.05  # of one step
# The mass (kg) and the length (m) are both 1 and left out of the equations.


@dataclass(frozen=True, slots=True)
class Pendulum(Dynamics):
    """The state's rows are the angle from upright (rad), its velocity and the last torque (only to draw it).

    Attributes:
        g: gravity, m/s^2.
        max_episode_steps: episodes are truncated after this many steps.
    """

    env_id: ClassVar[str] = "Pendulum-v1"
    uniforms: ClassVar[int] = 2
    single: ClassVar[bool] = True

    g: float = 10.0
    max_episode_steps: int = 200

    @property
    def observation_space(self) -> spaces.Box:
        high = np.array([1.0, 1.0, MAX_SPEED], np.float32)
        return spaces.Box(-high, high)

    @property
    def action_space(self) -> spaces.Box:
        return spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,))

    def init(self, xp: Any, uniform: Array) -> Array:
        theta, speed = uniform
        return xp.stack((theta * (2 * math.pi) - math.pi, speed * 2.0 - 1.0, theta * 0.0))

    def step(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Array, Array, Array]:
        theta, speed, _ = state
        # float32, as it came: Gymnasium rounds its terms of the torque to float32 too.
        torque = action[..., 0].clip(-MAX_TORQUE, MAX_TORQUE)
        angle = (theta + math.pi) % (2 * math.pi) - math.pi
        cost = xp.square(angle) + 0.1 * xp.square(speed) + 0.001 * xp.square(torque)
        following = xp.empty_like(state)
        following[1] = (speed + (3 * self.g / 2 * xp.sin(theta) + 3.0 * torque) * SECONDS).clip(-MAX_SPEED, MAX_SPEED)
        following[0] = theta + following[1] * SECONDS
        following[2] = torque
        return following, -cost, xp.zeros_like(theta, dtype=bool)

    def observe(self, xp: Any, state: Array) -> Array:
        observation = xp.empty_like(state)
        observation[0] = xp.cos(state[0])
        observation[1] = xp.sin(state[0])
        observation[2] = state[1]
        return observation.T

    def painter(self, render_mode: str) -> GymnasiumPainter:
        return GymnasiumPainter(
            Pendulum.env_id, render_mode, lambda state: {"state": state[:2], "last_u": state[2] or None}
        )
