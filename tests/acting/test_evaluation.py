"""Evaluation: quotas, raw rewards, dummy transitions, and streams of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.acting.evaluation import evaluate
from agents.core.types import Acted, successes
from envs.errors import UserError
from tests.fakes import ClockEnv


class Coin:
    """Acts 0, or when it samples 0 or 1."""

    device = torch.device("cpu")

    def initial_carry(self, num_envs):
        return ()

    def draw_noise(self, shape, progress, generator):
        assert progress == 1.0, "as at the end of a training"
        return torch.randint(2, shape, generator=generator)

    def actor(self):
        def act(obs, carry, noise):
            action = torch.zeros(len(obs), dtype=torch.int64) if noise is None else noise
            return Acted(action, action, carry)

        return act


class Counts(Coin):
    """Remembers how many steps its episode has taken, and notes it: `[N]` for each call."""

    def __init__(self):
        self.counts = []

    def initial_carry(self, num_envs):
        return torch.zeros(num_envs, dtype=torch.int64)

    def actor(self):
        def act(obs, carry, noise):
            self.counts.append(carry.tolist())
            action = torch.zeros(len(obs), dtype=torch.int64)
            return Acted(action, action, carry + 1)

        return act


def test_each_environment_plays_its_quota_and_short_episodes_are_not_favoured():
    # Environment 0 ends after 2 steps, always; the others after 50. The first 8 to finish would all be short.
    env = ClockEnv(4, lengths=lambda i, episode: 2 if i == 0 else 50)
    result = evaluate(env, Coin(), episodes=8, seed=0)
    assert sorted(result.lengths.tolist()) == [2, 2, *[50] * 6]
    assert len(env.actions) == 100


def test_uneven_quotas_give_the_first_environments_one_more():
    env = ClockEnv(3, lengths=lambda i, episode: 10 * (i + 1) + episode)
    result = evaluate(env, Coin(), episodes=5, seed=0)
    assert sorted(result.lengths.tolist()) == [10, 11, 20, 21, 30]


def test_fewer_episodes_than_environments():
    result = evaluate(ClockEnv(8, lengths=lambda i, episode: i + 1), Coin(), episodes=3, seed=0)
    assert sorted(result.lengths.tolist()) == [1, 2, 3]


def test_returns_are_undiscounted_sums_of_each_episodes_own_rewards():
    """The action 0 is right, and worth 1, at t = 0, 3, 6..."""
    result = evaluate(ClockEnv(3, lengths=lambda i, episode: 1 + i + 4 * episode), Coin(), episodes=9, seed=0)
    np.testing.assert_array_equal(result.returns, np.ceil(result.lengths / 3))
    assert sorted(result.lengths.tolist()) == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert result.returns.dtype == np.float64
    assert result.lengths.dtype == np.int64


@pytest.mark.parametrize("length", [1, 7])
def test_dummy_transitions_count_for_nothing(length):
    plain = evaluate(ClockEnv(3, lengths=lambda i, episode: length + i), Coin(), 7, seed=0)
    dummies = evaluate(ClockEnv(3, lengths=lambda i, episode: length + i, dummies=True), Coin(), 7, seed=0)
    assert sorted(dummies.lengths) == sorted(plain.lengths)
    np.testing.assert_allclose(sorted(dummies.returns), sorted(plain.returns))


def test_sampling_follows_the_seed_and_leaves_the_global_stream_alone():
    def actions(seed: int) -> np.ndarray:
        env = ClockEnv(4, lengths=lambda i, episode: 20)
        evaluate(env, Coin(), 4, seed, deterministic=False)
        return np.stack(env.actions)

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = actions(1)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, actions(1))
    assert (first != actions(2)).any()
    assert set(first.ravel()) == {0, 1}


def test_actions_arrive_as_numpy_and_the_seed_as_given():
    env = ClockEnv(2, lengths=lambda i, episode: 3 + episode)
    assert evaluate(env, Coin(), 2, seed=5).lengths.tolist() == [5, 5]  # a ClockEnv begins with episode seed % 3
    assert isinstance(env.actions[0], np.ndarray)
    assert env.actions[0].dtype == np.int64


@pytest.mark.parametrize("dummies", [False, True])
def test_an_episode_that_does_not_end_is_cut_and_counts_with_its_return_so_far(dummies):
    env = ClockEnv(3, lengths=lambda i, episode: 10**9 if i == 1 else 2, dummies=dummies)
    result = evaluate(env, Coin(), 3, seed=0, step_limit=500)
    assert (result.lengths.tolist(), result.returns.tolist(), result.cut) == ([2, 2, 500], [1, 1, 167], 1)
    assert len(env.actions) == 500


def test_what_is_left_to_play_after_cuts_begins_with_a_reset():
    env = ClockEnv(2, lengths=lambda i, episode: 10**9 if i == 0 else 30)
    policy = Counts()
    result = evaluate(env, policy, 4, seed=0, step_limit=40)
    assert (result.lengths.tolist(), result.cut) == ([30, 40, 30, 40], 2)
    assert len(env.actions) == 60 + 40, "environment 1 is waited for"
    assert [count for count, _ in policy.counts] == [*range(60), *range(40)], "what is remembered begins anew"


def test_after_cuts_other_episodes_are_played(monkeypatch):
    env = ClockEnv(2, lengths=lambda i, episode: 10**9 if i == 0 else 30)
    seeds, reset = [], env.reset
    monkeypatch.setattr(env, "reset", lambda seed: seeds.append(seed) or reset(seed))
    assert evaluate(env, Coin(), 6, seed=5, step_limit=40).cut == 3
    assert seeds[0] == 5
    assert len(set(seeds)) == len(seeds) == 3


def test_after_a_cut_the_next_episode_may_begin_by_itself():
    env = ClockEnv(2, lengths=lambda i, episode: 45 if i else 10 if episode else 60)
    result = evaluate(env, Coin(), 4, seed=0, step_limit=50)
    assert (result.lengths.tolist(), result.cut, len(env.actions)) == ([45, 50, 10, 45], 1, 90)


@pytest.mark.parametrize(("limit", "cut"), [(None, None), (7, 0), (6, 3)])
def test_an_episode_that_ends_at_the_limit_is_not_cut(limit, cut):
    result = evaluate(ClockEnv(3, lengths=lambda i, episode: 7), Coin(), 3, seed=0, step_limit=limit)
    assert result.cut == cut
    assert result.lengths.tolist() == [6 if cut else 7] * 3


def test_every_tick_reports_the_episodes_done():
    told = []
    env = ClockEnv(2, lengths=lambda i, episode: 3 * (i + 1))
    evaluate(env, Coin(), 2, seed=0, report=lambda done, all_of_them: told.append((done, all_of_them)))
    assert told == [(0, 2)] * 2 + [(1, 2)] * 3 + [(2, 2)]


def test_an_endless_environment_that_is_owed_nothing_does_no_harm():
    env = ClockEnv(2, lengths=lambda i, episode: 10**9 if episode else 100 * (i + 1))
    assert sorted(evaluate(env, Coin(), 2, seed=0, step_limit=150 + 51).lengths) == [100, 200]


@pytest.mark.parametrize("episodes", [0, -3])
def test_no_episodes_are_refused(episodes):
    with pytest.raises(UserError, match="at least 1 episode"):
        evaluate(ClockEnv(1, lengths=lambda i, episode: 1), Coin(), episodes, seed=0)


@pytest.mark.parametrize("dummies", [False, True])
def test_what_is_remembered_is_of_the_running_episode(dummies):
    env, policy = ClockEnv(3, dummies=dummies), Counts()
    evaluate(env, policy, 9, seed=0)
    clean = ClockEnv(3, dummies=dummies)
    clean.reset(0)
    expected, steps = [], np.zeros(3, np.int64)
    for action in env.actions:
        expected.append(steps.tolist())
        made = clean.step(action)
        ends = made.terminated | made.truncated | (False if made.valid is None else ~made.valid)
        steps = np.where(ends, 0, steps + 1)
    assert policy.counts == expected
    assert max(map(max, expected)) > 4


@pytest.mark.parametrize("dummies", [False, True])
def test_each_episodes_info_lies_beside_its_length(dummies):
    result = evaluate(ClockEnv(3, dummies=dummies), Coin(), episodes=9, seed=0)
    assert sum(info == {} for info in result.infos) == 3
    told = [info["length"] if info else length for length, info in zip(result.lengths, result.infos, strict=True)]
    assert told == result.lengths.tolist()
    assert sorted(successes(result.infos)) == [0.0] * 2 + [1.0] * 4
