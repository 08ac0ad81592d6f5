"""Acrobot: swing the free end of two hanging links above a line, with a torque at the joint between them.

Source: Sutton (1996) with the equations of Sutton & Barto's book, as in Gymnasium's Acrobot-v1, integrated by one
step of Runge-Kutta's fourth order. The lengths, masses and moments of inertia, all 1 or 1/2, are multiplied out.
Gymnasium's other equations (`book_or_nips = "nips"`) and its torque noise, which no constructor argument gives,
are left out.
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

SECONDS = 0.2  # of one step
MAX_SPEED_1 = 4 * math.pi  # of the first link, rad/s
MAX_SPEED_2 = 9 * math.pi
GRAVITY = 9.8
START = 0.1  # every quantity starts between -START and START


def _derivative(xp: Any, state: Array, torque: Array) -> Array:
    """Return the time derivative `[4, N]` of the state. See the book's section on the acrobot for the equations."""
    theta_1, theta_2, speed_1, speed_2 = state
    change = xp.empty_like(state)
    change[:2] = state[2:]
    sine, cosine = xp.sin(theta_2) * 0.5, xp.cos(theta_2) * 0.5
    d1, d2 = 2 * cosine + 3.5, cosine + 1.25
    phi_2 = xp.sin(theta_1 + theta_2) * (0.5 * GRAVITY)
    phi_1 = xp.sin(theta_1) * (1.5 * GRAVITY) + phi_2 - sine * speed_2 * (speed_2 + 2 * speed_1)
    pull = torque - sine * xp.square(speed_1) - phi_2
    change[3] = acceleration_2 = (d1 * pull + d2 * phi_1) / (2.8125 - xp.square(cosine))
    change[2] = (d2 * acceleration_2 + phi_1) / -d1
    return change


@dataclass(frozen=True, slots=True)
class Acrobot(Dynamics):
    """The state's rows are the first link's angle from hanging (rad), the second's from the first, and their speeds.

    Attributes:
        max_episode_steps: episodes are truncated after this many steps.
    """

    env_id: ClassVar[str] = "Acrobot-v1"
    reward_threshold: ClassVar[float | None] = -100.0
    render_fps: ClassVar[int] = 15
    uniforms: ClassVar[int] = 4
    single: ClassVar[bool] = True

    max_episode_steps: int = 500

    @property
    def observation_space(self) -> spaces.Box:
        high = np.array([1.0, 1.0, 1.0, 1.0, MAX_SPEED_1, MAX_SPEED_2], np.float32)
        return spaces.Box(-high, high)

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(3)

    def init(self, xp: Any, uniform: Array) -> Array:
        # Rounded to float32, as Gymnasium does here and nowhere else.
        return xp.asarray(xp.asarray(uniform * (2 * START) - START, dtype=xp.float32), dtype=xp.float64)

    def step(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Array, Array, Array]:
        torque = action - 1.0
        k1 = _derivative(xp, state, torque)
        k2 = _derivative(xp, state + SECONDS / 2 * k1, torque)
        k3 = _derivative(xp, state + SECONDS / 2 * k2, torque)
        k4 = _derivative(xp, state + SECONDS * k3, torque)
        following = state + SECONDS / 6 * (k1 + 2 * (k2 + k3) + k4)
        turns = xp.floor((following[:2] + math.pi) / (2 * math.pi))
        following[:2] -= turns * (2 * math.pi)
        following[2] = following[2].clip(-MAX_SPEED_1, MAX_SPEED_1)
        following[3] = following[3].clip(-MAX_SPEED_2, MAX_SPEED_2)
        above = -xp.cos(following[0]) - xp.cos(following[1] + following[0]) > 1.0
        return following, above * 1.0 - 1.0, above

    def observe(self, xp: Any, state: Array) -> Array:
        cos, sin = xp.cos(state[:2]), xp.sin(state[:2])
        return xp.stack((cos[0], sin[0], cos[1], sin[1], state[2], state[3])).T

    def painter(self, render_mode: str) -> GymnasiumPainter:
        return GymnasiumPainter(self.env_id, render_mode, lambda state: {"state": state})
