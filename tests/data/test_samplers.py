"""Samplers: what they draw, of what size, by which stream, and that compiling is for one size only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.core.by_numpy.program import NumpyProgram
from agents.core.runtime import Runtime
from agents.data.samplers import Priorities, PrioritizedSampler, SequenceSampler, UniformSampler
from tests.data.test_replay import GAMMA, Ledger


def sampler(ledger, n=1, seed=0, **options):
    return UniformSampler(ledger.replay, GAMMA, n, torch.Generator().manual_seed(seed), **options)


def test_indices_name_the_transitions_that_were_drawn():
    ledger = Ledger(23, 3, dummies=0.2).add(15)
    batch = sampler(ledger, 3).sample(200, 0.0)
    store = ledger.replay.store
    for key, drawn in (("obs", batch.obs), ("action", batch.action)):
        assert store[key].flatten(0, 1)[batch.indices].equal(drawn)
    assert batch.indices.dtype == torch.int64
    assert batch.indices.shape == (200,)
    assert batch.weight is None, "all transitions count alike"


def test_a_batch_is_split_in_order():
    ledger = Ledger(30, 2).add(20)
    batch = sampler(ledger).sample(50, 0.0)
    parts = list(batch.split(16))
    assert [len(part.action) for part in parts] == [16, 16, 16, 2]
    for name in batch._fields:
        if getattr(batch, name) is not None:
            assert torch.cat([getattr(part, name) for part in parts]).equal(getattr(batch, name)), name
    assert all(part.weight is None for part in parts)
    weighted = batch._replace(weight=torch.arange(1.0, 51))
    expected = torch.cat([part / part.max() for part in weighted.weight.split(16)])
    assert torch.cat([part.weight for part in weighted.split(16)]).equal(expected), "each batch's largest is 1"


def test_each_draw_goes_on_with_the_stream():
    ledger = Ledger(30, 2).add(20)
    once, twice = sampler(ledger), sampler(ledger)
    first, second = once.sample(40, 0.0), once.sample(40, 0.0)
    assert not first.indices.equal(second.indices)
    assert twice.sample(40, 0.0).indices.equal(first.indices)
    state = twice.generator.get_state()
    assert twice.sample(40, 0.0).indices.equal(second.indices)
    twice.generator.set_state(state)
    assert twice.sample(40, 0.0).indices.equal(second.indices)


def test_only_the_usual_size_is_compiled():
    sizes = []

    def compiled(function, version, state):
        def run(index, length):
            sizes.append(len(index))
            return function(index, length)

        return run

    ledger = Ledger(30, 2).add(20)
    fast, plain = sampler(ledger, 3, usual=32, compiled=compiled), sampler(ledger, 3)
    for count in (32, 16, 32, 7):
        got, wanted = fast.sample(count, 0.0), plain.sample(count, 0.0)
        for name in ("obs", "action", "return_", "discount", "next_obs", "indices"):
            assert getattr(got, name).equal(getattr(wanted, name))
    assert sizes == [32, 32]


@pytest.mark.parametrize("n", [1, 3])
def test_numpy_assembles_the_same_wherever_the_store_lies(n, monkeypatch):
    ledger, calls = Ledger(30, 2).add(20), []
    replayed = NumpyProgram.__call__
    monkeypatch.setattr(NumpyProgram, "__call__", lambda *args: calls.append(1) or replayed(*args))
    fast, plain = sampler(ledger, n, usual=32, compiled=Runtime("numpy").compiled), sampler(ledger, n)
    for moved in (False, False, True, False):
        if moved:
            ledger.replay.load_state_dict(Ledger(30, 2, seed=1).add(15).replay.state_dict())
        ledger.add(3)
        got, wanted = fast.sample(32, 0.0), plain.sample(32, 0.0)
        for name in ("obs", "action", "return_", "discount", "next_obs", "indices"):
            torch.testing.assert_close(getattr(got, name), getattr(wanted, name), rtol=1e-6, atol=1e-6)
    assert len(calls) == 4


def test_priorities_change_nothing():
    ledger = Ledger(30, 2).add(20)
    told, plain = sampler(ledger), sampler(ledger)
    batch = told.sample(30, 0.0)
    told.update_priorities(batch.indices, torch.linspace(0, 1000, 30))
    plain.sample(30, 0.0)
    assert told.sample(30, 0.0).indices.equal(plain.sample(30, 0.0).indices)


def test_what_is_drawn_later_holds_what_was_stored_since():
    ledger = Ledger(8, 1).add(8)
    draws = sampler(ledger)
    before = set(draws.sample(200, 0.0).obs.flatten().tolist())
    ledger.add(8)
    after = set(draws.sample(200, 0.0).obs.flatten().tolist())
    assert before == set(np.arange(8.0))
    assert after == set(np.arange(8.0, 16.0))


def prioritized(ledger, seed=0, **options):
    numbers = {"alpha": 0.6, "beta0": 0.4, "eps": 1e-6} | options
    return PrioritizedSampler(ledger.replay, GAMMA, 1, torch.Generator().manual_seed(seed), **numbers)


def test_what_has_no_error_can_be_drawn_again():
    draws = prioritized(Ledger(8, 1).add(8), alpha=0.5, eps=0.1)
    draws.update_priorities(torch.arange(8), torch.tensor([0.0, 0.0, 1, 1, 1, 1, 1, 1]))
    assert draws.state_dict()["priorities"][:3].tolist() == pytest.approx([0.1**0.5, 0.1**0.5, 1.1**0.5])


def chi_square(counts, expected):
    """Return how many standard deviations the statistic lies from its mean, for bins that expect enough."""
    kept = expected > 5
    statistic = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    degrees = int(kept.sum()) - 1
    return float((statistic - degrees) / np.sqrt(2 * degrees))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 5000])
def test_numbers_are_drawn_as_often_as_they_are_large(count):
    draw = torch.Generator().manual_seed(count)
    drawn, size = Priorities(count, torch.device("cpu")), torch.rand(count, generator=draw) ** 3
    size[torch.rand(count, generator=draw) < 0.3] = 0
    size[count // 2] = 1.0
    drawn.write(torch.arange(count), size)
    values, found = drawn.draw(400_000, draw)
    assert values.equal(size[found])
    counts = torch.bincount(found, minlength=count).numpy()
    assert (counts[size.numpy() == 0] == 0).all()
    if count > 1:
        assert abs(chi_square(counts, 400_000 * (size / size.double().sum()).numpy())) < 4


@pytest.mark.parametrize(("random", "expected"), [(0.0, 70), (1 - 2.0**-53, 130)])
def test_the_least_and_the_greatest_random_number_draw_no_zeros(random, expected, monkeypatch):
    drawn, size = Priorities(300, torch.device("cpu")), torch.zeros(300)
    size[70:131] = torch.linspace(1e-7, 3.0, 61)
    drawn.write(torch.arange(300), size)

    def rand(shape, *, dtype=torch.float32, **_):
        below_one = 1 - torch.finfo(dtype).eps / 2
        return torch.full(shape if isinstance(shape, tuple) else (shape,), min(random, below_one), dtype=dtype)

    monkeypatch.setattr("agents.data.samplers.torch.rand", rand)
    assert drawn.draw(2, torch.Generator())[1].tolist() == [expected] * 2


def test_sums_follow_every_write():
    draw, count = torch.Generator().manual_seed(0), 10_000
    kept, expected = Priorities(count, torch.device("cpu")), torch.zeros(count)
    for _ in range(20):
        index = torch.randint(count, (300,), generator=draw)
        value = torch.rand(300, generator=draw)
        value = torch.where(index.bincount(minlength=count)[index] > 1, 0.25, value)  # which of several is written
        kept.write(index, value)
        expected[index] = value
        kept.draw(1, draw)
    assert kept.numbers.equal(expected)
    blocks = torch.nn.functional.pad(expected, (0, -count % Priorities.WIDTH)).view(-1, Priorities.WIDTH)
    shares = blocks.cumsum(1) / blocks.sum(1, keepdim=True).clamp(min=1e-30)
    torch.testing.assert_close(kept._within, shares)
    assert ((kept._within[:, -1] == 1) | (blocks.sum(1) == 0)).all()
    assert kept._blocks is not None
    torch.testing.assert_close(kept._blocks[0], blocks.double().sum(1).cumsum(0), rtol=1e-6, atol=0)


def test_only_what_is_stored_is_drawn_and_what_is_new_has_the_largest_priority():
    ledger = Ledger(60, 3, dummies=0.2)
    sampler, replay = prioritized(ledger), ledger.replay
    ledger.add(11)
    stored = {row * 3 + column for column in range(3) for row in range(int(replay.size[column]))}
    assert len(stored) < 33, "dummies are not stored"
    assert set(sampler.sample(5000, 0.0).indices.tolist()) == stored
    sampler.update_priorities(torch.tensor(sorted(stored)), torch.full((len(stored),), 7.0))
    ledger.add(5)
    sampler.sample(1, 0.0)
    numbers = sampler._priorities.numbers
    assert (numbers > 0).sum() == replay.size.sum() > len(stored)
    torch.testing.assert_close(numbers[numbers > 0], torch.full((len(replay),), 7.0**0.6), rtol=1e-5, atol=0)


def test_what_is_new_takes_bounded_room_until_it_is_looked_at(monkeypatch):
    monkeypatch.setattr("agents.data.replay.MOST_NEWS", 10)
    ledger = Ledger(8, 2)
    sampler, news = prioritized(ledger), ledger.replay.news
    for _ in range(100):
        ledger.add(1)
        assert len(news) <= 11
        assert sum(map(len, news)) <= 8 + 10 * 2
    assert set(sampler.sample(500, 0.0).indices.tolist()) == set(range(8))
    assert not news


def test_what_is_overwritten_loses_its_priority():
    ledger = Ledger(8, 2)
    sampler = prioritized(ledger)
    ledger.add(4)
    sampler.sample(1, 0.0)
    sampler.update_priorities(torch.arange(8), torch.tensor([5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    sampler.update_priorities(torch.arange(8), torch.tensor([0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    ledger.add(1)  # row 0 again
    sampler.sample(1, 0.0)
    torch.testing.assert_close(sampler._priorities.numbers[:2], torch.full((2,), (5.0 + 1e-6) ** 0.6))


def test_weights_undo_what_priorities_favour():
    ledger = Ledger(40, 2)
    sampler = prioritized(ledger, alpha=1.0, beta0=0.4)
    ledger.add(20)
    sampler.sample(1, 0.0)
    errors = torch.rand(40, generator=torch.Generator().manual_seed(1)) + 0.1
    sampler.update_priorities(torch.arange(40), errors)
    batch = sampler.sample(200_000, 1.0)
    assert batch.weight.max() == 1
    mass = torch.bincount(batch.indices, weights=batch.weight, minlength=40)
    torch.testing.assert_close(mass / mass.mean(), torch.ones(40), atol=0.1, rtol=0)
    halfway = sampler.sample(1000, 0.5)
    least = errors[halfway.indices].min()
    torch.testing.assert_close(halfway.weight, (errors[halfway.indices] / least) ** -0.7, atol=1e-4, rtol=1e-4)


def test_a_prioritized_sampler_goes_on_bit_for_bit():
    ledger = Ledger(50, 2)
    one = prioritized(ledger)
    ledger.add(30)
    batch = one.sample(64, 0.3)
    one.update_priorities(batch.indices, torch.arange(64.0))
    state = one.state_dict()
    other = prioritized(ledger, seed=9)
    other.load_state_dict({name: value.clone() for name, value in state.items()})
    first, second = one.sample(64, 0.4), other.sample(64, 0.4)
    assert first.indices.equal(second.indices)
    assert first.weight.equal(second.weight)
    with pytest.raises(ValueError, match=r"priorities is float32 \[50\], float32 \[60\] expected"):
        prioritized(Ledger(60, 2)).load_state_dict(state)


class Chain(Ledger):
    """A ledger whose transitions have a carry, the number of their `obs` and a half."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        add = self.replay.add

        def with_carry(tick, valid=None):
            add({**tick, "carry": tick["obs"] + 0.5}, valid)

        self.replay.add = with_carry


