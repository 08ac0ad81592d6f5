"""Pictures that say which episode they are of and which step of it, each by pixels of its own."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Grains(gymnasium.Env):
    """The seed of the episode (modulo 256), the step and the last action, as rows of a grey picture.

    Where `large`, of 64 pixels a side, of which a replay buffer stores each once.
    """

    def __init__(self, large: bool = False) -> None:
        side = 64 if large else 6
        self.observation_space = spaces.Box(0, 255, (side, side), np.uint8)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.action = 0, 0
        self.mark = int(self.np_random.integers(256))
        self.length = int(self.np_random.integers(2, 8))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t, self.action = self.t + 1, int(action)
        ended = self.t >= self.length
        return self._observe(), float(action), ended and self.length % 2 == 0, ended and self.length % 2 == 1, {}

    def _observe(self) -> np.ndarray:
        picture = np.zeros(self.observation_space.shape, np.uint8)
        picture[0], picture[1], picture[2] = self.mark, self.t, self.action
        return picture


class Moved(gymnasium.Env):
    """A dot that moves left or right, as only two pictures together tell; the action that says which is worth 1."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (6, 6), np.uint8)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.way = 0, int(self.np_random.integers(2))
        self.x = int(self.np_random.integers(1, 5))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == self.way) if self.t else 0.0
        self.t += 1
        self.x += 2 * self.way - 1
        return self._observe(), reward, self.t >= 2, False, {}

    def _observe(self) -> np.ndarray:
        picture = np.zeros((6, 6), np.uint8)
        picture[2:4, self.x % 6] = 255
        return picture
