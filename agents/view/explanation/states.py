"""States that a policy comes to, and what it earns where it sees something else than there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.core.tree import rows_of, to_numpy, tree_map, tree_to_tensor
from agents.core.types import Act, Acted, Obs, Policy, Tree
from agents.view.explanation.features import Feature

BUDGET = 256 * 2**20  # bytes of states that are kept

See = Callable[[Obs, Tree], Obs]  # observations and carry -> the observations that the policy is shown


class Shown:
    """A policy that is shown what `see` makes of its observations; all else is that of `policy`."""

    def __init__(self, policy: Policy, see: See) -> None:
        self._policy, self._see = policy, see

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def actor(self) -> Act:
        act = self._policy.actor()

        def seeing(obs: Obs, carry: Tree, noise: Tree) -> Acted:
            return act(self._see(tree_map(to_numpy, obs), carry), carry, noise)

        return seeing


@dataclass(frozen=True)
class States:
    """Rows `[B, ...]` of observations and of what was remembered with them, as NumPy arrays; () without memory."""

    obs: Any
    carry: Any

    def __len__(self) -> int:
        return rows_of(self.obs)

    def rows(self, index: Any) -> States:
        """Return some of them."""
        return States(*tree_map(lambda leaf: leaf[index], (self.obs, self.carry)))

    def like(self, row: int) -> NDArray[np.bool_]:
        """Return which rows have the same observation, bool `[B]`."""
        same = np.ones(len(self), bool)
        for leaf in self.obs.values() if isinstance(self.obs, dict) else [self.obs]:
            same &= (leaf == leaf[row]).reshape(len(leaf), -1).all(axis=1)
        return same

    def mean(self) -> Any:
        """Return the mean observation, in floats, which no state need be."""
        return tree_map(lambda leaf: leaf.mean(axis=0, dtype=np.float64).astype(np.float32), self.obs)


class Sample:
    """Keeps `size` of all states that are seen, each as likely (Vitter 1985, algorithm R); fewer where memory ends.

    `see` is for `Shown`.
    """

    def __init__(self, size: int, seed: int, budget: int = BUDGET) -> None:
        self._size, self._budget, self._rng = size, budget, np.random.default_rng(seed)
        self._kept: list[Any] = []
        self._seen = 0

    def see(self, obs: Obs, carry: Tree) -> Obs:
        """Take in observations `[N, ...]` and the carry with them; return the observations."""
        state = obs, tree_map(to_numpy, carry)
        if not self._seen:
            each = _bytes(state) / rows_of(obs)
            self._size = max(min(self._size, int(self._budget / each)), 1)
        for row in range(rows_of(obs)):
            self._seen += 1
            place = len(self._kept) if len(self._kept) < self._size else int(self._rng.integers(self._seen))
            if place < self._size:
                kept = tree_map(lambda leaf, row=row: leaf[row].copy(), state)
                self._kept[place : place + 1] = [kept]
        return obs

    def states(self) -> States:
        """Return those that were kept, in random order."""
        first, *rest = self._kept
        states = States(*tree_map(lambda *rows: np.stack(rows), first, *rest))
        return states.rows(self._rng.permutation(len(states)))


def _bytes(tree: Any) -> int:
    sizes: list[int] = []
    tree_map(lambda leaf: sizes.append(leaf.nbytes), tree)
    return sum(sizes)


def replacing(feature: Feature, states: States, seed: int) -> See:
    """Return what shows a policy a feature of other states, drawn anew at each step; all else as it is."""
    rng = np.random.default_rng(seed)

    def see(obs: Obs, carry: Tree) -> Obs:
        return feature.replaced(obs, states.rows(rng.integers(len(states), size=rows_of(obs))).obs)

    return see


def greedy(policy: Policy, states: States, rows: int = 512) -> NDArray[Any]:
    """Return the actions `[B, ...]` that a policy would take, the most likely ones."""
    act, found = policy.actor(), []
    for start in range(0, len(states), rows):
        some = states.rows(slice(start, start + rows))
        found.append(to_numpy(act(some.obs, tree_to_tensor(some.carry, policy.device), None).env_action))
    return np.concatenate(found)
