"""Memories: what carries information from step to step, between the encoder and the torsos.

A memory is a module made as `Class(inputs, size)`, with `features` (numbers out), `initial_carry(n)` (zeros), and a
`forward` that takes one step or, given episode starts, whole sequences. A new one is a class in `MEMORIES`, or in a
file of your own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from agents.core.config import MemoryConfig
from agents.core.tree import restarted
from agents.core.user_code import is_user_code, user_class
from agents.networks.attention import GTrXL
from agents.networks.cells import GRU, LSTM
from agents.networks.scan import Scan
from envs.errors import UserError

# name -> what it is made of, and which settings it has beside its size, by the names of its arguments
MEMORIES: dict[str, tuple[Any, dict[str, str]]] = {
    "gru": (GRU, {}),
    "lstm": (LSTM, {}),
    "scan": (Scan, {"horizon": "memory_horizon"}),
    "gtrxl": (GTrXL, {"window": "memory_window", "heads": "memory_heads"}),
}


class Stack(nn.Module):
    """Memories one after the other, each of which takes in what the one before remembers; carries side by side."""

    def __init__(self, layers: list[Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.features: int = layers[-1].features
        self._widths = [layer.initial_carry(1).shape[1] for layer in layers]

    def initial_carry(self, num_envs: int) -> Tensor:
        """Return the carry of `num_envs` episodes that start."""
        return torch.cat([layer.initial_carry(num_envs) for layer in self.layers], dim=-1)  # type: ignore[operator]

    def forward(self, x: Tensor, carry: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `agents.networks.cells.Cell.forward`."""
        after = []
        for layer, part in zip(self.layers, carry.split(self._widths, dim=-1), strict=True):
            x, part = layer(x, part, start)
            after.append(part)
        return x, torch.cat(after, dim=-1)


def build_memory(settings: MemoryConfig, inputs: int) -> Any:
    """Return the memory that settings describe, or of the user's own class ("file.py:Class"); None for none.

    Raises:
        UserError: the user's own is not there, or no memory.
    """
    name, size = settings.memory, settings.memory_size
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
    kind, options = MEMORIES[name]
    own = {argument: getattr(settings, setting) for argument, setting in options.items()}
    layers = [kind(size if i else inputs, size, **own) for i in range(settings.memory_layers)]
    return layers[0] if len(layers) == 1 else Stack(layers)


@torch.no_grad()
def _fault(memory: Any, inputs: int) -> str | None:
    """Say what is wrong with a memory, tried on one step and on two sequences of two; None if nothing is."""
    if type(getattr(memory, "features", None)) is not int:
        return "must have an attribute `features`, how many numbers it returns, a whole number"
    carry, x = memory.initial_carry(3), torch.linspace(-1, 1, 6 * inputs).view(2, 3, inputs)
    if not isinstance(carry, Tensor) or len(carry) != 3 or carry.any():
        return "must begin with one tensor of zeros: initial_carry(n) returns [n, ...]"
    first, after = memory(x[0], carry)
    if first.shape != (3, memory.features):
        return f"must return [N, features], {(3, memory.features)} for 3, but gave {tuple(first.shape)}"
    ends = torch.tensor([[False, False, False], [True, False, False]])
    for begun, start in ((carry, ends), (after, ends.flip(0))):  # one that begins within an episode, too
        first, later = memory(x[0], restarted(begun, start[0]))
        second, last = memory(x[1], restarted(later, start[1]))
        outputs, left = memory(x, begun, start)
        if outputs.shape != (2, 3, memory.features) or left.shape != last.shape:
            break
        if not (torch.allclose(outputs, torch.stack([first, second]), atol=1e-5) and left.allclose(last, atol=1e-5)):
            break
    else:
        return None
    return "must give for a sequence what it gives step by step, from a carry of zeros where `start` is True"
