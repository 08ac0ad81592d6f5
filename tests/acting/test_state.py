"""Where acting stands: running episodes, dummies that count for nothing, and that it can be saved."""

from __future__ import annotations

import copy
import tracemalloc

import numpy as np
import pytest
import torch

from agents.acting.state import ActorState, EpisodeTracker
from agents.core.types import Episodes, Iteration
from agents.run.monitor import Monitor
from envs.api import Step
from tests.fakes import ClockEnv


class Remembers:
    """Stands in for a policy: its carry is a pair of tensors."""

    device = torch.device("cpu")

    def initial_carry(self, num_envs):
        return torch.zeros(num_envs, 2), torch.zeros(num_envs, 3)


def step(reward, terminated, truncated, valid=None):
    obs = np.zeros((len(reward), 1), np.float32)
    flags = [np.array(flag, bool) for flag in (terminated, truncated)]
    return Step(obs, np.array(reward, np.float32), *flags, obs, None if valid is None else np.array(valid))


def update(tracker, made):
    """Return the (return, length) of the episodes that ended with a step."""
    done = made.terminated | made.truncated
    ended = tracker.update(made.reward, done, made.valid)
    if ended is None:
        assert not done.any()
        return []
    assert ended.count == done.sum()
    return list(zip(*(part.tolist() for part in ended.read()), strict=True))


def test_returns_and_lengths_of_finished_episodes_only():
    tracker = EpisodeTracker(2)
    assert update(tracker, step([1, 10], [0, 0], [0, 0])) == []
    assert update(tracker, step([2, 20], [1, 0], [0, 0])) == [(3.0, 2)]
    assert update(tracker, step([4, 40], [0, 0], [0, 1])) == [(70.0, 3)]
    assert update(tracker, step([8, 80], [1, 1], [1, 1])) == [(12.0, 2), (80.0, 1)]


def test_returns_are_summed_in_float64():
    tracker = EpisodeTracker(1)
    for _ in range(999):
        update(tracker, step([0.1], [0], [0]))
    ((return_, _),) = update(tracker, step([0.1], [1], [0]))
    assert return_ == pytest.approx(1000 * float(np.float32(0.1)), rel=1e-12)


def test_a_dummy_begins_an_episode():
    tracker = EpisodeTracker(2)
    assert update(tracker, step([1, 10], [0, 0], [0, 0], valid=[True, False])) == []
    # environment 0 has lost its running episode, as after a load that could not restore it
    assert update(tracker, step([1000, 20], [0, 0], [0, 0], valid=[False, True])) == []
    assert update(tracker, step([2, 30], [1, 1], [0, 0], valid=[True, True])) == [(2.0, 1), (50.0, 2)]


def test_lengths_are_those_of_the_episodes_where_dummies_come_between():
    env, tracker = ClockEnv(3, dummies=True), EpisodeTracker(3)
    env.reset(0)
    lengths = []
    for _ in range(40):
        made = env.step(np.ones(3, np.int64))
        lengths += [length for _, length in update(tracker, made)]
    expected = []
    for n in range(3):
        ticks = 0
        for episode in range(20):
            length = 3 + (2 * n + 3 * episode) % 7
            ticks += length
            if ticks <= 40:
                expected.append(length)
            ticks += 1  # the dummy
    assert sorted(lengths) == sorted(expected)


