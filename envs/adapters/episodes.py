"""How an environment's state is saved: as the seed of its episode and the actions since, which replaying restores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from envs import saved
from envs.adapters import carried
from envs.errors import EnvError, UserError, listed, words_of
from envs.seeding import derive_seed

MOST_STEPS = 2**15  # of one episode: more than the longest game of Atari has
MOST_BYTES = 2**17  # of its actions, which limits those of many numbers
MOST_NAMED = 5  # attributes


class EpisodeRecord(NamedTuple):
    """The seed that an environment's episode began with, and every action taken in it, `[T, ...]`.

    `actions` is None where the episode has become too long to keep them. `return_` is the sum of its rewards, NaN
    where it is not known, and `checksums` are those of the environment (`carried.checksums`) at the record's end.
    """

    seed: int
    actions: Any
    return_: float = math.nan
    checksums: Mapping[str, int] = {}


class Reached(NamedTuple):
    """The raw observation at the end of a record, and why the environment may go on otherwise than it did from there.

    `signs` say what else is not as it was, `causes` what no seed decides.
    """

    observation: Any
    signs: list[str]
    causes: list[str]


class EpisodeLog:
    """Which episode each of N environments is in, and the canonical actions since the oldest of them began.

    Episode e of environment i is reset with `derive_seed(seed, "env", i, e)`, whatever the backend. The N
    environments are number `first` and those after it, where others live elsewhere.

    Of an episode that has become longer than `MOST_STEPS`, or whose actions take more than `MOST_BYTES`, none is kept,
    and it cannot be restored. So what is kept is bounded however long episodes are: a position takes at most
    `MOST_BYTES` for each environment.
    """

    def __init__(self, num_envs: int, action_space: gymnasium.Space, first: int = 0) -> None:
        self._num_envs = num_envs
        self._first = first
        self._row_shape = (num_envs, *(action_space.shape or ()))
        self._dtype = _smallest_dtype(action_space)
        each = self._dtype.itemsize * math.prod(self._row_shape[1:])
        self._longest = min(MOST_BYTES // each, MOST_STEPS)  # steps that are kept
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Start over: every environment is in its episode 0."""
        self._seed = seed
        self._episodes = np.zeros(self._num_envs, np.int64)
        self._starts = np.zeros(self._num_envs, np.int64)  # row of each episode's first action; negative: not kept
        self._returns = np.zeros(self._num_envs)
        self._actions = np.empty((min(256, self._longest + 1), *self._row_shape), self._dtype)
        self._rows = 0

    def record(self, actions: np.ndarray, rewards: np.ndarray) -> None:
        """Add one tick's canonical actions and its rewards, float32 `[N]`."""
        self._returns += rewards
        if self._rows == len(self._actions):
            self._make_room()
        self._actions[self._rows] = actions
        self._rows += 1

    def next_episode(self, index: int) -> int:
        """Begin environment `index`'s next episode after the last recorded action; return its seed."""
        self._episodes[index] += 1
        self._starts[index] = self._rows
        self._returns[index] = 0
        return self.seed_of(index)

    def seed_of(self, index: int) -> int:
        """Return the seed that environment `index`'s present episode was reset with."""
        return derive_seed(self._seed, "env", self._first + index, int(self._episodes[index]))

    def steps_of(self, index: int) -> int:
        """Return how many actions environment `index`'s present episode has seen."""
        return self._rows - int(self._starts[index])

    def records(self) -> list[EpisodeRecord]:
        """Return each environment's present episode, without checksums."""
        return [
            EpisodeRecord(
                self.seed_of(index),
                self._actions[start : self._rows, index] if start >= 0 else None,
                float(self._returns[index]),
            )
            for index, start in enumerate(self._starts)
        ]

    def _oldest(self) -> int:
        """Return the row of the oldest action that is kept."""
        kept = self._starts[(self._starts >= 0) & (self._rows - self._starts <= self._longest)]
        return int(kept.min(initial=self._rows))

    def state_dict(self) -> dict[str, Any]:
        oldest = self._oldest()
        return {
            "seed": self._seed,
            "episodes": self._episodes.copy(),
            "starts": self._starts - oldest,
            "actions": self._actions[oldest : self._rows].copy(),
            "returns": self._returns.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            UserError: it was saved with another number of environments or other actions, or is damaged.
        """
        seed = saved.entry(state, "seed", int)
        episodes = saved.array(state.get("episodes"), "episodes", (self._num_envs,), np.int64)
        starts = saved.array(state.get("starts"), "starts", (self._num_envs,), np.int64)
        wide = self._dtype.kind == "u" and getattr(state.get("actions"), "dtype", None) == np.int64  # earlier versions'
        kind = np.dtype(np.int64) if wide else self._dtype
        actions = saved.array(state.get("actions"), "actions", (None, *self._row_shape), kind).astype(self._dtype)
        unknown = np.full(self._num_envs, math.nan)  # earlier versions did not save them
        returns = saved.array(state.get("returns", unknown), "returns", (self._num_envs,), np.float64)
        dropped = starts < 0
        too_short = (len(actions) - starts[dropped] <= self._longest).any()
        if seed < 0 or episodes.min() < 0 or too_short or starts.max() > len(actions):
            raise UserError("the saved environment position is damaged: it points outside its recorded actions")
        self.begin(seed)
        self._episodes, self._starts, self._returns = episodes, starts, returns
        self._actions, self._rows = np.concatenate((actions, self._actions)), len(actions)

    def _make_room(self) -> None:
        oldest = self._oldest()
        kept = self._actions[oldest : self._rows]
        size = max(len(self._actions), 2 * len(kept))
        self._actions = np.empty((size, *self._row_shape), self._dtype)
        self._actions[: len(kept)] = kept
        self._starts -= oldest
        self._rows -= oldest


def _smallest_dtype(action_space: gymnasium.Space) -> np.dtype:
    """Return the smallest dtype that holds a canonical action."""
    match action_space:
        case gymnasium.spaces.Discrete():
            return np.min_scalar_type(int(action_space.n) - 1)
        case gymnasium.spaces.MultiDiscrete():
            return np.min_scalar_type(int(action_space.nvec.max()) - 1)
        case gymnasium.spaces.MultiBinary():
            return np.dtype(np.uint8)
    return np.dtype(np.float32)


def replay(env: gymnasium.Env, record: EpisodeRecord) -> Reached | EnvError:
    """Bring `env` to the end of `record` (whose actions are the environment's own).

    Returns:
        What was reached, or an EnvError saying why it was not.
    """
    if record.actions is None:
        return EnvError("its episode had become too long to keep its actions")
    before = carried.checksums(env)
    count, return_ = 0, 0.0
    try:
        observation, _ = env.reset(seed=record.seed)
        for count, action in enumerate(record.actions, 1):
            observation, reward, terminated, truncated, _ = env.step(action)
            return_ += float(np.float32(reward))
            if terminated or truncated:
                return EnvError(f"replayed, its episode ended after {count} of {len(record.actions)} steps")
    except (Exception, SystemExit) as error:
        return EnvError(f"replayed, it raised {type(error).__name__} at step {count}: {words_of(error)}")
    other = return_ != record.return_ and not math.isnan(record.return_)
    now, who = carried.checksums(env), type(env.unwrapped).__name__
    signs = ["replayed, its actions led to other rewards"] if other else []
    if changed := carried.attributes_changed(now, record.checksums):
        as_before = "are not as they were" if len(changed) > 1 else "is not as it was"
        signs.append(f"{listed(changed[:MOST_NAMED], 'and')} {as_before}")
    used = carried.streams_used(before, now, record.checksums)
    causes = [f"{who} draws from the global stream of {name}, which its seed does not decide" for name in used]
    return Reached(observation, signs, causes)


def when(seed: int | None, step: int) -> str:
    """Return when in an episode something happened, for an error message; step 0 is the reset."""
    return f"at step {step} of the episode reset with seed {seed}" if step else f"at its reset with seed {seed}"
