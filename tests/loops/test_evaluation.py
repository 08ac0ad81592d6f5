"""Evaluation: quotas, raw rewards, dummy transitions, and streams of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.loops.evaluation import evaluate
from envs.api import Step
from envs.errors import UserError


class Scripted:
    """N environments whose episodes have the lengths `lengths(env, episode)` and give the reward 0.1 a step.

    With `dummies`, each end is followed by the transition that a NEXT_STEP autoreset makes, worth 1000.
    """

    device, backend, capturable = "cpu", "sync", False
    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def __init__(self, num_envs: int, lengths, dummies: bool = False) -> None:
        self.num_envs, self.lengths, self.dummies = num_envs, lengths, dummies
        self.actions: list[np.ndarray] = []

    def reset(self, seed: int) -> np.ndarray:
        self.seed = seed
        self.episode = np.zeros(self.num_envs, int)
        self.t = np.zeros(self.num_envs, int)
        self.resetting = np.zeros(self.num_envs, bool)
        return np.zeros((self.num_envs, 1), np.float32)

    def step(self, action: np.ndarray) -> Step:
        self.actions.append(action)
        dummy = self.resetting
        self.t += ~dummy
        ends = np.array([self.lengths(i, self.episode[i]) for i in range(self.num_envs)])
        done = ~dummy & (self.t >= ends)
        terminated = done & (self.episode % 2 == 0)
        reward = np.where(dummy, 1000.0, 0.1).astype(np.float32)
        self.episode += done
        self.t[done] = 0
        self.resetting = done if self.dummies else np.zeros_like(done)
        obs = np.zeros((self.num_envs, 1), np.float32)
        return Step(obs, reward, terminated, done & ~terminated, obs, ~dummy if self.dummies else None)


class Coin:
    """Acts 0, or when it samples 0 or 1."""

    device = torch.device("cpu")

    def predict(self, obs, deterministic=True, generator=None):
        if deterministic:
            return torch.zeros(len(obs), dtype=torch.int64)
        return torch.randint(2, (len(obs),), generator=generator)

    def inspect(self, obs):
        return {}


def test_each_environment_plays_its_quota_and_short_episodes_are_not_favoured():
    # Environment 0 ends after 2 steps, always; the others after 50. The first 8 to finish would all be short.
    env = Scripted(4, lambda i, episode: 2 if i == 0 else 50)
    result = evaluate(env, Coin(), episodes=8, seed=0)
    assert sorted(result.lengths.tolist()) == [2, 2, *[50] * 6]
    assert len(env.actions) == 100


def test_uneven_quotas_give_the_first_environments_one_more():
    env = Scripted(3, lambda i, episode: 10 * (i + 1) + episode)
    result = evaluate(env, Coin(), episodes=5, seed=0)
    assert sorted(result.lengths.tolist()) == [10, 11, 20, 21, 30]


def test_fewer_episodes_than_environments():
    result = evaluate(Scripted(8, lambda i, episode: i + 1), Coin(), episodes=3, seed=0)
    assert sorted(result.lengths.tolist()) == [1, 2, 3]


def test_returns_are_sums_of_raw_rewards_in_float64():
    result = evaluate(Scripted(2, lambda i, episode: 1000), Coin(), episodes=2, seed=0)
    assert result.returns.dtype == np.float64
    assert result.lengths.dtype == np.int64
    np.testing.assert_allclose(result.returns, 1000 * float(np.float32(0.1)), rtol=1e-12)


@pytest.mark.parametrize("length", [1, 7])
def test_dummy_transitions_count_for_nothing(length):
    plain = evaluate(Scripted(3, lambda i, episode: length + i), Coin(), 7, seed=0)
    dummies = evaluate(Scripted(3, lambda i, episode: length + i, dummies=True), Coin(), 7, seed=0)
    assert sorted(dummies.lengths) == sorted(plain.lengths)
    np.testing.assert_allclose(sorted(dummies.returns), sorted(plain.returns))


def test_sampling_follows_the_seed_and_leaves_the_global_stream_alone():
    def actions(seed: int) -> np.ndarray:
        env = Scripted(4, lambda i, episode: 20)
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
    env = Scripted(2, lambda i, episode: 3)
    evaluate(env, Coin(), 2, seed=1234)
    assert env.seed == 1234
    assert isinstance(env.actions[0], np.ndarray)
    assert env.actions[0].dtype == np.int64


def test_an_environment_that_never_ends_is_refused_by_name():
    env = Scripted(3, lambda i, episode: 10**9 if i == 1 else 2)
    with pytest.raises(UserError, match=r"environment 1 took 500 steps .* time limit"):
        evaluate(env, Coin(), 3, seed=0, step_limit=500)


def test_an_endless_environment_is_noticed_behind_one_that_is_owed_nothing():
    env = Scripted(2, lambda i, episode: 10**9 if episode else (50, 5)[i])
    with pytest.raises(UserError, match="environment 0 took 500 steps"):
        evaluate(env, Coin(), 3, seed=0, step_limit=500)


def test_an_endless_environment_that_is_owed_nothing_does_no_harm():
    env = Scripted(2, lambda i, episode: 10**9 if episode else 100 * (i + 1))
    assert sorted(evaluate(env, Coin(), 2, seed=0, step_limit=150 + 51).lengths) == [100, 200]


@pytest.mark.parametrize("episodes", [0, -3])
def test_no_episodes_are_refused(episodes):
    with pytest.raises(UserError, match="at least 1 episode"):
        evaluate(Scripted(1, lambda i, episode: 1), Coin(), episodes, seed=0)
