"""Canonical spaces, and the codecs between them and what an environment really speaks.

Everything above the environments sees only these:

* observation leaves: Box float32, Box uint8 (images), Discrete from 0 (int64 `[N]`) and flat
  MultiDiscrete from 0 (int64 `[N, k]`). Dict and Tuple, however nested, become one flat Dict whose
  keys are the paths to the leaves ("camera", "joints/0"). MultiBinary becomes Box(0, 1), and a Box
  of shape () becomes one of shape (1,). Text and sequences become arrays of one length (envs.words).
* actions: those of `envs.actions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from envs import saved
from envs.api import Obs
from envs.errors import UserError
from envs.words import Reader, understood

OBSERVATIONS = "Box, Discrete, MultiDiscrete, MultiBinary, Text and Sequence of Discrete, and Dict and Tuple of these"
MOST_ENTRIES = 2**24  # of a space, described in a file or an environment's own: 64 MiB of float32
# what NumPy, tensors on a GPU or with a gradient, and indexing raise on what fits no array or path
MISFITS = (ValueError, TypeError, RuntimeError, LookupError)


class BadData(ValueError):
    """An environment returned what its spaces do not allow; `row` says which one of the batch (None: all of it)."""

    def __init__(self, row: int | None, reason: str) -> None:
        super().__init__(reason)
        self.row = row


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One array of an observation: where it lies in the raw observation, and what becomes of it."""

    path: tuple[Any, ...]
    raw: Space
    canonical: spaces.Box | spaces.Discrete | spaces.MultiDiscrete
    shape: tuple[int, ...]  # of the raw array
    dtype: np.dtype  # of the raw array
    start: np.ndarray | None = None  # the smallest value of each entry of an integer leaf
    count: np.ndarray | None = None  # how many values each of those entries has
    read: Reader | None = None  # what makes an array of a text or a sequence
    unclean: bool = False  # whether numbers need not be finite
    optional: bool = False  # whether it may be missing, which NaN then stands for

    @property
    def key(self) -> str:
        return "/".join(map(str, self.path))

    @property
    def name(self) -> str:
        return f"observation {self.key!r}" if self.path else "observation"

    def pick(self, observation: Any) -> Any:
        for part in self.path:
            observation = observation[part]
        return observation

    def value(self, observation: Any) -> Any:
        """Return the raw array, or what can become one, in a raw observation; of a text or sequence, its array."""
        try:
            found = self.pick(observation)
        except MISFITS:
            if not self.optional:
                raise
            return np.full(self.shape, np.nan, np.float32)
        return found if self.read is None else self.read(found)

    def values(self, batch: Any) -> np.ndarray:
        """Return the raw batch `[N, *shape]` in a batched raw observation, as a copy."""
        found = self.pick(batch)
        return np.array(found if self.read is None else [self.read(one) for one in found])

    def _takes(self, dtype: np.dtype) -> bool:
        """Whether numbers of a dtype can be read; of what stays uint8, larger ones would come out as others."""
        rule: Any = "safe" if self.canonical.dtype == np.uint8 else "same_kind"
        return dtype is self.dtype or np.can_cast(dtype, self.dtype, rule)

    def convert(self, batch: np.ndarray) -> np.ndarray:
        """Return a raw batch `[N, *shape]`, which is ours to keep, as canonical; ValueError if it does not fit."""
        if batch.shape[1:] != self.shape or not self._takes(batch.dtype):
            raise ValueError("shape or dtype")
        if self.start is not None and self.count is not None:
            batch = batch.astype(np.int64) - self.start
            # Read as unsigned, a negative number is huge: one comparison tests both ends.
            if (batch.view(np.uint64) >= self.count).any():
                raise ValueError("range")
        else:
            if batch.dtype != self.canonical.dtype:
                with np.errstate(over="ignore"):  # found as infinite below
                    batch = batch.astype(self.canonical.dtype)
            # A sum of squares is finite only if every entry is; if not, it may just have overflowed.
            float32 = batch.dtype == np.float32 and not self.unclean
            if float32 and not (math.isfinite(np.vdot(batch, batch)) or np.isfinite(batch).all()):
                raise ValueError("not finite")
        return batch if batch.shape[1:] == self.canonical.shape else batch.reshape(-1, *self.canonical.shape or ())

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with one raw value of this leaf, or None."""
        if self.read is not None:
            try:
                self.read(value)
            except MISFITS as error:
                return str(error)
            return None
        try:
            array = np.asarray(value)
        except MISFITS:
            return f"is not one array: {brief(value)}"
        if array.dtype.kind not in "biuf":
            return f"is {brief(value)}, which is not numbers"
        if array.shape != self.shape:
            return f"has shape {array.shape}, but its space says {self.shape}"
        if not self._takes(array.dtype):
            return f"has dtype {array.dtype}, but its space says {self.dtype}"
        if array.dtype.kind == "f" and not self.unclean and np.isnan(array).any():
            return "contains NaN"
        try:
            self.convert(array[None].copy())
        except ValueError:
            limit = "finite in float32" if self.start is None else f"in {self.raw}"
            return f"is {brief(value)}, which is not {limit}"
        return None


def brief(value: Any) -> str:
    text = repr(value)
    return f"{text[:60]}{'...' if len(text) > 60 else ''} ({type(value).__name__})"


class ObservationCodec:
    """Turns raw observations into canonical ones, and refuses what does not fit their space.

    Args:
        space: the environment's own.
        unclean: let NaN and infinity through, for `envs.adapters.cleaning` to deal with.
        missing: let leaves of floats be missing, as leaves of NaN.

    Attributes:
        raw: the environment's own space.
        space: the canonical space of one environment.

    Raises:
        UserError: the space holds something that no network here can read.
    """

    def __init__(self, space: Space, unclean: bool = False, missing: bool = False) -> None:
        self.raw = space
        leaves = [_leaf(*found) for found in leaves_in(space)]
        if unclean:
            floats = [leaf.canonical.dtype == np.float32 for leaf in leaves]
            leaves = [
                replace(leaf, unclean=is_float, optional=missing and is_float and bool(leaf.path))
                for leaf, is_float in zip(leaves, floats, strict=True)
            ]
        self._plain = not isinstance(space, spaces.Dict | spaces.Tuple)
        if self._plain:
            self.space: Space = leaves[0].canonical
        else:
            by_key = {leaf.key: leaf for leaf in leaves}
            if not leaves or len(by_key) < len(leaves):
                raise UserError(f"observation space {space} has {'two leaves of one path' if leaves else 'no leaves'}")
            self.space = spaces.Dict({key: leaf.canonical for key, leaf in by_key.items()})
            leaves = [by_key[key] for key in self.space.spaces]
        self._leaves = leaves

    def is_one(self, observation: Any) -> bool:
        """Whether a raw observation is one environment's, by the shape of its first leaf, rather than a batch."""
        leaf = self._leaves[0]
        try:
            if leaf.read is not None:
                return leaf.fault(leaf.pick(observation)) is None
            return np.shape(leaf.pick(observation)) == leaf.shape
        except MISFITS:
            return True  # encoding it says what is wrong

    def encode(self, raws: Sequence[Any]) -> Obs:
        """Stack N raw observations into fresh canonical arrays `[N, ...]`.

        Raises:
            BadData: one has a wrong shape or dtype, is not finite, or leaves a Discrete range.
        """
        try:
            return self.tree([leaf.convert(np.array([leaf.value(raw) for raw in raws])) for leaf in self._leaves])
        except MISFITS:
            return self._encode_rows(raws)

    def encode_batch(self, batch: Any) -> Obs:
        """Copy a batched raw observation, as a Gymnasium vector environment returns it, into canonical arrays.

        Raises:
            BadData: as `encode`.
        """
        leaf = self._leaves[0]
        try:
            arrays = []
            for leaf in self._leaves:
                arrays.append(leaf.convert(leaf.values(batch)))
            return self.tree(arrays)
        except MISFITS as error:
            try:
                rows = list(leaf.pick(batch))
            except MISFITS:
                raise BadData(None, f"{leaf.name} is missing from {brief(batch)}") from error
            if rows and not np.ndim(rows[0]) and leaf.shape:
                rows = [leaf.pick(batch)]  # no batch, but one observation of another shape
            for row, value in enumerate(rows):
                if (reason := leaf.fault(value)) is not None:
                    raise BadData(row, f"{leaf.name} {reason}") from error
            raise BadData(None, f"{leaf.name} is {brief(batch)}, which does not fit {leaf.raw}") from error

    @property
    def leaves(self) -> list[tuple[str, Space, Space]]:
        """Return the key of each array, its own space and its canonical one, in the order of `arrays`."""
        return [(leaf.key, leaf.raw, leaf.canonical) for leaf in self._leaves]

    def arrays(self, obs: Obs) -> list[np.ndarray]:
        """Return a canonical observation's arrays in one fixed order."""
        return [obs] if self._plain else [obs[leaf.key] for leaf in self._leaves]

    def from_arrays(self, arrays: Sequence[Any], num_envs: int) -> Obs:
        """Take back what `arrays` returned.

        Raises:
            UserError: a number, shape or dtype is not that of N canonical observations.
        """
        leaves = [leaf.canonical for leaf in self._leaves]
        if len(arrays) != len(leaves):
            raise UserError(f"a saved observation has {len(arrays)} arrays, this environment's has {len(leaves)}")
        shapes = [(num_envs, *(leaf.shape or ())) for leaf in leaves]
        return self.tree(
            [
                saved.array(array, "obs", shape, leaf.dtype)
                for array, shape, leaf in zip(arrays, shapes, leaves, strict=True)
            ]
        )

    def agrees(self, obs: Obs, row: int, raw: Any) -> bool:
        """Whether the raw observation `raw` is, bit for bit, row `row` of the canonical `obs`."""
        try:
            own = self.encode([raw])
        except BadData:
            return False
        return all(
            np.array_equal(a[0], b[row], equal_nan=True)
            for a, b in zip(self.arrays(own), self.arrays(obs), strict=True)
        )

    def with_rows(self, obs: Obs, rows: Sequence[int] | np.ndarray, new: Obs) -> Obs:
        """Return a copy of the canonical `obs` with `rows` taken, in order, from `new`."""
        copies = [array.copy() for array in self.arrays(obs)]
        for copy, replacement in zip(copies, self.arrays(new), strict=True):
            copy[rows] = replacement
        return self.tree(copies)

    def tree(self, arrays: Sequence[np.ndarray]) -> Obs:
        """Return the canonical observation that these arrays, in the order of `arrays`, make up."""
        return arrays[0] if self._plain else {leaf.key: array for leaf, array in zip(self._leaves, arrays, strict=True)}

    def _encode_rows(self, raws: Sequence[Any]) -> Obs:
        """Say which observation is to blame; a batch that merely mixes dtypes is stacked row by row."""
        arrays = []
        for leaf in self._leaves:
            rows = []
            for row, raw in enumerate(raws):
                try:
                    value = leaf.value(raw) if leaf.optional else leaf.pick(raw)
                except MISFITS:
                    raise BadData(row, f"{leaf.name} is missing from {brief(raw)}") from None
                if (reason := leaf.fault(value)) is not None:
                    raise BadData(row, f"{leaf.name} {reason}")
                rows.append(leaf.convert(np.array(leaf.value(raw))[None]))
            arrays.append(np.concatenate(rows))
        return self.tree(arrays)