def chained(ledger, length, burn_in=0, n=1, seed=0, **options):
    numbers = {"alpha": 0.0, "beta0": 0.4, "eps": 1e-6, "eta": 0.9} | options
    stream = torch.Generator().manual_seed(seed)
    return SequenceSampler(ledger.replay, GAMMA, n, stream, sequence_length=length, burn_in=burn_in, **numbers)


def whole(ledger, length):
    """Return first number -> the transitions of each sequence of this length that is stored."""
    found = {}
    for rows in ledger.rows:
        rows = list(rows)
        found |= {rows[i][0]: rows[i : i + length] for i in range(len(rows) - length + 1)}
    return found


@pytest.mark.parametrize("dummies", [0.0, 0.3])
@pytest.mark.parametrize(("capacity", "num_envs"), [(40, 1), (41, 3)])
@pytest.mark.parametrize(("length", "burn_in", "n"), [(1, 0, 1), (4, 0, 1), (5, 0, 3), (2, 3, 2)])
def test_sequences_equal_those_of_plain_lists(capacity, num_envs, dummies, length, burn_in, n):
    ledger = Chain(capacity, num_envs, seed=length, dummies=dummies)
    sampler, length = chained(ledger, length, burn_in, n), length + burn_in
    for ticks in (length + 6, 1, 9, 40, 1, 3):
        ledger.add(ticks)
        expected = whole(ledger, length)
        batch = sampler.sample(600, 0.0)
        assert batch.weight.eq(1).all()
        assert batch.carry.equal(batch.obs[:, 0] + 0.5)
        firsts = batch.obs[:, 0, 0].tolist()
        assert set(firsts) <= expected.keys(), "a sequence that is not stored was drawn"
        if len(expected) < 40:
            assert set(firsts) == expected.keys(), "and all that are stored can be"
        for b, first in enumerate(firsts[:60]):
            steps, begins = expected[first], False
            for t, (number, action, _, terminated, truncated, next_obs) in enumerate(steps):
                assert batch.obs[b, t].item() == number
                assert batch.action[b, t].item() == action
                assert batch.next_obs[b, t].item() == next_obs
                assert batch.start[b, t].item() == begins
                begins = terminated or truncated
                total, last = 0.0, t
                for last in range(t, min(t + n, length)):
                    total += GAMMA ** (last - t) * steps[last][2]
                    if steps[last][3] or steps[last][4]:
                        break
                assert batch.last[b, t].item() == last
                assert batch.return_[b, t].item() == pytest.approx(total, abs=1e-5)
                discount = 0.0 if steps[last][3] else GAMMA ** (last - t + 1)
                assert batch.discount[b, t].item() == pytest.approx(discount)


