"""Each fault is refused or made good by its rule, and counted; what has no fault stays as it is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.adapters.cleaning import CONSTANT, Cleaner, Cleaning, CleanVecEnv, reader
from envs.adapters.observing import Observing
from envs.adapters.vector import adapt
from envs.errors import EnvError, UserError
from envs.make import make
from envs.spaces import BadData
from tests.fakes import ClockEnv
from tests.marks import long_test

FAULTY = f"{Path(__file__).with_name('faulty_env.py')}:Faulty"
BOX = spaces.Box(np.array([-1, 0, -np.inf], np.float32), np.array([1, 4, np.inf], np.float32))
BOUNDED = spaces.Box(-2, 2, (3,))
NAN, INF = np.nan, np.inf


def clean(space, rules, rows, last=None):
    cleaner = Cleaner(space, Cleaning(**rules))
    x = np.array(rows, np.float32)
    before = x.copy()
    obs, counts = cleaner.clean(x, cleaner.starts(len(x)) if last is None else {"": np.array(last, np.float32)})
    np.testing.assert_array_equal(x, before)
    return obs.tolist(), dict(counts)


def test_what_has_no_fault_stays_as_it_is():
    rules = {"on_nan": "fill", "on_inf": "fill", "on_bounds": "clip", "on_missing": "fill"}
    rows = [[-1, 4, 1e30], [0.5, 0, -1e30]]
    assert clean(BOX, rules, rows) == (np.array(rows, np.float32).tolist(), {})


def test_nan_is_filled_with_the_last_value_or_the_middle_of_the_bounds():
    rows, last = [[NAN, 1, NAN], [0, NAN, 5]], [[0.25, 3, 7], [1, 2, 3]]
    assert clean(BOX, {"on_nan": "fill"}, rows, last) == ([[0.25, 1, 7], [0, 2, 5]], {"nan": 3})
    assert clean(BOX, {"on_nan": "fill"}, rows) == ([[0, 1, 0], [0, 2, 5]], {"nan": 3})


def test_where_bounds_leave_0_out_on_one_side_the_fill_is_within():
    space = spaces.Box(np.array([3], np.float32), np.array([INF], np.float32))
    assert clean(space, {"on_nan": "fill"}, [[NAN]]) == ([[3.0]], {"nan": 1})


def test_infinity_is_clipped_or_filled():
    rows = [[INF, -INF, 0]]
    assert clean(BOUNDED, {"on_inf": "clip"}, rows) == ([[2, -2, 0]], {"inf": 2})
    assert clean(BOUNDED, {"on_inf": "fill"}, rows, [[1, 1.5, 1]]) == ([[1, 1.5, 0]], {"inf": 2})


def test_numbers_outside_their_bounds():
    rows = [[3, -2.5, 1]]
    assert clean(BOUNDED, {"on_nan": "fill"}, rows) == (rows, {})
    assert clean(BOUNDED, {"on_bounds": "clip"}, rows) == ([[2, -2, 1]], {"bounds": 2})
    assert clean(BOUNDED, {"on_bounds": "fill"}, rows, [[1, 1.5, 0]]) == ([[1, 1.5, 1]], {"bounds": 2})


@pytest.mark.parametrize(
    ("rules", "value", "message"),
    [
        ({"on_inf": "clip"}, NAN, r"observation\[1\] is nan: NaN \(--on-nan\)"),
        ({"on_nan": "fill"}, INF, r"observation\[1\] is inf: infinite \(--on-inf\)"),
        ({"on_bounds": "refuse"}, 9, r"observation\[1\] is 9.0: outside its bounds \(--on-bounds\)"),
    ],
)
def test_a_fault_without_a_rule_is_refused(rules, value, message):
    with pytest.raises(BadData, match=message) as caught:
        clean(BOUNDED, rules, [[0, 0, 0], [0, value, 0]])
    assert caught.value.row == 1


def test_infinity_cannot_be_clipped_to_infinite_bounds():
    with pytest.raises(UserError, match=r"on_inf clip .* declare finite ones, or use fill"):
        Cleaner(BOX, Cleaning(on_inf="clip"))


@pytest.mark.parametrize("vec", ["sync", "async"])
def test_environments_show_what_was_made_good_and_it_is_counted(vec):
    rules = Cleaning(on_nan="fill", on_missing="fill")
    with closing(make(FAULTY, 2, vec=vec, cleaning=rules)) as env:
        obs = env.reset(0)
        assert obs["x"].tolist() == [[0, 5], [0, 5]]
        assert obs["y"].tolist() == [[0], [0]]  # missing: nothing came before
        for t in range(1, 5):
            step = env.step(np.array([0, 0]))
            assert np.isfinite(step.next_obs["x"]).all()
            if t == 4:  # the episode ends, and the next one begins
                assert step.truncated.all()
                assert step.obs["y"].tolist() == [[0], [0]]
            # x is NaN at even steps and y missing at steps 0 and 3
            assert step.next_obs["x"][:, 0].tolist() == [t if t % 2 else t - 1] * 2
            assert step.next_obs["y"][:, 0].tolist() == [10 + t if t != 3 else 12] * 2
        # per environment: NaN at steps 0, 2, 4 and at the reset, missing at 0, 3 and at the reset
        assert dict(env.counts) == {"nan": 8, "missing": 6}


class Foggy(ClockEnv):
    """A clock whose environment 1 never says where it is."""

    def _obs(self):
        seen = super()._obs()
        seen[1, 0] = np.nan
        return seen


def test_a_fault_is_counted_once_whoever_begins_an_episode():
    env, begun = CleanVecEnv(Foggy(3), Cleaning(on_nan="fill")), np.zeros(3, int)
    env.reset(0)
    for _ in range(10):
        step = env.step(np.zeros(3, int))
        begun += step.terminated | step.truncated
    assert begun.tolist() == [2, 1, 2], "not all begin together"
    assert dict(env.counts) == {"nan": 10 + 1 + 1}  # of each step, of the reset and of the episode that began


def test_without_rules_a_run_is_refused_as_ever():
    nan = {"cleaning": Cleaning(on_nan="fill")}
    with closing(make(FAULTY, 2, vec="sync", **nan)) as env, pytest.raises(EnvError, match="'y' is missing"):
        env.reset(0)
    with closing(make(FAULTY, 2, vec="sync", env_kwargs={"whole": True})) as env:
        env.reset(0)
        env.step(np.array([0, 0]))
        with pytest.raises(EnvError, match="'x' contains NaN"):
            env.step(np.array([0, 0]))


@pytest.mark.parametrize("vec", ["sync", pytest.param("async", marks=long_test)])
def test_a_saved_position_holds_what_filling_takes(vec):
    how = {"num_envs": 2, "vec": vec, "cleaning": Cleaning(on_nan="fill", on_missing="fill"), "frame_stack": 2}
    with closing(make(FAULTY, **how)) as env, closing(make(FAULTY, **how)) as other:
        env.reset(1)
        env.step(np.array([0, 1]))
        other.reset(2)
        assert other.load_state_dict(env.state_dict()) == []
        for _ in range(6):
            one, two = (each.step(np.array([1, 0])) for each in (env, other))
            for key in one.obs:
                np.testing.assert_array_equal(one.obs[key], two.obs[key])
        assert env.env.counts == other.env.counts
        state = env.state_dict()
        with pytest.raises(UserError, match="no faults' counts"):
            other.load_state_dict({**state, "env": {**state["env"], "counts": {"nan": -1}}})


def test_a_number_that_never_changes_is_refused_on_demand():
    how = {"num_envs": 2, "vec": "sync", "env_kwargs": {"whole": True}}
    rules = {"on_nan": "fill", "on_missing": "fill"}
    with closing(make(FAULTY, **how, cleaning=Cleaning(**rules, on_constant="refuse"))) as env:
        env.reset(0)
        for _ in range(CONSTANT):
            env.step(np.array([0, 1]))
        with pytest.raises(EnvError, match=rf"'x'\[1\] has not changed for {CONSTANT:,} steps in any"):
            env.step(np.array([0, 1]))


def test_a_caller_who_brings_observations_sees_what_environments_show():
    how = {"frame_stack": 3, "cleaning": Cleaning(on_nan="fill", on_missing="fill")}
    with (
        closing(make(FAULTY, 2, vec="sync", **how)) as env,
        closing(make(FAULTY, 2, vec="sync", cleaning=how["cleaning"])) as plain,
    ):
        observing = Observing(plain.observation_space, **how)
        wanted, seen = env.reset(0), plain.env.reset(0)
        obs, kept = observing(seen, None, None)
        start = None
        for _ in range(9):
            for key, leaf in wanted.items():
                np.testing.assert_array_equal(obs[key], leaf)
            step, raw = env.step(np.array([0, 1])), plain.env.step(np.array([0, 1]))
            wanted, start = step.obs, step.terminated | step.truncated
            obs, kept = observing(raw.obs, kept, start)


class NanEnds(gymnasium.Env):
    """NaN in the first and the last observation of its episodes of three steps."""

    observation_space, action_space = BOUNDED, spaces.Discrete(2)

    def _seen(self):
        return np.array([0, 0, NAN if self.t in (0, 3) else 1], np.float32)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._seen(), {}

    def step(self, action):
        self.t += 1
        return self._seen(), 1.0, self.t == 3, False, {}


@pytest.mark.parametrize(("mode", "ticks"), [("SAME_STEP", 6), ("NEXT_STEP", 8), ("DISABLED", 6)])
def test_each_fault_is_counted_once_whenever_a_reset_comes(mode, ticks):
    rules = Cleaning(on_nan="fill")
    vector = SyncVectorEnv([NanEnds], autoreset_mode=AutoresetMode[mode])
    env = CleanVecEnv(adapt(vector, codec=reader(rules)), rules)
    env.reset(0)
    for _ in range(ticks):
        env.step(np.zeros(1, np.int64))
    assert env.counts == {"nan": 5}  # three first observations and two last ones
