"""Gymnasium's vector environments, of any autoreset mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from envs import saved
from envs.actions import ActionCodec
from envs.adapters.checks import closed, env_error, flag_dummies, flags_of, picture, rewards_of, silenced
from envs.adapters.episodes import EpisodeRecord, Reached
from envs.adapters.episodic import EpisodicVecEnv
from envs.adapters.infos import infos_at
from envs.adapters.masks import MaskCheck
from envs.api import InProcess, Obs, Step, VecEnv
from envs.errors import EnvError, UserError
from envs.seeding import derive_seed
from envs.spaces import BadData, Codec, ObservationCodec


def adapt(env: VectorEnv, rescale_action: bool = False, codec: Codec = ObservationCodec) -> VecEnv:
    """Return the adapter for a Gymnasium vector environment's autoreset mode.

    Raises:
        UserError: the environment does not say how it resets, so its transitions cannot be told apart.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode is AutoresetMode.DISABLED:
        return ManualVectorEnv(env, rescale_action, codec)
    if mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        return GymVectorEnv(env, rescale_action, codec)
    raise UserError(f"{env} has metadata['autoreset_mode'] = {mode!r}; it must be a gymnasium.vector.AutoresetMode")


def _take(batch: Any, rows: Sequence[int] | np.ndarray) -> Any:
    """Return these rows of a batched raw observation."""
    if isinstance(batch, dict):
        return {key: _take(leaf, rows) for key, leaf in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_take(leaf, rows) for leaf in batch)
    return np.asarray(batch)[np.asarray(rows)]


class ManualVectorEnv(EpisodicVecEnv):
    """A vector environment with autoreset DISABLED: we reset what has ended. See `envs.api.VecEnv`."""

    backend = "vector"

    def __init__(self, env: VectorEnv, rescale_action: bool = False, codec: Codec = ObservationCodec) -> None:
        own = env.single_observation_space, env.single_action_space
        super().__init__(env.num_envs, *own, rescale_action, codec=codec)
        self._env = env

    def _reset_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> Obs:
        mask = np.zeros(self.num_envs, bool)
        mask[rows] = True
        all_seeds: list[int | None] = [None] * self.num_envs
        for row, seed in zip(rows, seeds, strict=True):
            all_seeds[row] = seed
        with _as_env_error("at a reset"):
            batch, infos = self._env.reset(seed=all_seeds, options={"reset_mask": mask})  # type: ignore[arg-type]
            self._check_mask.refuse_unread(self._env, infos)
            return self._observations.encode_batch(_take(batch, rows))

    def _step_all(self, actions: Any) -> tuple[Obs, np.ndarray, np.ndarray, np.ndarray, Any]:
        with _as_env_error("in a step"):
            batch, reward, terminated, truncated, infos = self._env.step(actions)
            return (
                self._observations.encode_batch(batch),
                rewards_of(reward),
                flags_of(terminated, "terminated"),
                flags_of(truncated, "truncated"),
                infos,
            )

    def _replay_all(self, records: Sequence[EpisodeRecord]) -> Sequence[Reached | EnvError]:
        return [EnvError("its vector environment offers no way to go back to a position")] * self.num_envs

    def render(self, index: int = 0) -> np.ndarray:
        return _picture(self._env, index)

    def close(self) -> None:
        with closed(self._env, "the vector environment"):
            pass


