"""Environments whose episodes do not follow from seeds and actions alone, and some with unusual spaces."""

from __future__ import annotations

import random
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Walk(gymnasium.Env):
    """Steps of the episode's own randomness; episodes of 3 to 20 steps. What is seen never tells what is carried."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,))
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(3, 21))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return self._observe(), float(action) + self._extra(), self.left == 0, False, {}

    def _observe(self) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def _extra(self) -> float:
        return 0.0


class Lucky(Walk):
    """Rewards come from a global random stream; with `reseeds` the reset sets that, as old environments do."""

    def __init__(self, source: str = "numpy", reseeds: bool = False) -> None:
        super().__init__()
        self.source, self.reseeds = source, reseeds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self.reseeds:
            np.random.seed(seed)  # noqa: NPY002
        return super().reset(seed=seed)

    def _extra(self) -> float:
        return float(np.random.normal()) if self.source == "numpy" else random.random()  # noqa: NPY002


class Dice(Walk):
    """Rewards come from a generator of its own, which no seed reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = np.random.default_rng()

    def _extra(self) -> float:
        return float(self.dice.random())


class Tired(Walk):
    """Counts its steps over all episodes; beyond `rested` of them each costs something."""

    def __init__(self, rested: int = 0) -> None:
        super().__init__()
        self.rested, self.total = rested, 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.total += 1
        return super().step(action)

    def _extra(self) -> float:
        return -0.01 * max(self.total - self.rested, 0)


class Lamps(Walk):
    """A picture and numbers of every kind are seen, and each of three lamps is switched."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "picture": spaces.Box(0, 255, (12, 12, 3), np.uint8),
                "lamps": spaces.MultiBinary(3),
                "dials": spaces.MultiDiscrete([4, 2]),
                "place": spaces.Tuple((spaces.Discrete(3, start=-1), spaces.Box(-1, 1, (2,), np.float64))),
            }
        )
        self.action_space = spaces.MultiBinary(3)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        hits = float((np.asarray(action) == self.lamps).sum())
        self.left -= 1
        return self._observe(), hits, False, self.left == 0, {}

    def _observe(self) -> Any:
        self.lamps = self.np_random.integers(0, 2, 3).astype(np.int8)
        return {
            "picture": self.np_random.integers(0, 256, (12, 12, 3), np.uint8),
            "lamps": self.lamps,
            "dials": self.np_random.integers(0, [4, 2]),
            "place": (int(self.np_random.integers(-1, 2)), self.np_random.uniform(-1, 1, 2)),
        }


class Screen(Walk):
    """A grey picture is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)

    def _observe(self) -> Any:
        return self.np_random.integers(0, 256, (36, 36, 1), np.uint8)
