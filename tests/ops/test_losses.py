"""Losses against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from agents.ops.losses import (
    adapted_rate,
    advantage_weight,
    contrastive_loss,
    divergence,
    expectile_loss,
    mean,
    normalized,
    ppo_policy_loss,
    value_loss,
)


def policy_loss(ratios, advantages, clip_range=0.2, **options):
    """Return PPO's loss for these probability ratios, and its gradient by the log-probabilities."""
    old = torch.linspace(-1, 0, len(ratios))
    log_prob = (old + torch.tensor(ratios).log()).requires_grad_()
    loss = ppo_policy_loss(log_prob - old, torch.tensor(advantages), clip_range, **options)
    loss.backward()
    return loss.item(), log_prob.grad.tolist()


def moved(ratios, clip_range=0.2):
    """Return how far these probability ratios say that a policy moved."""
    return divergence(torch.tensor(ratios).log(), clip_range)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "moves"),
    [
        (1.0, 3.0, 3.0, True),
        (1.1, 2.0, 2.2, True),
        (1.5, 2.0, 2.4, False),  # already more likely than it may become
        (0.5, 2.0, 1.0, True),  # a good action became unlikely: bring it back
        (1.5, -2.0, -3.0, True),  # a bad action became likely: bring it back
        (0.5, -2.0, -1.6, False),
    ],
)
def test_the_clipped_surrogate_takes_the_worse_of_both(ratio, advantage, objective, moves):
    loss, (gradient,) = policy_loss([ratio], [advantage])
    assert loss == pytest.approx(-objective, rel=1e-5)
    assert gradient == pytest.approx(-ratio * advantage if moves else 0.0, rel=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "moves"),
    [
        (1.4, 2.0, 2.8, True),  # with the same bound on both sides it would have stopped at 1.2
        (1.6, 2.0, 3.0, False),
        (0.5, 2.0, 1.0, True),
        (0.7, -2.0, -1.6, False),
        (0.9, -2.0, -1.8, True),
        (1.6, -2.0, -3.2, True),
    ],
)
def test_a_ratio_may_rise_further_than_it_may_fall(ratio, advantage, objective, moves):
    loss, (gradient,) = policy_loss([ratio], [advantage], clip_range_high=0.5)
    assert loss == pytest.approx(-objective, rel=1e-5)
    assert gradient == pytest.approx(-ratio * advantage if moves else 0.0, rel=1e-5)
    same = policy_loss([ratio], [advantage], clip_range_high=0.2)
    assert same == policy_loss([ratio], [advantage])


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "moves"),
    [
        (2.5, -2.0, -5.0, True),
        (4.0, -2.0, -6.0, False),  # min(r A, clip) is -8, and three times A is the least
        (0.5, -2.0, -1.6, False),
        (4.0, 2.0, 2.4, False),  # a good action's bound is the usual one
        (1.1, 2.0, 2.2, True),
    ],
)
@pytest.mark.parametrize("high", [None, 0.2])
def test_the_loss_of_a_bad_action_that_became_likely_is_bounded(ratio, advantage, objective, moves, high):
    loss, (gradient,) = policy_loss([ratio], [advantage], clip_range_high=high, dual_clip=3.0)
    assert loss == pytest.approx(-objective, rel=1e-5)
    assert gradient == pytest.approx(-ratio * advantage if moves else 0.0, rel=1e-5)


@pytest.mark.parametrize(
    ("rate", "kl", "after"),
    [
        (1e-3, 0.01, 1e-3),
        (1e-3, 0.0201, 1e-3 / 1.5),
        (1e-3, 0.0199, 1e-3),
        (1e-3, 0.0051, 1e-3),
        (1e-3, 0.0049, 1.5e-3),
        (1e-3, 0.0, 1e-3),  # nothing has moved yet
        (1e-3, 1e-11, 1e-3),  # nor here: what rounding makes
        (1e-3, 1e-8, 1.5e-3),
        (1.2e-5, 1.0, 1e-5),
        (9e-3, 0.001, 1e-2),
    ],
)
def test_the_learning_rate_falls_beyond_twice_the_desired_divergence_and_rises_below_half(rate, kl, after):
    assert adapted_rate(torch.tensor(rate), torch.tensor(kl), 0.01).item() == pytest.approx(after, rel=1e-5)


def test_the_policy_loss_is_a_mean():
    loss, _ = policy_loss([1.0, 1.5, 0.5, 1.19], [1.0, 1.0, 1.0, 1.0])
    assert loss == pytest.approx(-(1.0 + 1.2 + 0.5 + 1.19) / 4, rel=1e-5)


def test_the_clip_fraction_counts_ratios_outside():
    assert moved([1.0, 1.5, 0.5, 1.19]).clip_fraction.item() == 0.5
    assert moved([1.0, 1.5, 0.5, 1.19], 0.6).clip_fraction.item() == 0.0
    ratios = torch.tensor([1.0, 1.5, 0.5, 1.19]).log()
    assert divergence(ratios, 0.2, 0.1).clip_fraction.item() == 0.75
    assert divergence(ratios, 0.2, 0.6).clip_fraction.item() == 0.25


def test_kl_is_the_k3_estimator():
    ratios = [0.5, 1.0, 2.0]
    assert moved(ratios).approx_kl.item() == pytest.approx(sum(r - 1 - math.log(r) for r in ratios) / 3, rel=1e-5)
    same = moved([1.0, 1.0])
    assert same.approx_kl.item() == pytest.approx(0.0, abs=1e-7)
    assert same.clip_fraction.item() == 0.0


