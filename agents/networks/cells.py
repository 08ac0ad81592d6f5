"""Memories of one cell, GRU and LSTM: step by step in acting, whole runs of steps together in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.core.tree import restarted
from agents.ops.recurrences import GatedRecurrence

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

    def run(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        """Take in steps `[T, N, inputs]` of episodes that go on; return `[T, N, size]` and the carry after them."""
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
        if start.device.type == "cpu":
            return in_runs(self.run, x, carry, start)
        outputs = []  # what a GPU captures looks at no value, and how long runs are is one
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

    def run(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        cell = self.cell
        x = functional.linear(x, cell.weight_ih, cell.bias_ih)
        outputs: Tensor = GatedRecurrence.apply(x, carry, cell.weight_hh, cell.bias_hh)
        return outputs, outputs[-1]


class LSTM(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); its carry is hidden and cell state side by side."""

    kind = nn.LSTMCell
    parts = 2

    def step(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = self.cell(x, carry.chunk(2, dim=-1))
        return hidden, torch.cat([hidden, cell], dim=-1)

    def run(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        cell, states = self.cell, [part[None].contiguous() for part in carry.chunk(2, dim=-1)]
        weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        learns = torch.is_grad_enabled()
        outputs, *after = torch.lstm(x, states, weights, True, 1, 0.0, learns, False, False)
        return outputs, torch.cat(after, dim=-1)[0]


Run = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def in_runs(run: Run, x: Tensor, carry: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Take in a sequence `[T, N, inputs]` by calls of `run` on steps that no episode's start divides.

    From one start to the next is a run. Each is taken in by parts whose lengths are powers of two, the longest first;
    parts of one length, which are of different runs, are one call. So there are at most log2(T) + 1 calls, of T * N
    steps together.

    Args:
        run: takes in steps `[T, N, inputs]` from a carry `[N, C]` on; returns `[T, N, F]` and the carry after them.
        x, carry, start: see `Cell.forward`.
    """
    steps, envs = start.shape
    carry = restarted(carry, start[0])
    if not start[1:].any():
        return run(x, carry)
    begins = start.t().clone()
    begins[:, 0] = True
    at = begins.flatten().nonzero().squeeze(1)  # where each run is, environment by environment
    lengths = torch.diff(at, append=at.new_tensor([steps * envs]))
    states = carry.new_zeros(len(at), carry.shape[-1]).index_copy(0, (at % steps == 0).nonzero().squeeze(1), carry)
    flat = x.transpose(0, 1).flatten(0, 1)
    outputs, places, length = [], [], 1 << (int(lengths.max()).bit_length() - 1)
    while length:
        rows = (lengths & length).nonzero().squeeze(1)
        if len(rows):
            place = (at[rows] + torch.arange(length)[:, None]).flatten()
            output, after = run(flat.index_select(0, place).view(length, len(rows), -1), states.index_select(0, rows))
            states = states.index_copy(0, rows, after)
            at[rows] += length
            outputs.append(output.flatten(0, 1))
            places.append(place)
        length //= 2
    order = torch.cat(places).argsort()
    whole = torch.cat(outputs).index_select(0, order).view(envs, steps, -1).transpose(0, 1)
    return whole, states.index_select(0, begins.sum(1).cumsum(0) - 1)
