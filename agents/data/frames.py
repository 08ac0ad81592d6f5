"""Large observations in a replay buffer: every frame is stored once, and observations name the frames they stack."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.core.chunks import Chunks, Marked
from agents.core.saved import like, part
from agents.core.tree import to_numpy
from agents.data.storage import Allocate, dtype_of, writer

SPARE = 64  # rows for each of which a column has one frame more: episodes of so many steps fit without loss
BLANK = -1  # the count of a frame of zeros, which lies nowhere in the ring


class Named(NamedTuple):
    """Observations by the names of their frames.

    Attributes:
        names: int32 `[M, S]`, rows of `frames`.
        frames: `[F, ...]`.
        axis: where the S frames lie in an observation; None where it is one frame.
    """

    names: Tensor
    frames: Tensor
    axis: int | None

    def take(self, where: Tensor) -> Tensor:
        """Return the observations `where`, int64 `[B]`."""
        names = self.names.index_select(0, where)
        found = self.frames.index_select(0, names.flatten()).unflatten(0, names.shape)
        return joined(found, self.axis)


def joined(frames: Tensor, axis: int | None) -> Tensor:
    """Return the observations `[n, ...]` of frames `[n, S, ...]`, a view."""
    return frames.squeeze(1) if axis is None else frames.movedim(1, axis + 1)


def apart(obs: Any, axis: int | None) -> Any:
    """Return the frames `[n, S, ...]` of observations `[n, ...]`, a view; an array or tensor."""
    if axis is None:
        return obs[:, None]
    return obs.movedim(axis + 1, 1) if isinstance(obs, Tensor) else np.moveaxis(obs, axis + 1, 1)


def same_rows(one: Any, other: Any) -> np.ndarray:
    """Return which of n arrays are equal, bool `[n]`."""
    if not one.size if isinstance(one, np.ndarray) else not one.numel():
        return np.ones(len(one), bool)
    found: np.ndarray = to_numpy((one == other).reshape(len(one), -1).all(1))
    return found


def stacked(obs: Any, next_obs: Any, axis: int | None) -> int | None:
    """Return `axis` if along it a successor is its predecessor moved on by one frame, else None."""
    if axis is None:
        return None
    return axis if same_rows(apart(obs, axis)[:, 1:], apart(next_obs, axis)[:, :-1]).all() else None


class Frames:
    """A ring of frames for each column of a replay buffer.

    An observation is compared with the last successor, and a successor with its observation moved on by a frame: what
    is equal is named again, and all else is stored, so that what is taken out is what was put in, whatever an
    environment does. Frames are forgotten in the order in which they came; where a column has more than its ring
    holds, because its episodes are short, it forgets its oldest transitions before they are written over.

    Args:
        rows, num_envs: of the buffer.
        example: observations `[n, ...]`, for their dtype and shape.
        axis: where the frames of an observation lie; None where it is one frame.
        device: of the buffer.
        allocate: makes the ring.

    Attributes:
        example: names as `put` returns them.
        kept: how many of its newest transitions each column can still be asked for, `[N]`.
        frames: the ring, `[size * N + 1, ...]`, and at the end a frame of zeros.
    """

    def __init__(
        self, rows: int, num_envs: int, example: Any, axis: int | None, device: torch.device, allocate: Allocate
    ) -> None:
        frames = apart(example[:1], axis)
        self.axis, self.stack, self._rows, self._num_envs, self._device = axis, frames.shape[1], rows, num_envs, device
        self._size = ring_size(rows, self.stack)
        self.frames = allocate((self._size * num_envs + 1, *frames.shape[2:]), dtype_of(frames))
        self.frames[-1] = 0
        self._ring = writer(self.frames)
        self._marked = Marked(len(self.frames))
        self._chunks = Chunks(self.frames, self._marked)
        self.example = np.zeros((num_envs, self.stack), np.int32)
        # the frames of the last successors, and their counts
        self._last = torch.zeros((num_envs, *frames.shape[1:]), dtype=self.frames.dtype, device=device)
        self._last_rows = writer(self._last)
        self._counts = np.full((num_envs, self.stack), BLANK)
        self._first = np.zeros((rows, num_envs), np.int64)  # count of the oldest frame that a transition needs
        self._head = np.zeros(num_envs, np.int64)  # frames stored so far
        self._tail = np.zeros(num_envs, np.int64)  # no frame before that is needed; looked up when room is short
        self._written = np.zeros(num_envs, np.int64)  # transitions stored so far
        self.kept = np.zeros(num_envs, np.int64)

    def put(self, obs: Any, next_obs: Any, columns: np.ndarray) -> tuple[Any, Any]:
        """Store a transition in each of these columns, `[n]`; return the names of both observations, int32 `[n, S]`.

        Args:
            obs, next_obs: arrays or tensors `[n, ...]`, on the buffer's device.
        """
        if self._device.type == "cpu":
            obs, next_obs = to_numpy(obs), to_numpy(next_obs)
        before, after = apart(obs, self.axis), apart(next_obs, self.axis)
        known = same_rows(before, self._last_rows[columns])
        moved = same_rows(before[:, 1:], after[:, :-1])
        self.kept[columns] = self.kept[columns].clip(max=self._rows - 1)  # a full column's oldest is written over
        self._make_room(columns, np.where(known, 0, self.stack) + np.where(moved, 1, self.stack))
        counts = self._counts[columns]
        for i in np.flatnonzero(~known):
            counts[i] = self._store(int(columns[i]), before[i])
        following, grown = np.empty_like(counts), columns[moved]
        following[:, :-1] = counts[:, 1:]
        following[moved, -1] = self._head[grown]
        places = self._head[grown] % self._size * self._num_envs + grown
        self._ring[places] = after[:, -1] if len(grown) == len(columns) else after[:, -1][moved]
        self._marked.note(places)
        self._head[grown] += 1
        for i in np.flatnonzero(~moved):
            following[i] = self._store(int(columns[i]), after[i])
        self._last_rows[columns], self._counts[columns] = after, following
        both = np.concatenate([counts, following], axis=1)
        self._first[self._written[columns] % self._rows, columns] = self._oldest(both, columns)
        self._written[columns] += 1
        self.kept[columns] += 1
        names: Any = self._name(both, columns[:, None])
        if self._device.type != "cpu":
            names = torch.from_numpy(names).to(self._device)
        return names[:, : self.stack], names[:, self.stack :]

    def _name(self, counts: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return where frames lie in the ring."""
        where = counts % self._size * self._num_envs + columns
        return np.where(counts == BLANK, len(self.frames) - 1, where).astype(np.int32)

    def _oldest(self, counts: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the least of the counts `[n, S]`, blank frames aside."""
        return np.where(counts == BLANK, self._head[columns, None], counts).min(1)

    def _make_room(self, columns: np.ndarray, more: np.ndarray) -> None:
        """Forget the oldest transitions of columns whose rings do not hold so many frames more."""
        if (self._head[columns] + more - self._tail[columns] <= self._size).all():
            return
        needed = self._oldest(self._counts[columns], columns)  # the next observation may name these
        while True:
            kept = self.kept[columns]
            first = self._first[(self._written[columns] - kept) % self._rows, columns]
            oldest = np.where(kept > 0, np.minimum(first, needed), needed)
            short = (self._head[columns] + more - oldest > self._size) & (kept > 0)
            self._tail[columns] = oldest
            if not short.any():
                return
            self.kept[columns[short]] -= 1

    def _store(self, column: int, frames: Any) -> list[int]:
        """Store an observation whole; return its frames' counts. Paddings of zeros or of one frame take no room."""
        counts: list[int] = []
        for i, frame in enumerate(frames):
            if i and (frame == frames[i - 1]).all():
                counts.append(counts[-1])
            elif not frame.any():
                counts.append(BLANK)
            else:
                count = int(self._head[column])
                place = count % self._size * self._num_envs + column
                self._ring[place] = frame
                self._marked.note(place)
                self._head[column] += 1
                counts.append(count)
        return counts

    @property
    def filled(self) -> int:
        """How many rows of the buffer have been written."""
        return min(int(self._written.max()), self._rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the frames that were written and what they are named by."""
        filled = min(int(self._head.max()), self._size) * self._num_envs
        numbers = {"first": self._first[: self.filled]}
        numbers |= {"counts": self._counts, "head": self._head, "written": self._written, "kept": self.kept}
        copies = {name: torch.from_numpy(array.copy()) for name, array in numbers.items()}
        return {"axis": self.axis, "frames": self._chunks.first(filled), "last": self._last, **copies}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: it is of other observations or another buffer.
        """
        mine = {"counts": self._counts, "head": self._head, "written": self._written, "kept": self.kept}
        found = {name: to_numpy(like(part(state, name), array, name)) for name, array in mine.items()}
        head, written, kept, counts = found["head"], found["written"], found["kept"], found["counts"]
        if min(head.min(), written.min(), kept.min()) < 0 or (kept > written.clip(max=self._rows)).any():
            raise ValueError("the saved frames' counts contradict one another")
        if (counts < BLANK).any() or (counts >= head[:, None]).any():
            raise ValueError("the saved frames' names point outside them")
        rows = min(int(written.max()), self._rows)
        first = to_numpy(like(part(state, "first"), self._first[0], "first", rows))
        if (first < 0).any() or (first > head).any():
            raise ValueError("the saved frames' names point outside them")
        filled = min(int(head.max()), self._size) * self._num_envs
        saved = like(part(state, "frames"), self.frames[0], "frames", filled)
        last = like(part(state, "last"), self._last, "last")
        self._chunks.fill(saved)
        self._last.copy_(last)
        self._first[:rows] = first
        self._counts[:], self._head[:], self._written[:], self.kept[:] = counts, head, written, kept

    def refuse_others(self, head: np.ndarray, size: np.ndarray) -> None:
        """Raise ValueError where a buffer's heads and sizes, `[N]`, are not those of these frames."""
        if (self._written % self._rows != head).any() or (size > self.kept).any():
            raise ValueError("the saved frames are of other transitions")

    def refuse_strange(self, names: Tensor) -> None:
        """Raise ValueError where names, int32, are of no frames that were written."""
        filled = min(int(self._head.max()), self._size) * self._num_envs
        if not (((names >= 0) & (names < filled)) | (names == len(self.frames) - 1)).all():
            raise ValueError("the saved observations name frames that are not there")


def ring_size(rows: int, stack: int) -> int:
    """Return how many frames a column of a buffer has room for."""
    return rows + rows // SPARE + 4 * stack
