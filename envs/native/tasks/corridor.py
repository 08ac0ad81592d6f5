"""Corridor: a T-maze that only memory solves.

Source of the idea: Bakker (2001), "Reinforcement learning with long short-term memory". The rules are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from envs.api import Array
from envs.errors import UserError
from envs.native.base import Dynamics
from envs.native.painters import PicturePainter

LIMIT = 10_000  # steps; no episode of the longest corridor comes near it

WIDTH, HEIGHT, WALL = 640, 160, 8  # pixels of the picture
STONE, FLOOR, CUE, GOAL, WALKER = (16, 20, 32), (62, 72, 100), (240, 200, 80), (110, 190, 120), (250, 240, 210)


@dataclass(frozen=True, slots=True)
class Corridor(Dynamics):
    """Remember for `length` steps which way to turn.

    At the start a cue says left or right, each as likely. Every step leads one cell along the corridor, whatever the
    action, and the cue is seen no more. At the junction, after `length` steps, the action is the turn, 0 left and 1
    right, and the episode ends: reward 1 if it is the cue's side, 0 if not. So the mean return is the share of right
    turns. What is seen at the junction says nothing about the cue: without memory it is 0.5 at best.

    Observations are the cue (-1 left, 1 right, 0 after the start) and whether this is the junction (0 or 1).

    The state's rows are the cells walked, the side of the cue, -1 or 1, and the turn taken, 0 before it.

    Attributes:
        length: cells from the start to the junction.
        max_episode_steps: episodes are truncated after this many steps; they end by themselves after `length` + 1.

    Raises:
        UserError: the length is not from 1 to 9,999.
    """

    env_id: ClassVar[str] = "Corridor-v0"
    reward_threshold: ClassVar[float | None] = 0.95
    render_fps: ClassVar[int] = 8
    uniforms: ClassVar[int] = 1
    single: ClassVar[bool] = True

    length: int = 10
    max_episode_steps: int = LIMIT

    def __post_init__(self) -> None:
        if not 1 <= self.length < LIMIT:
            raise UserError(f"{self.env_id}: length must be from 1 to {LIMIT - 1}, got {self.length}")

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(np.array([-1, 0], np.float32), np.array([1, 1], np.float32))

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(2)

    def init(self, xp: Any, uniform: Array) -> Array:
        side = xp.floor(uniform[0] * 2) * 2 - 1
        return xp.stack((side * 0.0, side, side * 0.0))

    def step(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Array, Array, Array]:
        walked, side, _ = state
        end = walked >= self.length
        turn = (action * 2 - 1) * end
        following = xp.empty_like(state)
        following[0] = walked + 1
        following[1] = side
        following[2] = turn
        return following, turn == side, end

    def observe(self, xp: Any, state: Array) -> Array:
        walked, side, _ = state
        return xp.stack((side * (walked == 0), (walked == self.length) * 1.0)).T

    def painter(self, render_mode: str) -> PicturePainter:
        return PicturePainter(self._picture, render_mode, self.env_id, self.render_fps)

    def _picture(self, state: np.ndarray) -> np.ndarray:
        """Return the maze from above: the walker, the goal, and the cue while it is seen."""
        walked, side, turn = state
        third, cell = HEIGHT // 3, (WIDTH - 2 * WALL) / (self.length + 1)
        corridor, junction = slice(third, 2 * third), slice(int(WALL + self.length * cell), WIDTH - WALL)
        picture = np.full((HEIGHT, WIDTH, 3), STONE, np.uint8)
        picture[corridor, WALL : WIDTH - WALL] = FLOOR
        picture[WALL : HEIGHT - WALL, junction] = FLOOR
        picture[slice(WALL, third) if side < 0 else slice(2 * third, HEIGHT - WALL), junction] = GOAL
        if walked == 0:
            edge = third if side < 0 else 2 * third
            picture[edge - WALL : edge + WALL, WALL : WALL + max(int(cell), WALL)] = CUE
        x, y = int(WALL + (min(walked, self.length) + 0.5) * cell), HEIGHT // 2 + int(turn) * third
        picture[y - WALL : y + WALL, x - WALL : x + WALL] = WALKER
        return picture
