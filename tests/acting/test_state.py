"""Where a loop stands: steps, running episodes, and dummies that count for nothing."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from agents.core.types import Episode
from agents.loops.position import EpisodeTracker, Position
from envs.api import Step
from tests.fakes import ClockEnv


def step(reward, terminated, truncated, valid=None):
    obs = np.zeros((len(reward), 1), np.float32)
    flags = [np.array(flag, bool) for flag in (terminated, truncated)]
    return Step(obs, np.array(reward, np.float32), *flags, obs, None if valid is None else np.array(valid))


def test_returns_and_lengths_of_finished_episodes_only():
    tracker = EpisodeTracker(2)
    assert tracker.update(step([1, 10], [0, 0], [0, 0])) == []
    assert tracker.update(step([2, 20], [1, 0], [0, 0])) == [Episode(3.0, 2)]
    assert tracker.update(step([4, 40], [0, 0], [0, 1])) == [Episode(70.0, 3)]
    assert tracker.update(step([8, 80], [1, 1], [1, 1])) == [Episode(12.0, 2), Episode(80.0, 1)]


def test_returns_are_summed_in_float64():
    tracker = EpisodeTracker(1)
    for _ in range(999):
        tracker.update(step([0.1], [0], [0]))
    (episode,) = tracker.update(step([0.1], [1], [0]))
    assert episode.ret == pytest.approx(1000 * float(np.float32(0.1)), rel=1e-12)


def test_a_dummy_is_no_step_and_begins_an_episode():
    position = Position(5, None, EpisodeTracker(2))
    assert position.advance(step([1, 10], [0, 0], [0, 0], valid=[True, False])) == []
    assert position.step == 6
    # environment 0 has lost its running episode, as after a load that could not restore it
    assert position.advance(step([1000, 20], [0, 0], [0, 0], valid=[False, True])) == []
    assert position.advance(step([2, 30], [1, 1], [0, 0], valid=[True, True])) == [Episode(2.0, 1), Episode(50.0, 2)]
    assert position.step == 9


@pytest.mark.parametrize("as_tensor", [False, True])
def test_tensors_count_like_arrays(as_tensor):
    convert = torch.from_numpy if as_tensor else np.asarray
    env = ClockEnv(3, dummies=True)
    position = Position.start(env, 0)
    episodes = []
    for _ in range(40):
        made = env.step(np.ones(3, np.int64))
        made = Step(*(convert(getattr(made, field)) for field in Step.__slots__))
        episodes += position.advance(made)
        assert position.obs is made.obs
    expected, dummies = [], 0
    for n in range(3):
        ticks = 0
        for episode in range(20):
            length = 3 + (2 * n + 3 * episode) % 7
            ticks += length
            if ticks <= 40:
                expected.append(length)
            dummies += ticks + 1 <= 40
            ticks += 1
    assert sorted(episode.length for episode in episodes) == sorted(expected)
    assert position.step == 3 * 40 - dummies


def test_a_loaded_position_goes_on_exactly_and_owns_its_arrays():
    env = ClockEnv(2)
    position = Position.start(env, 0)
    for _ in range(4):
        position.advance(env.step(np.zeros(2, np.int64)))
    state = copy.deepcopy(position.state_dict())
    kept = copy.deepcopy(state)
    other = Position.start(ClockEnv(2), 1)
    other.load_state_dict(state)
    for _ in range(5):
        made = env.step(np.zeros(2, np.int64))
        assert other.advance(made) == position.advance(made)
    assert other.step == position.step == 18
    for key in ("returns", "lengths", "obs"):
        np.testing.assert_array_equal(state[key], kept[key])
