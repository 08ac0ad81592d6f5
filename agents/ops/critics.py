"""What the numbers of several critics stand for: values, of which the least counts, or quantiles of the return.

Dimensions: N critics, B batch, K numbers of each critic, J numbers of a target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.ops.values import Quantiles


@dataclass(frozen=True)
class Least:
    """A value each; the least of them counts (clipped double Q: Fujimoto et al. 2018, arXiv:1802.09477, eq. 10)."""

    atoms: ClassVar[int] = 1

    def value(self, numbers_NBK: Tensor) -> Tensor:
        """Return what an action is worth to the policy, `[B]`."""
        return numbers_NBK.squeeze(-1).amin(0)

    def backup(self, return_B: Tensor, discount_B: Tensor, next_NBK: Tensor, bonus_B: Tensor) -> Tensor:
        """Return the target `[B, J]`: return + discount * (next value + bonus), the bonus being the entropy's."""
        return torch.addcmul(return_B, discount_B, self.value(next_NBK) + bonus_B)[:, None]

    def error(self, numbers_NBK: Tensor, target_BJ: Tensor) -> Tensor:
        """Return how far the critics are from their targets, the mean over them, `[B]`."""
        return (numbers_NBK - target_BJ).abs().mean(0).squeeze(-1)

    def loss(self, numbers_NBK: Tensor, target_BJ: Tensor) -> Tensor:
        """Return half the squared errors, summed over the critics, `[B]` (Haarnoja et al. 2018, eq. 5)."""
        return 0.5 * (numbers_NBK - target_BJ).square().sum(0).squeeze(-1)


@dataclass(frozen=True)
class Truncated:
    """Quantiles of the return; those of all critics are put together, and the largest left out of targets.

    Kuznetsov et al. 2020, arXiv:2005.04269, eq. 11 to 13.

    Attributes:
        dropped: how many are left out for each critic.
    """

    atoms: int
    dropped: int

    def value(self, numbers_NBK: Tensor) -> Tensor:
        """Return what an action is worth to the policy, `[B]`: the mean of all quantiles (eq. 15)."""
        return numbers_NBK.mean((0, 2))

    def backup(self, return_B: Tensor, discount_B: Tensor, next_NBK: Tensor, bonus_B: Tensor) -> Tensor:
        """Return the target `[B, J]`: as `Least.backup`, for the quantiles that are kept, in rising order."""
        together_BJ = next_NBK.transpose(0, 1).flatten(1).sort(-1).values
        kept_BJ = together_BJ[:, : len(next_NBK) * (self.atoms - self.dropped)]
        return torch.addcmul(return_B[:, None], discount_B[:, None], kept_BJ + bonus_B[:, None])

    def error(self, numbers_NBK: Tensor, target_BJ: Tensor) -> Tensor:
        """Return how far the mean is from that of the targets, `[B]`."""
        return (self.value(numbers_NBK) - target_BJ.mean(-1)).abs()

    def loss(self, numbers_NBK: Tensor, target_BJ: Tensor) -> Tensor:
        """Return the quantile Huber loss, a mean over critics and quantiles, `[B]` (eq. 14)."""
        members, rows = numbers_NBK.shape[:2]
        every = Quantiles(self.atoms).loss(numbers_NBK.flatten(0, 1), target_BJ.repeat(members, 1), None)
        return every.view(members, rows).mean(0) / self.atoms
