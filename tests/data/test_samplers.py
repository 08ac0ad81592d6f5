"""The uniform sampler: what it draws, of what size, by which stream, and that compiling is for one size only."""

from __future__ import annotations

import numpy as np
import torch

from agents.data.samplers import UniformSampler
from tests.data.test_replay import GAMMA, Ledger


def sampler(ledger, n=1, seed=0, **options):
    return UniformSampler(ledger.replay, GAMMA, n, torch.Generator().manual_seed(seed), **options)


def test_indices_name_the_transitions_that_were_drawn():
    ledger = Ledger(23, 3, dummies=0.2).add(15)
    batch = sampler(ledger, 3).sample(200)
    store = ledger.replay.store
    for key, drawn in (("obs", batch.obs), ("action", batch.action)):
        assert store[key].flatten(0, 1)[batch.indices].equal(drawn)
    assert batch.indices.dtype == torch.int64
    assert batch.indices.shape == (200,)
    assert batch.weight is None, "all transitions count alike"


def test_a_batch_is_split_in_order():
    ledger = Ledger(30, 2).add(20)
    batch = sampler(ledger).sample(50)
    parts = list(batch.split(16))
    assert [len(part.action) for part in parts] == [16, 16, 16, 2]
    for name in batch._fields:
        if name != "weight":
            assert torch.cat([getattr(part, name) for part in parts]).equal(getattr(batch, name)), name
    assert all(part.weight is None for part in parts)
    weighted = batch._replace(weight=torch.arange(50.0))
    assert torch.cat([part.weight for part in weighted.split(16)]).equal(weighted.weight)


def test_each_draw_goes_on_with_the_stream():
    ledger = Ledger(30, 2).add(20)
    once, twice = sampler(ledger), sampler(ledger)
    first, second = once.sample(40), once.sample(40)
    assert not first.indices.equal(second.indices)
    assert twice.sample(40).indices.equal(first.indices)
    state = twice.generator.get_state()
    assert twice.sample(40).indices.equal(second.indices)
    twice.generator.set_state(state)
    assert twice.sample(40).indices.equal(second.indices)


def test_only_the_usual_size_is_compiled():
    sizes = []

    def compiled(function):
        def run(store, index, length):
            sizes.append(len(index))
            return function(store, index, length)

        return run

    ledger = Ledger(30, 2).add(20)
    fast, plain = sampler(ledger, 3, usual=32, compiled=compiled), sampler(ledger, 3)
    for count in (32, 16, 32, 7):
        got, wanted = fast.sample(count), plain.sample(count)
        for name in ("obs", "action", "return_", "discount", "next_obs", "indices"):
            assert getattr(got, name).equal(getattr(wanted, name))
    assert sizes == [32, 32]


def test_priorities_change_nothing():
    ledger = Ledger(30, 2).add(20)
    told, plain = sampler(ledger), sampler(ledger)
    batch = told.sample(30)
    told.update_priorities(batch.indices, torch.linspace(0, 1000, 30))
    plain.sample(30)
    assert told.sample(30).indices.equal(plain.sample(30).indices)


def test_what_is_drawn_later_holds_what_was_stored_since():
    ledger = Ledger(8, 1).add(8)
    draws = sampler(ledger)
    before = set(draws.sample(200).obs.flatten().tolist())
    ledger.add(8)
    after = set(draws.sample(200).obs.flatten().tolist())
    assert before == set(np.arange(8.0))
    assert after == set(np.arange(8.0, 16.0))
