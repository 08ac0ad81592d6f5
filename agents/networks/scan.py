"""A memory that is linear in what it remembers, so that all steps of a sequence are learnt from at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.ops.recurrences import linear_recurrence


class Scan(nn.Module):
    """MinGRU (Feng et al. 2024, arXiv:2410.01201, sec. 3.1): gates and candidates follow from the inputs alone.

    h_t = (1 - z_t) * h_{t-1} + s_t * c_t, with z_t = sigmoid(W x_t + b) and c_t = V x_t. What is new counts for
    s_t = sqrt(1 - (1 - z_t)^2) rather than z_t, so that slow numbers are no smaller than quick ones (Orvieto et al.
    2023, arXiv:2303.06349, sec. 3.4). Its carry is h, `[N, size]`.

    Args:
        horizon: steps over which the slowest numbers forget at first; the quickest forget at once.
    """

    def __init__(self, inputs: int, size: int, horizon: int) -> None:
        super().__init__()
        self.features = size
        self.gate = nn.Linear(inputs, size, bias=False)
        self.candidate = nn.Linear(inputs, size)
        nn.init.zeros_(self.candidate.bias)  # a constant would pile up in slow numbers, far above what is seen once
        # Time scales evenly spread in their logarithm (as Tallec & Ollivier 2018, arXiv:1804.11188, for an LSTM)
        self.bias = nn.Parameter(-torch.linspace(0, math.log(horizon), size))

    def initial_carry(self, num_envs: int) -> Tensor:
        """Return the carry of `num_envs` episodes that start."""
        return self.bias.new_zeros(num_envs, self.features)

    def forward(self, x: Tensor, carry: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `agents.networks.cells.Cell.forward`."""
        logit = self.gate(x) + self.bias
        keep = (-logit).sigmoid()
        # the root of 1 - keep^2 = (1 - keep) (1 + keep), whose gradient is finite even where nothing is new
        new = (0.5 * functional.logsigmoid(logit)).exp() * (1 + keep).sqrt() * self.candidate(x)
        if start is None:
            carry = torch.addcmul(new, keep, carry)
            return carry, carry
        keep = keep * ~start[..., None]
        new = torch.cat([torch.addcmul(new[:1], keep[:1], carry[None]), new[1:]])
        states = linear_recurrence(keep, new)
        return states, states[-1]
