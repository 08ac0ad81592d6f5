"""Losses as pure functions of tensors; each returns means over the batch B."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class PolicyLoss(NamedTuple):
    """PPO's policy loss and what it is watched by; all scalars."""

    loss: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor


def ppo_policy_loss(log_prob_B: Tensor, old_log_prob_B: Tensor, advantage_B: Tensor, clip_range: float) -> PolicyLoss:
    """The clipped surrogate objective (Schulman et al. 2017, arXiv:1707.06347, eq. 7), negated.

    `approx_kl` is the k3 estimator, (r - 1) - log r: unbiased, non-negative (Schulman 2020, "Approximating KL
    divergence").
    """
    log_ratio_B = log_prob_B - old_log_prob_B
    ratio_B = log_ratio_B.exp()
    clipped_B = ratio_B.clamp(1 - clip_range, 1 + clip_range)
    loss = -torch.minimum(advantage_B * ratio_B, advantage_B * clipped_B).mean()
    with torch.no_grad():
        approx_kl = (ratio_B - 1 - log_ratio_B).mean()
        clip_fraction = ((ratio_B - 1).abs() > clip_range).float().mean()
    return PolicyLoss(loss, approx_kl, clip_fraction)


def value_loss(value_B: Tensor, old_value_B: Tensor, return_B: Tensor, clip_range_vf: float | None) -> Tensor:
    """Mean squared error to the return; with `clip_range_vf` the value may move only so far from the old one.

    This is SB3's clipping (the clipped value alone), not the maximum of both errors of OpenAI Baselines.
    """
    if clip_range_vf is not None:
        value_B = old_value_B + (value_B - old_value_B).clamp(-clip_range_vf, clip_range_vf)
    return F.mse_loss(value_B, return_B)


def normalized(advantage_B: Tensor) -> Tensor:
    """Shift and scale to mean 0 and deviation 1; a batch of one, whose deviation is undefined, is left alone."""
    if advantage_B.numel() == 1:
        return advantage_B
    return (advantage_B - advantage_B.mean()) / (advantage_B.std() + 1e-8)


def q_target(return_B: Tensor, discount_B: Tensor, next_target_q_BA: Tensor, next_online_q_BA: Tensor | None) -> Tensor:
    """Return the bootstrapped target `[B]`: return + discount * Q_target(next, a*).

    a* maximises `next_online_q` (Double DQN, van Hasselt et al. 2016, arXiv:1509.06461, eq. 4), or the target
    itself where that is None (Mnih et al. 2015). A discount of 0 marks a termination.
    """
    if next_online_q_BA is None:
        next_q_B = next_target_q_BA.amax(dim=1)
    else:
        best_B1 = next_online_q_BA.argmax(dim=1, keepdim=True)
        next_q_B = next_target_q_BA.gather(1, best_B1).squeeze(1)
    return torch.addcmul(return_B, discount_B, next_q_B)
