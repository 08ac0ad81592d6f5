"""Tasks whose velocities are not seen, under the names that rl-zoo3 gives them: what moves how must be remembered.

Observations have the numbers of the task itself, with 0 in the place of each velocity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from envs.api import Array
from envs.native.tasks.cartpole import CartPole
from envs.native.tasks.mountaincar import MountainCarContinuous
from envs.native.tasks.pendulum import Pendulum


def _without(observation: Array, *velocities: int) -> Array:
    """Return observations `[N, d]` with 0 for some of their numbers."""
    shown = observation * 1.0  # it may be a view of the state
    for i in velocities:
        shown[:, i] = 0.0
    return shown


@dataclass(frozen=True, slots=True)
class CartPoleNoVel(CartPole):
    """CartPole without the velocities of cart and pole."""

    env_id: ClassVar[str] = "CartPoleNoVel-v1"

    def observe(self, xp: Any, state: Array) -> Array:
        return _without(CartPole.observe(self, xp, state), 1, 3)


@dataclass(frozen=True, slots=True)
class PendulumNoVel(Pendulum):
    """Pendulum without the angular velocity."""

    env_id: ClassVar[str] = "PendulumNoVel-v1"

    def observe(self, xp: Any, state: Array) -> Array:
        return _without(Pendulum.observe(self, xp, state), 2)


@dataclass(frozen=True, slots=True)
class MountainCarContinuousNoVel(MountainCarContinuous):
    """The continuous mountain car without its speed."""

    env_id: ClassVar[str] = "MountainCarContinuousNoVel-v0"

    def observe(self, xp: Any, state: Array) -> Array:
        return _without(MountainCarContinuous.observe(self, xp, state), 1)