@pytest.mark.parametrize("dummies", [0.0, 0.2])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("ends", [0.0, 0.1, 0.6, 1.0])
def test_many_ticks_at_once_count_as_one_by_one(ends, num_envs, dummies):
    rng = np.random.default_rng(0)
    together, apart = EpisodeTracker(num_envs), EpisodeTracker(num_envs)
    count = 0
    for ticks in (1, 7, 40, 2):  # episodes go on from one call to the next
        shape = ticks, num_envs
        reward = rng.normal(size=shape).astype(np.float32)
        valid = rng.random(shape) >= dummies
        done = valid & (rng.random(shape) < ends)
        kept = reward.copy(), done.copy(), valid.copy()
        found = together.extend(reward, done, valid if dummies else None)
        for given, before in zip((reward, done, valid), kept, strict=True):
            np.testing.assert_array_equal(given, before)
        rows = zip(reward, done, valid, strict=True)
        expected = [apart.update(one, over, real if dummies else None) for one, over, real in rows]
        expected = [episodes for episodes in expected if episodes is not None]
        assert [episodes.count for episodes in found] == [episodes.count for episodes in expected]
        for got, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(got.lengths, wanted.lengths)
            np.testing.assert_allclose(got.returns, wanted.returns, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(together.lengths, apart.lengths)
        np.testing.assert_allclose(together.returns, apart.returns, rtol=1e-12, atol=1e-12)
        count += sum(episodes.count for episodes in found)
    assert (count > 3) == (ends > 0)


def test_returns_of_many_ticks_at_once_are_summed_in_float64():
    tracker = EpisodeTracker(1)
    (episodes,) = tracker.extend(np.full((1000, 1), 0.1, np.float32), np.arange(1000)[:, None] == 999)
    assert episodes.returns.dtype == np.float64
    assert episodes.returns.item() == pytest.approx(1000 * float(np.float32(0.1)), rel=1e-12)


def test_episodes_are_read_once_they_are_needed_and_no_further_than_they_are_filled():
    kept = torch.arange(4.0, dtype=torch.float64)
    for count, expected in ((0, []), (2, [0.0, 1.0]), (9, [0.0, 1.0, 2.0, 3.0])):
        returns, lengths = Episodes(torch.tensor(count), kept, kept.long()).read()
        assert returns.tolist() == lengths.tolist() == expected
    assert [part.tolist() for part in Episodes().read()] == [[], []]


def bytes_taken(work, ticks):
    """Return by how many bytes the memory in use grew over so many calls of `work`, after some first ones."""
    for _ in range(2_000):
        work()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(ticks):
        work()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken


def test_an_episode_that_never_ends_takes_no_memory():
    tracker, monitor = EpisodeTracker(4), Monitor()
    none_ended = step([1, 2, 3, 4], [0] * 4, [0] * 4)

    def tick():
        ended = tracker.update(none_ended.reward, none_ended.terminated)
        monitor.add(Iteration(0, {}, {}, [] if ended is None else [ended], {"env": 0.1}))

    assert bytes_taken(tick, 5_000) < 2_000  # less than half a byte for each tick
    assert tracker.lengths.tolist() == [7_000] * 4


@pytest.mark.parametrize("on_device", [False, True])
def test_episodes_that_end_take_no_more_memory_than_those_averaged_over(on_device):
    """Also those of a GPU, which are read later than they ended."""
    monitor = Monitor()
    ended = Episodes(1, np.ones(1), np.ones(1, np.int64))
    none = Episodes(torch.tensor(0), torch.zeros(100), torch.zeros(100, dtype=torch.int64))

    def tick():
        monitor.add(Iteration(0, {}, {}, [copy.copy(none if on_device else ended)], {}))

    assert bytes_taken(tick, 9_000) < 1_000 * 300  # at the most 1,000 parts are gathered before they are read
    assert len(monitor.returns) == (0 if on_device else 100)


def stand(seed=0):
    env = ClockEnv(2)
    return env, ActorState.begin(env, Remembers(), seed, torch.Generator().manual_seed(seed))


def test_the_beginning():
    _, state = stand(1)
    assert state.step == 0
    np.testing.assert_array_equal(state.obs, ClockEnv(2).reset(1))
    assert state.start.tolist() == [True, True]
    assert [leaf.shape for leaf in state.carry] == [(2, 2), (2, 3)]
    assert not state.tracker.lengths.any()


def test_a_restart_keeps_the_steps_and_the_random_stream():
    env, state = stand()
    state.step, state.carry = 7, tuple(leaf + 1 for leaf in state.carry)
    state.start = torch.zeros(2, dtype=torch.bool)
    state.tracker.lengths += 3
    generator = state.generator
    torch.rand(5, generator=generator)
    drawn = generator.get_state()
    state.restart(env, Remembers(), 2)
    assert state.step == 7
    assert state.generator is generator
    assert generator.get_state().equal(drawn)
    np.testing.assert_array_equal(state.obs, ClockEnv(2).reset(2))
    assert state.start.all()
    assert not any(leaf.any() for leaf in state.carry)
    assert not state.tracker.lengths.any()


def test_a_loaded_state_goes_on_exactly_and_owns_its_arrays():
    _, state = stand()
    state.step, state.start = 18, torch.tensor([True, False])
    state.carry = tuple(torch.randn_like(leaf) for leaf in state.carry)
    update(state.tracker, step([1, 10], [0, 0], [0, 0]))
    torch.rand(3, generator=state.generator)
    saved = copy.deepcopy(state.state_dict())
    kept = copy.deepcopy(saved)
    _, other = stand(1)
    other.load_state_dict(saved)
    assert (other.step, other.start.tolist()) == (18, [True, False])
    np.testing.assert_array_equal(other.obs, state.obs)
    assert all(mine.equal(theirs) for mine, theirs in zip(other.carry, state.carry, strict=True))
    for made in (step([2, 20], [1, 0], [0, 0]), step([4, 40], [0, 0], [1, 1])):
        assert update(other.tracker, made) == update(state.tracker, made)
    assert torch.rand(4, generator=other.generator).equal(torch.rand(4, generator=state.generator))
    for key in ("returns", "lengths", "obs"):
        np.testing.assert_array_equal(saved[key], kept[key])


def test_a_state_of_tensors_loads_into_one_of_arrays_and_the_other_way_round():
    """What a fused collector saved, a collector tick by tick goes on with."""
    _, arrays = stand()
    _, tensors = stand(1)
    tensors.obs = torch.from_numpy(tensors.obs)
    tensors.tracker.returns = torch.tensor([1.5, 2.5], dtype=torch.float64)
    saved = copy.deepcopy(tensors.state_dict())
    back = copy.deepcopy(arrays.state_dict())
    arrays.load_state_dict(saved)
    assert isinstance(arrays.obs, np.ndarray)
    np.testing.assert_array_equal(arrays.obs, tensors.obs)
    assert arrays.tracker.returns.tolist() == [1.5, 2.5]
    tensors.load_state_dict(back)
    assert isinstance(tensors.obs, torch.Tensor)
    np.testing.assert_array_equal(tensors.obs, back["obs"])
