"""The part that our loop and vector environments without autoreset share: each episode begins with its own seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import Space

from envs import saved
from envs.actions import ActionCodec
from envs.adapters.checks import env_error, flag_dummies
from envs.adapters.episodes import EpisodeLog, EpisodeRecord, Reached, when
from envs.adapters.infos import infos_at
from envs.adapters.masks import MaskCheck
from envs.api import InProcess, Obs, Step
from envs.errors import EnvError, UserError, listed
from envs.spaces import BadData, Codec, ObservationCodec


class EpisodicVecEnv(InProcess, ABC):
    """A `VecEnv` whose episodes we begin ourselves, so that replaying an episode's actions restores a position.

    Subclasses say how to reset, step and replay; observations and actions cross to them as the environments'
    own, and come back checked and canonical.
    """

    backend: str
    device = "cpu"
    capturable = False

    def __init__(
        self,
        num_envs: int,
        observation_space: Space,
        action_space: Space,
        rescale_action: bool,
        first: int = 0,
        codec: Codec = ObservationCodec,
    ) -> None:
        self.num_envs = num_envs
        self.first = first
        self._observations = codec(observation_space)
        self._actions = ActionCodec(action_space, rescale_action)
        self.own_spaces = self._observations.raw, self._actions.raw
        self.observation_space = self._observations.space
        self.action_space = self._actions.space
        self._check_mask = MaskCheck(self.observation_space, self.action_space)
        self._log = EpisodeLog(num_envs, self.action_space, first)
        self._obs: Obs = None
        self._dummy: np.ndarray | None = None  # whose next transition leads from a lost position to a new episode

    @abstractmethod
    def _reset_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> Obs:
        """Reset these environments and return their observations, canonical, `[len(rows), ...]`."""

    @abstractmethod
    def _step_all(self, actions: Any) -> tuple[Obs, np.ndarray, np.ndarray, np.ndarray, Any]:
        """Step with a batch of the environments' own actions; return what they returned, checked but for the infos.

        That is obs canonical, reward float32, terminated and truncated bool `[N]`, and infos as `infos_at` takes them.
        """

    @abstractmethod
    def _replay_all(self, records: Sequence[EpisodeRecord]) -> Sequence[Reached | EnvError]:
        """Return what was reached at each record's end (raw actions too), or an EnvError: why it was not."""

    def _checksums(self) -> list[dict[str, int]]:
        """Return those of each environment (`carried.checksums`), or {} where they are out of reach."""
        return [{}] * self.num_envs

    @abstractmethod
    def render(self, index: int = 0) -> np.ndarray: ...

    @abstractmethod
    def close(self) -> None: ...

    def reset(self, seed: int) -> Obs:
        self._log.begin(seed)
        self._dummy = None
        rows = range(self.num_envs)
        self._obs = self._to_act_on(self._reset_rows(rows, [self._log.seed_of(row) for row in rows]))
        return self._obs

    def step(self, action: np.ndarray) -> Step:
        next_obs, reward, terminated, truncated, infos = self._step_all(self._actions.decode(action))
        self._log.record(action, reward)
        done = terminated | truncated
        obs, found = next_obs, {}
        if np.count_nonzero(done):
            rows = np.flatnonzero(done)
            found = infos_at(infos, rows)
            if found:
                self._look_at(self._check_mask.refuse_late, found)
            obs = self._begin_episodes(rows, next_obs)
        self._obs = self._to_act_on(obs)
        step = Step(self._obs, reward, terminated, truncated, next_obs, infos=found)
        if self._dummy is not None:
            step, self._dummy = flag_dummies(step, self._dummy), None
        return step

    def _to_act_on(self, obs: Obs) -> Obs:
        """Return `obs`, once it is sure that there is an action for each environment."""
        self._look_at(self._check_mask, obs)
        return obs

    def _look_at(self, check: Callable[[Any], None], given: Any) -> None:
        try:
            check(given)
        except BadData as error:
            row = error.row or 0
            raise env_error(self.first + row, error, when(self._log.seed_of(row), self._log.steps_of(row))) from error

    def _begin_episodes(self, rows: np.ndarray | Sequence[int], obs: Obs) -> Obs:
        seeds = [self._log.next_episode(row) for row in rows]
        return self._observations.with_rows(obs, rows, self._reset_rows(rows, seeds))

    def state_dict(self) -> dict[str, Any]:
        dummy = np.zeros(self.num_envs, bool) if self._dummy is None else self._dummy
        obs = self._observations.arrays(self._obs)
        return {**self._log.state_dict(), "obs": obs, "dummy": dummy, "checksums": self._checksums()}

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        return sentences(*self.restore(state))

    def restore(self, state: dict[str, Any]) -> tuple[dict[int, str], dict[int, str]]:
        """Go back to a saved position; return why an environment begins a new episode, and why one may differ.

        Both are by the environment's number.
        """
        dummy = saved.array(state.get("dummy"), "dummy", (self.num_envs,), bool)
        obs = self._observations.from_arrays(saved.entry(state, "obs", list), self.num_envs)
        self._log.load_state_dict(state)
        records = [
            record._replace(
                actions=None if record.actions is None else self._actions.each(self._actions.decode(record.actions)),
                checksums=checksums,
            )
            for record, checksums in zip(self._log.records(), saved_checksums(state, self.num_envs), strict=True)
        ]
        lost: dict[int, str] = {}
        doubted: dict[int, str] = {}
        for row, reached in enumerate(self._replay_all(records)):
            if (why := self._missed(obs, row, reached)) is not None:
                lost[row] = why
            elif isinstance(reached, Reached) and (reasons := [*reached.signs, *reached.causes]):
                doubted[row] = "; ".join(reasons)
        if lost:
            obs = self._begin_episodes(list(lost), obs)
            dummy[list(lost)] = True
        self._obs = obs
        self._dummy = dummy if dummy.any() else None
        return self._numbered(lost), self._numbered(doubted)

    def _missed(self, obs: Obs, row: int, reached: Reached | EnvError) -> str | None:
        """Return why what was reached is not row `row` of the canonical `obs`, or None where it is."""
        if isinstance(reached, EnvError):
            return str(reached)
        if self._observations.agrees(obs, row, reached.observation):
            return None
        return "; ".join(["replayed, its actions led to another observation", *reached.causes])

    def _numbered(self, reasons: dict[int, str]) -> dict[int, str]:
        return {self.first + row: why for row, why in reasons.items()}


