"""A memory of your own: a running mean of what was seen, with rates that are learnt.

python -m agents.train --env Corridor-v0 --memory docs/examples/memory.py:Trace
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Trace(nn.Module):
    """Keeps h' = a h + (1 - a) W x, each entry at a rate a of its own. Its carry is `[N, size]`."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.features = size
        self.inputs = nn.Linear(inputs, size)
        self.rate = nn.Parameter(torch.linspace(0.0, 5.0, size))  # a from 0.5 to 0.993

    def initial_carry(self, num_envs: int) -> Tensor:
        return self.rate.new_zeros(num_envs, self.features)

    def forward(self, x: Tensor, carry: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        rate, new = self.rate.sigmoid(), self.inputs(x).tanh()
        if start is None:  # one step, [N, inputs]
            carry = carry.lerp(new, 1 - rate)
            return carry, carry
        outputs = []
        for new_N, start_N in zip(new.unbind(), start.unbind(), strict=True):  # a sequence, [T, N, inputs]
            carry = (carry * ~start_N[:, None]).lerp(new_N, 1 - rate)
            outputs.append(carry)
        return torch.stack(outputs), carry
