"""An environment that is ill in ways that its arguments choose: a number is to be brought near 0."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Ill(gym.Env):
    """Args: as they are called; `rich` copies that are made first are paid one more for each step."""

    made = 0

    def __init__(
        self,
        length: float = 20,
        reward: float = 1.0,
        noise: float = 0.0,
        scale: float = 1.0,
        still: bool = False,
        bound: float = 0.0,
        rich: int = 0,
    ) -> None:
        Ill.made += 1
        self.length, self.reward, self.noise, self.scale, self.still = length, reward, noise, scale, still
        self.more = 10.0 if Ill.made <= rich else 0.0
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space: gym.Space = gym.spaces.Discrete(2)
        if bound:
            self.action_space = gym.spaces.Box(-bound, bound, (1,), np.float32)

    def observe(self) -> np.ndarray:
        third = 1.0 if self.still else self.np_random.uniform(-1, 1)
        return np.array([self.scale * self.x, self.np_random.uniform(-1, 1), third], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.x, self.t = self.np_random.uniform(-1, 1), 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        push = float(np.ravel(action)[0])
        self.x = float(np.clip(self.x + 0.1 * np.sign(push - 0.5), -2, 2))
        self.t += 1
        reward = self.reward * (1 - abs(self.x)) + self.more + self.noise * self.np_random.normal()
        return self.observe(), reward, self.t >= self.length, False, {}
