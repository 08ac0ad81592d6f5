"""Recorded episodes played back, as if they had just been collected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch

from agents.acting.collector import Collected, TickCollector
from agents.acting.policies import ModelPolicy
from agents.acting.state import ActorState
from agents.core.saved import count, like, part
from agents.core.tree import to_numpy, to_tensor, tree_map, tree_to_tensor
from agents.data.dataset import Dataset, concatenated, of_columns
from agents.data.trajectory import Final, Trajectory
from envs.api import VecEnv
from envs.seeding import derive_seed

TOGETHER = 4_096  # transitions of one trajectory, where there are as many


ADDED = ("obs", "action", "reward", "terminated", "truncated", "lengths")  # of episodes that were labelled
Label = Callable[[Any], np.ndarray]  # observations [B, ...] -> actions as the policy stores them


@dataclass(slots=True)
class RecordedState(ActorState):
    """An `ActorState` that knows which data were learnt from, and what came to them since.

    Attributes:
        fingerprint: of the recorded data.
        base: those that are learnt from.
        rounds: how often an expert was asked.
        added: the episodes that it labelled; None before.
    """

    fingerprint: str
    base: Dataset
    rounds: int = 0
    added: Dataset | None = None

    @classmethod
    def of(cls, state: ActorState, fingerprint: str, base: Dataset) -> RecordedState:
        """Return one that begins where another state is."""
        return cls(state.step, state.obs, state.start, state.carry, state.tracker, state.generator, fingerprint, base)

    @property
    def data(self) -> Dataset:
        """All that is learnt from."""
        return self.base if self.added is None else concatenated([self.base, self.added])

    def state_dict(self) -> dict[str, Any]:
        added = None if self.added is None else {name: getattr(self.added, name) for name in ADDED}
        return ActorState.state_dict(self) | {"data": self.fingerprint, "rounds": self.rounds, "added": added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if part(state, "data") != self.fingerprint:
            raise ValueError(
                "the recorded data are not those that the run began with: they, or a rule for faults, changed"
            )
        self.rounds, added = count(part(state, "rounds"), "rounds"), part(state, "added")
        self.added = None if added is None else self._labelled(added)
        ActorState.load_state_dict(self, state)

    def _labelled(self, saved: Any) -> Dataset:
        """Return saved episodes, which must be like those recorded."""
        lengths, one = np.asarray(part(saved, "lengths")), self.base.take([0])
        if lengths.dtype != np.int64 or lengths.ndim != 1 or not lengths.size or lengths.min() < 1:
            raise ValueError("the lengths of labelled episodes are no counts")
        total = int(lengths.sum())
        for name in ADDED[:-1]:
            row = tree_map(lambda leaf: leaf[0], getattr(one, name))
            like(part(saved, name), row, name, total + len(lengths) * (name == "obs"))
        each = {name: tree_map(to_numpy, part(saved, name)) for name in ADDED}
        return replace(one, **each, seeds=[None] * len(lengths), broken=np.zeros(total, bool))


class Playback:
    """Collects pieces of recorded episodes, in another order at each pass; what comes follows from seed and step alone.

    A pass is all episodes one after the other. A trajectory has the next columns of `ticks` transitions of it; one
    that begins within an episode begins with an empty memory. See `agents.acting.collector.Collector`.

    Args:
        policy: whose memory's form trajectories have.
        state: has the data: their observations are those that the policy sees, their actions as the policy stores
            them. Its step moves on.
        seed: of the orders.
    """

    asking = False  # whether data are still to come

    def __init__(self, policy: ModelPolicy, state: RecordedState, seed: int) -> None:
        self.state: ActorState = state
        self.schedule_steps = 1
        self._recorded, self._policy, self._seed = state, policy, seed
        self._used: Dataset | None = state.base  # of what was added
        self._take_in()

    def _take_in(self) -> None:
        """Play what the state has now."""
        if self._used is self._recorded.added:
            return
        self._used, data = self._recorded.added, self._recorded.data
        self.data, self._orders = data, dict[int, np.ndarray]()
        device = self._policy.device
        starts = np.zeros(len(data), bool)
        starts[data.starts] = True
        arrays = {
            "action": data.action,
            "reward": data.reward,
            "terminated": data.terminated,
            "truncated": data.cut,
            "start": starts,
        }
        self._arrays = {name: to_tensor(array, device) for name, array in arrays.items()}
        self._obs, self._rows = tree_to_tensor(data.obs, device), data.rows

    def columns(self, ticks: int) -> int:
        """Return how many columns a trajectory of so many ticks has."""
        return max(min(TOGETHER, len(self.data)) // ticks, 1)

    def collect(self, ticks: int, meanwhile: Callable[[], None] | None = None) -> Collected:
        """Return the next trajectory."""
        self._take_in()
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
        before, size = self._orders, len(self.data)
        self._orders = {k: before[k] if k in before else self._order(k) for k in np.unique(passes).tolist()}
        return np.concatenate([order[number[passes == k] - k * size] for k, order in self._orders.items()])

    def _order(self, index: int) -> np.ndarray:
        """Return the transitions in the order of a pass: episode after episode, those shuffled."""
        data, rng = self.data, np.random.default_rng(derive_seed(self._seed, "pass", index))
        starts, lengths = data.starts, data.lengths
        return np.concatenate([np.arange(starts[e], starts[e] + lengths[e]) for e in rng.permutation(data.episodes)])


class DaggerPlayback(Playback):
    """A playback that lets an expert say, now and then, what it would do where the policy came to (DAgger).

    Ross et al. 2011, arXiv:1011.0686: the policy plays, the expert's actions are learnt.

    Args:
        policy, state, seed: as of `Playback`.
        env: what the policy plays in; `state` has its position.
        label: the expert.
        ticks: of each round.
        when: the steps from which on each round is due.
        told: called with the actions of all data, `[M, ...]`, after each round that added some.
    """

    def __init__(
        self,
        policy: ModelPolicy,
        state: RecordedState,
        seed: int,
        env: VecEnv,
        label: Label,
        ticks: int,
        when: list[int],
        told: Callable[[np.ndarray], None],
    ) -> None:
        super().__init__(policy, state, seed)
        self._ticks, self._label, self._when, self._told = ticks, label, when, told
        self._playing = TickCollector(env, policy, state, ticks=ticks, schedule_steps=1, successors=True)

    @property
    def asking(self) -> bool:  # type: ignore[override]
        """Whether there are rounds to come."""
        return self._recorded.rounds < len(self._when)

    def collect(self, ticks: int, meanwhile: Callable[[], None] | None = None) -> Collected:
        """Ask, if that is due; return the next trajectory, with the episodes that the policy played."""
        episodes, began = [], perf_counter()
        while self.asking and self.state.step >= self._when[self._recorded.rounds]:
            episodes += self._ask()
        spent = perf_counter() - began
        found = super().collect(ticks, meanwhile)
        found.episodes, found.seconds["env"] = episodes, spent
        return found

    def _ask(self) -> list[Any]:
        state = self._recorded
        step = state.step
        collected = self._playing.collect(self._ticks)
        state.step = step  # it counts what was learnt from
        played = collected.trajectory
        names = ("obs", "next_obs", *ADDED[2:5], *([] if played.valid is None else ["valid"]))
        columns = tree_map(to_numpy, {name: getattr(played, name) for name in names})
        flat = tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), columns["obs"])
        labels = self._label(flat)
        columns["action"] = labels.reshape(*columns["reward"].shape, *labels.shape[1:])
        fresh = of_columns(state.base, columns)
        state.rounds += 1
        if not len(fresh):  # nothing but transitions that an autoreset made up
            return collected.episodes
        state.added = fresh if state.added is None else concatenated([state.added, fresh])
        self._told(np.concatenate([state.base.action, state.added.action]))
        return collected.episodes
