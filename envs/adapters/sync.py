"""Gymnasium environments, one after the other in this process."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.adapters.carried import checksums
from envs.adapters.checks import closed, env_error, flags_of, picture, reset_result, rewards_of, step_result
from envs.adapters.episodes import EpisodeRecord, Reached, replay, when
from envs.adapters.episodic import EpisodicVecEnv
from envs.api import Obs
from envs.errors import EnvError
from envs.seeding import derive_seed
from envs.spaces import BadData, Codec, ObservationCodec

TRIED = 32  # steps of an episode that are played twice


class SyncVecEnv(EpisodicVecEnv):
    """Steps `envs` in a loop of our own. See `envs.api.VecEnv`.

    Args:
        envs: the environments.
        rescale_action: actions are in [-1, 1], to be mapped onto the bounds.
        first: the number of the first of them, where others live in other processes: it decides the seeds
            of their episodes and their names in messages.
        codec: what reads observations.
    """

    backend = "sync"

    def __init__(
        self,
        envs: Sequence[gymnasium.Env],
        rescale_action: bool = False,
        first: int = 0,
        codec: Codec = ObservationCodec,
    ) -> None:
        super().__init__(len(envs), envs[0].observation_space, envs[0].action_space, rescale_action, first, codec)
        self._envs = list(envs)
        self._between = False  # whether an error left them within a tick, so that they are not where the log ends

    def _reset_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> Obs:
        raws: list[Any] = []
        self._between = False
        try:
            for row, seed in zip(rows, seeds, strict=True):
                observation, _ = reset_result(self._envs[row].reset(seed=seed))
                raws.append(observation)
            return self._observations.encode(raws)
        except (Exception, SystemExit) as error:
            at = _whose(error, raws, len(rows))
            raise env_error(self.first + int(rows[at]), error, when(seeds[at], 0)) from error

    def _step_all(self, actions: Any) -> tuple[Obs, np.ndarray, np.ndarray, np.ndarray, list[Any]]:
        raws: list[Any] = []
        rewards: list[Any] = []
        terminated: list[Any] = []
        truncated: list[Any] = []
        infos: list[Any] = []
        try:
            for env, action in zip(self._envs, self._actions.each(actions), strict=True):
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
            self._between = True
            at = _whose(error, raws, self.num_envs)
            raise env_error(self.first + at, error, when(self._log.seed_of(at), self._log.steps_of(at) + 1)) from error

    def _replay_all(self, records: Sequence[EpisodeRecord]) -> list[Reached | EnvError]:
        self._between = False
        return [replay(env, record) for env, record in zip(self._envs, records, strict=True)]

    def doubts(self) -> str | None:
        env = self._envs[0]
        space = copy.deepcopy(env.action_space)  # its random stream is the environment's
        space.seed(0)
        return self._doubts(env, [space.sample() for _ in range(TRIED)])

    def _doubts(self, env: gymnasium.Env, actions: list[Any]) -> str | None:
        seed, count, return_ = derive_seed(0, "doubts"), 0, 0.0
        try:
            observation, _ = env.reset(seed=seed)
            for count, action in enumerate(actions):
                observation, reward, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    return self._doubts(env, actions[:count])  # positions lie within episodes
                return_ += float(np.float32(reward))
            obs = self._observations.encode([observation])
        except (Exception, SystemExit):
            return None  # it is broken, which playing will tell, or the action was illegal
        reached = replay(env, EpisodeRecord(seed, actions, return_, checksums(env)))
        missed = self._missed(obs, 0, reached)
        return (
            missed if isinstance(reached, EnvError) else missed or "; ".join([*reached.signs, *reached.causes]) or None
        )

    def _checksums(self) -> list[dict[str, int]]:
        return [{} if self._between else checksums(env) for env in self._envs]

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


def _whose(error: BaseException, raws: Sequence[Any], count: int) -> int:
    """Return which of so many environments an error is of: that whose turn it was, if the error does not say."""
    if isinstance(error, BadData) and error.row is not None:
        return error.row
    return min(len(raws), count - 1)
