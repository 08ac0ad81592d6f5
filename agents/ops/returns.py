"""Returns and advantages. Dimensions: T time, N environments, B batch, K steps of an n-step window."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.core.device import looked_at
from agents.ops import recurrences


def gae(
    reward_TN: Tensor,
    value_TN: Tensor,
    next_value_TN: Tensor,
    terminated_TN: Tensor,
    truncated_TN: Tensor,
    gamma: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

    `next_value` is V of the true successor (the final observation where an episode ended). Two masks:
    only `terminated` cuts the bootstrap; both cut the recursion.

    Returns:
        advantage and return (advantage + value), each `[T, N]`.
    """
    discount_TN = gamma * (~terminated_TN).to(value_TN.dtype)
    delta_TN = torch.addcmul(reward_TN - value_TN, discount_TN, next_value_TN)
    decay_TN = gamma * gae_lambda * (~(terminated_TN | truncated_TN)).to(value_TN.dtype)
    advantage_TN = _summed(delta_TN, decay_TN)
    return advantage_TN, advantage_TN + value_TN


def _summed(delta_TN: Tensor, decay_TN: Tensor) -> Tensor:
    """Return the sum of each delta and all later ones, each times the decays of the ticks in between."""
    if not looked_at(delta_TN):
        return recurrences.linear_recurrence(decay_TN, delta_TN, backward=True)
    advantage_TN = torch.empty_like(delta_TN)
    last_N = torch.zeros_like(delta_TN[0])
    rows = zip(delta_TN.unbind(), decay_TN.unbind(), advantage_TN.unbind(), strict=True)
    for delta_N, decay_N, advantage_N in reversed(list(rows)):
        last_N = torch.addcmul(delta_N, decay_N, last_N, out=advantage_N)
    return advantage_TN


def continuing_gae(
    reward_TN: Tensor,
    value_TN: Tensor,
    last_value_N: Tensor,
    gamma: float,
    gae_lambda: float,
    valid_TN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """GAE of returns that go on from each episode into the next (Burda et al. 2018, arXiv:1810.12894, sec. 2.3).

    What follows an episode's last state is the first of the next one; `last_value` is of what the next tick acts on.
    Where `valid` is False there is no step: what comes before is followed by what comes after.
    """
    if valid_TN is None:
        following_TN = torch.cat([value_TN[1:], last_value_N[None]])
        never_TN = torch.zeros_like(reward_TN, dtype=torch.bool)
        return gae(reward_TN, value_TN, following_TN, never_TN, never_TN, gamma, gae_lambda)
    place_T1 = torch.arange(len(valid_TN) + 1, device=valid_TN.device)[:, None]
    real_TN = torch.where(torch.cat([valid_TN, torch.ones_like(valid_TN[:1])]), place_T1, len(valid_TN))
    next_TN = real_TN.flip(0).cummin(0).values.flip(0)[1:]  # the row of the next step
    following_TN = torch.cat([value_TN, last_value_N[None]]).gather(0, next_TN)
    delta_TN = torch.where(valid_TN, reward_TN + gamma * following_TN - value_TN, 0)
    advantage_TN = _summed(delta_TN, torch.where(valid_TN, gamma * gae_lambda, 1.0))
    return advantage_TN, advantage_TN + value_TN


def n_step(
    reward_BK: Tensor, terminated_BK: Tensor, truncated_BK: Tensor, length_B: Tensor, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum up to K discounted rewards, stopping where the episode or the stored data ends.

    Args:
        reward_BK, terminated_BK, truncated_BK: the K transitions from each sampled one on.
        length_B: how many of them are stored, 1 to K; the rest is ignored.
        gamma: discount factor.

    Returns:
        return `[B]`; last `[B]`, the window index whose `next_obs` to bootstrap from; and discount `[B]`,
        gamma^(last + 1), or 0 where the window ends in a termination.
    """
    steps_K = torch.arange(reward_BK.shape[1], device=reward_BK.device)
    ended_BK = (terminated_BK | truncated_BK) | (steps_K >= length_B[:, None] - 1)
    last_B = ended_BK.to(torch.uint8).argmax(dim=1)
    inside_BK = steps_K <= last_B[:, None]
    power_K = gamma**steps_K
    # chosen, not multiplied: what lies beyond the window may be memory never written, NaN included
    return_B = torch.where(inside_BK, reward_BK * power_K, 0).sum(dim=1)
    alive_B = ~terminated_BK.gather(1, last_B[:, None]).squeeze(1)
    return return_B, last_B, gamma * power_K[last_B] * alive_B


def explained_variance(value: Tensor, target: Tensor) -> Tensor:
    """1 - Var[target - value] / Var[target]: 1 is perfect, 0 no better than a constant; NaN for constant targets."""
    variance = target.var(correction=0)  # defined for a single target too
    return torch.where(variance > 0, 1 - (target - value).var(correction=0) / variance, torch.nan)
