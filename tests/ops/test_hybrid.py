"""Distributions of actions of several parts: log-probabilities and entropies are the parts' sums."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from gymnasium import spaces
from torch import distributions as reference

from agents.core.config import ActorCriticConfig
from agents.networks.models import ActorCritic
from agents.ops.distributions import Joint, deviation_count, distribution, draw_noise, parameter_count
from envs.actions import Hybrid, choices

SPACE = Hybrid(
    {
        "aim": spaces.Box(-1, 1, (2,)),
        "go": spaces.Discrete(3),
        "keys": spaces.MultiBinary(2),
        "lift": spaces.Box(0, 1, (1,)),
        "pick": spaces.MultiDiscrete([2, 2]),
    }
)
WHOLE = Hybrid({name: SPACE.parts[name] for name in ("go", "keys", "pick")})
B = 5
MASK = torch.tensor([True, False, True, True, True, False, True]).expand(B, -1)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def policy(squash=False, mask=None, space=SPACE):
    log_std = numbers(deviation_count(space), seed=1) * 0.3
    return distribution(space, numbers(B, parameter_count(space)), log_std, squash, mask)


def test_what_is_counted():
    assert parameter_count(SPACE) == 2 + 3 + 2 + 1 + 4
    assert deviation_count(SPACE) == 3
    assert choices(SPACE) == [3, 2, 2]
    assert [deviation_count(part) for part in SPACE.parts.values()] == [2, 0, 0, 1, 0]


def test_log_probabilities_and_entropies_add_up():
    ours, parameters, log_std = policy(), numbers(B, 12), numbers(3, seed=1) * 0.3
    aim, go, keys, lift, pick = parameters.split([2, 3, 2, 1, 4], dim=-1)
    theirs = [
        reference.Independent(reference.Normal(aim, log_std[:2].exp()), 1),
        reference.Categorical(logits=go),
        reference.Independent(reference.Bernoulli(logits=keys), 1),
        reference.Independent(reference.Normal(lift, log_std[2:].exp()), 1),
        reference.Categorical(logits=pick[:, :2]),
        reference.Categorical(logits=pick[:, 2:]),
    ]
    action = ours.sample(draw_noise(SPACE, (B,), torch.Generator().manual_seed(2), torch.device("cpu")))
    assert (action.dtype, action.shape) == (torch.float32, (B, 8))
    taken = [action[:, :2], action[:, 2], action[:, 3:5], action[:, 5:6], action[:, 6], action[:, 7]]
    expected = sum(part.log_prob(column) for part, column in zip(theirs, taken, strict=True))
    torch.testing.assert_close(ours.log_prob(action), expected)
    torch.testing.assert_close(ours.entropy(action), sum(part.entropy() for part in theirs))
    assert ours.describe()["probabilities"].shape == (B, 9)
    torch.testing.assert_close(ours.describe()["mean"], torch.cat([aim, lift], -1))


@pytest.mark.parametrize("mask", [None, MASK])
def test_over_all_actions_probabilities_are_1_and_illegal_ones_0(mask):
    ours = policy(mask=mask, space=WHOLE)
    every = torch.tensor([*itertools.product(range(3), (0, 1), (0, 1), (0, 1), (0, 1))], dtype=torch.float32)
    log_p = torch.stack([ours.log_prob(row.expand(B, -1)) for row in every], dim=-1)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(B))
    torch.testing.assert_close(ours.entropy(every[:B]), -(log_p.exp() * log_p.clamp(min=-200)).sum(-1))
    if mask is not None:
        illegal = (every[:, 0] == 1) | (every[:, 4] == 0)
        assert (log_p[:, illegal].exp() == 0).all()
        action = ours.sample(draw_noise(WHOLE, (B,), None, torch.device("cpu")))
        assert torch.isin(action[:, 0], torch.tensor([0.0, 2.0])).all()


def test_samples_have_the_odds_of_each_part():
    draws = 20_000
    parameters, log_std = numbers(1, 12).expand(draws, -1), torch.zeros(3)
    ours = distribution(SPACE, parameters, log_std, mask=MASK[:1].expand(draws, -1))
    noise = draw_noise(SPACE, (draws,), torch.Generator().manual_seed(0), torch.device("cpu"))
    action, tolerance = ours.sample(noise), 4 * 0.5 / math.sqrt(draws)
    go = parameters[0, 2:5].exp() * MASK[0, :3]
    for k in range(3):
        assert (action[:, 2] == k).float().mean().item() == pytest.approx((go / go.sum())[k].item(), abs=tolerance)
    keys = parameters[0, 5:7].sigmoid()
    torch.testing.assert_close(action[:, 3:5].mean(0), keys, atol=tolerance, rtol=0)
    torch.testing.assert_close(action[:, :2].mean(0), parameters[0, :2], atol=8 * tolerance, rtol=0)
    assert (action[:, 7] == 1).all(), "one value of the last choice is legal"
    parts = torch.stack([action[:, 0], action[:, 2], action[:, 3], action[:, 6]])
    assert (parts.corrcoef() - torch.eye(4)).abs().max() < 5 / math.sqrt(draws), "parts are independent"


def test_boxes_are_squashed_and_the_rest_is_not():
    ours = policy(squash=True)
    assert isinstance(ours, Joint)
    action = ours.mode()
    sent = ours.to_env(action)
    torch.testing.assert_close(sent[:, [0, 1, 5]], action[:, [0, 1, 5]].tanh())
    assert sent[:, [2, 3, 4, 6, 7]].equal(action[:, [2, 3, 4, 6, 7]])
    assert sent[:, 2].equal(numbers(B, 12)[:, 2:5].argmax(-1).float())


def test_the_network_may_choose_the_deviations_of_the_boxes():
    torch.manual_seed(0)
    model = ActorCritic(spaces.Box(-1, 1, (4,)), SPACE, ActorCriticConfig(state_dependent_std=True, log_std_init=-1))
    assert model.policy_head.out_features == 12 + 3
    assert model.log_std is None
    described = model(numbers(B, 4)).distribution.describe()
    torch.testing.assert_close(described["std"], torch.full((B, 3), math.exp(-1)), atol=0.02, rtol=0)
    fixed = ActorCritic(spaces.Box(-1, 1, (4,)), SPACE, ActorCriticConfig())
    assert fixed.log_std.shape == (3,)
