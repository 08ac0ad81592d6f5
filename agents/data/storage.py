"""Preallocated tensors, written tick by tick."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.core.tree import tree_map

Allocate = Callable[[tuple[int, ...], torch.dtype], Tensor]


def dtype_of(array: Any) -> torch.dtype:
    """Return the dtype that an array or tensor has as a tensor."""
    return array.dtype if isinstance(array, Tensor) else torch.from_numpy(array[:0]).dtype


def allocate(shape: tuple[int, ...], like: Any, device: torch.device) -> Tensor:
    """Return an empty tensor of `shape` with the dtype of an array or tensor."""
    return torch.empty(shape, dtype=dtype_of(like), device=device)


def on_disk(folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor in a file, of which the system keeps in memory what there is room for.

    The file vanishes with the tensor, or with the process; it has no name in `folder` where the system can do without.

    Raises:
        OSError: the disk has no room for it.
    """
    size = max(math.prod(shape) * dtype.itemsize, 1)
    with tempfile.TemporaryFile(dir=folder, prefix=".replay.tmp-") as file:
        if hasattr(os, "posix_fallocate"):  # a disk that turns out to be full later would end the process
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            block = bytes(2**20)
            for start in range(0, size, len(block)):
                file.write(block[: size - start])
            file.flush()
        mapped = np.memmap(file, np.uint8, "r+", shape=(size,))
    return torch.from_numpy(mapped)[: math.prod(shape) * dtype.itemsize].view(dtype).view(shape)


def writer(tensor: Tensor) -> Any:
    """Return what to assign rows through: NumPy's view on the CPU, where a small write costs a tenth as much."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


class Rows:
    """Columns of up to `length` rows, allocated as the first row is written; each is an array or a dict of arrays."""

    def __init__(self, length: int, device: torch.device) -> None:
        self._length, self._device = length, device
        self._columns: dict[str, Any] = {}
        self._writers: dict[str, Any] = {}
        self._count = -1  # of the rows read last, as they often are again
        self._views: dict[str, Any] = {}
        self._arrays: dict[str, Any] = {}

    def write(self, t: int, row: dict[str, Any]) -> None:
        """Store row `t`, arrays or tensors."""
        writers = self._writers
        for key, value in row.items():
            if key not in writers:
                self._columns[key] = tree_map(
                    lambda leaf: allocate((self._length, *leaf.shape), leaf, self._device), value
                )
                writers[key] = tree_map(writer, self._columns[key])
            if type(value) is dict:
                for leaf, array in writers[key].items():
                    array[t] = value[leaf]
            else:
                writers[key][t] = value

    def read(self, count: int) -> dict[str, Any]:
        """Return the first `count` rows of every column, views that later rows are written to."""
        return dict(self._first(count)[0])

    def arrays(self, count: int) -> dict[str, Any]:
        """Return the same on the CPU, as NumPy arrays."""
        return self._first(count)[1]

    def _first(self, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._count != count:
            self._count = count
            self._views, self._arrays = (
                tree_map(lambda leaf: leaf[:count], columns) for columns in (self._columns, self._writers)
            )
        return self._views, self._arrays