def test_k3_estimates_the_divergence_of_the_old_policy_from_the_new():
    generator = torch.Generator().manual_seed(0)
    old, new = (torch.tensor(p).log() for p in ([0.5, 0.3, 0.2], [0.4, 0.4, 0.2]))
    action = torch.multinomial(old.exp(), 200_000, replacement=True, generator=generator)
    result = divergence(new[action] - old[action], 0.2)
    assert result.approx_kl.item() == pytest.approx((old.exp() * (old - new)).sum().item(), rel=0.02)


def test_value_loss_is_the_mean_squared_error():
    value, old, target = torch.tensor([1.0, 2.0]), torch.tensor([9.0, 9.0]), torch.tensor([2.0, 5.0])
    assert value_loss(value, old, target, None).item() == (1 + 9) / 2


def test_value_clipping_holds_the_value_near_the_old_one():
    value = torch.tensor([1.1, 3.0, -3.0], requires_grad=True)
    loss = value_loss(value, torch.ones(3), torch.tensor([5.0, 5.0, 5.0]), 0.5)
    assert loss.item() == pytest.approx((3.9**2 + 3.5**2 + 4.5**2) / 3, rel=1e-5)
    loss.backward()
    assert value.grad.tolist() == pytest.approx([2 * -3.9 / 3, 0.0, 0.0], rel=1e-5)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_losses_of_several_heads_are_added(clip):
    value, old, target = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0))
    valid = torch.tensor([True, False, True, True, False, True])
    each = [value_loss(value[:, k], old[:, k], target[:, k], clip) for k in range(2)]
    torch.testing.assert_close(value_loss(value, old, target, clip, heads=True), sum(each))
    each = [value_loss(value[:, k], old[:, k], target[:, k], clip, valid) for k in range(2)]
    torch.testing.assert_close(value_loss(value, old, target, clip, valid, heads=True), sum(each))


def test_normalized_has_mean_0_and_deviation_1():
    result = normalized(torch.tensor([3.0, 7.0, -2.0, 40.0]))
    assert result.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert result.std().item() == pytest.approx(1.0, rel=1e-5)


def test_normalized_leaves_a_single_advantage_alone():
    assert normalized(torch.tensor([-3.0])).tolist() == [-3.0]


def test_normalized_equal_advantages_are_0_and_not_nan():
    assert normalized(torch.full((5,), 2.5)).tolist() == [0.0] * 5


def test_transitions_that_are_not_real_count_for_nothing():
    generator = torch.Generator().manual_seed(0)
    valid = torch.rand(4, 8, generator=generator) < 0.6
    first, second, third = torch.randn(3, 4, 8, generator=generator)
    real = [values[valid] for values in (first, second, third)]
    torch.testing.assert_close(mean(first, valid), real[0].mean())
    torch.testing.assert_close(normalized(first, valid)[valid], normalized(real[0]))
    torch.testing.assert_close(ppo_policy_loss(first, second, 0.2, valid), ppo_policy_loss(real[0], real[1], 0.2))
    for clip in (None, 0.3):
        expected = value_loss(*real, clip)
        torch.testing.assert_close(value_loss(first, second, third, clip, valid), expected)
        assert not expected.equal(value_loss(first, second, third, clip))
    for hollow in (math.inf, math.nan):
        said = torch.where(valid, first, hollow).requires_grad_()
        mean(said, valid).backward()
        torch.testing.assert_close(mean(said, valid), real[0].mean())
        torch.testing.assert_close(normalized(said, valid)[valid], normalized(real[0]))
        torch.testing.assert_close(said.grad, valid / valid.sum())
    one = torch.zeros_like(valid)
    one[2, 3] = True
    assert normalized(first, one)[one].equal(first[one])
    nothing = torch.zeros_like(valid)
    assert mean(first, nothing).item() == 0.0
    assert normalized(first, nothing).isfinite().all()


@pytest.mark.parametrize(
    ("error", "expectile", "loss"), [(2.0, 0.7, 2.8), (-2.0, 0.7, 1.2), (3.0, 0.5, 4.5), (-3.0, 0.5, 4.5)]
)
def test_the_expectile_loss_weighs_errors_by_their_sign(error, expectile, loss):
    assert expectile_loss(torch.tensor([error]), expectile).item() == pytest.approx(loss)


@pytest.mark.parametrize("expectile", [0.2, 0.5, 0.9])
def test_its_minimum_is_the_expectile(expectile):
    """The expectile m of 0 and 1, each half of the time, solves e (1 - m) = (1 - e) m."""
    grid = torch.linspace(0, 1, 1001)
    total = expectile_loss(0 - grid, expectile) + expectile_loss(1 - grid, expectile)
    assert grid[total.argmin()].item() == pytest.approx(expectile, abs=1e-3)


def test_the_weight_of_an_action_rises_with_its_advantage_up_to_a_bound():
    advantage = torch.tensor([-1.0, 0.0, math.log(2.0), 1e4])
    assert advantage_weight(advantage, 2.0, 50.0).tolist() == pytest.approx([math.exp(-2), 1.0, 4.0, 50.0])
    assert advantage_weight(advantage, 0.0, 50.0).tolist() == [1.0] * 4


def test_a_query_is_told_to_belong_to_its_own_key():
    query, key = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    own, other = [3.0, 2.0], [1.0, 0.0]  # products with the key of the same row, and with that of the other one
    expected = [math.log(1 + math.exp(b - a)) for a, b in zip(own, other, strict=True)]
    assert contrastive_loss(query, key).tolist() == pytest.approx(expected, abs=1e-6)
    assert contrastive_loss(torch.zeros(5, 2), torch.randn(5, 2)).tolist() == pytest.approx([math.log(5)] * 5)
