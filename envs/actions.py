"""Canonical actions, and the codec between them and what an environment takes.

Everything above the environments sees only these: Discrete from 0 (int64 `[N]`), flat Box float32 (`[N, d]`), flat
MultiDiscrete from 0 (int64 `[N, k]`), flat MultiBinary (int64 `[N, k]` of 0 and 1), and for Dict and Tuple of these,
however nested, `Hybrid`: one float32 row `[N, d]`, so that whatever keeps or moves actions needs to know one array.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from envs.api import Array
from envs.errors import UserError
from envs.spaces import MOST_ENTRIES, children, float_box, from_zero, int_range, leaves_in

_ACTIONS = "Discrete, Box, MultiDiscrete and MultiBinary, and Dict and Tuple of these"


class Hybrid(Space[np.ndarray]):
    """Actions of several parts: a row of float32 numbers, those of each part one after the other.

    The choice of a Discrete part is one number, whole as those of MultiDiscrete and MultiBinary are.

    Attributes:
        parts: path ("move", "arm/0") -> canonical space, in the order of the row.
    """

    def __init__(self, parts: Mapping[str, Space]) -> None:
        self.parts = dict(parts)
        ends = list(accumulate((math.prod(part.shape or ()) for part in self.parts.values()), initial=0))
        self._ends = list(pairwise(ends))
        super().__init__((ends[-1],), np.float32)

    def split(self, actions: Any) -> list[Any]:
        """Return each part's numbers of rows `[..., d]`, arrays or tensors: `[...]` of Discrete, else `[..., k]`."""
        columns = zip(self.parts.values(), self._ends, strict=True)
        return [
            actions[..., start] if isinstance(part, spaces.Discrete) else actions[..., start:end]
            for part, (start, end) in columns
        ]

    def seed(self, seed: Any = None) -> Any:
        found = super().seed(seed)
        for part in self.parts.values():
            part.seed(int(self.np_random.integers(2**31)))
        return found

    def sample(self, mask: Any = None, probability: Any = None) -> np.ndarray:
        """Draw a row; `mask` is as in observations."""
        sizes = [sum(choices(part)) for part in self.parts.values()]
        legal = np.ones(sum(sizes)) if mask is None else np.asarray(mask)
        masks = np.split(legal, np.cumsum(sizes)[:-1])
        drawn = [legal_sample(*pair) for pair in zip(self.parts.values(), masks, strict=True)]
        return np.concatenate([np.atleast_1d(part) for part in drawn]).astype(np.float32)

    def contains(self, x: Any) -> bool:
        row = np.asarray(x)
        return row.shape == self.shape and is_canonical(self, row[None]) and bool(np.isfinite(row).all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hybrid) and list(self.parts.items()) == list(other.parts.items())

    def __repr__(self) -> str:
        return f"Dict({', '.join(f'{key!r}: {part}' for key, part in self.parts.items())})"


def is_canonical(space: Space, actions: np.ndarray) -> bool:
    """Whether numbers `[N, ...]` are actions of a canonical space; those of Box may be any, as they are clipped."""
    if isinstance(space, Hybrid):
        return all(is_canonical(*pair) for pair in zip(space.parts.values(), space.split(actions), strict=True))
    if isinstance(space, spaces.Box):
        return True
    count: Any = 2 if isinstance(space, spaces.MultiBinary) else getattr(space, "n", None) or space.nvec  # type: ignore[attr-defined]
    return bool(((actions >= 0) & (actions < count) & (actions == np.floor(actions))).all())


def legal_sample(space: Space, mask: Any = None) -> Any:
    """Draw an action of a canonical space uniformly, among the legal ones where `mask` says which those are, `[M]`."""
    counts = choices(space)
    if mask is None or not counts:
        return space.sample()
    legal: Any = np.asarray(mask).astype(np.int8)
    if isinstance(space, spaces.MultiDiscrete):
        legal = tuple(np.split(legal, np.cumsum(counts)[:-1]))
    return space.sample(legal)


