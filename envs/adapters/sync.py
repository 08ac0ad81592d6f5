"""Gymnasium environments, one after the other in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.adapters.checks import closed, env_error, flags_of, picture, reset_result, rewards_of, step_result
from envs.adapters.episodes import EpisodeRecord, replay, when
from envs.adapters.episodic import EpisodicVecEnv
from envs.api import Obs
from envs.spaces import BadData


class SyncVecEnv(EpisodicVecEnv):
    """Steps `envs` in a loop of our own. See `envs.api.VecEnv`.

    Args:
        envs: the environments.
        rescale_action: actions are in [-1, 1], to be mapped onto the bounds.
        first: the number of the first of them, where others live in other processes: it decides the seeds
            of their episodes and their names in messages.
    """

    backend = "sync"

    def __init__(self, envs: Sequence[gymnasium.Env], rescale_action: bool = False, first: int = 0) -> None:
        super().__init__(len(envs), envs[0].observation_space, envs[0].action_space, rescale_action, first)
        self._envs = list(envs)

    def _reset_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> Obs:
        raws: list[Any] = []
        try:
            for row, seed in zip(rows, seeds, strict=True):
                observation, _ = reset_result(self._envs[row].reset(seed=seed))
                raws.append(observation)
            return self._observations.encode(raws)
        except (Exception, SystemExit) as error:
            at = error.row if isinstance(error, BadData) and error.row is not None else len(raws)
            raise env_error(self.first + int(rows[at]), error, when(seeds[at], 0)) from error

    def _step_all(self, actions: np.ndarray) -> tuple[Obs, np.ndarray, np.ndarray, np.ndarray, list[Any]]:
        raws: list[Any] = []
        rewards: list[Any] = []
        terminated: list[Any] = []
        truncated: list[Any] = []
        infos: list[Any] = []
        try:
            for env, action in zip(self._envs, actions, strict=True):
                observation, reward, ended, cut, info = step_result(env.step(action))
                raws.append(observation)
                rewards.append(reward)
                terminated.append(ended)
                truncated.append(cut)
                infos.append(info)
            return (
                self._observations.encode(raws),
                rewards_of(rewards),
                flags_of(terminated, "terminated"),
                flags_of(truncated, "truncated"),
                infos,
            )
        except (Exception, SystemExit) as error:
            at = error.row if isinstance(error, BadData) and error.row is not None else len(raws)
            raise env_error(self.first + at, error, when(self._log.seed_of(at), self._log.steps_of(at) + 1)) from error

    def _replay_all(self, records: Sequence[EpisodeRecord]) -> list[Any]:
        return [replay(env, record) for env, record in zip(self._envs, records, strict=True)]

    def render(self, index: int = 0) -> np.ndarray:
        try:
            frame: Any = self._envs[index].render()
        except (Exception, SystemExit) as error:
            at = when(self._log.seed_of(index), self._log.steps_of(index))
            raise env_error(self.first + index, error, f"while being drawn {at}") from error
        return picture(frame)

    def close(self) -> None:
        envs, self._envs = self._envs, []  # once each: closing twice is not every simulator's
        for index, env in enumerate(envs):
            with closed(env, f"environment {self.first + index}"):
                pass
