"""Pictures that follow from the episode and the step, four frames in an observation."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

SIDE = 36


class Film(gymnasium.Env):
    """Pays for the action that the step asks for; episodes last 5 to 24 steps."""

    observation_space = spaces.Box(0, 255, (4, SIDE, SIDE), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t, self.length = 0, int(self.np_random.integers(5, 25))
        self.tone = self.np_random.integers(1, 256, SIDE, np.uint8)
        self.frames = [np.zeros((SIDE, SIDE), np.uint8)] * 3 + [self.frame()]
        return np.stack(self.frames), {}

    def frame(self) -> np.ndarray:
        return np.roll(self.tone, self.t)[:, None].repeat(SIDE, axis=1)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        self.frames = [*self.frames[1:], self.frame()]
        return np.stack(self.frames), float(action == self.t % 3), self.t >= self.length, False, {}
