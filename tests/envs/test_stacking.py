"""Stacked observations are the last ones of the same episode, by their index, in every backend."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from envs.adapters.stacking import FrameStack
from envs.errors import UserError
from envs.make import make
from envs.words import Written
from tests.marks import long_test

GRAINS = f"{Path(__file__).with_name('grain_env.py')}:Grains"
CASES = [
    ("Bricks-v0", "native", {}),
    ("CartPole-v1", "sync", {}),
    ("CartPole-v1", "vector", {}),
    (GRAINS, "sync", {}),
    pytest.param(GRAINS, "async", {}, marks=long_test),
    ("Taxi-v4", "sync", {"max_episode_steps": 9}),
]


def rows(obs, i):
    return {key: leaf[i] for key, leaf in obs.items()} if isinstance(obs, dict) else {"": obs[i]}


def expected(history, count):
    """The last `count` of a list of observations of an episode, its first one before that."""
    last = ([history[0]] * count + history)[-count:]
    found = {}
    for key, newest in last[-1].items():
        parts = [np.asarray(one[key]) for one in last]
        if key == "action_mask":
            found[key] = newest
        else:
            found[key] = np.stack(parts) if parts[0].ndim > 1 else np.concatenate([np.atleast_1d(p) for p in parts])
    return found


def assert_same(row, wanted):
    assert row.keys() == wanted.keys()
    for key, value in row.items():
        assert value.dtype == wanted[key].dtype
        np.testing.assert_array_equal(value, wanted[key])


def test_their_numbers_keep_their_names():
    with closing(make("MountainCar-v0", 1, vec="sync", frame_stack=2, render=True)) as env:
        assert env.names.of_leaf("", 4) == ("position -1", "speed -1", "position", "speed")


@pytest.mark.parametrize(("env_id", "vec", "kwargs"), CASES)
@pytest.mark.parametrize("count", [2, 4])
def test_they_are_the_last_ones_of_the_same_episode(env_id, vec, kwargs, count):
    how = {"num_envs": 3, "vec": vec, "env_kwargs": kwargs}
    with closing(make(env_id, **how)) as plain, closing(make(env_id, **how, frame_stack=count)) as stacked:
        space = stacked.observation_space
        histories, ends = [], 0
        seen, obs = plain.reset(5), stacked.reset(5)
        for i in range(3):
            histories.append([rows(seen, i)])
            assert_same(rows(obs, i), expected(histories[i], count))
        rng = np.random.default_rng(0)
        for _ in range(60):
            action = rng.integers(plain.action_space.n, size=3)
            one, step = plain.step(action), stacked.step(action)
            np.testing.assert_array_equal(one.reward, step.reward)
            for i in range(3):
                dummy = one.valid is not None and not one.valid[i]
                ended = one.terminated[i] or one.truncated[i]
                ends += ended
                if not dummy:
                    histories[i].append(rows(one.next_obs, i))
                    assert_same(rows(step.next_obs, i), expected(histories[i], count))
                if dummy or ended:
                    histories[i] = [rows(one.obs, i)]
                assert_same(rows(step.obs, i), expected(histories[i], count))
                assert space.contains(rows(step.obs, i) if isinstance(obs, dict) else step.obs[i])
        assert ends > 3


@pytest.mark.parametrize("vec", ["sync", pytest.param("async", marks=long_test)])
def test_a_saved_position_holds_the_frames(vec):
    with (
        closing(make(GRAINS, 2, vec=vec, frame_stack=4)) as env,
        closing(make(GRAINS, 2, vec=vec, frame_stack=4)) as other,
    ):
        env.reset(1)
        for t in range(5):
            env.step(np.array([t % 2, 1]))
        other.reset(2)
        assert other.load_state_dict(env.state_dict()) == []
        for t in range(9):
            one, two = (each.step(np.array([1, t % 2])) for each in (env, other))
            np.testing.assert_array_equal(one.obs, two.obs)
            np.testing.assert_array_equal(one.next_obs, two.next_obs)
        state = env.state_dict()
        with pytest.raises(UserError, match="does not fit"):
            other.load_state_dict({**state, "kept": [state["kept"][0][:, :2]]})
        with pytest.raises(UserError, match="0 arrays of observations, not 1"):
            other.load_state_dict({**state, "kept": []})


def test_arrays_that_were_handed_out_do_not_change():
    with closing(make(GRAINS, 2, vec="sync", frame_stack=3)) as env:
        given = [env.reset(0)]
        copies = [given[0].copy()]
        for _ in range(8):
            step = env.step(np.array([0, 1]))
            given += [step.obs, step.next_obs]
            copies += [step.obs.copy(), step.next_obs.copy()]
        for array, copy in zip(given, copies, strict=True):
            np.testing.assert_array_equal(array, copy)


def test_each_kind_of_leaf():
    leaves = {
        "colours": spaces.Box(0, 255, (8, 9, 3), np.uint8),
        "grey": spaces.Box(0, 1, (8, 9)),
        "vector": spaces.Box(np.array([-1, -2], np.float32), np.array([1, 2], np.float32)),
        "choice": spaces.Discrete(5),
        "choices": spaces.MultiDiscrete([2, 3]),
        "said": Written(7),
        "action_mask": spaces.Box(0, 1, (4,), np.float32),
    }
    space = FrameStack(spaces.Dict(leaves), 2).space
    assert space["colours"] == spaces.Box(0, 255, (2, 8, 9, 3), np.uint8)
    assert space["grey"] == spaces.Box(0, 1, (2, 8, 9))
    assert space["vector"].high.tolist() == [1, 2, 1, 2]
    assert space["choice"] == spaces.MultiDiscrete([5, 5])
    assert space["choices"] == spaces.MultiDiscrete([2, 3, 2, 3])
    assert space["said"] == Written(7)
    assert space["action_mask"] == leaves["action_mask"]
