"""Small environments that the tests of this folder share."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Walk(gymnasium.Env):
    """Counts its own episodes; terminates past 3, is cut after 3 steps, and sometimes both at once.

    Nothing is random, so that what happens follows from the actions alone, whoever resets it and how.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "place": spaces.Box(-1, 20, (2,), np.float64),
                "more": spaces.Tuple((spaces.Discrete(7, start=-1), spaces.MultiBinary(2))),
            }
        )
        self.action_space = spaces.Discrete(3, start=5)
        self.episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.t, self.x = 0, self.episode % 3
        return self._observe(), {"episode": self.episode}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert 5 <= action < 8
        self.t += 1
        self.x += int(action) - 5
        info = {"t": self.t, "object": object(), "large": np.zeros(1_001)}
        if self.x > 3 or self.t >= 3:
            info |= {"is_success": self.x > 3, "sums": {"x": np.float64(self.x), "pair": np.array([self.x, self.t])}}
        return self._observe(), self.x + 0.5, self.x > 3, self.t >= 3, info

    def _observe(self) -> Any:
        bits = np.array([self.x % 2, self.t % 2], np.int8)
        return {"place": np.array([self.x, self.episode / 10]), "more": (self.t - 1, bits)}


class Drift(gymnasium.Env):
    """A random walk of its own seed; its one observation array is reused, as some environments do."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, horizon: int = 12, seeded: bool = True, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,))
        self.action_space = spaces.Box(-2.0, 3.0, (1,))
        self.horizon, self.seeded, self.render_mode = horizon, seeded, render_mode
        self.buffer, self.t = np.zeros(3, np.float32), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed if self.seeded else None)
        self.t = 0
        self.stop = self.np_random.integers(2, self.horizon)
        self.buffer[:] = self.np_random.standard_normal(3)
        return self.buffer, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        self.buffer += self.np_random.standard_normal(3) + action[0]
        return self.buffer, float(self.buffer[0]), self.t >= self.stop, self.t >= self.horizon, {}

    def render(self) -> np.ndarray | None:
        return np.full((4, 5, 3), self.t, np.uint8) if self.render_mode else None


class UnpicklableError(Exception):
    """Cannot be rebuilt from its message alone, so no other process can raise it again."""

    def __init__(self, code: int, place: str) -> None:
        super().__init__(f"code {code} in {place}")


class Faulty(gymnasium.Env):
    """Behaves for two steps, and at the third does what `fault` says."""

    def __init__(self, fault: str = "", discrete: bool = False) -> None:
        self.observation_space = spaces.Discrete(4) if discrete else spaces.Box(-1, 1, (2,))
        self.action_space = spaces.Discrete(2)
        self.fault, self.good = fault, 1 if discrete else np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.t = 0
        if self.fault == "reset":
            raise RuntimeError("no way in")
        return self.good, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        observation, reward, terminated = self.good, 1.0, False
        if self.t == 3:
            match self.fault:
                case "raises":
                    raise UnpicklableError(7, "the maze")
                case "dies":
                    os._exit(3)
                case "exits":
                    sys.exit(4)
                case "four":
                    return observation, reward, terminated, {}
                case "nan":
                    observation = np.array([0, np.nan], np.float32)
                case "infinite":
                    observation = np.array([0, np.inf], np.float32)
                case "shape":
                    observation = np.zeros(3, np.float32)
                case "dtype":
                    observation = np.zeros(2, np.complex64)
                case "none":
                    observation = None
                case "range":
                    observation = 4
                case "float":
                    observation = 1.0
                case "reward nan":
                    reward = float("nan")
                case "reward shape":
                    reward = np.ones(1)
                case "reward none":
                    reward = None
                case "flag":
                    terminated = np.array([True, False])
        return observation, reward, terminated, False, {}


class Noting(Drift):
    """Leaves a file in `folder` at the end of each step."""

    def __init__(self, folder: str = "") -> None:
        super().__init__()
        self.folder = folder

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        found = super().step(action)
        tempfile.mkstemp(dir=self.folder)
        return found


class Slow(Drift):
    """A step takes 3 milliseconds."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(0.003)
        return super().step(action)


@dataclass(frozen=True)
class Deck:
    """Draw one of the cards that are left; derives from nothing, and its observation has leaves of every kind."""

    env_id: ClassVar[str] = "Deck"
    reward_threshold: ClassVar[None] = None
    render_fps: ClassVar[int] = 1
    uniforms: ClassVar[int] = 2
    step_uniforms: ClassVar[int] = 1
    observation_space: ClassVar[Any] = spaces.Dict(
        {
            "action_mask": spaces.MultiBinary(4),
            "last": spaces.Discrete(5),
            "both": spaces.MultiDiscrete([5, 9]),
            "luck": spaces.Box(0, 1, (1,), np.float64),
            "picture": spaces.Box(0, 255, (2, 2, 1), np.uint8),
        }
    )
    action_space: ClassVar[Any] = spaces.Discrete(4)

    max_episode_steps: int = 3

    def init(self, xp: Any, uniform: Any) -> Any:
        gone = xp.floor(uniform * 4)[:1]
        zero = gone * 0
        return xp.concatenate((zero, gone, zero + uniform[1:], zero))

    def step(self, xp: Any, state: Any, action: Any, uniform: Any) -> tuple[Any, Any, Any]:
        wrong = action == state[1]
        count = state[3] + 1
        return xp.stack((action + 1.0, action * 1.0, uniform[0], count)), 1.0 - wrong * 1, wrong | (uniform[0] > 0.9)

    def observe(self, xp: Any, state: Any) -> Any:
        last, gone, luck, count = state
        return {
            "action_mask": gone[:, None] != xp.arange(4, device=state.device),
            "last": last,
            "both": xp.stack((last, count)).T,
            "luck": luck[:, None],
            "picture": xp.broadcast_to((luck * 255)[:, None, None, None], (len(luck), 2, 2, 1)),
        }


class Busy(Drift):
    """Says that it is about to, and never comes out of its step: asleep, or holding on to Python's lock."""

    def __init__(self, wait: Any) -> None:
        super().__init__()
        self.wait = wait

    @classmethod
    def idle(cls) -> Busy:
        return cls(lambda seconds: None)

    @classmethod
    def sleeping(cls) -> Busy:
        return cls(time.sleep)

    @classmethod
    def holding(cls) -> Busy:
        return cls(ctypes.PyDLL(None).sleep)

    def step(self, action: Any) -> Any:
        os.write(1, b"in its step\n")  # all at once: others write there too
        self.wait(10**6)
        return super().step(action)
