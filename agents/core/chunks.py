"""Large tensors that are saved in chunks, of which only those are written anew that have changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

CHUNK_BYTES = 16 * 2**20  # of a chunk; a tensor that has no more than that is saved as it is
GRAIN = 16  # rows whose changes are noted together


class Marked:
    """Notes which of a number of rows are written, for any number of `Chunks` to look at.

    Attributes:
        now: what a write is noted as; it grows whenever somebody has looked.
    """

    def __init__(self, rows: int) -> None:
        self.now = 1
        self._written = np.zeros(rows // GRAIN + 1, np.int64)

    def note(self, rows: Any) -> None:
        """Note that rows were written: a number, an array of them, or a slice with both ends."""
        if isinstance(rows, slice):
            self._written[rows.start // GRAIN : (rows.stop - 1) // GRAIN + 1] = self.now
        else:
            self._written[rows // GRAIN] = self.now

    def since(self, then: int, start: int, stop: int) -> bool:
        """Return whether any of the rows from `start` to before `stop` was written later than `then`."""
        return bool(self._written[start // GRAIN : (stop - 1) // GRAIN + 1].max() > then)


class Stored(Protocol):
    """A tensor that lies in files, each named by a digest of what it holds."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    rows: int
    digests: list[str]

    def read(self, into: Tensor) -> None:
        """Read it into a tensor of its dtype and shape."""
        ...


class Chunks:
    """The first rows of a tensor, to be saved in chunks.

    Attributes:
        rows: of each chunk but the last.
        digests: for each chunk, what it was saved as; None where it was not, or has changed since.
    """

    def __init__(self, tensor: Tensor, marked: Marked) -> None:
        self._tensor, self._marked, self._count, self._seen = tensor, marked, 0, 0
        row = max(tensor.nbytes // max(len(tensor), 1), 1)
        self.rows = max(CHUNK_BYTES // row // GRAIN, 1) * GRAIN
        self.digests: list[str | None] = []

    def first(self, count: int) -> Any:
        """Return what saves the first `count` rows: the rows where they are few, else this, which has looked."""
        if self._tensor.nbytes <= CHUNK_BYTES:
            return self._tensor[:count]
        self._count = count
        spans = list(self.spans())
        self.digests = [*self.digests, *[None] * len(spans)][: len(spans)]
        for i, (start, stop) in enumerate(spans):
            if self._marked.since(self._seen, start, stop):
                self.digests[i] = None
        self._look()
        return self

    def _look(self) -> None:
        self._seen = self._marked.now
        self._marked.now += 1

    @property
    def dtype(self) -> torch.dtype:
        return self._tensor.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self._count, *self._tensor.shape[1:]

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yield the rows from which and before which each chunk lies."""
        for start in range(0, self._count, self.rows):
            yield start, min(start + self.rows, self._count)

    def bytes_of(self, start: int, stop: int) -> np.ndarray:
        """Return what rows hold, uint8 `[B]`."""
        return self._tensor[start:stop].cpu().reshape(-1).view(torch.uint8).numpy()

    def read(self, into: Tensor) -> None:
        """Write the rows into a tensor of their dtype and shape."""
        into.copy_(self._tensor[: self._count])

    def fill(self, saved: Tensor | Stored) -> None:
        """Take in the first rows from a tensor, or from files, which then need not be written again."""
        into = self._tensor[: saved.shape[0]]
        if isinstance(saved, Tensor):
            into.copy_(saved)
            self.digests = []
            return
        if into.device.type == "cpu":
            saved.read(into)
        else:
            read = torch.empty(into.shape, dtype=into.dtype)
            saved.read(read)
            into.copy_(read)
        self.digests = list(saved.digests) if saved.rows == self.rows else []
        self._look()
