"""Memories: what carries information from step to step, between the encoder and the torsos.

A memory is a module with `features` (numbers out), `initial_carry(n)` and a `forward` that takes one step or, given
episode starts, whole sequences. A new one is a class in `MEMORIES`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.core.tree import restarted
from envs.errors import UserError, did_you_mean

KEEP = 2.0  # bias of the update gate: a share sigmoid(2) = 0.88 of what is remembered stays at each step


class GRU(nn.Module):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078). Its carry is `[N, size]`, zero at an episode's start."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(inputs, size)
        self.features = size
        nn.init.orthogonal_(self.cell.weight_hh)
        nn.init.zeros_(self.cell.bias_hh)
        nn.init.zeros_(self.cell.bias_ih)
        # update gates, the middle third, begin open to the past (Tallec & Ollivier 2018, arXiv:1804.11188)
        nn.init.constant_(self.cell.bias_ih[size : 2 * size], KEEP)

    def initial_carry(self, num_envs: int) -> Tensor:
        """Return the carry of `num_envs` episodes that start."""
        return self.cell.weight_hh.new_zeros(num_envs, self.features)

    def forward(self, x: Tensor, carry: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take in one step `[N, inputs]`, or with `start`, bool `[T, N]`, a sequence `[T, N, inputs]`.

        Returns:
            What is remembered, `[N, size]` or `[T, N, size]`, and the carry after the (last) step.
        """
        if start is None:
            carry = self.cell(x, carry)
            return carry, carry
        outputs = []
        for x_N, start_N in zip(x.unbind(), start.unbind(), strict=True):
            carry = self.cell(x_N, restarted(carry, start_N))
            outputs.append(carry)
        return torch.stack(outputs), carry


MEMORIES: dict[str, type[GRU]] = {"gru": GRU}


def build_memory(name: str | None, inputs: int, size: int) -> GRU | None:
    """Return the memory of this name, or None for none.

    Raises:
        UserError: there is no such memory.
    """
    if name is None:
        return None
    if name not in MEMORIES:
        known = ["none", *MEMORIES]
        raise UserError(f"memory: {name!r} given, {'|'.join(known)} expected.{did_you_mean(name, known)}")
    return MEMORIES[name](inputs, size)
