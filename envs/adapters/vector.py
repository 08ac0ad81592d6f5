"""Gymnasium's vector environments: of any autoreset mode, and our own use of its processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from envs import saved
from envs.adapters.checks import CheckedEnv, blame, flag_dummies, flags_of, picture, rewards_of, silenced
from envs.adapters.episodes import Position
from envs.adapters.episodic import EpisodicVecEnv
from envs.api import Obs, Step, VecEnv
from envs.errors import EnvError, UserError
from envs.seeding import derive_seed
from envs.spaces import ActionCodec, BadData, ObservationCodec


def adapt(env: VectorEnv, rescale_action: bool = False) -> VecEnv:
    """Return the adapter for a Gymnasium vector environment's autoreset mode.

    Raises:
        UserError: the environment does not say how it resets, so its transitions cannot be told apart.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode is AutoresetMode.DISABLED:
        return ManualVectorEnv(env, rescale_action)
    if mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        return GymVectorEnv(env, rescale_action)
    raise UserError(f"{env} has metadata['autoreset_mode'] = {mode!r}; it must be a gymnasium.vector.AutoresetMode")


def in_processes(makers: Sequence[Callable[[], gymnasium.Env]], rescale_action: bool = False) -> ManualVectorEnv:
    """Return environments each of which runs in a process of its own.

    Raises:
        EnvError: a process ended before its environment was ready.
    """
    workers = [partial(_make_checked, maker, index, os.getpid()) for index, maker in enumerate(makers)]
    try:
        with silenced():
            env = AsyncVectorEnv(workers, copy=False, autoreset_mode=AutoresetMode.DISABLED)
    except (EOFError, ConnectionError) as error:
        raise EnvError("a process ended while its environment was being made; --vec sync shows why") from error
    return ManualVectorEnv(env, rescale_action, backend="async")


def _make_checked(maker: Callable[[], gymnasium.Env], index: int, main_process: int) -> CheckedEnv:
    if os.getpid() != main_process:
        # Ctrl-C reaches the whole process group, but it is the main process that must end things in order,
        # and whatever it does on SIGTERM is not for its workers to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return CheckedEnv(maker(), index)


def _take(batch: Any, rows: Sequence[int] | np.ndarray) -> Any:
    """Return these rows of a batched raw observation."""
    if isinstance(batch, dict):
        return {key: _take(leaf, rows) for key, leaf in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_take(leaf, rows) for leaf in batch)
    return np.asarray(batch)[np.asarray(rows)]


class ManualVectorEnv(EpisodicVecEnv):
    """A vector environment with autoreset DISABLED: we reset what has ended. See `envs.api.VecEnv`.

    Args:
        env: the vector environment.
        rescale_action: actions are in [-1, 1], to be mapped onto the bounds.
        backend: "async" for processes of `CheckedEnv`, whose position can be restored; else "vector".
    """

    def __init__(self, env: VectorEnv, rescale_action: bool = False, backend: str = "vector") -> None:
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space, rescale_action)
        self._env = env
        self.backend = backend

    def _reset_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> Obs:
        mask = np.zeros(self.num_envs, bool)
        mask[rows] = True
        all_seeds: list[int | None] = [None] * self.num_envs
        for row, seed in zip(rows, seeds, strict=True):
            all_seeds[row] = seed
        with _blamed(self._env, "at a reset"):
            batch, _ = self._env.reset(seed=all_seeds, options={"reset_mask": mask})  # type: ignore[arg-type]
            return self._observations.encode_batch(_take(batch, rows))

    def _step_all(self, actions: np.ndarray) -> tuple[Obs, np.ndarray, np.ndarray, np.ndarray]:
        with _blamed(self._env, "in a step"):
            batch, reward, terminated, truncated, _ = self._env.step(actions)
            return (
                self._observations.encode_batch(batch),
                rewards_of(reward),
                flags_of(terminated, "terminated"),
                flags_of(truncated, "truncated"),
            )

    def _replay_all(self, positions: Sequence[Position]) -> Sequence[Any]:
        if self.backend != "async":
            return [EnvError("its vector environment offers no way to go back to a position")] * self.num_envs
        with _blamed(self._env, "while replaying"):
            return self._env.call("replay_own", positions)  # type: ignore[attr-defined]

    def render(self, index: int = 0) -> np.ndarray:
        with _blamed(self._env, "while rendering"):
            frames = self._env.render()
        return picture(frames if frames is None else frames[index])

    def close(self) -> None:
        _close(self._env)