def test_a_sequence_is_drawn_by_its_largest_error_and_its_mean():
    ledger = Chain(30, 2)
    sampler = chained(ledger, 3, alpha=1.0)
    ledger.add(10)
    batch = sampler.sample(4, 0.0)
    errors = torch.rand(3, 4) * 5
    indices = torch.tensor([0, 2, 5, 9])  # rows 0 to 4, of both columns
    sampler.update_priorities(indices, errors.flatten())
    expected = 0.9 * errors.amax(0) + 0.1 * errors.mean(0) + 1e-6
    torch.testing.assert_close(sampler._priorities.numbers[indices], expected)
    assert sampler.sample(9, 0.0).weight.amax() == 1.0
    rows = torch.arange(30) // 2
    assert (sampler._priorities.numbers[rows >= 8] == 0).all(), "what three steps do not follow is never drawn"
    assert (sampler._priorities.numbers[rows < 8] > 0).all()
    assert batch.weight.shape == (4,)


def test_a_sequence_written_over_is_not_drawn_until_it_is_whole_again():
    ledger = Chain(10, 1, ends=0.0)
    sampler = chained(ledger, 4)
    ledger.add(10)
    sampler.sample(1, 0.0)
    assert sampler._priorities.numbers.tolist() == [1.0] * 7 + [0.0] * 3
    for written in range(1, 25):
        ledger.add()
        sampler.sample(1, 0.0)
        newest = (written - 1) % 10
        cut = {(newest - back) % 10 for back in range(3)}
        assert sampler._priorities.numbers.tolist() == [0.0 if row in cut else 1.0 for row in range(10)]


def test_a_loaded_sequence_sampler_goes_on_and_refuses_what_is_not_stored():
    ledger = Chain(20, 2)
    first = chained(ledger, 3, alpha=0.7)
    ledger.add(8)
    first.sample(1, 0.0)
    first.update_priorities(torch.tensor([2, 3]), torch.rand(6) * 4)
    state = {**first.state_dict(), "priorities": first.state_dict()["priorities"].clone()}
    wanted = first.sample(50, 0.2)
    twin = chained(ledger, 3, alpha=0.7, seed=9)
    twin.load_state_dict(state)
    got = twin.sample(50, 0.2)
    assert got.indices.equal(wanted.indices)
    assert got.weight.equal(wanted.weight)
    state["priorities"][int(torch.nonzero(state["priorities"] == 0)[0])] = 1.0
    with pytest.raises(ValueError, match="priorities are not of what is stored"):
        twin.load_state_dict(state)
