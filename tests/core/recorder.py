"""What stands for CUDA graphs where there is no GPU: it freezes what they freeze, and refuses what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents.core.runtime import Runtime

# What copies a value to the host, or makes tensors whose shape depends on one: no graph can hold it.
WAITS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim"}


class Tape:
    """Records the operations of one call, and replays them on the same tensors; in place of `runtime.cuda_graph`.

    Python runs at the recording alone: its numbers, branches and attributes are frozen, and so is which tensor stands
    where. A replay runs the operations recorded and writes their results into the tensors recorded.

    Attributes:
        recorded, replayed: how many calls of each kind there were.
    """

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, function: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
        recording = _Recording()
        with recording:
            outputs = function()
        self.recorded += 1

        @torch.no_grad()
        def replay() -> None:
            self.replayed += 1
            for operation, args, kwargs, results in recording.operations:
                for old, new in zip(results, tree_leaves(operation(*args, **kwargs)), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # else a view, or done in place
                        old.detach().copy_(new)

        return replay, outputs


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        indices = tree_leaves(args[1]) if name in ("index", "index_put", "index_put_") else []
        by_mask = any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices)
        own_stream = any(isinstance(leaf, torch.Generator) for leaf in (*tree_leaves(args), *kwargs.values()))
        if name in WAITS or by_mask or own_stream:
            raise RuntimeError(f"operation not permitted when recording: {name}")
        results = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, tree_leaves(results)))
        return results


def listening(mode: Any, **options: Any) -> tuple[Runtime, list[str]]:
    """Return a runtime and the list of what it says."""
    runtime, said = Runtime(mode, **options), list[str]()
    runtime.say = said.append
    return runtime, said