class GymVectorEnv:
    """A vector environment that resets by itself, on the next step or the same. See `envs.api.VecEnv`."""

    backend = "vector"
    device = "cpu"
    capturable = False

    def __init__(self, env: VectorEnv, rescale_action: bool = False) -> None:
        self.num_envs = env.num_envs
        self._env = env
        self._same_step = env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        self._observations = ObservationCodec(env.single_observation_space)
        self._actions = ActionCodec(env.single_action_space, rescale_action)
        self.observation_space = self._observations.space
        self.action_space = self._actions.space
        self._seed = 0
        self._ticks = 0
        self._dummy: np.ndarray | None = None  # whose next transition is none: it only begins an episode

    def reset(self, seed: int) -> Obs:
        self._seed, self._ticks, self._dummy = seed, 0, None
        return self._restart(derive_seed(seed, "env"))

    def _restart(self, seed: int) -> Obs:
        with _blamed(self._env, "at the reset"):
            batch, _ = self._env.reset(seed=seed)
            return self._observations.encode_batch(batch)

    def step(self, action: np.ndarray) -> Step:
        self._ticks += 1
        actions = self._actions.decode(action)
        with _blamed(self._env, f"at step {self._ticks} since the reset with seed {derive_seed(self._seed, 'env')}"):
            batch, rewards, terminations, truncations, infos = self._env.step(actions)
            obs = self._observations.encode_batch(batch)
            reward = rewards_of(rewards)
            terminated, truncated = flags_of(terminations, "terminated"), flags_of(truncations, "truncated")
            ended = terminated | truncated
            next_obs = self._with_finals(obs, np.flatnonzero(ended), infos) if self._same_step and ended.any() else obs
        step = Step(obs, reward, terminated, truncated, next_obs)
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
        self._seed, self._ticks = saved.entry(state, "seed", int), saved.entry(state, "ticks", int)
        self._restart(derive_seed(self._seed, "env", "after", self._ticks))
        self._dummy = np.ones(self.num_envs, bool)
        return [
            "the environments begin new episodes, because a vector environment offers no way to go back to a position"
            " (--vec sync does)"
        ]

    def render(self, index: int = 0) -> np.ndarray:
        with _blamed(self._env, "while rendering"):
            frames: Any = self._env.render()
        return picture(frames if frames is None else frames[index])

    def close(self) -> None:
        _close(self._env)


@contextmanager
def _blamed(env: VectorEnv, where: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an EnvError that names the environment."""
    try:
        with silenced():
            yield
    except UserError:
        raise
    except (EOFError, ConnectionError) as error:
        raise EnvError(f"a process died {where}: {_obituary(_processes(env))}") from error
    except Exception as error:
        raise blame(error.row if isinstance(error, BadData) else None, error, where) from error


def _processes(env: VectorEnv) -> list[Any]:
    """Return the processes of a vector environment, one for each environment, or none."""
    return env.processes if isinstance(env, AsyncVectorEnv) else []


def _obituary(processes: Sequence[Any]) -> str:
    """Return which environments' processes have ended, and how."""
    sentinels = [process.sentinel for process in processes]
    dead = [sentinels.index(sentinel) for sentinel in wait(sentinels, timeout=1.0)]
    for index in dead:
        processes[index].join(1.0)  # only then is the exit code known
    return ", ".join(f"environment {index} (exit code {processes[index].exitcode})" for index in sorted(dead))


def _close(env: VectorEnv) -> None:
    """Close, also when a process is dead or stuck and would never answer."""
    if any(not process.is_alive() for process in _processes(env)):
        for process in _processes(env):
            process.terminate()
            process.join()
        env.closed = True
    else:
        with silenced():
            env.close()
