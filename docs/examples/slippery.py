"""A native environment of your own, in one file: `python -m agents.train --env docs/examples/slippery.py:Slippery`.

Cross a frozen lake of 4 x 4 cells, on ice that often lets you slip to the side. The rules are those of Gymnasium's
FrozenLake-v1. `step` is random, and the observation is the number of a cell.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from envs.native.base import Dynamics
from envs.native.painters import PicturePainter

SIDE, GOAL = 4, 15
HOLES = 1 << 5 | 1 << 7 | 1 << 11 | 1 << 12  # a bit for each cell, counted along the rows from the top left
ICE, HOLE, PRIZE, WALKER = (190, 220, 240), (30, 50, 90), (110, 190, 120), (200, 60, 50)


@dataclass(frozen=True)
class Slippery(Dynamics):
    """Actions 0 to 3 are left, down, right, up. The state's one row is the cell, int64.

    Attributes:
        slip: how likely a step goes to the left or the right of where it was meant to go.
    """

    env_id: ClassVar[str] = "Slippery-v0"
    reward_threshold: ClassVar[float | None] = 0.7
    render_fps: ClassVar[int] = 4
    step_uniforms: ClassVar[int] = 1

    slip: float = 2 / 3
    max_episode_steps: int = 100

    observation_space: ClassVar[spaces.Discrete] = spaces.Discrete(SIDE * SIDE)
    action_space: ClassVar[spaces.Discrete] = spaces.Discrete(4)

    def init(self, xp: Any, uniform: Any) -> Any:
        return xp.zeros((1, uniform.shape[1]), dtype=xp.int64, device=uniform.device)

    def step(self, xp: Any, state: Any, action: Any, uniform: Any) -> tuple[Any, Any, Any]:
        turn = (uniform[0] < self.slip / 2) * 1 - (uniform[0] >= 1 - self.slip / 2) * 1
        way = (action + turn) % 4
        column = (state[0] % SIDE + (way == 2) * 1 - (way == 0) * 1).clip(0, SIDE - 1)
        row = (state[0] // SIDE + (way == 1) * 1 - (way == 3) * 1).clip(0, SIDE - 1)
        cell = row * SIDE + column
        return cell[None], cell == GOAL, (cell == GOAL) | ((HOLES >> cell & 1) == 1)

    def observe(self, xp: Any, state: Any) -> Any:
        return state[0]

    def painter(self, render_mode: str) -> PicturePainter:
        return PicturePainter(_picture, render_mode, "Slippery", self.render_fps)


def _picture(state: np.ndarray) -> np.ndarray:
    cells = [HOLE if HOLES >> cell & 1 else PRIZE if cell == GOAL else ICE for cell in range(SIDE * SIDE)]
    cells[state[0]] = WALKER
    return np.array(cells, np.uint8).reshape(SIDE, SIDE, 3).repeat(40, axis=0).repeat(40, axis=1)