class GymVectorEnv(InProcess):
    """A vector environment that resets by itself, on the next step or the same. See `envs.api.VecEnv`."""

    backend = "vector"
    device = "cpu"
    capturable = False

    def __init__(self, env: VectorEnv, rescale_action: bool = False, codec: Codec = ObservationCodec) -> None:
        self.num_envs = env.num_envs
        self._env = env
        self._same_step = env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        self._observations = codec(env.single_observation_space)
        self._actions = ActionCodec(env.single_action_space, rescale_action)
        self.own_spaces = self._observations.raw, self._actions.raw
        self.observation_space = self._observations.space
        self.action_space = self._actions.space
        self._check_mask = MaskCheck(self.observation_space, self.action_space)
        self._seed = 0
        self._ticks = 0
        self._dummy: np.ndarray | None = None  # whose next transition is none: it only begins an episode

    def reset(self, seed: int) -> Obs:
        self._seed, self._ticks, self._dummy = seed, 0, None
        return self._restart(derive_seed(seed, "env"))

    def _restart(self, seed: int) -> Obs:
        with _as_env_error("at the reset"):
            batch, infos = self._reset_all(seed)
            self._check_mask.refuse_unread(self._env, infos)
            obs = self._observations.encode_batch(batch)
            self._check_mask(obs)
            return obs

    def _reset_all(self, seed: int) -> Any:
        """Reset every environment and return the raw batch of observations, and infos."""
        return self._env.reset(seed=seed)

    def step(self, action: np.ndarray) -> Step:
        actions = self._actions.decode(action)
        with self._step_errors():
            return self._finish(self._env.step(actions))

    def _step_errors(self) -> AbstractContextManager[None]:
        return _as_env_error(f"at step {self._ticks + 1} since the reset with seed {derive_seed(self._seed, 'env')}")

    def _finish(self, results: tuple[Any, ...]) -> Step:
        """Return what the vector environment's step returned as a Step."""
        batch, rewards, terminations, truncations, infos = results
        obs = self._observations.encode_batch(batch)
        reward = rewards_of(rewards)
        terminated, truncated = flags_of(terminations, "terminated"), flags_of(truncations, "truncated")
        ended = terminated | truncated
        self._check_mask(obs, None if self._same_step else ended)
        next_obs, found = obs, {}
        if ended.any():
            rows = np.flatnonzero(ended)
            found = infos_at(infos.get("final_info", {}) if self._same_step else infos, rows)
            next_obs = self._with_finals(obs, rows, infos) if self._same_step else obs
        self._ticks += 1
        step = Step(obs, reward, terminated, truncated, next_obs, infos=found)
        if self._dummy is not None:
            step, self._dummy = flag_dummies(step, self._dummy), None
        if not self._same_step and ended.any():
            self._dummy = ended
        return step

    def _with_finals(self, obs: Obs, rows: np.ndarray, infos: dict[str, Any]) -> Obs:
        finals, mask = infos.get("final_obs"), infos.get("_final_obs")
        if finals is None or (mask is not None and not np.asarray(mask)[rows].all()):
            raise BadData(int(rows[0]), "its episode ended, but infos['final_obs'] holds no final observation")
        if isinstance(finals, np.ndarray) and finals.dtype == object:
            return self._observations.with_rows(obs, rows, self._observations.encode([finals[row] for row in rows]))
        return self._observations.with_rows(obs, rows, self._observations.encode_batch(_take(finals, rows)))

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self._seed, "ticks": self._ticks}

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        seed, ticks = saved.entry(state, "seed", int), saved.entry(state, "ticks", int)
        if min(seed, ticks) < 0:
            raise UserError(f"the saved environment position is damaged: seed {seed} and ticks {ticks} are not below 0")
        self._seed, self._ticks = seed, ticks
        self._restart(derive_seed(self._seed, "env", "after", self._ticks))
        self._dummy = np.ones(self.num_envs, bool)
        return [
            "the environments begin new episodes, because a vector environment offers no way to go back to a position"
            " (--vec sync does)"
        ]

    def render(self, index: int = 0) -> np.ndarray:
        return _picture(self._env, index)

    def close(self) -> None:
        with closed(self._env, "the vector environment"):
            pass


def _picture(env: VectorEnv, index: int) -> np.ndarray:
    with _as_env_error("while being drawn"):
        frames: Any = env.render()
    return picture(frames if frames is None else frames[index])


@contextmanager
def _as_env_error(where: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an EnvError that names the environment."""
    try:
        with silenced():
            yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise env_error(error.row if isinstance(error, BadData) else None, error, where) from error
