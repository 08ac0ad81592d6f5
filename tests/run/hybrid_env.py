"""An environment that takes memory, masks and actions of several parts."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS = 4


class Signal(gymnasium.Env):
    """The first observation shows a signal of three; from the second step on, what it asked for is worth 1 a step.

    It asks to go its way and to aim at its height, and each missed height costs its distance. Of four ways the last is
    illegal at odd times; of the first of two keys one alone is legal, the one whose number is the parity of the time.
    An illegal action is an error.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = spaces.Dict(signal=spaces.Box(0, 1, (3,)), time=spaces.Discrete(STEPS + 1))
    action_space = spaces.Dict(
        aim=spaces.Box(-1, 1, (1,)),
        do=spaces.Tuple((spaces.Discrete(4), spaces.MultiDiscrete([2, 2], start=[5, 0]), spaces.MultiBinary(2))),
    )

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.time = self.signal = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time, self.signal = 0, int(self.np_random.integers(3))
        return self.observation(), self.info()

    def observation(self) -> dict[str, Any]:
        shown = np.zeros(3, np.float32)
        if self.time == 0:
            shown[self.signal] = 1
        return {"signal": shown, "time": self.time}

    def info(self) -> dict[str, Any]:
        odd = self.time % 2
        keys = np.array([not odd, odd, 1, 1], np.int8)
        return {"action_mask": {"do": (np.array([1, 1, 1, not odd], np.int8), keys, None)}}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"{action} is not in {self.action_space}")
        way, keys, lamps = action["do"]
        if (way == 3 and self.time % 2) or keys[0] - 5 != self.time % 2:
            raise ValueError(f"{action} is illegal at time {self.time}")
        missed = abs(float(action["aim"][0]) - 0.8 * (self.signal - 1))
        reward = (way == self.signal) - missed - 0.1 * float(lamps.sum()) if self.time else 0.0
        self.time += 1
        return self.observation(), reward, self.time == STEPS, False, self.info()

    def render(self) -> np.ndarray:
        picture = np.zeros((60, 80, 3), np.uint8)
        picture[:, : 20 * self.time] = 200
        return picture
