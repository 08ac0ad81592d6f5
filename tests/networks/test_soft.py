"""Critics side by side are as many networks; what is frozen gets no gradient; batch normalisation is PyTorch's."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from agents.core.config import SoftActorCriticConfig
from agents.networks.layers import BatchNorm, Ensemble
from agents.networks.soft import Critics, SoftActorCritic
from agents.run.build import flops

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
BOX = spaces.Box(-1, 1, (2,), np.float32)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def critics(**options):
    torch.manual_seed(0)
    return Critics(VECTOR, 2, SoftActorCriticConfig(net_arch=(8, 7), **options))


def test_each_critic_is_a_network_of_its_own():
    made = critics(n_critics=3)
    obs, action = drawn(5, 3), drawn(5, 2, seed=1)
    found = made(obs, action)
    assert found.shape == (3, 5, 1)
    for member in range(3):
        x = torch.cat([obs, action], 1)
        for i, layer in enumerate(made.layers):
            x = torch.relu(x) if i else x
            x = x @ layer.weight[member] + layer.bias[member, 0]
        torch.testing.assert_close(found[member], x)
    assert not torch.allclose(found[0], found[1])


def test_the_work_of_training_is_that_of_all_networks():
    model = SoftActorCritic(VECTOR, BOX, SoftActorCriticConfig(net_arch=(8, 7)), None)
    policy, critic = 3 * 8 + 8 * 7 + 7 * 4, (3 + 2) * 8 + 8 * 7 + 7
    assert flops(model, VECTOR) == policy
    assert flops(model, VECTOR, training=True) == policy + 2 * critic


def test_the_first_weights_are_spread_as_those_of_linear_layers():
    torch.manual_seed(0)
    ours, theirs = Ensemble(2, 100, 300), nn.Linear(100, 300)
    for mine, other in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        torch.testing.assert_close(mine.std(), other.std(), rtol=0.1, atol=0)
        assert mine.abs().max() <= 0.1


def test_frozen_critics_hand_the_gradient_on_to_actions_alone():
    for options in ({}, {"batch_norm": True}):
        made = critics(**options)
        obs = drawn(5, 3)
        action = drawn(5, 2, seed=1).requires_grad_()
        made(obs, action).sum().backward()
        through, action.grad = action.grad.clone(), None
        assert all(parameter.grad is not None for parameter in made.parameters())
        made.zero_grad()
        made(obs, action, frozen=True).sum().backward()
        torch.testing.assert_close(action.grad, through)
        assert through.any()
        assert all(parameter.grad is None for parameter in made.parameters())


def test_a_batch_is_normalised_as_by_pytorch():
    ours, theirs = BatchNorm(4, momentum=0.1), nn.BatchNorm1d(4, eps=1e-3, momentum=0.1)
    with torch.no_grad():
        for each in (ours, theirs):
            each.weight.copy_(torch.arange(4) + 1.0)
            each.bias.copy_(torch.arange(4) - 1.0)
    for seed in range(3):
        x = 3 * drawn(16, 4, seed=seed) + 2
        torch.testing.assert_close(ours(x, batch=True), theirs(x))
        ours.update(x)
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.var, theirs.running_var)
    torch.testing.assert_close(ours(x, batch=False), theirs.eval()(x))


def test_critics_normalise_each_members_layers_by_statistics_of_its_own():
    made = critics(batch_norm=True)
    obs, action = drawn(64, 3), drawn(64, 2, seed=1)
    assert [norm.mean.shape for norm in made.norms] == [(5,), (2, 1, 8), (2, 1, 7)]
    before = made(obs, action, batch=True)
    assert not any(norm.mean.any() for norm in made.norms), "only `learn` changes them"
    for _ in range(1_000):
        made(obs, action, batch=True, learn=True)
    torch.testing.assert_close(made(obs, action), before, rtol=0.1, atol=0.05)  # one variance is of a sample


def test_critics_share_the_policys_statistics_and_nothing_else():
    made = SoftActorCritic(VECTOR, BOX, SoftActorCriticConfig(net_arch=(8,), norm_obs=True), 0.5)
    made.update_statistics(5 + drawn(32, 3))
    assert made.encoder.leaves[0].norm is made.critics.encoder.leaves[0].norm
    assert made.encoder.leaves[0].norm.count == 32
    assert made.log_ent_coef.exp().item() == 0.5
    names = [name for name, _ in made.named_parameters()]
    assert len(names) == 1 + 4 + 4
