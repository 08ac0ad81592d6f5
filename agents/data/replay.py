"""The replay ring: transitions by environment, so that n-step windows are rows of a column."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.core.chunks import Chunks, Marked
from agents.core.saved import count, like, part
from agents.core.tree import to_numpy, to_tensor, tree_map
from agents.data.frames import Frames, Named, joined, stacked
from agents.data.storage import Allocate, dtype_of, writer

MOST_NEWS = 1_000  # parts of what is new, before they are put together
HALF = 2**24  # a random number of 48 bits is drawn in halves


class ReplayBuffer:
    """A ring of `capacity // num_envs` rows by `num_envs` columns, on one device; observations are stored raw.

    Each column has its own write head, which moves only for real transitions: dummies are not stored. Sampling
    is uniform over all stored transitions.

    Args:
        capacity: transitions.
        num_envs: columns.
        device: where they are stored.
        axes: those observations, by the name of the leaf ("" where there is one alone), whose frames are stored once
            each (`Frames`), and along which axis they are stacked, where they are; None where they are not.
        allocate: makes the tensors; by default in the device's memory.

    Attributes:
        store: what ticks are made of, each `[rows, num_envs, ...]`; empty before the first. Observations whose frames
            are stored once are their names there.
        flat: the same memory as `[rows * num_envs, ...]`; observations are `Named` instead of names.
        frames: of those, by the leaf's name.
        version: another number once `flat` is other memory.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        device: torch.device,
        axes: dict[str, int | None] | None = None,
        allocate: Allocate | None = None,
    ) -> None:
        self.rows = max(capacity // num_envs, 1)
        self.num_envs = num_envs
        self.device = device
        self.axes = axes or {}
        self.allocate: Allocate = allocate or partial(_in_memory, device)
        self.frames: dict[str, Frames] = {}
        self._marked = Marked(self.rows)
        self._chunks: dict[str, Any] = {}
        self._head = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._size = torch.zeros(num_envs, dtype=torch.int64, device=device)
        # As long as no dummy held a column back, all heads and sizes are the same: (head, size), else None.
        self._level: tuple[int, int] | None = (0, 0)
        self._columns = writer(torch.arange(num_envs, device=device))
        self.store: dict[str, Any] = {}
        self.flat: dict[str, Any] = {}
        self.version = 0
        self._writers: list[tuple[str, Any]] = []
        self.news: list[Tensor] | None = None  # what was written or forgotten since a sampler last looked, if one does

    def __len__(self) -> int:
        return int(self.size.sum())

    @property
    def head(self) -> Tensor:
        """The row that each column writes next, `[N]`."""
        return self._head if self._level is None else self._head.fill_(self._level[0])

    @property
    def size(self) -> Tensor:
        """How many rows of each column are filled, `[N]`."""
        return self._size if self._level is None else self._size.fill_(self._level[1])

    def _keep(self, store: dict[str, Any]) -> None:
        self.store, self.version = store, self.version + 1
        self.flat = {key: tree_map(lambda leaf: leaf.flatten(0, 1), value) for key, value in store.items()}
        for name, frames in self.frames.items():
            for key in ("obs", "next_obs"):
                place, leaf = (self.flat[key], name) if name else (self.flat, key)
                place[leaf] = Named(place[leaf], frames.frames, frames.axis)
        self._writers = [(key, tree_map(writer, value)) for key, value in store.items()]
        self._chunks = {key: tree_map(lambda leaf: Chunks(leaf, self._marked), value) for key, value in store.items()}

    def _begin(self, tick: dict[str, Any]) -> None:
        """Make room for transitions like these."""
        obs, next_obs = ({name: _leaf(tick[key], name) for name in self.axes} for key in ("obs", "next_obs"))
        self._make_frames(obs, {name: stacked(obs[name], next_obs[name], axis) for name, axis in self.axes.items()})
        self._make_store(tick)

    def _make_frames(self, examples: dict[str, Any], axes: dict[str, int | None]) -> None:
        self.frames = {
            name: Frames(self.rows, self.num_envs, example, axes[name], self.device, self.allocate)
            for name, example in examples.items()
        }

    def _examples(self) -> dict[str, Any]:
        return {name: (frames.example, frames.example) for name, frames in self.frames.items()}

    def _make_store(self, example: dict[str, Any]) -> None:
        """Allocate the store for transitions like those of a tick."""

        def make(leaf: Any) -> Tensor:
            return self.allocate((self.rows, self.num_envs, *leaf.shape[1:]), dtype_of(leaf))

        self._keep({key: tree_map(make, value) for key, value in self._with_names(example, self._examples()).items()})

    def _with_names(self, tick: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        """Return a tick with the names of frames in the place of observations: of obs and next_obs, by leaf."""
        for name, pair in names.items():
            for key, array in zip(("obs", "next_obs"), pair, strict=True):
                tick = tick | {key: tick[key] | {name: array} if name else array}
        return tick

    def _named(self, tick: dict[str, Any], columns: Any) -> dict[str, Any]:
        """Store the frames of a tick; return it with their names in the place of observations."""
        names = {
            name: frames.put(_leaf(tick["obs"], name), _leaf(tick["next_obs"], name), to_numpy(columns))
            for name, frames in self.frames.items()
        }
        return self._with_names(tick, names)

    def _forget(self) -> None:
        """Let go of the oldest transitions whose frames are there no more."""
        kept = np.min([frames.kept for frames in self.frames.values()], axis=0)
        lost = to_numpy(self.size) - kept
        if not (lost > 0).any():
            return
        head, self._level = to_numpy(self.head), None
        self._size.copy_(torch.from_numpy(np.where(lost > 0, kept, kept + lost)))
        for column in np.flatnonzero(lost > 0) if self.news is not None else ():
            rows = (head[column] - 1 - kept[column] - np.arange(lost[column])) % self.rows
            self._tell(torch.from_numpy(rows * self.num_envs + column).to(self.device))

    def add(self, tick: dict[str, Any], valid: Any = None) -> None:
        """Store one tick, arrays or tensors: obs, action, reward, terminated, truncated, next_obs, each `[N, ...]`.

        Where `valid`, bool `[N]`, is False, nothing is stored.
        """
        if not self.store:
            self._begin(tick)
        if valid is None and self._level is not None:
            row, size = self._level
            self._write(row, self._named(tick, self._columns) if self.frames else tick)
            self._level = (row + 1) % self.rows, min(size + 1, self.rows)
        else:
            head, size, columns, step = writer(self.head), writer(self.size), self._columns, 1
            self._level = None
            if valid is not None:
                self.cut(~valid)
                tick = {key: tree_map(lambda new: new[valid], value) for key, value in tick.items()}
                columns, step = columns[valid], valid
            self._write((head[columns], columns), self._named(tick, columns) if self.frames else tick)
            head[:] = (head + step) % self.rows
            size[:] = (size + step).clip(max=self.rows)
        if self.frames:
            self._forget()

    def extend(self, ticks: dict[str, Any], valid: Tensor | None = None) -> None:
        """Store many ticks of tensors at once, each `[T, N, ...]`, as `add` would one by one."""
        if self.device.type == "cpu":
            ticks = tree_map(to_numpy, ticks)
        total = len(ticks["reward"])
        if valid is not None or self._level is None or not self.store or self.frames:
            flags = None if valid is None else writer(to_tensor(valid, self.device))
            for t in range(total):
                self.add(tree_map(lambda rows, t=t: rows[t], ticks), None if flags is None else flags[t])
            return
        (row, size), start = self._level, 0
        while start < total:
            count = min(total - start, self.rows - row)
            part = slice(start, start + count)
            self._write(
                slice(row, row + count),
                ticks if count == total else tree_map(lambda rows, part=part: rows[part], ticks),
            )
            row, size, start = (row + count) % self.rows, min(size + count, self.rows), start + count
        self._level = row, size

    def _write(self, index: Any, tick: dict[str, Any]) -> None:
        self._marked.note(to_numpy(index[0]) if isinstance(index, tuple) else index)
        if self.news is not None:
            self._tell(self._positions(index))
        for key, rows in self._writers:
            if isinstance(rows, dict):
                for leaf, array in rows.items():
                    array[index] = tick[key][leaf]
            else:
                rows[index] = tick[key]

    def _tell(self, positions: Tensor) -> None:
        assert self.news is not None
        self.news.append(positions)
        if len(self.news) > MOST_NEWS:
            self.news[:] = [torch.cat(self.news).unique()]  # so that it takes no more than the buffer has places

    def _positions(self, index: Any) -> Tensor:
        """Return what an index of rows, or of rows and columns, means in `flat`."""
        if isinstance(index, tuple):
            row, column = (torch.as_tensor(part, device=self.device) for part in index)
            return row * self.num_envs + column
        rows = index if isinstance(index, slice) else slice(index, index + 1)
        return torch.arange(rows.start * self.num_envs, rows.stop * self.num_envs, device=self.device)

    def cut(self, columns: Any = ...) -> None:
        """Let no window go on after the newest transition of these columns: what follows is another episode."""
        if self.store:
            rows = writer(self.head)[columns] - 1
            self._marked.note(to_numpy(rows) % self.rows)
            writer(self.store["truncated"])[rows, self._columns[columns]] = True

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw stored transitions with replacement; return which, as `row * num_envs + column`, `[count]`."""
        if self._level is not None:  # the rows filled are always the first
            return torch.randint(self._level[1] * self.num_envs, (count,), generator=generator, device=self.device)
        last_flat = self.size.cumsum(0)
        high, low = torch.randint(HALF, (2, count), generator=generator, device=self.device)
        flat = (high * last_flat[-1] + low * last_flat[-1] // HALF) // HALF  # Apple's GPUs have no float64
        column = torch.searchsorted(last_flat, flat, right=True)
        row = flat - (last_flat - self.size)[column]
        if self.frames:  # where the oldest were forgotten, those left do not begin in the first row
            row = (row + torch.where(self.size < self.rows, self.head - self.size, 0)[column]) % self.rows
        return row * self.num_envs + column

    def holds(self, index: Tensor) -> Tensor:
        """Return which places, `row * num_envs + column`, hold a transition that can be drawn, bool `[B]`."""
        return self.length(index) <= self.size[index % self.num_envs]

    def length(self, index: Tensor) -> Tensor:
        """Return how many transitions from each drawn one on, itself included, are stored in its column, `[B]`."""
        head = self._level[0] if self._level is not None else self.head[index % self.num_envs]
        return (head - 1 - index // self.num_envs) % self.rows + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the heads and the filled rows; where those are large, as `Chunks`."""
        level, filled = self._level is not None, int(self.size.max())
        for frames in self.frames.values():
            filled = max(filled, frames.filled)
        store = {key: tree_map(lambda chunks: chunks.first(filled), value) for key, value in self._chunks.items()}
        return {
            "rows": self.rows,
            "level": level,
            "head": self.head,
            "size": self.size,
            "filled": filled,
            "store": store,
            "frames": {name: frames.state_dict() for name, frames in self.frames.items()},
        }

    def load_state_dict(self, state: dict[str, Any], tick: dict[str, Any] | None = None) -> None:
        """Take back what `state_dict` returned, or what was read of it.

        Args:
            tick: what `add` takes, for its keys, dtypes and shapes; None to believe the state.

        Raises:
            ValueError: the buffer has another capacity, number of environments or kind of transitions.
        """
        rows, head, size, store = (part(state, name) for name in ("rows", "head", "size", "store"))
        if rows != self.rows or getattr(head, "shape", None) != self._head.shape:
            columns = len(head) if getattr(head, "shape", ()) else None
            raise ValueError(f"saved replay has {rows} rows x {columns}, this one {self.rows} x {self.num_envs}")
        like(head, self._head, "head"), like(size, self._size, "size")
        level, filled = part(state, "level") is True, count(part(state, "filled"), "filled")
        if not (head.min() >= 0 and head.max() < self.rows and size.min() >= 0 and size.max() <= filled <= self.rows):
            raise ValueError("the saved replay's heads and sizes point outside it")
        if level and (head.min() < head.max() or size.min() < size.max()):
            raise ValueError("the saved replay's columns are not as long as one another")
        frames = part(state, "frames")
        if not isinstance(frames, dict) or frames.keys() != (self.axes.keys() if store else set()):
            raise ValueError("frames has other parts than it should")
        axes = {name: part(saved, "axis") for name, saved in frames.items()}
        if any(axis not in (None, self.axes[name]) for name, axis in axes.items()):
            raise ValueError("the saved frames lie along another axis")
        if tick is not None:
            examples = {name: _leaf(tick["obs"], name) for name in axes}
        else:
            examples = {name: joined(part(saved, "last"), axes[name]) for name, saved in frames.items()}
        self._make_frames(examples, axes)
        if tick is not None:
            like(store, self._with_names(tick, self._examples()) if filled or store else {}, "replay", filled)
        for name, saved in frames.items():
            self.frames[name].load_state_dict(saved)
            self.frames[name].refuse_others(to_numpy(head), to_numpy(size))
        self._head.copy_(head)
        self._size.copy_(size)
        self._level = (int(head[0]), int(size[0])) if level else None
        self._keep(
            {
                key: tree_map(lambda leaf: self.allocate((self.rows, *leaf.shape[1:]), leaf.dtype), value)
                for key, value in store.items()
            }
        )
        for key, value in store.items():
            tree_map(lambda chunks, saved: chunks.fill(saved), self._chunks[key], value)
        for name, mine in self.frames.items():
            for key in ("obs", "next_obs"):
                mine.refuse_strange(_leaf(self.store[key], name)[:filled])


def _in_memory(device: torch.device, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


def _leaf(obs: Any, name: str) -> Any:
    """Return the leaf of that name; an observation that is one alone has the name ""."""
    return obs[name] if name else obs
