"""What the adapters of Gymnasium environments share: episode seeds, replaying, blame and dummy transitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from envs import saved
from envs.api import Step
from envs.errors import EnvError, UserError
from envs.seeding import derive_seed
from envs.spaces import BadObservation, ObservationCodec


class Position(NamedTuple):
    """Where one environment stands: the seed its episode began with, and the actions since (canonical)."""

    seed: int
    actions: np.ndarray


class EpisodeLog:
    """Which episode each environment is in, and the actions taken in it: all that replaying needs.

    Episode e of environment i is reset with `derive_seed(seed, "env", i, e)`, whatever the backend.
    """

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Forget everything: each environment is in its episode 0."""
        self._seed = seed
        self._episodes = np.zeros(self._num_envs, np.int64)
        self._starts = np.zeros(self._num_envs, np.int64)  # row of each episode's first action
        self._actions: np.ndarray | None = None
        self._rows = 0

    def record(self, actions: np.ndarray) -> None:
        """Add one tick's canonical actions."""
        if self._actions is None:
            self._actions = np.empty((256, *actions.shape), actions.dtype)
        elif self._rows == len(self._actions):
            self._make_room()
        self._actions[self._rows] = actions
        self._rows += 1

    def _make_room(self) -> None:
        assert self._actions is not None
        oldest = int(self._starts.min())
        kept = self._actions[oldest:]
        size = len(self._actions) if 2 * oldest >= len(self._actions) else 2 * len(self._actions)
        self._actions = np.empty((size, *kept.shape[1:]), kept.dtype)
        self._actions[: len(kept)] = kept
        self._starts -= oldest
        self._rows -= oldest

    def next_episode(self, index: int) -> int:
        """Begin the next episode of environment `index` after the last recorded action; return its seed."""
        self._episodes[index] += 1
        self._starts[index] = self._rows
        return self.seed_of(index)

    def seed_of(self, index: int) -> int:
        """Return the seed that environment `index`'s present episode was reset with."""
        return derive_seed(self._seed, "env", index, int(self._episodes[index]))

    def where(self, index: int) -> str:
        """Return the place to name in an error about the last recorded action of environment `index`."""
        step = self._rows - int(self._starts[index])
        place = f"at step {step}" if step else "at the reset"
        return f"{place} of its episode {self._episodes[index]} (reset with seed {self.seed_of(index)})"

    def positions(self) -> list[Position]:
        actions = np.empty((0, self._num_envs)) if self._actions is None else self._actions[: self._rows]
        return [Position(self.seed_of(i), actions[start:, i]) for i, start in enumerate(self._starts)]

    def state_dict(self) -> dict[str, Any]:
        oldest = int(self._starts.min())
        actions = np.empty((0, self._num_envs)) if self._actions is None else self._actions[oldest : self._rows].copy()
        return {
            "seed": self._seed,
            "episodes": self._episodes.copy(),
            "starts": self._starts - oldest,
            "actions": actions,
        }

    def load_state_dict(self, state: dict[str, Any], action_space: gymnasium.Space) -> None:
        """Take back what `state_dict` returned.

        Raises:
            UserError: it was saved with another number of environments or other actions, or is damaged.
        """
        n = self._num_envs
        seed = saved.entry(state, "seed", int)
        episodes = saved.array(state.get("episodes"), "episodes", (n,), np.int64)
        starts = saved.array(state.get("starts"), "starts", (n,), np.int64)
        actions = np.asarray(state.get("actions"))
        if actions.shape != (0, n):
            dtype = np.float32 if isinstance(action_space, gymnasium.spaces.Box) else np.int64
            actions = saved.array(actions, "actions", (None, n, *(action_space.shape or ())), dtype)
        if seed < 0 or episodes.min() < 0 or starts.min() < 0 or starts.max() > len(actions):
            raise UserError("the saved environment position is damaged: it points outside its recorded actions")
        self.begin(seed)
        self._episodes, self._starts = episodes, starts
        if len(actions):
            self._actions, self._rows = actions, len(actions)


def replay(env: gymnasium.Env, seed: int, actions: Sequence[Any] | np.ndarray) -> Any:
    """Reset with `seed`, take `actions` (the environment's own), and return the observation reached.

    Raises:
        EnvError: the episode ended before the actions did, so this environment does not repeat itself.
    """
    observation, _ = env.reset(seed=seed)
    for count, action in enumerate(actions, 1):
        observation, _, terminated, truncated, _ = env.step(action)
        if (terminated or truncated) and count <= len(actions):
            raise EnvError(f"its episode ended after {count} of {len(actions)} steps")
    return observation


def rewards_of(rewards: Sequence[Any]) -> np.ndarray:
    """Return N rewards as float32 `[N]`.

    Raises:
        BadObservation: one is not a finite number; its `row` says which.
    """
    try:
        array = np.array(rewards, np.float32)
        if array.ndim == 1 and math.isfinite(array.dot(array)):
            return array
    except (TypeError, ValueError):
        pass
    for row, reward in enumerate(rewards):
        if np.ndim(reward) != 0:
            raise BadObservation(row, f"reward has shape {np.shape(reward)}, but must be one number")
        if not isinstance(reward, int | float | np.number | np.ndarray | np.bool_):
            raise BadObservation(row, f"reward is {reward!r} ({type(reward).__name__}), not a number")
        if not math.isfinite(reward):
            raise BadObservation(row, f"reward is {float(reward)}")
    return np.array([float(reward) for reward in rewards], np.float32)


def flag_dummies(step: Step, dummy: np.ndarray | None) -> Step:
    """Mark the rows of `step` that `dummy` names as no transition at all, and quieten them."""
    if dummy is not None and dummy.any():
        step.valid = ~dummy
        step.reward = np.where(dummy, np.float32(0), step.reward)
        step.terminated = step.terminated & step.valid
        step.truncated = step.truncated & step.valid
    return step


class CheckedEnv(gymnasium.Wrapper):
    """One environment in a process of its own, which lets out nothing but good data and EnvError.

    An exception that the main process cannot unpickle would hang it, so each becomes an EnvError here.
    """

    def __init__(self, env: gymnasium.Env, index: int) -> None:
        super().__init__(env)
        self._index = index
        self._codec = ObservationCodec(env.observation_space)
        self._seed: int | None = None
        self._count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._seed, self._count = seed, 0
        try:
            observation, _ = self.env.reset(seed=seed, options=options)
            self._codec.encode([observation])
        except Exception as error:
            raise self._blame(error) from error
        return observation, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._count += 1
        try:
            observation, reward, terminated, truncated, _ = self.env.step(action)
            self._codec.encode([observation])
            rewards_of([reward])
            return observation, float(reward), bool(terminated), bool(truncated), {}
        except Exception as error:
            raise self._blame(error) from error

    def replay_own(self, positions: Sequence[Position]) -> tuple[Any, str]:
        """Return the observation that replaying this environment's position reaches, or None and why not."""
        position = positions[self._index]
        try:
            return replay(self, position.seed, position.actions), ""
        except EnvError as error:
            return None, str(error)

    def _blame(self, error: Exception) -> EnvError:
        place = f"at step {self._count}" if self._count else "at the reset"
        return blame(self._index, f"{place} of the episode reset with seed {self._seed}", error)


def blame(index: int, place: str, error: Exception) -> EnvError:
    """Return the EnvError that says what environment `index` did at `place`."""
    if isinstance(error, BadObservation):
        return EnvError(f"environment {index}: {error}, {place}")
    return EnvError(f"environment {index} raised {type(error).__name__}: {error}, {place}")
