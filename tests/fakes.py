"""Environments without chance, for tests that must know every transition beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces

from agents.core.config import AlgoConfig
from agents.core.runtime import Runtime
from agents.run import registry
from agents.run.build import build_on
from agents.run.config import RunConfig
from agents.run.training import Training
from envs.api import InProcess, Step, VecEnv


class ClockEnv(InProcess):
    """N environments that count: the observation is (environment, episode, t) / 8, and nothing is random.

    An episode lasts `lengths(env, episode)` steps. Episodes 0, 3, 6... terminate, 1, 4, 7... are truncated and
    2, 5, 8... are both at once. An action whose entries add up to t modulo 3 is worth 1, any other 0.

    With `dummies`, each end is followed by the transition that a NEXT_STEP autoreset makes; it is worth 1000
    and its action counts for nothing. The seed says which episode comes first.

    At an episode's end `info` has its `length` and as `is_success` whether it terminated, but in environment 1, where
    there is nothing.
    """

    device, backend, capturable = "cpu", "sync", False
    observation_space: Space = spaces.Box(0, np.inf, (3,), np.float32)

    def __init__(
        self,
        num_envs: int,
        action_space: Space | None = None,
        lengths: Callable[[int, int], int] = lambda env, episode: 3 + (2 * env + 3 * episode) % 7,
        dummies: bool = False,
    ) -> None:
        self.num_envs = num_envs
        self.action_space = action_space or spaces.Discrete(3)
        self.own_spaces = self.observation_space, self.action_space
        self.dummies = dummies
        self.actions: list[np.ndarray] = []
        self._lengths = lengths
        self._envs = np.arange(num_envs)

    def reset(self, seed: int) -> np.ndarray:
        self._episode = np.full(self.num_envs, seed % 3)
        self._t = np.zeros(self.num_envs, np.int64)
        self._resetting = np.zeros(self.num_envs, bool)
        return self._obs()

    def _obs(self) -> np.ndarray:
        return np.stack([self._envs, self._episode, self._t], axis=1).astype(np.float32) / 8

    def step(self, action: np.ndarray) -> Step:
        self.actions.append(action.copy())
        dummy = self._resetting
        right = np.floor(action.reshape(self.num_envs, -1).sum(axis=1)).astype(int) % 3 == self._t % 3
        reward = np.where(dummy, 1000, right).astype(np.float32)
        self._t = np.where(dummy, 0, self._t + 1)
        self._episode = self._episode + dummy
        lengths = [self._lengths(env, int(episode)) for env, episode in enumerate(self._episode)]
        done = ~dummy & (self._t >= lengths)
        kind = self._episode % 3
        terminated, truncated = done & (kind != 1), done & (kind != 0)
        next_obs = self._obs()
        infos = {row: {"length": int(self._t[row]), "is_success": bool(terminated[row])} for row in done.nonzero()[0]}
        infos.pop(1, None)
        if self.dummies:
            self._resetting = done
            return Step(next_obs, reward, terminated, truncated, next_obs, ~dummy, infos)
        self._episode = self._episode + done
        self._t = np.where(done, 0, self._t)
        return Step(self._obs(), reward, terminated, truncated, next_obs, infos=infos)

    def state_dict(self) -> dict[str, Any]:
        return {"episode": self._episode, "t": self._t, "resetting": self._resetting}

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        self._episode, self._t, self._resetting = state["episode"], state["t"], state["resetting"]
        return []

    def render(self, index: int = 0) -> np.ndarray:
        return np.full((1, 1, 3), 90, np.uint8)

    def close(self) -> None:
        pass


def decode_clock(obs: np.ndarray) -> np.ndarray:
    """Return the (environment, episode, t) that a ClockEnv's observations say, int64 `[..., 3]`."""
    return np.rint(np.asarray(obs) * 8).astype(np.int64)


def algo_of(params: AlgoConfig) -> str:
    """Return the name of the packaged algorithm that these hyperparameters belong to."""
    return next(name for name in registry.names() if registry.find(name).config is type(params))


def training_on(env: VecEnv, params: AlgoConfig, *, seed: int = 0, runtime: Runtime | None = None) -> Training:
    """Return a training of `params` in `env`, whose episodes begin with `env.reset(seed)`; plain unless told."""
    config = RunConfig(env="CartPole-v1", algo=algo_of(params), seed=seed, device="cpu", params=params)
    training = build_on(env, config, torch.device("cpu"), runtime=runtime or Runtime())
    training.collector.state.restart(env, training.policy, seed)
    if training.sampler is not None:
        training.sampler.generator.manual_seed(seed)
    return training
