"""Recorded episodes in memory: one plain form, whatever they were read from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from agents.core.tree import tree_map
from envs.actions import ActionCodec
from envs.spaces import BadData, ObservationCodec


@dataclass(slots=True)
class Dataset:
    """E episodes of M transitions in all, one after the other. An episode of T transitions has T + 1 observations.

    Attributes:
        own_spaces: the environment's, of observations and actions.
        obs: canonical, `[M + E, ...]`; those of an episode begin in row `starts + number of the episode`.
        action: canonical, Box actions in the environment's own units, `[M, ...]`.
        reward: float32 `[M]`.
        terminated, truncated: bool `[M]`; an episode whose last transition is neither broke off.
        lengths: transitions of each episode, int64 `[E]`.
        seeds: what each episode's `reset` was given, where that is known.
        broken: where the source said another successor than the next observation, bool `[M]`.
        env, env_kwargs, wrappers: what it was recorded in, where that is known.
        remarks: what is to be said of how it was read.
    """

    own_spaces: tuple[Space, Space]
    obs: Any
    action: NDArray[Any]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    seeds: Sequence[int | None]
    broken: NDArray[np.bool_]
    env: str | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: Sequence[Any] = ()
    remarks: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def episodes(self) -> int:
        """How many there are."""
        return len(self.lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first transition of each episode, `[E]`."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def lasts(self) -> NDArray[np.int64]:
        """The last transition of each episode, `[E]`."""
        return np.cumsum(self.lengths) - 1

    @property
    def ends(self) -> NDArray[np.bool_]:
        """Whether a transition is its episode's last, `[M]`."""
        found = np.zeros(len(self), bool)
        found[self.lasts] = True
        return found

    @property
    def cut(self) -> NDArray[np.bool_]:
        """Whether an episode ends with a transition that did not terminate it, `[M]`: it has a future, too."""
        return self.ends & ~self.terminated

    @property
    def episode(self) -> NDArray[np.int64]:
        """The episode of each transition, `[M]`."""
        return np.repeat(np.arange(self.episodes), self.lengths)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row of `obs` that each transition begins with, `[M]`; the next row is its successor."""
        return np.arange(len(self)) + self.episode

    @property
    def returns(self) -> NDArray[np.float64]:
        """The undiscounted return of each episode, `[E]`."""
        return np.add.reduceat(self.reward, self.starts, dtype=np.float64) if self.episodes else np.empty(0)

    def at(self, rows: Any) -> Any:
        """Return observations by their rows."""
        return tree_map(lambda leaf: leaf[rows], self.obs)

    def take(self, episodes: Iterable[int]) -> Dataset:
        """Return some of the episodes, in the order given."""
        chosen = np.fromiter(episodes, np.int64)
        starts, ends = self.starts[chosen], self.starts[chosen] + self.lengths[chosen]
        pairs = list(zip(chosen, starts, ends, strict=True))
        moves = np.concatenate([np.arange(a, b) for _, a, b in pairs] or [np.empty(0, np.int64)])
        rows = np.concatenate([np.arange(a + e, b + e + 1) for e, a, b in pairs] or [np.empty(0, np.int64)])
        each = {name: getattr(self, name)[moves] for name in ("action", "reward", "terminated", "truncated", "broken")}
        seeds = [self.seeds[index] for index in chosen]
        return replace(self, obs=self.at(rows), lengths=self.lengths[chosen], seeds=seeds, **each)

    def split(self, share: float, seed: int) -> tuple[Dataset, Dataset]:
        """Return the episodes to learn from and those held out: whole ones, `share` of them, drawn by `seed`.

        At least one stays to be learnt from; where there are two or more and `share` is above 0, one is held out.
        """
        count = min(max(round(share * self.episodes), 1 if share else 0), self.episodes - 1)
        order = np.random.default_rng(seed).permutation(self.episodes)
        return self.take(np.sort(order[count:])), self.take(np.sort(order[:count]))

    def statistics(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return the mean and the deviation of each array of numbers, by its name in observations ("" of one alone)."""
        leaves = self.obs if isinstance(self.obs, dict) else {"": self.obs}
        floats = {name: leaf for name, leaf in leaves.items() if leaf.dtype == np.float32}
        return {name: (leaf.mean(0, dtype=np.float64), leaf.std(0, dtype=np.float64)) for name, leaf in floats.items()}

    def fingerprint(self) -> str:
        """Return a checksum of what is learnt from."""
        digest = hashlib.sha256()
        leaves = list(self.obs.values()) if isinstance(self.obs, dict) else [self.obs]
        for array in (*leaves, self.action, self.reward, self.terminated, self.truncated, self.lengths):
            digest.update(repr((array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def concatenated(parts: Sequence[Dataset]) -> Dataset:
    """Return the episodes of all parts, which are of the same spaces; there is at least one."""
    names = ("action", "reward", "terminated", "truncated", "lengths", "broken")
    each: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    obs = tree_map(lambda *leaves: np.concatenate(leaves), *(part.obs for part in parts))
    return replace(parts[0], obs=obs, seeds=[seed for part in parts for seed in part.seeds], **each)


def of_columns(like: Dataset, columns: dict[str, Any]) -> Dataset:
    """Return what N environments did in T steps as episodes, of the spaces that `like` has; there may be none.

    Args:
        columns: obs and next_obs (the true successors), action, reward, terminated and truncated, `[T, N, ...]`; and
            `valid`, where some are no transitions.
    """
    parts, wanted = [], columns.get("valid")
    kept = np.ones(columns["reward"].shape[:2], bool) if wanted is None else wanted
    for n in range(kept.shape[1]):
        mine = tree_map(lambda leaf, n=n: leaf[kept[:, n], n], columns)
        ends = mine["terminated"] | mine["truncated"]
        closed = np.unique(np.append(np.flatnonzero(ends) + 1, len(ends)))
        for start, end in zip(np.append(0, closed[:-1]), closed, strict=True):
            part, count = slice(start, end), end - start
            if not count:
                continue
            joined = tree_map(
                lambda a, b, part=part: np.concatenate([a[part], b[part][-1:]]), mine["obs"], mine["next_obs"]
            )
            each = {name: mine[name][part] for name in ("action", "reward", "terminated", "truncated")}
            about: dict[str, Any] = {"lengths": np.array([count], np.int64), "seeds": [None]}
            parts.append(replace(like, obs=joined, broken=np.zeros(count, bool), **each, **about))
    return concatenated(parts or [like.take([])])


class Builder:
    """Gathers raw episodes into a `Dataset`.

    Args:
        own_spaces: the environment's, of observations and actions.
        env, env_kwargs, wrappers: what they were recorded in.

    Raises:
        UserError: the spaces are none that networks here can read.
    """

    def __init__(
        self,
        own_spaces: tuple[Space, Space],
        env: str | None = None,
        env_kwargs: dict[str, Any] | None = None,
        wrappers: Sequence[Any] = (),
    ) -> None:
        self._codecs = ObservationCodec(own_spaces[0], unclean=True), ActionCodec(own_spaces[1])
        self._about = own_spaces, env, env_kwargs or {}, wrappers
        self._parts: list[Dataset] = []

    def add(
        self,
        obs: Any,
        action: Any,
        reward: Any,
        terminated: Any,
        truncated: Any,
        seed: int | None = None,
        broken: Any = None,
    ) -> None:
        """Add an episode of T transitions.

        Args:
            obs: a raw batch of T + 1 observations, as a Gymnasium vector environment returns it.
            action: a raw batch of T actions.
            reward, terminated, truncated: numbers `[T]`.
            broken: as of `Dataset`.

        Raises:
            ValueError: these are not as long as one another, or do not fit the spaces.
        """
        observations, actions = self._codecs
        encoded, chosen = observations.encode_batch(obs), actions.encode(action)
        count = len(chosen)
        numbers, ended, cut = (np.asarray(each) for each in (reward, terminated, truncated))
        if not count or not numbers.shape == ended.shape == cut.shape == (count,):
            shapes = f"{numbers.shape}, {ended.shape} and {cut.shape}"
            raise BadData(None, f"an episode has {count} actions, and rewards and ends of the shapes {shapes}")
        if (found := len(observations.arrays(encoded)[0])) != count + 1:
            raise BadData(None, f"an episode of {count} actions has {found} observations, {count + 1} expected")
        spaces, env, env_kwargs, wrappers = self._about
        self._parts.append(
            Dataset(
                own_spaces=spaces,
                obs=encoded,
                action=chosen,
                reward=numbers.astype(np.float32),
                terminated=ended.astype(bool),
                truncated=cut.astype(bool),
                lengths=np.array([count], np.int64),
                seeds=[seed],
                broken=np.zeros(count, bool) if broken is None else np.asarray(broken, bool),
                env=env,
                env_kwargs=env_kwargs,
                wrappers=wrappers,
            )
        )

    def finish(self) -> Dataset:
        """Return all of them.

        Raises:
            ValueError: there is none.
        """
        if not self._parts:
            raise BadData(None, "there is no episode in it")
        return concatenated(self._parts)
