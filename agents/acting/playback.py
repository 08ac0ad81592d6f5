"""Recorded episodes played back, as if they had just been collected."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch

from agents.acting.collector import Collected
from agents.acting.policies import ModelPolicy
from agents.acting.state import ActorState
from agents.core.tree import to_tensor, tree_map
from agents.data.dataset import Dataset
from agents.data.trajectory import Final, Trajectory
from envs.seeding import derive_seed

TOGETHER = 4_096  # transitions of one trajectory, where there are as many


class Playback:
    """Collects pieces of recorded episodes, in another order at each pass; what comes follows from seed and step alone.

    A pass is all episodes one after the other. A trajectory has the next columns of `ticks` transitions of it; one
    that begins within an episode begins with an empty memory. See `agents.acting.collector.Collector`.

    Args:
        data: what is played; its observations are those that the policy sees, its actions as the policy stores them.
        policy: whose memory's form trajectories have.
        state: its step moves on.
        seed: of the orders.
    """

    def __init__(self, data: Dataset, policy: ModelPolicy, state: ActorState, seed: int) -> None:
        self.state, self.schedule_steps = state, 1
        self._policy, self._seed = policy, seed
        self.use(data)

    def use(self, data: Dataset) -> None:
        """Play these from here on."""
        self.data, self._orders = data, dict[int, np.ndarray]()
        device = self._policy.device
        ends = np.zeros(len(data), bool)
        ends[data.starts + data.lengths - 1] = True
        starts = np.zeros(len(data), bool)
        starts[data.starts] = True
        arrays = {
            "action": data.action,
            "reward": data.reward,
            "terminated": data.terminated,
            "truncated": ends & ~data.terminated,  # what broke off has a future, too
            "start": starts,
        }
        self._arrays = {name: to_tensor(array, device) for name, array in arrays.items()}
        self._obs, self._rows = tree_map(lambda leaf: to_tensor(leaf, device), data.obs), data.rows

    def columns(self, ticks: int) -> int:
        """Return how many columns a trajectory of so many ticks has."""
        return max(min(TOGETHER, len(self.data)) // ticks, 1)

    def collect(self, ticks: int, meanwhile: Callable[[], None] | None = None) -> Collected:
        """Return the next trajectory."""
        began, columns = perf_counter(), self.columns(ticks)
        place = self._places(self.state.step, ticks * columns).reshape(columns, ticks).T
        found = {name: tensor[torch.from_numpy(place)] for name, tensor in self._arrays.items()}
        rows, last = self._rows[place], self._rows[place[-1]] + 1
        cut, carry = found["truncated"].nonzero(), self._policy.initial_carry(columns)
        final = None
        if len(cut):
            t, n = cut.unbind(1)
            after = self._at(rows[t.cpu().numpy(), n.cpu().numpy()] + 1)
            final = Final(t, n, after, self._policy.initial_carry(len(t)))
        trajectory = Trajectory(
            obs=self._at(rows), **found, carry=carry, last_obs=self._at(last), last_carry=carry, final=final
        )
        self.state.step += ticks * columns
        return Collected(trajectory, [], {"act": perf_counter() - began, "env": 0.0}, columns)

    def _at(self, rows: np.ndarray) -> Any:
        where = torch.from_numpy(rows)
        return tree_map(lambda leaf: leaf[where], self._obs)

    def _places(self, begin: int, count: int) -> np.ndarray:
        """Return the transitions from number `begin` of all passes on."""
        number = np.arange(begin, begin + count)
        passes = number // len(self.data)
        self._orders = {k: self._orders.get(k, None) for k in np.unique(passes).tolist()}  # type: ignore[misc]
        parts = []
        for index in self._orders:
            if self._orders[index] is None:
                self._orders[index] = self._order(index)
            parts.append(self._orders[index][number[passes == index] - index * len(self.data)])
        return np.concatenate(parts)

    def _order(self, index: int) -> np.ndarray:
        """Return the transitions in the order of a pass: episode after episode, those shuffled."""
        data, rng = self.data, np.random.default_rng(derive_seed(self._seed, "pass", index))
        starts, lengths = data.starts, data.lengths
        return np.concatenate([np.arange(starts[e], starts[e] + lengths[e]) for e in rng.permutation(data.episodes)])
