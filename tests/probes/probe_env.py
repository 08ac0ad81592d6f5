"""Tiny environments, each of which only one fault makes unlearnable (after Jones 2021, "Debugging RL").

What a learnt value or action should be follows from a formula, so a failure names the part that is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space, spaces

from envs.api import InProcess, Step


class Probe(InProcess):
    """N copies of a task whose state is a cue of -1 or 1, drawn for each episode, and the time t within it.

    Subclasses set `length` and say what is seen and what an action is worth. Episodes terminate after `length`
    steps, or are truncated there where `truncates`.
    """

    device, backend, capturable = "cpu", "sync", False
    action_space: Space = spaces.Discrete(2)
    size = 1  # of the observation
    length = 1
    truncates = False

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.observation_space = spaces.Box(-1, 1, (self.size,), np.float32)

    def see(self, cue: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Return the observation `[N, size]`."""
        return np.zeros((len(t), 1))

    def worth(self, cue: np.ndarray, t: np.ndarray, action: np.ndarray) -> Any:
        """Return the reward `[N]` of an action at time t."""
        return np.ones(len(t))

    def reset(self, seed: int) -> np.ndarray:
        self._rng = np.random.default_rng(seed)
        self._cue = self._rng.choice([-1.0, 1.0], self.num_envs)
        self._t = np.zeros(self.num_envs, np.int64)
        return self._obs()

    def _obs(self) -> np.ndarray:
        return np.asarray(self.see(self._cue, self._t), np.float32)

    def step(self, action: np.ndarray) -> Step:
        reward = np.asarray(self.worth(self._cue, self._t, action), np.float32)
        self._t = self._t + 1
        next_obs, done = self._obs(), self._t == self.length
        self._cue = np.where(done, self._rng.choice([-1.0, 1.0], self.num_envs), self._cue)
        self._t = np.where(done, 0, self._t)
        never = np.zeros_like(done)
        terminated, truncated = (never, done) if self.truncates else (done, never)
        return Step(self._obs(), reward, terminated, truncated, next_obs)


class Constant(Probe):
    """One step, one observation, reward 1. Fails: the value loss or the optimiser."""


class Cue(Probe):
    """One step, the reward is the observation. Fails: observations do not reach the value function, or its gradient."""

    def see(self, cue, t):
        return cue[:, None]

    def worth(self, cue, t, action):
        return cue


class Delay(Probe):
    """Two steps, and the second is worth 1: gamma away at the first. Fails: bootstrapping, discounting, order."""

    length = 2

    def see(self, cue, t):
        return t[:, None]

    def worth(self, cue, t, action):
        return t == 1


class Choice(Probe):
    """One step, action 1 is worth 1 and action 0 is worth -1. Fails: the policy's gradient or advantages."""

    def worth(self, cue, t, action):
        return 2 * action - 1


class Match(Probe):
    """One step, action 1 is right where the cue is 1. Fails: actions and observations are paired wrongly."""

    def see(self, cue, t):
        return cue[:, None]

    def worth(self, cue, t, action):
        return np.where((action == 1) == (cue == 1), 1, -1)


class Bet(Probe):
    """Two steps: action 1 costs 0.1 at the first and pays 1 at the second, which shows whether it was taken.

    Fails: credit for what an action leads to, rather than for what it is worth at once.
    """

    length = 2
    size = 2

    def reset(self, seed: int) -> np.ndarray:
        self._bet = np.zeros(self.num_envs)
        return super().reset(seed)

    def see(self, cue, t):
        return np.stack([t, t * self._bet], axis=1)

    def worth(self, cue, t, action):
        paid = self._bet
        self._bet = np.where(t == 0, action, 0)
        return np.where(t == 0, -0.1 * action, paid)


class Recall(Probe):
    """Two steps: the cue is seen at the first, and action 1 is right at the second where it was 1.

    Fails: the carry is not handed on from step to step, crosses an episode's start, or has no gradient.
    """

    length = 2
    size = 2

    def see(self, cue, t):
        return np.stack([np.where(t == 0, cue, 0), t], axis=1)

    def worth(self, cue, t, action):
        return np.where(t == 0, 0, np.where((action == 1) == (cue == 1), 1, -1))


class Aim(Probe):
    """One step, a continuous action is worth most at half the cue. Fails: densities, deviations, action scale."""

    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def see(self, cue, t):
        return cue[:, None]

    def worth(self, cue, t, action):
        return -((action[:, 0] - 0.5 * cue) ** 2)


class Endless(Probe):
    """Reward 1 for ever, seen in pieces of 4 steps: worth 1 / (1 - gamma). Fails: a truncation cuts the bootstrap."""

    length = 4
    truncates = True


class Finite(Probe):
    """Reward 1 for 4 steps, which the observation counts: the finite sum. Fails: a termination does not cut it."""

    length = 4

    def see(self, cue, t):
        return t[:, None] / 4


class Aisle(Probe):
    """A row of places from 0 on, and no reward: action 3 leads right, the three others left. Episodes take 20 steps.

    Fails: nothing makes an agent seek what it has not seen.
    """

    action_space = spaces.Discrete(4)
    length = 20
    farthest = 0

    def reset(self, seed: int) -> np.ndarray:
        self._place = np.zeros(self.num_envs)
        return super().reset(seed)

    def see(self, cue, t):
        return self._place[:, None] / self.length

    def worth(self, cue, t, action):
        self._place = np.where(t == 0, 0, self._place)
        self._place = np.maximum(self._place + np.where(action == 3, 1, -1), 0)
        self.farthest = max(self.farthest, int(self._place.max()))
        return np.zeros(len(t))
