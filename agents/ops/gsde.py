"""gSDE: noise of continuous actions that is a matrix times features."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def exploration_matrices(shape: tuple[int, ...], size: tuple[int, int], every: int, generator: Generator) -> Tensor:
    """Return the matrices of standard normal numbers that gSDE acts with, `[*shape, *size]`, on the generator's device.

    Args:
        shape: `[K, N]` for K ticks of N environments, each with a matrix of its own; `[N]` for one tick.
        every: ticks after which they are drawn anew, from the first on; less than 1 for never.
    """
    ticks, rows = shape if len(shape) == 2 else (1, *shape)
    count = 1 if every < 1 else -(-ticks // every)
    drawn = torch.randn((count, rows, *size), generator=generator, device=generator.device)
    held = drawn.expand(ticks, -1, -1, -1) if count == 1 else drawn.repeat_interleave(every, dim=0)[:ticks]
    return held if len(shape) == 2 else held[0]


def smooth_log_std(features: Tensor, log_std: Tensor) -> Tensor:
    """Return the log deviation `[B, d]` of features `[B, F]` times a matrix of independent normals.

    Whoever holds on to the matrix explores smoothly: one state has one noise (Raffin et al. 2022, arXiv:2005.05719,
    eq. 6 and 7).

    Args:
        log_std: of the matrix's entries, `[F, d]`.
    """
    return 0.5 * (features.square() @ (2 * log_std).exp() + 1e-6).log()


def smooth_gaussian(
    parameters: Tensor, log_std: Tensor, most: float = math.inf
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return what a `Gaussian` is made of whose samples are means plus features times a matrix.

    Args:
        parameters: the means and the features, `[B, d + F]`.
        log_std: of the matrix's entries, `[F, d]`.
        most: what the means are clipped to.
    """
    features, size = log_std.shape
    mean, latent = parameters.split([size, features], dim=-1)
    return mean.clamp(-most, most), smooth_log_std(latent, log_std), (latent, log_std.exp())