def saved_checksums(state: dict[str, Any], num_envs: int) -> list[dict[str, int]]:
    """Return what `_checksums` returned; {} for each where an earlier version saved none.

    Raises:
        UserError: they are not those of so many environments.
    """
    if "checksums" not in state:
        return [{}] * num_envs
    found = saved.entry(state, "checksums", list)
    if len(found) != num_envs or not all(isinstance(one, dict) for one in found):
        raise UserError(f"the saved environment position is damaged: 'checksums' are not those of {num_envs}")
    return found


def sentences(lost: dict[int, str], doubted: dict[int, str]) -> list[str]:
    """Say which environments begin new episodes, which may go on otherwise, and why: a sentence for each reason."""
    said = []
    for why, rows in _by_reason(lost):
        told = "it was and begins a new episode" if len(rows) == 1 else "they were and begin new episodes"
        said.append(f"{_environments(rows)} could not be put back where {told} ({why})")
    for why, rows in _by_reason(doubted):
        said.append(f"{_environments(rows)} may go on otherwise than in an unbroken run: resuming is not exact ({why})")
    return said


def _by_reason(reasons: dict[int, str]) -> list[tuple[str, list[int]]]:
    return [(why, [row for row in reasons if reasons[row] == why]) for why in dict.fromkeys(reasons.values())]


def _environments(rows: list[int]) -> str:
    if len(rows) > 4:
        return f"{len(rows)} environments, {rows[0]} to {rows[-1]},"
    return f"environment{'s' if rows[1:] else ''} {listed([str(row) for row in rows], 'and')}"