class ActionCodec:
    """Turns canonical actions into what the environment expects.

    Box actions are clipped to the bounds; with `rescale`, the canonical space is [-1, 1] instead, and
    actions are clipped to that and mapped onto the bounds.

    Attributes:
        raw: the environment's own space.
        space: the canonical space of one environment.

    Raises:
        UserError: the space is none of those allowed, or `rescale` is asked of a Box without finite bounds.
    """

    def __init__(self, space: Space, rescale: bool = False) -> None:
        self.raw = space
        leaves = [("/".join(map(str, path)), leaf) for path, leaf in leaves_in(space)]
        by_key = {key: _Leaf(leaf, rescale, f" {key!r}" if key else "") for key, leaf in leaves}
        if not leaves or len(by_key) < len(leaves):
            raise UserError(f"action space {space} has {'two parts of one path' if leaves else 'no parts'}")
        self._leaves = list(by_key.values())
        self._hybrid = None if children(space) is None else Hybrid({key: leaf.space for key, leaf in by_key.items()})
        self.space: Space = self._leaves[0].space if self._hybrid is None else self._hybrid

    def decode(self, actions: Array) -> Any:
        """Return a canonical batch as a fresh raw one, of Dict and Tuple a nested one of arrays `[N, *shape]`.

        That is how Gymnasium's vector environments take it.

        Raises:
            UserError: a Box action is NaN.
        """
        if self._hybrid is None:
            return self._leaves[0].decode(actions)
        refuse_nan(actions)
        columns = zip(self._leaves, self._hybrid.split(actions), strict=True)
        return _nested(self.raw, (leaf.decode(column) for leaf, column in columns))

    def encode(self, batch: Any) -> np.ndarray:
        """Return a raw batch, as `decode` returns it, as a canonical one `[N, ...]`; numbers out of bounds stay so.

        Raises:
            ValueError: it does not have the form of the environment's actions.
        """
        arrays = list(_parts(self.raw, batch))
        columns = [leaf.encode(array) for leaf, array in zip(self._leaves, arrays, strict=True)]
        if self._hybrid is None:
            return columns[0]
        return np.concatenate([column.reshape(len(column), -1).astype(np.float32) for column in columns], axis=1)

    @property
    def leaves(self) -> list[tuple[str, Space]]:
        """Return the path of each part ("" of an action that has none) and its own space."""
        return [("/".join(map(str, path)), leaf) for path, leaf in leaves_in(self.raw)]

    def each(self, batch: Any) -> Sequence[Any]:
        """Return the action of each environment in a batch that `decode` returned."""
        return batch if self._hybrid is None else [_row(batch, i) for i in range(_length(batch))]


class _Leaf:
    """A codec of one array; `name` says which in messages."""

    def __init__(self, space: Space, rescale: bool, name: str) -> None:
        self._shape: tuple[int, ...] = space.shape or ()
        self._dtype = np.dtype(space.dtype)
        self._start: np.ndarray | None = None
        self._scale: np.ndarray | None = None
        if (entries := math.prod(self._shape)) > MOST_ENTRIES:
            raise UserError(f"action space{name} has {entries:,} entries; at most {MOST_ENTRIES:,} are allowed")
        if not entries:
            raise UserError(f"action space{name} is {space}, in which there is nothing to do")
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            self._start, count = int_range(space)
            self.space: Space = from_zero(count)
        elif isinstance(space, spaces.MultiBinary):
            self._start = np.zeros(self._shape, np.int64)
            self.space = spaces.MultiBinary(int(np.prod(self._shape)))
        elif isinstance(space, spaces.Box):
            self._low, self._high = space.low, space.high
            whole = self._dtype.kind in "iu"
            self._floats = (space.low.astype(np.float64), _floats_below(space.high)) if whole else None
            self.space = self._box(space, rescale)
        else:
            raise UserError(f"action space{name} is {space}; it must be {_ACTIONS}")

    def _box(self, space: spaces.Box, rescale: bool) -> spaces.Box:
        size = int(np.prod(self._shape))
        if not rescale:
            return float_box(space.low.ravel(), space.high.ravel(), (size,))
        if not space.is_bounded():
            raise UserError(
                f"actions from -1 to 1 cannot be mapped onto {space}, which has infinite bounds: give finite ones, or "
                "use --algo ppo without --rescale-action and --squash-output"
            )
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        self._scale, self._middle = (high - low) / 2, (high + low) / 2
        return float_box(-1.0, 1.0, (size,))

    def decode(self, actions: Array) -> np.ndarray:
        if self._start is not None:
            whole = actions.astype(np.int64, copy=False)
            return (whole.reshape(-1, *self._shape) + self._start).astype(self._dtype, copy=False)
        refuse_nan(actions)
        if self._scale is not None:
            raw = actions.reshape(-1, *self._shape).clip(-1.0, 1.0) * self._scale + self._middle
        else:
            raw = actions.reshape(-1, *self._shape)
        if self._floats is not None:  # a bound as a float may be beyond what the integers hold
            return np.clip(np.clip(np.rint(raw), *self._floats).astype(self._dtype), self._low, self._high)
        raw = raw.astype(self._dtype)
        return np.minimum(np.maximum(raw, self._low, out=raw), self._high, out=raw)

    def encode(self, raw: Any) -> np.ndarray:
        array = np.asarray(raw)
        whole = self._start is not None
        if array.shape[1:] != self._shape or array.dtype.kind not in ("iub" if whole else "iubf"):
            kind = "whole numbers" if whole else "numbers"
            raise ValueError(
                f"actions have shape {array.shape} and dtype {array.dtype}, {kind} [N, ...] of {self._shape}"
            )
        if self._start is not None:
            return (array.astype(np.int64) - self._start).reshape(len(array), *(self.space.shape or ()))
        if self._scale is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                array = np.where(self._scale > 0, (array - self._middle) / self._scale, 0.0)
        return array.reshape(len(array), -1).astype(np.float32)


