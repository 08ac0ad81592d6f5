"""A native environment in which two of twenty actions are legal, others at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from envs.native.base import Dynamics

ACTIONS = 20


@dataclass(frozen=True)
class Masked(Dynamics):
    """The first legal action is worth 1, the second 0, an illegal one -1000.

    The state's rows are the time and a key, which together say what is legal. Episodes with an odd key end after 6
    steps, those with an even key are truncated after 9.

    Attributes:
        dead: time at which no action is legal.
    """

    uniforms: ClassVar[int] = 1

    dead: int = -1
    max_episode_steps: int = 9

    observation_space: ClassVar[spaces.Dict] = spaces.Dict(
        {"place": spaces.Box(0, np.inf, (2,), np.float32), "action_mask": spaces.MultiBinary(ACTIONS)}
    )
    action_space: ClassVar[spaces.Discrete] = spaces.Discrete(ACTIONS)

    def init(self, xp: Any, uniform: Any) -> Any:
        key = xp.floor(uniform[0] * 13)
        return xp.stack([key * 0, key])

    def step(self, xp: Any, state: Any, action: Any, uniform: Any) -> tuple[Any, Any, Any]:
        first, second = legal(state)
        reward = xp.where(action == first, 1.0, xp.where(action == second, 0.0, -1000.0))
        time, key = state[0] + 1, state[1]
        return xp.stack([time, key]), reward, (time >= 6) & (key % 2 == 1)

    def observe(self, xp: Any, state: Any) -> Any:
        first, second = legal(state)
        number = xp.arange(ACTIONS, device=state.device)
        mask = (number == first[:, None]) | (number == second[:, None])
        return {"place": (state / 8).T, "action_mask": mask & (state[0] != self.dead)[:, None]}


def legal(state: Any) -> tuple[Any, Any]:
    """Return the first and the second legal action of states `[2, N]`, whole numbers as float64 `[N]`."""
    time, key = state
    first = (7 * time + 3 * key) % ACTIONS
    return first, (first + 1 + (5 * time + key) % (ACTIONS - 1)) % ACTIONS
