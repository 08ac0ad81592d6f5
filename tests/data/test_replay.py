"""The replay ring against a plain list for each environment."""

from __future__ import annotations

import copy
from collections import Counter, deque

import numpy as np
import pytest
import scipy.stats
import torch

from agents.data.replay import ReplayBuffer
from agents.data.samplers import UniformSampler

CPU = torch.device("cpu")
GAMMA = 0.9


def sampled(replay, count, gamma, n_step_returns, generator):
    """Return so many transitions drawn uniformly."""
    return UniformSampler(replay, gamma, n_step_returns, generator).sample(count, 0.0)


class Ledger:
    """A replay buffer and, beside it, the transitions it should hold, each known by the number in its `obs`.

    Columns: number, action, reward, terminated, truncated, number of next_obs (negative, so that no obs is).
    """

    def __init__(self, capacity, num_envs, seed=0, ends=0.15, dummies=0.0):
        self.replay = ReplayBuffer(capacity, num_envs, CPU)
        self.rows = [deque(maxlen=max(capacity // num_envs, 1)) for _ in range(num_envs)]
        self.rng = np.random.default_rng(seed)
        self.ends, self.dummies, self.count = ends, dummies, 0

    def add(self, ticks=1):
        num_envs = len(self.rows)
        for _ in range(ticks):
            number = self.count + np.arange(num_envs)
            self.count += num_envs
            valid = self.rng.random(num_envs) >= self.dummies
            tick = {
                "obs": np.where(valid, number, 10**6).astype(np.float32)[:, None],
                "action": self.rng.integers(0, 4, num_envs),
                "reward": np.where(valid, self.rng.normal(size=num_envs), np.nan).astype(np.float32),
                "terminated": valid & (self.rng.random(num_envs) < self.ends),
                "truncated": valid & (self.rng.random(num_envs) < self.ends),
                "next_obs": -number.astype(np.float32)[:, None],
            }
            self.replay.add(tick, valid if self.dummies else None)
            for n in range(num_envs):
                if valid[n]:
                    self.rows[n].append([tick[key][n].item() for key in tick])
                elif self.rows[n]:
                    self.rows[n][-1][4] = True  # a dummy begins an episode: nothing before it goes on
        return self

    def windows(self, k):
        """Return number -> (action, return, discount, number of next_obs) of all that is stored."""
        windows = {}
        for rows in self.rows:
            rows = list(rows)
            for first, (number, action, *_) in enumerate(rows):
                total, discount, following = 0.0, 0.0, 0.0
                for i, (_, _, reward, terminated, truncated, next_obs) in enumerate(rows[first : first + k]):
                    total += GAMMA**i * reward
                    discount, following = 0.0 if terminated else GAMMA ** (i + 1), next_obs
                    if terminated or truncated:
                        break
                windows[number] = (action, total, discount, following)
        return windows

    def check(self, k, draws=600):
        expected = self.windows(k)
        assert len(self.replay) == len(expected)
        batch = sampled(self.replay, draws, GAMMA, k, torch.Generator().manual_seed(self.count))
        assert batch.obs.shape == batch.next_obs.shape == (draws, 1)
        assert batch.return_.dtype == batch.discount.dtype == torch.float32
        numbers = batch.obs.flatten().tolist()
        assert set(numbers) <= expected.keys(), "a transition that is not stored was drawn"
        drawn = torch.stack([batch.action, batch.return_, batch.discount, batch.next_obs.flatten()], dim=1)
        np.testing.assert_allclose(drawn, [expected[number] for number in numbers], atol=1e-5)


@pytest.mark.parametrize("dummies", [0.0, 0.3])
@pytest.mark.parametrize("k", [1, 2, 3, 7])
@pytest.mark.parametrize(("capacity", "num_envs"), [(20, 1), (23, 3), (5, 2), (2, 4)])
def test_windows_equal_those_of_plain_lists(capacity, num_envs, k, dummies):
    ledger = Ledger(capacity, num_envs, seed=capacity, dummies=dummies).add()
    while not len(ledger.replay):
        ledger.add()
    for _ in range(12):  # from nearly empty through several laps
        ledger.check(k)
        ledger.add(ticks=int(ledger.rng.integers(1, 7)))


def test_no_window_crosses_a_cut():
    ledger = Ledger(12, 2, ends=0.0).add(4)
    ledger.replay.cut()
    for rows in ledger.rows:
        rows[-1][4] = True
    ledger.add(2).check(5)
    empty = ReplayBuffer(4, 1, CPU)
    empty.cut()
    assert len(empty) == 0


def test_without_ends_windows_stop_at_the_write_head_and_the_tail_is_drawn():
    ledger = Ledger(8, 1, ends=0.0).add(11)
    discounts = {number: discount for number, (_, _, discount, _) in ledger.windows(3).items()}
    assert discounts[10] == GAMMA
    assert discounts[9] == GAMMA**2
    assert discounts[3] == GAMMA**3
    ledger.check(3)


def test_a_dummy_that_comes_when_the_ring_is_full_costs_nothing():
    replay = ReplayBuffer(2, 1, CPU)

    def add(number, valid):
        one = np.full(1, number, np.float32)
        no = np.zeros(1, bool)
        tick = dict.fromkeys(("obs", "action", "reward", "next_obs"), one) | dict.fromkeys(
            ("terminated", "truncated"), no
        )
        replay.add(tick, np.array([valid]))

    for number, valid in [(1, True), (2, True), (666, False)]:
        add(number, valid)
    batch = sampled(replay, 100, GAMMA, 1, torch.Generator().manual_seed(0))
    assert set(batch.obs.tolist()) == {1.0, 2.0}
    add(3, True)
    batch = sampled(replay, 100, GAMMA, 1, torch.Generator().manual_seed(0))
    assert set(batch.obs.tolist()) == {2.0, 3.0}


@pytest.mark.parametrize(("dummies", "ticks"), [(0.0, 5), (0.0, 40), (0.4, 9), (0.4, 60)])
def test_sampling_is_uniform_over_what_is_stored(dummies, ticks):
    ledger = Ledger(30, 3, dummies=dummies).add(ticks)
    draws = 30_000
    batch = sampled(ledger.replay, draws, GAMMA, 1, torch.Generator().manual_seed(1))
    counts = Counter(batch.obs.flatten().tolist())
    stored = ledger.windows(1)
    assert len(stored) <= 30
    assert counts.keys() <= stored.keys()
    assert scipy.stats.chisquare([counts[number] for number in stored]).pvalue > 1e-3


@pytest.mark.parametrize("dummies", [0.0, 0.4])
@pytest.mark.parametrize("ticks", [1, 7, 10, 24])
def test_lengths_are_those_up_to_the_newest_transition_of_the_column(ticks, dummies):
    ledger = Ledger(30, 3, dummies=dummies).add(ticks)
    index = ledger.replay.draw(500, torch.Generator().manual_seed(1))
    assert index.dtype == torch.int64
    assert index.shape == (500,)
    left = {row[0]: len(rows) - place for rows in ledger.rows for place, row in enumerate(rows)}
    drawn = ledger.replay.store["obs"].flatten(0, 1)[index].flatten().tolist()
    assert ledger.replay.length(index).tolist() == [left[number] for number in drawn]
    assert set(drawn) == left.keys(), "each is looked at"


def test_samples_follow_the_generator_alone():
    replay = Ledger(20, 2).add(10).replay
    before = torch.get_rng_state()
    first, again, other = (sampled(replay, 50, GAMMA, 1, torch.Generator().manual_seed(seed)).obs for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert torch.get_rng_state().equal(before)


def test_dtypes_and_dict_observations_are_kept():
    rng = np.random.default_rng(0)
    replay = ReplayBuffer(12, 2, CPU)
    seen = []
    for t in range(8):
        obs = {
            "image": rng.integers(0, 256, (2, 3, 3, 1), np.uint8),
            "mode": np.array([t, t + 100]),
            "joints": rng.normal(size=(2, 2)).astype(np.float32),
        }
        no = np.zeros(2, bool)
        seen.append(obs)
        replay.add(
            {
                "obs": obs,
                "action": np.array([t, t]),
                "reward": np.ones(2, np.float32),
                "terminated": no,
                "truncated": no,
                "next_obs": {key: leaf + 1 for key, leaf in obs.items()},
            }
        )
    batch = sampled(replay, 64, GAMMA, 1, torch.Generator().manual_seed(0))
    assert batch.action.dtype == torch.int64
    for i in range(64):
        mode = batch.obs["mode"][i].item()
        original = {key: leaf[mode // 100] for key, leaf in seen[mode % 100].items()}
        for key, leaf in original.items():
            assert batch.obs[key].numpy().dtype == leaf.dtype
            np.testing.assert_array_equal(batch.obs[key][i], leaf)
            np.testing.assert_array_equal(batch.next_obs[key][i], leaf + leaf.dtype.type(1))


def test_what_is_stored_is_a_copy():
    replay = ReplayBuffer(4, 1, CPU)
    obs, no = np.ones((1, 1), np.float32), np.zeros(1, bool)
    one = np.ones(1, np.float32)
    replay.add({"obs": obs, "action": no, "reward": one, "terminated": no, "truncated": no, "next_obs": obs})
    obs[:] = 5
    assert sampled(replay, 1, GAMMA, 1, torch.Generator()).obs.item() == 1.0


@pytest.mark.parametrize("ticks", [0, 1, 5, 10, 13, 27])  # empty, filling, just full, mid-wrap
def test_a_loaded_buffer_goes_on_exactly(ticks):
    ledger = Ledger(30, 3, dummies=0.2).add(ticks)
    state = copy.deepcopy(ledger.replay.state_dict())
    kept = copy.deepcopy(state)
    fresh = ReplayBuffer(30, 3, CPU)
    fresh.load_state_dict(state)
    twin = copy.deepcopy(ledger)
    twin.replay = fresh
    for _ in range(5):
        ledger.add(4)
        twin.add(4)
        twin.check(3)
        batches = [sampled(each.replay, 40, GAMMA, 3, torch.Generator().manual_seed(7)) for each in (ledger, twin)]
        for name in ("obs", "action", "return_", "discount", "next_obs", "indices"):
            assert getattr(batches[0], name).equal(getattr(batches[1], name))
    assert state["head"].equal(kept["head"]), "the state that was loaded from is not the buffer's to change"
    assert state["size"].equal(kept["size"])


def test_a_saved_buffer_holds_no_unwritten_rows():
    replay = Ledger(3000, 3).add(5).replay
    assert len(replay.state_dict()["store"]["reward"]) == 5


@pytest.mark.parametrize(("capacity", "num_envs"), [(27, 3), (30, 2), (10, 1)])
def test_another_capacity_or_number_of_environments_is_refused(capacity, num_envs):
    state = Ledger(30, 3).add(4).replay.state_dict()
    other = ReplayBuffer(capacity, num_envs, CPU)
    with pytest.raises(ValueError, match=f"10 rows x 3, this one {capacity // num_envs} x {num_envs}"):
        other.load_state_dict(state)


@pytest.mark.parametrize("counts", [[3, 4, 20, 1], [25], [7, 7, 7]])
def test_many_ticks_at_once_are_stored_as_one_by_one(counts):
    generator = torch.Generator().manual_seed(0)
    together, apart = (ReplayBuffer(20, 2, CPU) for _ in range(2))
    for count in counts:
        ticks = {key: torch.rand(count, 2, 3, generator=generator) for key in ("obs", "next_obs")}
        ticks |= {key: torch.rand(count, 2, generator=generator) for key in ("action", "reward")}
        ticks |= {key: torch.rand(count, 2, generator=generator) < 0.3 for key in ("terminated", "truncated")}
        together.extend(ticks)
        for tick in range(count):
            apart.add({key: value[tick] for key, value in ticks.items()})
        saved, wanted = together.state_dict(), apart.state_dict()
        for key, store in wanted["store"].items():
            assert saved["store"][key].equal(store)
        assert saved["head"].equal(wanted["head"])
        assert len(together) == len(apart)
