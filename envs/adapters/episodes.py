"""How an environment's position is remembered: the seed of its episode, and the actions taken since."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np

from envs import saved
from envs.errors import EnvError, UserError
from envs.seeding import derive_seed


class Position(NamedTuple):
    """The seed that an environment's episode began with, and every action `[T, ...]` taken in it."""

    seed: int
    actions: np.ndarray


class EpisodeLog:
    """Which episode each of N environments is in, and the canonical actions since the oldest of them began.

    Episode e of environment i is reset with `derive_seed(seed, "env", i, e)`, whatever the backend. The N
    environments are number `first` and those after it, where others live elsewhere.
    """

    def __init__(self, num_envs: int, action_space: gymnasium.Space, first: int = 0) -> None:
        self._num_envs = num_envs
        self._first = first
        self._row_shape = (num_envs, *(action_space.shape or ()))
        self._dtype = np.float32 if isinstance(action_space, gymnasium.spaces.Box) else np.int64
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Start over: every environment is in its episode 0."""
        self._seed = seed
        self._episodes = np.zeros(self._num_envs, np.int64)
        self._starts = np.zeros(self._num_envs, np.int64)  # row of each episode's first action
        self._actions = np.empty((256, *self._row_shape), self._dtype)
        self._rows = 0

    def record(self, actions: np.ndarray) -> None:
        """Add one tick's canonical actions."""
        if self._rows == len(self._actions):
            self._make_room()
        self._actions[self._rows] = actions
        self._rows += 1

    def next_episode(self, index: int) -> int:
        """Begin environment `index`'s next episode after the last recorded action; return its seed."""
        self._episodes[index] += 1
        self._starts[index] = self._rows
        return self.seed_of(index)

    def seed_of(self, index: int) -> int:
        """Return the seed that environment `index`'s present episode was reset with."""
        return derive_seed(self._seed, "env", self._first + index, int(self._episodes[index]))

    def steps_of(self, index: int) -> int:
        """Return how many actions environment `index`'s present episode has seen."""
        return self._rows - int(self._starts[index])

    def positions(self) -> list[Position]:
        """Return where each environment stands."""
        return [
            Position(self.seed_of(index), self._actions[start : self._rows, index])
            for index, start in enumerate(self._starts)
        ]

    def state_dict(self) -> dict[str, Any]:
        oldest = int(self._starts.min())
        return {
            "seed": self._seed,
            "episodes": self._episodes.copy(),
            "starts": self._starts - oldest,
            "actions": self._actions[oldest : self._rows].copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            UserError: it was saved with another number of environments or other actions, or is damaged.
        """
        seed = saved.entry(state, "seed", int)
        episodes = saved.array(state.get("episodes"), "episodes", (self._num_envs,), np.int64)
        starts = saved.array(state.get("starts"), "starts", (self._num_envs,), np.int64)
        actions = saved.array(state.get("actions"), "actions", (None, *self._row_shape), self._dtype)
        if seed < 0 or episodes.min() < 0 or starts.min() < 0 or starts.max() > len(actions):
            raise UserError("the saved environment position is damaged: it points outside its recorded actions")
        self.begin(seed)
        self._episodes, self._starts = episodes, starts
        self._actions, self._rows = np.concatenate((actions, self._actions)), len(actions)

    def _make_room(self) -> None:
        oldest = int(self._starts.min())
        kept = self._actions[oldest:]
        size = max(len(self._actions), 2 * len(kept))
        self._actions = np.empty((size, *self._row_shape), self._dtype)
        self._actions[: len(kept)] = kept
        self._starts -= oldest
        self._rows -= oldest


def replay(env: gymnasium.Env, position: Position) -> Any:
    """Bring `env` to `position` (whose actions are the environment's own).

    Returns:
        The observation there, or, of an environment that does not repeat itself, an EnvError saying how.
    """
    count = 0
    try:
        observation, _ = env.reset(seed=position.seed)
        for count, action in enumerate(position.actions, 1):
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                return EnvError(f"replayed, its episode ended after {count} of {len(position.actions)} steps")
    except (Exception, SystemExit) as error:
        return EnvError(f"replayed, it raised {type(error).__name__} at step {count}: {error}")
    return observation


def place(seed: int | None, step: int) -> str:
    """Return where in an episode something happened, for an error message; step 0 is the reset."""
    return f"at step {step} of the episode reset with seed {seed}" if step else f"at its reset with seed {seed}"
