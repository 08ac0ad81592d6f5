"""A walk on a line that is as it should be, and others that are it but for one fault each."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Good(gym.Env):
    """Go right until the end of the line; a step right is worth 1, one left costs 1, and time is short."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space: gym.Space = spaces.Box(-1, 2, (2,), np.float32)
    action_space: gym.Space = spaces.Discrete(3)
    limit = 60

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def observe(self) -> Any:
        return np.array([self.place / 10, self.wind], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.place, self.t, self.wind = 0, 0, self.np_random.uniform(-1, 1)
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        move = int(action) - 1
        self.place = int(np.clip(self.place + move, -10, 10))
        self.t += 1
        self.wind = self.np_random.uniform(-1, 1)
        terminated = abs(self.place) == 10
        return self.observe(), float(move), terminated, not terminated and self.t >= self.limit, {}

    def render(self) -> np.ndarray:
        picture = np.zeros((20, 40, 3), np.uint8)
        picture[:, self.place + 15 : self.place + 20] = 255
        return picture


class Alone(Good):
    """A second one cannot be made while there is a first."""

    alive = 0

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        if Alone.alive:
            raise RuntimeError("the licence is in use")
        Alone.alive += 1

    def close(self) -> None:
        Alone.alive = 0


class Unseeded(Good):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        found = super().reset(seed=seed)
        self.wind = np.random.uniform(-1, 1)  # noqa: NPY002
        return self.observe(), found[1]


class Carrying(Good):
    """The wind of an episode depends on how many there were."""

    episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.episodes += 1
        self.wind = 1 / self.episodes
        return self.observe(), {}


class Outside(Good):
    def observe(self) -> Any:
        return super().observe() * 30


class WrongDtype(Good):
    def observe(self) -> Any:
        return super().observe().astype(np.float64)


class WrongShape(Good):
    def observe(self) -> Any:
        return np.append(super().observe(), self.t > 20).astype(np.float32) if self.t > 20 else super().observe()


class NotFinite(Good):
    def observe(self) -> Any:
        return super().observe() * (np.nan if self.t == 25 else 1)


class BadReward(Good):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, reward, *rest = super().step(action)
        return obs, np.inf if self.t == 15 else reward, *rest


class Endless(Good):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, False, info


class Confused(Good):
    """Time is over, and that is called a termination."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, reward, _, _, info = super().step(action)
        return obs, reward, self.t >= self.limit, False, info


class OldLimit(Good):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated or truncated, False, {"TimeLimit.truncated": truncated}


class OnlyTruncated(Good):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, False, terminated or truncated, info


class Reusing(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.buffer = np.zeros(2, np.float32)

    def observe(self) -> Any:
        self.buffer[:] = super().observe()
        return self.buffer


class ChangingActions(Good):
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        action *= 0.5
        return super().step(round(float(action[0])) + 1)


class LargeRewards(Good):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, reward, *rest = super().step(action)
        return obs, 1e6 * reward, *rest


class Unpaid(Good):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, _, *rest = super().step(action)
        return obs, 0.0, *rest


class Still(Good):
    def observe(self) -> Any:
        return np.array([self.place / 10, 0.25], np.float32)


class ManyBoxes(Good):
    observation_space = spaces.Sequence(Good.observation_space)

    def observe(self) -> Any:
        return (super().observe(),)


class Raising(Good):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if self.t == 30:
            raise ZeroDivisionError("of what?")
        return super().step(action)


class FourValues(Good):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


class NoPicture(Good):
    def render(self) -> Any:
        return None


class Raw(Good):
    """Its observations are in its space once a wrapper has made them smaller."""

    def observe(self) -> Any:
        return np.array([self.place * 100, self.wind])


class Scaled(gym.ObservationWrapper):
    """Makes the observations of `Raw` those of `Good`."""

    def observation(self, observation: Any) -> Any:
        return (observation / [1_000, 1]).astype(np.float32)


def scaled(render_mode: str | None = None) -> gym.Env:
    return Scaled(Raw(render_mode))


class NoFlag(Good):
    def step(self, action: Any) -> tuple[Any, float, Any, bool, dict]:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or None, truncated, info


class NoWidth(Good):
    observation_space = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 0], np.float32))


class InInfo(Good):
    """A step to the left is illegal in every other place."""

    def mask(self) -> Any:
        return np.array([self.place % 2, 1, 1], np.int8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        obs, info = super().reset(seed=seed)
        return obs, {**info, "action_mask": self.mask()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if not self.mask()[action]:
            raise ValueError("to the left from an even place")
        *rest, info = super().step(action)
        return (*rest, {**info, "action_mask": self.mask()})  # type: ignore[return-value]


class ByMethod(InInfo):
    def action_masks(self) -> Any:
        return self.mask()


class InObservation(InInfo):
    observation_space = spaces.Dict(at=Good.observation_space, action_mask=spaces.MultiBinary(3))

    def observe(self) -> Any:
        return {"at": super().observe(), "action_mask": self.mask()}


class ShortMask(InInfo):
    def mask(self) -> Any:
        return np.ones(2, np.int8)
