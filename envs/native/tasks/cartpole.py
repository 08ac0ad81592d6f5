"""CartPole: balance a pole on a cart that is pushed left or right.

Source: Barto, Sutton & Anderson (1983), as in Gymnasium's CartPole-v1, operation for operation, so
that rounding agrees too: in the course of an episode the pole magnifies it more than a billion times.
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

GRAVITY = 9.8
POLE_MASS = 0.1
TOTAL_MASS = POLE_MASS + 1.0
HALF_LENGTH = 0.5  # of the pole, metres
POLE_MOMENT = POLE_MASS * HALF_LENGTH
FORCE = 10.0  # newtons
SECONDS = 0.02  # of one step
X_LIMIT = 2.4  # metres
THETA_LIMIT = 12 * 2 * math.pi / 360  # radians
START = 0.05  # every quantity starts between -START and START


@dataclass(frozen=True, slots=True)
class CartPole(Dynamics):
    """The state's rows are x (m), its velocity, the pole's angle (rad) and its velocity.

    Attributes:
        sutton_barto_reward: reward -1 at the fall and 0 before it, instead of 1 for every step.
        max_episode_steps: episodes are truncated after this many steps.
    """

    env_id: ClassVar[str] = "CartPole-v1"
    reward_threshold: ClassVar[float | None] = 475.0
    render_fps: ClassVar[int] = 50
    uniforms: ClassVar[int] = 4
    single: ClassVar[bool] = True

    sutton_barto_reward: bool = False
    max_episode_steps: int = 500

    @property
    def observation_space(self) -> spaces.Box:
        high = np.array([2 * X_LIMIT, np.inf, 2 * THETA_LIMIT, np.inf], np.float32)
        return spaces.Box(-high, high)

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(2)

    def init(self, xp: Any, uniform: Array) -> Array:
        return uniform * (2 * START) - START

    def step(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Array, Array, Array]:
        _, x_dot, theta, theta_dot = state
        cos, sin = xp.cos(theta), xp.sin(theta)
        push = (action * (2 * FORCE) - FORCE + POLE_MOMENT * xp.square(theta_dot) * sin) / TOTAL_MASS
        theta_acc = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * xp.square(cos) / TOTAL_MASS))
        change = xp.empty_like(state)
        change[0] = x_dot
        change[1] = push - POLE_MOMENT * theta_acc * cos / TOTAL_MASS
        change[2] = theta_dot
        change[3] = theta_acc
        change *= SECONDS
        change += state
        fell = (abs(change[0]) > X_LIMIT) | (abs(change[2]) > THETA_LIMIT)
        return change, fell * -1.0 if self.sutton_barto_reward else fell | True, fell

    def observe(self, xp: Any, state: Array) -> Array:
        return state.T

    def painter(self, render_mode: str) -> GymnasiumPainter:
        return GymnasiumPainter(CartPole.env_id, render_mode, lambda state: {"state": state})
