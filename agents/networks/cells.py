"""Memories of one cell, GRU and LSTM: step by step in acting, whole runs of steps together in training."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.core.tree import restarted
from agents.ops.recurrences import GatedRecurrence

LOOKED_AT = ("cpu",)  # how long runs are is a value, and what is captured on other devices looks at none
KEEP = 2.0  # bias of gates that keep: a share sigmoid(2) = 0.88 of what is remembered stays at each step
SHUT = 50.0  # what opens a gate, and subtracted shuts it, in float32


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

    def run(self, x: Tensor, carry: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take in steps `[T, N, inputs]` of episodes that go on; return `[T, N, size]` and the carry after them.

        Where `real`, bool `[T, N]`, is False, which is at the end only, nothing is taken in, and anything returned.
        """
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
        if start.device.type in LOOKED_AT:
            return in_runs(self.run, x, carry, start)
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

    def run(self, x: Tensor, carry: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        cell = self.cell
        x = functional.linear(x, cell.weight_ih, cell.bias_ih)
        outputs: Tensor = GatedRecurrence.apply(x, carry, cell.weight_hh, cell.bias_hh)
        return outputs, _last(outputs, real)


class LSTM(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); its carry is hidden and cell state side by side."""

    kind = nn.LSTMCell
    parts = 2

    def step(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = self.cell(x, carry.chunk(2, dim=-1))
        return hidden, torch.cat([hidden, cell], dim=-1)

    def run(self, x: Tensor, carry: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        cell, states = self.cell, [part[None].contiguous() for part in carry.chunk(2, dim=-1)]
        weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        if real is not None:  # a further input, 1 where nothing is taken in, opens one gate and shuts the other
            x = torch.cat([x, (~real[..., None]).to(x.dtype)], dim=-1)
            hold = x.new_tensor([-SHUT, SHUT, 0.0, 0.0]).repeat_interleave(self.features)
            weights[0] = torch.cat([cell.weight_ih, hold[:, None]], dim=-1)
        learns = torch.is_grad_enabled()
        outputs, _, state = torch.lstm(x, states, weights, True, 1, 0.0, learns, False, False)
        return outputs, torch.cat([_last(outputs, real), state[0]], dim=-1)


def _last(outputs: Tensor, real: Tensor | None) -> Tensor:
    """Return what was put out last, `[N, F]` of `[T, N, F]`, where it is real."""
    if real is None:
        return outputs[-1]
    return outputs[real.sum(0) - 1, torch.arange(real.shape[1])]


class Run(Protocol):
    """See `Cell.run`."""

    def __call__(self, x: Tensor, carry: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]: ...


def in_runs(run: Run, x: Tensor, carry: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Take in a sequence `[T, N, inputs]` by calls of `run` on steps that no episode's start divides.

    From one start to the next is a run. Runs of about one length are one call, so there are few, whatever T and N: the
    longest with all that are more than a quarter as long, then the same of what is left.

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
    lengths, order = torch.diff(at, append=at.new_tensor([steps * envs])).sort(descending=True)
    at, sizes = at[order], lengths.tolist()
    begun = (at % steps == 0).nonzero().squeeze(1)  # these go on from the carry
    before = carry.new_zeros(len(at), carry.shape[-1]).index_copy(0, begun, carry[at[begun] // steps])
    flat = x.transpose(0, 1).flatten(0, 1)
    outputs, states, found, first, taken = [], [], torch.empty(steps * envs, dtype=torch.int64), 0, 0
    while first < len(sizes):
        longest = sizes[first]
        after = first + bisect_left(sizes[first:], -longest / 4, key=lambda size: -size)
        t, rows = torch.arange(longest)[:, None], slice(first, after)
        place, real = (at[rows] + t).clamp(max=len(flat) - 1).flatten(), t < lengths[rows]
        padded = flat.index_select(0, place).view(longest, after - first, -1)
        output, state = run(padded, before[rows], None if sizes[after - 1] == longest else real)
        kept = real.flatten().nonzero().squeeze(1)
        found[place[kept]] = kept + taken
        taken += real.numel()
        outputs.append(output.flatten(0, 1))
        states.append(state)
        first = after
    whole = torch.cat(outputs).index_select(0, found).view(envs, steps, -1).transpose(0, 1)
    return whole, torch.cat(states).index_select(0, order.argsort()[begins.sum(1).cumsum(0) - 1])