def _floats_below(whole: np.ndarray) -> np.ndarray:
    """Return the largest float64 that is not above each integer."""
    nearest = whole.astype(np.float64)
    if whole.dtype.itemsize < 8:  # all of these are floats
        return nearest
    above = (nearest.astype(object) > whole.astype(object)).astype(bool)  # compared exactly, as Python's numbers are
    return np.where(above, np.nextafter(nearest, -np.inf), nearest)


def _parts(space: Space, batch: Any) -> Iterator[Any]:
    """Yield the arrays of a raw batch in the order of the leaves."""
    if (parts := children(space)) is None:
        yield batch
        return
    for key, child in parts:
        try:
            inner = batch[key]
        except (LookupError, TypeError) as error:
            raise ValueError(f"actions have no part {key!r}") from error
        yield from _parts(child, inner)


def _nested(space: Space, arrays: Iterator[np.ndarray]) -> Any:
    """Put arrays, in the order of the leaves, where the leaves are in a Dict or Tuple."""
    if (parts := children(space)) is None:
        return next(arrays)
    found = {key: _nested(child, arrays) for key, child in parts}
    return found if isinstance(space, spaces.Dict) else tuple(found.values())


def _row(batch: Any, i: int) -> Any:
    if isinstance(batch, dict):
        return {key: _row(leaf, i) for key, leaf in batch.items()}
    return tuple(_row(leaf, i) for leaf in batch) if isinstance(batch, tuple) else batch[i]


def _length(batch: Any) -> int:
    while not isinstance(batch, np.ndarray):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return len(batch)


def refuse_nan(actions: np.ndarray) -> None:
    """Raise UserError if a float action is NaN, which no environment could be blamed for."""
    if math.isnan(np.vdot(actions, actions)):
        raise UserError("an action is NaN: the policy has diverged; try a smaller learning rate")


def bounds(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Return what the numbers of canonical Box or Hybrid actions are clipped to, float32 `[d]` each: low and high.

    Those of choices among them are not, so that theirs are infinite.
    """
    if isinstance(space, spaces.Box):
        return space.low, space.high
    assert isinstance(space, Hybrid)
    high = np.full(space.shape or (), np.inf, np.float32)
    low = -high
    for part, mine, most in zip(space.parts.values(), space.split(low), space.split(high), strict=True):
        if isinstance(part, spaces.Box):
            mine[:], most[:] = part.low, part.high
    return low, high


def choices(space: Space) -> list[int]:
    """Return how many values each choice of Discrete and MultiDiscrete has: what a mask says the legal ones of.

    Args:
        space: canonical, or an environment's own.
    """
    match space:
        case spaces.Discrete():
            return [int(space.n)]
        case spaces.MultiDiscrete():
            return space.nvec.ravel().tolist()
        case Hybrid():
            parts = list(space.parts.values())
        case _:
            parts = [child for _, child in children(space) or ()]
    return [count for part in parts for count in choices(part)]
