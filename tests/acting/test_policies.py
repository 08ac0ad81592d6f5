"""Policies: which observation a transition is judged by, and when the model is asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.acting.numpy_inference import NumpyForward
from agents.acting.policies import ActorCriticPolicy
from agents.algos.dqn.config import DQNConfig
from agents.data.trajectory import Final, Trajectory
from agents.ops.exploration import random_action
from tests.fakes import ClockEnv, training_on

T, N = 6, 3


class Reads:
    """Stands in for a model: the value of an observation is the number it holds."""

    recurrent, action_space = False, spaces.Discrete(3)

    def value(self, obs, carry=()):
        return (obs["mode"].float() if isinstance(obs, dict) else obs)[..., 0]

    def __call__(self, obs, carry=(), start=None):
        return SimpleNamespace(
            distribution=SimpleNamespace(log_prob=lambda action: action * 0.0), value=self.value(obs)
        )


def trajectory(as_dict, ends=(), **options):
    """Return one whose observations are 10 t + n; what follows it is 10 T + n."""
    obs = (10 * torch.arange(T)[:, None] + torch.arange(N)).float()[..., None]
    last = (10.0 * T + torch.arange(N))[:, None]
    no = torch.zeros(T, N, dtype=torch.bool)
    truncated = no.clone()
    for place in ends:
        truncated[place] = True
    zero = torch.zeros(T, N)
    obs, last = placed(obs, as_dict), placed(last, as_dict)
    return Trajectory(obs, zero.long(), zero, no, truncated, no, (), last, (), **options)


def placed(obs, as_dict):
    return {"place": torch.zeros_like(obs), "mode": obs.long()} if as_dict else obs


EXPECTED = (10 * torch.arange(1, T + 1)[:, None] + torch.arange(N)).float()
ENDS = [(0, 2), (3, 0), (3, 1), (T - 1, 1)]


@pytest.mark.parametrize("as_dict", [False, True])
def test_the_next_value_is_that_of_the_observation_that_follows(as_dict):
    _, value, next_value = ActorCriticPolicy(Reads()).evaluate(trajectory(as_dict))
    assert value.equal(EXPECTED - 10)
    assert next_value.equal(EXPECTED)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("as_dict", [False, True])
def test_where_an_episode_was_truncated_it_is_that_of_its_final_observation(as_dict, every):
    """Whether the trajectory has only those, or every successor."""
    own = torch.arange(-1.0, -5.0, -1.0)[:, None]
    t, n = (torch.tensor(column) for column in zip(*ENDS, strict=True))
    if every:
        next_obs = EXPECTED[..., None].clone()
        next_obs[t, n] = own
        kept = trajectory(as_dict, ENDS, next_obs=placed(next_obs, as_dict))
    else:
        kept = trajectory(as_dict, ENDS, final=Final(t, n, placed(own, as_dict), ()))
    _, value, next_value = ActorCriticPolicy(Reads()).evaluate(kept)
    expected = EXPECTED.clone()
    for number, place in enumerate(ENDS):
        expected[place] = -1.0 - number
    assert next_value.equal(expected)
    assert value.equal(EXPECTED - 10), "the observations that were acted on stay as they are"


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_a_tick_of_nothing_but_exploration_asks_no_model(monkeypatch, activation):
    params = DQNConfig(n_envs=2, net_arch=(8,), activation=activation, exploration_initial_eps=0.7)
    training = training_on(ClockEnv(2), params)
    policy, model, asked, noises = training.policy, training.algorithm.model, [], []
    assert isinstance(policy._quickest(), NumpyForward) == (activation == "tanh"), "both ways to compute are tried"
    forward, act, draw = NumpyForward.__call__, model.act, policy.draw_noise
    if activation == "tanh":
        monkeypatch.setattr(
            NumpyForward, "__call__", lambda self, obs, *_: asked.append(obs.copy()) or forward(self, obs)
        )
    else:
        model.act = lambda obs, carry: asked.append(obs.clone()) or act(obs, carry)
    monkeypatch.setattr(policy, "draw_noise", lambda *given: noises.append(draw(*given)) or noises[-1])
    trajectory = training.collector.collect(60).trajectory
    explore, uniform = noises[0]
    every = explore.all(dim=1)
    assert 10 < every.sum() < 50
    assert len(asked) == (~every).sum()
    np.testing.assert_array_equal(np.stack(asked), trajectory.obs[~every])
    assert trajectory.action[explore].equal(random_action(uniform, model.n_actions)[explore])
    with torch.no_grad():
        greedy = model.output(trajectory.obs.flatten(0, 1), ()).q.argmax(1).view(60, 2)
    assert trajectory.action[~explore].equal(greedy[~explore])
