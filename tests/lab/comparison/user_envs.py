"""Two small tasks on which a fault in an algorithm shows."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Match(gym.Env):
    """The action has to be the cue, which pays next to nothing: what is learnt must not depend on rewards' scale."""

    observation_space = gym.spaces.Box(0, 1, (4,))
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._draw(), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        reward = 1e-6 * float(action == self.cue)
        return self._draw(), reward, self.steps >= 8, False, {}

    def _draw(self) -> Any:
        self.cue = int(self.np_random.integers(4))
        return np.eye(4, dtype=np.float32)[self.cue]


class Shifts(gym.Env):
    """A way to work that takes longer than a shift, and the next shift mostly begins where the last one was cut.

    Whoever takes the cut for an end sees costs and no reward.
    """

    observation_space = gym.spaces.Box(0, 1, (6,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.place = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        if self.np_random.random() < 0.05:
            self.place = 0
        return self._look(), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        self.place = min(max(self.place + (1 if action else -1), 0), 5)
        reward = 1.0 if self.place == 5 else -0.1 * float(action)
        return self._look(), reward, False, self.steps >= 3, {}

    def _look(self) -> Any:
        return np.eye(6, dtype=np.float32)[self.place]
