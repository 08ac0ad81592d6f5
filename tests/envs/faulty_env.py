"""An environment whose sensors fail at known steps."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Faulty(gymnasium.Env):
    """Counts steps in x[0], which is NaN at even ones but where `whole` at 0, and in y, 10 more, missing at 0 and 3.

    Where `whole`, y is never missing. x[1] is always 5. Episodes take four steps.
    """

    def __init__(self, whole: bool = False) -> None:
        self.observation_space = spaces.Dict(x=spaces.Box(-10, 10, (2,)), y=spaces.Box(-np.inf, np.inf, (1,)))
        self.action_space = spaces.Discrete(2)
        self.whole = whole

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self._observe(), float(action), False, self.t == 4, {}

    def _observe(self) -> dict[str, Any]:
        x = self.t if self.t % 2 or (self.whole and not self.t) else np.nan
        found = {"x": np.array([x, 5], np.float32)}
        if self.whole or self.t not in (0, 3):
            found["y"] = np.array([10 + self.t], np.float32)
        return found
