"""gSDE: noise that is a matrix times features, beside its analytic variance."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import distributions as reference

from agents.ops.distributions import Gaussian, SquashedGaussian
from agents.ops.gsde import exploration_matrices, smooth_gaussian, smooth_log_std

F, D, DRAWS = 4, 2, 40_000


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def policy(rows, kind=Gaussian, latent=None, **options):
    latent = numbers(rows, F, seed=1) if latent is None else latent
    parameters = torch.cat([numbers(rows, D), latent], dim=-1)
    return kind(*smooth_gaussian(parameters, 0.3 * numbers(F, D, seed=2) - 0.5, **options))


def test_the_deviation_is_that_of_many_matrices():
    one = policy(1)
    latent, std = one.smooth
    matrices = exploration_matrices((DRAWS,), (F, D), -1, torch.Generator().manual_seed(0))
    many = Gaussian(one.mean.expand(DRAWS, -1), one.log_std, (latent.expand(DRAWS, -1), std))
    noise = many.sample(matrices) - many.mean
    for axis in range(D):
        deviation = one.log_std[0, axis].exp().item()
        assert deviation == pytest.approx(math.sqrt((latent[0] ** 2 * std[:, axis] ** 2).sum() + 1e-6), rel=1e-5)
        assert scipy.stats.kstest(noise[:, axis].numpy(), "norm", args=(0, deviation)).pvalue > 1e-3
    assert noise.T.corrcoef()[0, 1].abs() < 5 / math.sqrt(DRAWS), "each number of an action has weights of its own"


def test_one_matrix_gives_a_state_one_noise_and_near_states_near_ones():
    near = torch.stack([torch.ones(F), torch.ones(F), 1.01 * torch.ones(F), -torch.ones(F)])
    ours = policy(4, latent=near)
    matrix = exploration_matrices((1,), (F, D), -1, torch.Generator().manual_seed(0)).expand(4, -1, -1)
    noise = ours.sample(matrix) - ours.mean
    torch.testing.assert_close(noise[0], noise[1])
    torch.testing.assert_close(noise[2], 1.01 * noise[0])
    torch.testing.assert_close(noise[3], -noise[0])


@pytest.mark.parametrize("kind", [Gaussian, SquashedGaussian])
def test_densities_and_entropies_are_those_of_a_gaussian_with_that_deviation(kind):
    ours = policy(6, kind)
    plain = kind(ours.mean, ours.log_std)
    action = numbers(6, D, seed=3)
    torch.testing.assert_close(ours.log_prob(action), plain.log_prob(action))
    torch.testing.assert_close(ours.entropy(action), plain.entropy(action))
    if kind is Gaussian:
        theirs = reference.Independent(reference.Normal(ours.mean, ours.log_std.exp()), 1)
        torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    else:
        drawn, log_prob = ours.draw(action)
        torch.testing.assert_close(drawn, (ours.mean + ours.log_std.exp() * action).tanh())
        torch.testing.assert_close(log_prob, ours.log_prob(ours.mean + ours.log_std.exp() * action))


def test_the_deviation_has_the_gradient_of_its_formula():
    latent, log_std = numbers(3, F).double(), numbers(F, D, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda weights: smooth_log_std(latent, weights), log_std)


def test_means_may_be_clipped():
    assert policy(50, most=0.5).mode().abs().max() == 0.5
    assert policy(50).mode().abs().max() > 1


@pytest.mark.parametrize(("every", "blocks"), [(-1, [7]), (0, [7]), (3, [3, 3, 1]), (1, [1] * 7), (9, [7])])
def test_matrices_are_held_for_so_many_ticks(every, blocks):
    drawn = exploration_matrices((7, 2), (F, D), every, torch.Generator().manual_seed(0))
    assert drawn.shape == (7, 2, F, D)
    parts = drawn.split(blocks)
    for part in parts:
        assert (part == part[:1]).all()
    assert len({part[0, 0, 0, 0].item() for part in parts}) == len(blocks), "and then they are others"
    assert not drawn[:, 0].equal(drawn[:, 1]), "each environment has its own"
    assert exploration_matrices((2,), (F, D), every, torch.Generator().manual_seed(0)).shape == (2, F, D)


def test_log_probabilities_are_those_of_stable_baselines3():
    sb3 = pytest.importorskip("stable_baselines3.common.distributions")
    theirs = sb3.StateDependentNoiseDistribution(D)
    _, log_std = theirs.proba_distribution_net(F, log_std_init=-0.7)
    mean, latent, action = numbers(5, D), numbers(5, F, seed=1), numbers(5, D, seed=2)
    theirs.proba_distribution(mean, log_std, latent)
    ours = Gaussian(*smooth_gaussian(torch.cat([mean, latent], dim=-1), log_std))
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(action), theirs.entropy())