Codec = Callable[[Space], ObservationCodec]  # of an environment's own space


def leaf_spaces(space: Space) -> dict[str, Space]:
    """Return the spaces of a canonical observation's arrays by name; one that is alone has the name ""."""
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}


def children(space: Space) -> list[tuple[Any, Space]] | None:
    """Return the parts of a Dict, by their keys in the order that Gymnasium sorts them in, or of a Tuple; else None."""
    if isinstance(space, spaces.Dict):
        return sorted(space.spaces.items(), key=lambda item: str(item[0]))
    return list(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else None


def leaves_in(space: Space, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Space]]:
    """Yield what is no Dict and no Tuple in a space, with the path to it."""
    if (parts := children(space)) is None:
        yield path, space
    for key, child in parts or ():
        yield from leaves_in(child, (*path, key))


def _leaf(path: tuple[Any, ...], space: Space) -> _Leaf:
    where = "observation space" + (f" {'/'.join(map(str, path))!r}" if path else "")
    if (entries := math.prod(space.shape or ())) > MOST_ENTRIES:
        raise UserError(f"{where} has {entries:,} entries; at most {MOST_ENTRIES:,} are allowed")
    if not entries:
        raise UserError(f"{where} is {space}, which holds nothing: leave it out")
    if isinstance(space, spaces.Box):
        shape = space.shape or (1,)
        low, high = space.low.reshape(shape), space.high.reshape(shape)
        bytes_ = space.dtype == np.uint8
        canonical = spaces.Box(low, high, dtype=np.uint8) if bytes_ else float_box(low, high, shape)
        return _Leaf(path, space, canonical, space.shape, space.dtype)
    if (found := understood(space)) is not None:
        return _Leaf(path, space, found[0], found[0].shape, np.dtype(found[0].dtype), read=found[1])
    if isinstance(space, spaces.MultiBinary):
        return _Leaf(path, space, float_box(0, 1, space.shape), space.shape, np.dtype(np.int8))
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        start, count = int_range(space)
        return _Leaf(path, space, from_zero(count), space.shape or (), np.dtype(space.dtype), start, count)
    raise UserError(f"{where} is {space}; it must be made of {OBSERVATIONS}")


def float_box(low: Any, high: Any, shape: tuple[int, ...]) -> spaces.Box:
    with np.errstate(over="ignore"):  # a float64 bound beyond float32's range becomes infinite: no bound
        low, high = (np.broadcast_to(np.asarray(bound, np.float32), shape) for bound in (low, high))
    return spaces.Box(low, high, shape, np.float32)


def int_range(space: spaces.Discrete | spaces.MultiDiscrete) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest value of each entry, int64, and how many values it has, uint64 (shape () for Discrete)."""
    count = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return np.asarray(space.start, np.int64), np.asarray(count).astype(np.uint64)


def from_zero(count: np.ndarray) -> spaces.Discrete | spaces.MultiDiscrete:
    return spaces.Discrete(int(count)) if count.ndim == 0 else spaces.MultiDiscrete(count.ravel().astype(np.int64))
