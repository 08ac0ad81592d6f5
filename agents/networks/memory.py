"""Memories: what carries information from step to step, between the encoder and the torsos.

A memory is a module made as `Class(inputs, size)`, with `features` (numbers out), `initial_carry(n)` (zeros), and a
`forward` that takes one step or, given episode starts, whole sequences. A new one is a class in `MEMORIES`, or in a
file of your own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from agents.core.tree import restarted
from agents.core.user_code import is_user_code, user_class
from envs.errors import UserError, not_one_of

KEEP = 2.0  # bias of gates that keep: a share sigmoid(2) = 0.88 of what is remembered stays at each step


class Cell(nn.Module):
    """A memory of one cell, which begins by keeping. Its carry is `[N, parts * size]`, zero at an episode's start.

    Attributes:
        kind: what the cell is.
        parts: how many times `size` numbers it hands on.
    """

    kind: ClassVar[Any]
    parts: ClassVar[int] = 1

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.cell = self.kind(inputs, size)
        self.features = size
        nn.init.orthogonal_(self.cell.weight_hh)
        nn.init.zeros_(self.cell.bias_hh)
        nn.init.zeros_(self.cell.bias_ih)
        # the gates that keep, second of all, begin open to the past (Tallec & Ollivier 2018, arXiv:1804.11188)
        nn.init.constant_(self.cell.bias_ih[size : 2 * size], KEEP)

    def step(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        """Take in one step `[N, inputs]`; return what is remembered, `[N, size]`, and the next carry."""
        raise NotImplementedError

    def initial_carry(self, num_envs: int) -> Tensor:
        """Return the carry of `num_envs` episodes that start."""
        return self.cell.weight_hh.new_zeros(num_envs, self.parts * self.features)

    def forward(self, x: Tensor, carry: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take in one step `[N, inputs]`, or with `start`, bool `[T, N]`, a sequence `[T, N, inputs]`.

        Returns:
            What is remembered, `[N, size]` or `[T, N, size]`, and the carry after the (last) step.
        """
        if start is None:
            return self.step(x, carry)
        outputs = []
        for x_N, start_N in zip(x.unbind(), start.unbind(), strict=True):
            output, carry = self.step(x_N, restarted(carry, start_N))
            outputs.append(output)
        return torch.stack(outputs), carry


class GRU(Cell):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078); its carry is the hidden state."""

    kind = nn.GRUCell

    def step(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        carry = self.cell(x, carry)
        return carry, carry


class LSTM(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); its carry is hidden and cell state side by side."""

    kind = nn.LSTMCell
    parts = 2

    def step(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = self.cell(x, carry.chunk(2, dim=-1))
        return hidden, torch.cat([hidden, cell], dim=-1)


MEMORIES: dict[str, Any] = {"gru": GRU, "lstm": LSTM}


def build_memory(name: str | None, inputs: int, size: int) -> Any:
    """Return the memory of this name, or of the user's own class ("file.py:Class"); None for none.

    Raises:
        UserError: there is no such memory.
    """
    if name is None:
        return None
    if is_user_code(name):
        kind: Any = user_class(name, nn.Module, "a memory")
        try:
            memory = kind(inputs, size)
            fault = _fault(memory, inputs)
        except Exception as error:
            raise UserError(f"memory {name} fails: {type(error).__name__}: {error}") from error
        if fault is not None:
            raise UserError(f"memory {name} {fault}")
        return memory
    if name not in MEMORIES:
        raise UserError(f"memory: {not_one_of(name, ['none', *MEMORIES])} (your own: file.py:Class)")
    return MEMORIES[name](inputs, size)


@torch.no_grad()
def _fault(memory: Any, inputs: int) -> str | None:
    """Say what is wrong with a memory, tried on one step and on a sequence of two; None if nothing is."""
    if type(getattr(memory, "features", None)) is not int:
        return "must have an attribute `features`, how many numbers it returns, a whole number"
    carry, x = memory.initial_carry(3), torch.linspace(-1, 1, 6 * inputs).view(2, 3, inputs)
    if not isinstance(carry, Tensor) or len(carry) != 3 or carry.any():
        return "must begin with one tensor of zeros: initial_carry(n) returns [n, ...]"
    first, after = memory(x[0], carry)
    if first.shape != (3, memory.features):
        return f"must return [N, features], {(3, memory.features)} for 3, but gave {tuple(first.shape)}"
    start = torch.tensor([[False, False, False], [True, False, False]])
    outputs, _ = memory(x, carry, start)
    second, _ = memory(x[1], restarted(after, start[1]))
    if outputs.shape != (2, 3, memory.features) or not torch.allclose(outputs, torch.stack([first, second]), atol=1e-5):
        return "must give for a sequence what it gives step by step, from a carry of zeros where `start` is True"
    return None
