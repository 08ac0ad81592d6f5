"""Tasks that only a picture solves: which half is bright, or which code is in the middle, says what is worth 1."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space, spaces

from envs.api import InProcess, Step

FORMS: dict[str, Space] = {
    "grey": spaces.Box(0, 255, (8, 8), np.uint8),
    "colours last": spaces.Box(0, 255, (8, 9, 3), np.uint8),
    "colours first": spaces.Box(0, 255, (3, 8, 9), np.uint8),
    "floats to 1": spaces.Box(0, 1, (8, 8, 3), np.float32),
    "floats to 255": spaces.Box(0, 255, (8, 8, 1), np.float32),
    "stacked": spaces.Box(0, 255, (4, 8, 8), np.uint8),
    "in a dict": spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8), "noise": spaces.Box(0, 1, (2,))}),
}
HEIGHT = {"colours first": 1, "stacked": 1}  # the axis of the rows, where it is not the first


class Pictures(InProcess):
    """N copies; an episode takes one step. The left or the right half is bright, in all channels."""

    device, backend, capturable = "cpu", "sync", False
    action_space: Space = spaces.Discrete(2)

    def __init__(self, num_envs: int, form: str = "grey") -> None:
        self.num_envs, self._form = num_envs, form
        self.observation_space = FORMS[form]

    def reset(self, seed: int) -> Any:
        self._rng = np.random.default_rng(seed)
        return self._begin()

    def _begin(self) -> Any:
        self._right = self._rng.integers(2, size=self.num_envs)
        inner: Any = self.observation_space["camera"] if self._form == "in a dict" else self.observation_space
        picture = np.zeros((self.num_envs, *inner.shape), inner.dtype)
        width = HEIGHT.get(self._form, 0) + 2
        turned = np.moveaxis(picture, width, 1)  # a view: `[N, W, ...]`
        half = turned.shape[1] // 2
        turned[self._right == 0, :half] = inner.high.max()
        turned[self._right == 1, half:] = inner.high.max()
        if self._form != "in a dict":
            return picture
        return {"camera": picture, "noise": self._rng.random((self.num_envs, 2), np.float32)}

    def step(self, action: np.ndarray) -> Step:
        reward = (action == self._right).astype(np.float32)
        ended, never = np.ones(self.num_envs, bool), np.zeros(self.num_envs, bool)
        before, obs = self._obs_now(), self._begin()
        return Step(obs, reward, ended, never, before)

    def _obs_now(self) -> Any:
        shape = self.observation_space
        if isinstance(shape, spaces.Dict):
            return {key: np.zeros((self.num_envs, *leaf.shape), leaf.dtype) for key, leaf in shape.spaces.items()}
        return np.full((self.num_envs, *shape.shape), shape.high.max(), shape.dtype)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def render(self, index: int = 0) -> np.ndarray:
        return np.full((1, 1, 3), 90, np.uint8)

    def close(self) -> None:
        pass


class Coded(gymnasium.Env):
    """One step: the code in the middle of a picture of bytes is the action worth 1."""

    observation_space = spaces.Box(0, 255, (5, 5, 2), np.uint8)
    action_space = spaces.Discrete(6)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._codes = self.np_random.integers(0, 6, (5, 5, 2), np.uint8)
        return self._codes, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._codes, float(action == self._codes[2, 2, 0]), True, False, {}
