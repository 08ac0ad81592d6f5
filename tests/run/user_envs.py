"""A user's own file of environments: `--env tests/run/user_envs.py:Signs`.

Environments that workers step are in a light module as this one: a worker imports all that their module imports.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Signs(gymnasium.Env):
    """Do what the sign says: a Dict is seen, actions count from 5, and 50 steps make an episode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Dict(
            {"sign": spaces.Discrete(3, start=5), "fog": spaces.Box(-1, 1, (2,), np.float64)}
        )
        self.action_space = spaces.Discrete(3, start=5)
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert 5 <= action <= 7
        reward = float(action == self.sign)
        self.steps += 1
        return self._observe(), reward, False, self.steps == 50, {}

    def render(self) -> np.ndarray:
        return np.full((48, 64, 3), 30 * self.sign, np.uint8)

    def _observe(self) -> dict[str, Any]:
        self.sign = int(self.np_random.integers(5, 8))
        return {"sign": self.sign, "fog": self.np_random.uniform(-1, 1, 2)}


class Levers(gymnasium.Env):
    """Two levers to be set as the lamps say, in episodes of 3 to 17 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (2,))
        self.action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(3, 18))
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action[0] == self.lamps[0]) + float(action[1] == 2 * self.lamps[1])
        self.left -= 1
        return self._observe(), reward, self.left == 0, False, {}

    def _observe(self) -> np.ndarray:
        self.lamps = self.np_random.integers(0, 2, 2).astype(np.float32)
        return self.lamps


class Counting(gymnasium.Env):
    """Observations count the steps of the only episode, so that one of a transition follows from the other.

    What `raises` holds is raised at step 200, once.
    """

    observation_space = spaces.Box(0, 1e6, (1,))
    action_space = spaces.Discrete(2)
    steps = 0
    raises: Exception | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        error, Counting.raises = (Counting.raises, None) if self.steps == 200 else (None, Counting.raises)
        if error is not None:
            raise error
        return np.full(1, self.steps, np.float32), 1.0, False, False, {}


class Faulty(gymnasium.Env):
    """Does what `fault` says at its step number `at`, counted over all episodes of 20 steps."""

    def __init__(self, fault: str = "", at: int = 150) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,))
        self.action_space = spaces.Discrete(2)
        self.fault, self.at, self.steps = fault, at, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self.fault == "reset" and self.steps >= self.at:
            raise FileNotFoundError("no level 8")
        return self._observe(), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        cut = self.steps % 20 == 0
        if self.steps == self.at:
            match self.fault:
                case "raises":
                    raise ZeroDivisionError("the ball left the field")
                case "nan":
                    return np.array([0, np.nan], np.float32), 1.0, False, cut, {}
                case "shape":
                    return np.zeros(3, np.float32), 1.0, False, cut, {}
                case "dtype":
                    return np.array(["0", "1"]), 1.0, False, cut, {}
                case "reward":
                    return self._observe(), float("nan"), False, cut, {}
                case "dies":
                    os._exit(3)
        return self._observe(), 1.0, False, cut, {}

    def _observe(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


class Endless(Faulty):
    """Its episodes never end."""

    def step(self, action: int) -> Any:
        return self._observe(), 1.0, False, False, {}


class Reports(Faulty):
    """Episodes of 20 steps that report whether they were a success: always `success`."""

    def __init__(self, success: bool = True) -> None:
        super().__init__()
        self.success = success

    def step(self, action: int) -> Any:
        return *super().step(action)[:4], {"is_success": self.success}


class Sleeper(Signs):
    """Sleeps for ever in its step number 60 if there is a file `bed`, and takes the file away before."""

    def __init__(self, bed: str = "", render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.bed, self.taken = Path(bed), 0

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        if self.taken == 60 and self.bed.is_file():
            self.bed.unlink(missing_ok=True)
            time.sleep(10**6)
        return super().step(action)


class Rude(Signs):
    """Leads the process elsewhere, prints, draws from and seeds what all share, takes signals, and leaves a thread.

    It cannot be closed. `manners` names what it does of that: all by default.
    """

    ALL = "chdir print seed signals thread close"

    def __init__(self, manners: str = ALL, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.manners = manners.split()
        self._wander()

    def _wander(self) -> None:
        if "chdir" in self.manners:
            os.chdir("/")

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._wander()
        if "print" in self.manners:
            print("a line of the environment's")
        if "seed" in self.manners:
            random.seed(1)
            np.random.seed(1)  # noqa: NPY002
            if torch := sys.modules.get("torch"):
                torch.manual_seed(1)
        if "signals" in self.manners and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            self.manners.remove("signals")
        if "thread" in self.manners:
            threading.Thread(target=time.sleep, args=(3600,), name="left by an environment").start()
            self.manners.remove("thread")
        return super().step(action)

    def close(self) -> None:
        if "close" in self.manners:
            raise ConnectionResetError("the simulator had gone")


class Silent(Exception):
    """An error whose text cannot be made, and which no other process can read."""

    def __init__(self) -> None:
        self.held = threading.Lock()

    def __str__(self) -> str:
        raise ValueError("no words")


class Speechless(Signs):
    """Fails at its step number 90 with an error that says nothing."""

    taken = 0

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        if self.taken == 90:
            raise Silent
        return super().step(action)
