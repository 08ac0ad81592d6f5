"""Losses as pure functions of tensors; each returns means over the batch B."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

UNMOVED = 1e-9  # the divergence that rounding alone makes is smaller


class Divergence(NamedTuple):
    """How far a policy has moved from the one that acted; scalars."""

    approx_kl: Tensor
    clip_fraction: Tensor


def mean(values_B: Tensor, valid_B: Tensor | None = None) -> Tensor:
    """Return the mean over the transitions that are real; `valid_B` is False on those that are not, None if all are."""
    if valid_B is None:
        return values_B.mean()
    # chosen, not multiplied: of what is no transition anything may be said, infinity included
    return torch.where(valid_B, values_B, 0).sum() / valid_B.sum().clamp(min=1)


def ppo_policy_loss(
    log_ratio_B: Tensor,
    advantage_B: Tensor,
    clip_range: Tensor | float,
    valid_B: Tensor | None = None,
    clip_range_high: Tensor | float | None = None,
    dual_clip: float | None = None,
) -> Tensor:
    """The clipped surrogate objective (Schulman et al. 2017, arXiv:1707.06347, eq. 7), negated.

    min(r A, clip(r, 1 - c, 1 + c) A) is min(r A, A + c |A|): only one of the two bounds can be the smaller one.

    Args:
        log_ratio_B: log r, the new log-probability of each action minus the one it was drawn with.
        advantage_B: how much better than the state's value each action was.
        clip_range: c.
        valid_B: as in `mean`.
        clip_range_high: how far a ratio may rise, if that is another number than how far it may fall (Yu et al. 2025,
            arXiv:2503.14476, eq. 10).
        dual_clip: a bound for the loss of an action that became likely and was bad: with A < 0 the objective is no less
            than `dual_clip` A (Ye et al. 2020, arXiv:1912.09729, eq. 5); None for none.
    """
    if clip_range_high is None:
        limit_B = advantage_B + clip_range * advantage_B.abs()
    else:
        limit_B = advantage_B + clip_range_high * advantage_B.clamp(min=0) - clip_range * advantage_B.clamp(max=0)
    objective_B = torch.minimum(log_ratio_B.exp() * advantage_B, limit_B)
    if dual_clip is not None:  # with A > 0 the objective is above 0 anyway
        objective_B = torch.maximum(objective_B, dual_clip * advantage_B.clamp(max=0))
    return -mean(objective_B, valid_B)


def divergence(
    log_ratio_B: Tensor,
    clip_range: Tensor | float,
    clip_range_high: Tensor | float | None = None,
    valid_B: Tensor | None = None,
) -> Divergence:
    """Return what PPO's updates are watched by.

    `approx_kl` is the k3 estimator, (r - 1) - log r: unbiased, non-negative (Schulman 2020, "Approximating KL
    divergence"), over the transitions that are real; `clip_fraction` is the share of ratios
    outside 1 - `clip_range` to 1 + `clip_range_high`, by default the same number.
    """
    growth_B = log_ratio_B.expm1()
    if clip_range_high is None:
        outside_B = growth_B.abs() > clip_range
    else:
        outside_B = (growth_B > clip_range_high) | (growth_B < -clip_range)
    return Divergence(mean(growth_B - log_ratio_B, valid_B), mean(outside_B.float(), valid_B))


def adapted_rate(rate: Tensor, kl: Tensor, desired_kl: float) -> Tensor:
    """Return the learning rate that follows `rate` where a policy has moved by the divergence `kl`; scalars.

    Beyond twice `desired_kl` it is divided by 1.5, below half of it multiplied, between 1e-5 and 1e-2; a policy that
    has not moved, as before the first step, says nothing (the schedule of rsl_rl; Rudin et al. 2022, arXiv:2109.11978).
    """
    slower, faster = (rate / 1.5).clamp(min=1e-5), (rate * 1.5).clamp(max=1e-2)
    rate = torch.where(kl > 2 * desired_kl, slower, rate)
    return torch.where((kl > UNMOVED) & (kl < desired_kl / 2), faster, rate)


def value_loss(
    value_B: Tensor,
    old_value_B: Tensor,
    return_B: Tensor,
    clip_range_vf: float | None,
    valid_B: Tensor | None = None,
    heads: bool = False,
) -> Tensor:
    """Mean squared error to the return; with `clip_range_vf` the value may move only so far from the old one.

    With `heads` values and returns are `[B, K]`, and the errors of each transition's K are summed. The clipping is
    SB3's (the clipped value alone), not the maximum of both errors of OpenAI Baselines.
    """
    if clip_range_vf is not None:
        value_B = old_value_B + (value_B - old_value_B).clamp(-clip_range_vf, clip_range_vf)
    if valid_B is None and not heads:
        return F.mse_loss(value_B, return_B)
    error_B = (value_B - return_B).square()
    return mean(error_B.sum(-1) if heads else error_B, valid_B)


def normalized(advantage_B: Tensor, valid_B: Tensor | None = None) -> Tensor:
    """Shift and scale to mean 0 and deviation 1; a batch of one, whose deviation is undefined, is left alone."""
    if advantage_B.numel() == 1:
        return advantage_B
    if valid_B is not None:
        count, center = valid_B.sum(), mean(advantage_B, valid_B)
        variance = mean((advantage_B - center).square(), valid_B) * count / (count - 1).clamp(min=1)
        return torch.where(count > 1, (advantage_B - center) / (variance.sqrt() + 1e-8), advantage_B)
    std, center = torch.std_mean(advantage_B)
    return (advantage_B - center) / (std + 1e-8)


def contrastive_loss(query_BF: Tensor, key_BF: Tensor) -> Tensor:
    """Return how badly each query is told to belong to the key of its own row rather than to another's, `[B]`.

    InfoNCE (van den Oord et al. 2018, arXiv:1807.03748, eq. 4): the cross-entropy of the softmax of their products.
    """
    return F.cross_entropy(query_BF @ key_BF.t(), torch.arange(len(key_BF), device=key_BF.device), reduction="none")


def expectile_loss(error_B: Tensor, expectile: float) -> Tensor:
    """Return |expectile - 1(error < 0)| error^2, `[B]` (Kostrikov et al. 2021, arXiv:2110.06169, eq. 4).

    What is learnt from errors of targets minus predictions becomes that expectile of the targets: 0.5 is their mean,
    towards 1 their largest.
    """
    return torch.where(error_B < 0, 1 - expectile, expectile) * error_B.square()


def advantage_weight(advantage_B: Tensor, temperature: float, most: float) -> Tensor:
    """Return exp(temperature * advantage), `most` at the most, `[B]`: how much each action is cloned (the same, eq. 7).

    `temperature` is an inverse one, called beta there.
    """
    return (temperature * advantage_B).exp().clamp(max=most)
