"""An environment that says in words which action is right."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space, spaces

ORDERS = ("please go left now", "Please go RIGHT, now!")


class Orders(Space[str]):
    """Texts of no space of Gymnasium's, as MiniGrid's missions are."""

    def __init__(self) -> None:
        super().__init__(None, str)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return ORDERS[int(self.np_random.integers(2))]


class Told(gymnasium.Env):
    """Says one of `ORDERS`, and the same as a sequence; the action of its number is worth 1. Episodes take one step."""

    def __init__(self, words: bool = True, symbols: bool = True, broken: bool = False) -> None:
        leaves: dict[str, Space] = {"noise": spaces.Box(0, 1, (1,))}
        leaves |= {"said": Orders()} if words else {}
        leaves |= {"seen": spaces.Sequence(spaces.Discrete(9))} if symbols else {}
        self.observation_space = spaces.Dict(leaves)
        self.action_space = spaces.Discrete(2)
        self.broken = broken

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.right = int(self.np_random.integers(2))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._observe(), float(action == self.right), True, False, {}

    def _observe(self) -> dict[str, Any]:
        order = [7, 3] if self.right else [3, 7]  # which symbol comes first
        found = {
            "noise": self.np_random.random(1, np.float32),
            "said": None if self.broken else ORDERS[self.right],
            "seen": (*order, *self.np_random.integers(9, size=self.np_random.integers(3))),
        }
        return {key: found[key] for key in self.observation_space.spaces}
