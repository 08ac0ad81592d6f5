"""Which weights of a network to leave out, and when."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.prune import L1Unstructured


def ramp(target: float, done: float) -> float:
    """Return the sparsity when `done` (0 to 1) of the way to `target` is behind: fast at first, while much is spare.

    Zhu & Gupta 2017, arXiv:1710.01878, eq. 1, from 0 on.
    """
    return target * (1 - (1 - min(max(done, 0.0), 1.0)) ** 3)


def lamp(weight: Tensor) -> Tensor:
    """Return a score of each weight of a layer that can be compared with those of other layers, in the same shape.

    A weight's square as a share of the sum of all squares that are no smaller: 1 for the largest of each layer (Lee et
    al. 2021, arXiv:2010.07611, eq. 2).
    """
    square, order = weight.flatten().double().square().sort()
    rest = square.flip(0).cumsum(0).flip(0)
    scores = torch.where(rest > 0, square / rest, torch.zeros_like(rest))
    return torch.empty_like(scores).index_copy_(0, order, scores).view(weight.shape)


def masks(weights: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Return for each layer's weights which are kept, bool: the least `sparsity` of all together is not."""
    scores = torch.cat([lamp(weight).flatten() for weight in weights])
    kept = (
        L1Unstructured(sparsity).compute_mask(scores, torch.ones_like(scores))
        if sparsity > 0
        else scores.new_ones(len(scores))
    )
    parts = kept.bool().split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


def units(incoming: Tensor, outgoing: Sequence[Tensor], keep: int) -> Tensor:
    """Return which hidden units of a layer to keep, their numbers in order `[keep]`.

    Args:
        incoming: its weights, `[units, inputs]`.
        outgoing: those of what reads the units, `[outputs, units]` each.

    The units whose weights in, by their norm, times those out are the least are left out.
    """
    out = torch.cat(list(outgoing)).norm(dim=0)
    return (incoming.norm(dim=1) * out).topk(keep).indices.sort().values
