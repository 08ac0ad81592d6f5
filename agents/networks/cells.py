"""Memories of one cell, GRU and LSTM: step by step in acting, whole runs of steps together in training."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.core import device as core_device
from agents.core.tracing import as_one, known_as, noting
from agents.core.tree import restarted
from agents.ops.recurrences import GatedRecurrence

KEEP = 2.0  # bias of gates that keep: a share sigmoid(2) = 0.88 of what is remembered stays at each step
SHUT = 500.0  # opens a gate, and subtracted shuts it, wholly in float32, whatever biases and hidden states add
STRIDE = 16  # lengths of sequences are multiples, as oneDNN prepares anew for each length


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

    def sequence(self, x: Tensor, carry: Tensor, start: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """Take in `[T, N, inputs]`, `start` bool `[T, N]`, with few operations: how long episodes are may be looked at.

        Args:
            weights: the cell's parameters: of inputs and hidden state, and their biases.

        Returns:
            What is remembered, `[T, N, size]`, and the carry after the last step.
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
        cell = self.cell
        weights = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
        if start is None:
            if not noting():
                return self.step(x, carry)
            start = torch.zeros(1, len(x), dtype=torch.bool, device=x.device)
            output, carry = as_one(self.sequence, x[None], carry, start, *weights)
            return output[0], carry
        carry = restarted(carry, start[0])
        if start.device.type in core_device.LOOKED_AT:  # how long runs are is a value
            output, carry = as_one(self.sequence, x, carry, start, *weights)
            return output, carry
        outputs = []
        for t, x_N in enumerate(x.unbind()):
            output, carry = self.step(x_N, restarted(carry, start[t]) if t else carry)
            outputs.append(output)
        return torch.stack(outputs), carry


class GRU(Cell):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078); its carry is the hidden state."""

    kind = nn.GRUCell

    def step(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        carry = self.cell(x, carry)
        return carry, carry

    @known_as("gru")
    def sequence(self, x: Tensor, carry: Tensor, start: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        if len(x) == 1 and not torch.is_grad_enabled():  # of a single step the cell's own call is the quickest
            after = torch.gru_cell(x[0], carry, *weights)
            return after[None], after
        of_inputs, of_hidden, inputs_bias, hidden_bias = weights

        def run(x: Tensor, carry: Tensor) -> Tensor:
            x = functional.linear(x, of_inputs, inputs_bias)
            outputs: Tensor = GatedRecurrence.apply(x, carry, of_hidden, hidden_bias)
            return outputs

        return in_runs(run, x, carry, start)


class LSTM(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); its carry is hidden and cell state side by side."""

    kind = nn.LSTMCell
    parts = 2

    def step(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = self.cell(x, carry.chunk(2, dim=-1))
        return hidden, torch.cat([hidden, cell], dim=-1)

    @known_as("lstm")
    def sequence(self, x: Tensor, carry: Tensor, start: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """See `Cell.sequence`. All of it is one call of PyTorch's LSTM, in which steps are made up.

        Before each start but the first step's, a step shuts the cell's gates, so that hidden and cell state are zero;
        after an environment's last step others keep the cell state, until all environments are through.
        """
        if len(x) == 1 and not torch.is_grad_enabled():  # of a single step the cell's own call is the quickest
            hidden, cell = torch.lstm_cell(x[0], carry.chunk(2, dim=-1), *weights)
            return hidden[None], torch.cat([hidden, cell], dim=-1)
        if not start[1:].any():
            return self._run(x, carry, weights)
        steps, envs = start.shape
        starts = start.clone()
        starts[0] = False
        made_up = starts.cumsum(0)
        place = ((torch.arange(steps)[:, None] + made_up) * envs + torch.arange(envs)).flatten()
        most = int(made_up[-1].max())
        length = -(-(steps + most) // STRIDE) * STRIDE
        after = torch.arange(length)[:, None] >= steps + made_up[-1]
        inputs = torch.cat([x.new_zeros(length, envs, x.shape[-1]), torch.stack([after, ~after], dim=-1).to(x)], dim=-1)
        real = torch.cat([x, x.new_zeros(steps, envs, 2)], dim=-1).flatten(0, 1)
        inputs = inputs.flatten(0, 1).index_copy(0, place, real).view(length, envs, -1)
        gates = x.new_tensor([[-SHUT, SHUT, 0.0, 0.0], [-SHUT, -SHUT, 0.0, 0.0]]).repeat_interleave(self.features, 1)
        of_inputs, *others = weights
        outputs, after_all = self._run(inputs, carry, [torch.cat([of_inputs, gates.t()], dim=-1), *others])
        outputs = outputs.flatten(0, 1).index_select(0, place).view(steps, envs, -1)
        return outputs, torch.cat([outputs[-1], after_all[:, self.features :]], dim=-1)

    def _run(self, x: Tensor, carry: Tensor, weights: Any) -> tuple[Tensor, Tensor]:
        states, learns = [part[None].contiguous() for part in carry.chunk(2, dim=-1)], torch.is_grad_enabled()
        outputs, hidden, cell = torch.lstm(x, states, weights, True, 1, 0.0, learns, False, False)
        return outputs, torch.cat([hidden[0], cell[0]], dim=-1)


class SequenceFunction(Protocol):
    """Takes in steps `[T, N, inputs]` of episodes that go on; returns the carry after each, `[T, N, size]`."""

    def __call__(self, x: Tensor, carry: Tensor) -> Tensor: ...


def in_runs(run: SequenceFunction, x: Tensor, carry: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Take in a sequence `[T, N, inputs]` by calls of `run` on steps that no episode's start divides.

    From one start to the next is a run. Runs of about one length are one call, so there are few, whatever T and N: the
    longest with all that are more than a quarter as long, then the same of what is left. The first step goes on from
    the carry, whatever `start` says of it.

    Args:
        run: see `SequenceFunction`.
        x, carry, start: see `Cell.forward`.
    """
    steps, envs = start.shape
    if not start[1:].any():
        outputs = run(x, carry)
        return outputs, outputs[-1]
    begins = start.t().clone()
    begins[:, 0] = True
    at = begins.flatten().nonzero().squeeze(1)  # where each run is, environment by environment
    lengths, order = torch.diff(at, append=at.new_tensor([steps * envs])).sort(descending=True)
    at, sizes = at[order], lengths.tolist()
    carried = (at % steps == 0).nonzero().squeeze(1)  # these go on from the carry
    before = carry.new_zeros(len(at), carry.shape[-1]).index_copy(0, carried, carry[at[carried] // steps])
    flat = x.transpose(0, 1).flatten(0, 1)
    found, first, taken = torch.empty(steps * envs, dtype=torch.int64), 0, 0
    parts: list[Tensor] = []
    while first < len(sizes):
        longest = sizes[first]
        after = first + bisect_left(sizes[first:], -longest / 4, key=lambda size: -size)
        t, rows = torch.arange(longest)[:, None], slice(first, after)
        place, real = (at[rows] + t).clamp(max=len(flat) - 1).flatten(), t < lengths[rows]
        parts.append(run(flat.index_select(0, place).view(longest, after - first, -1), before[rows]).flatten(0, 1))
        kept = real.flatten().nonzero().squeeze(1)
        found[place[kept]] = kept + taken
        taken += real.numel()
        first = after
    whole = torch.cat(parts).index_select(0, found).view(envs, steps, -1).transpose(0, 1)
    return whole, whole[-1]
