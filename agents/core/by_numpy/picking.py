"""Entries picked and put by their indices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from agents.core.by_numpy.arithmetic import clone
from agents.core.by_numpy.table import Call, named, refused


@named("sort")
def _sort(out: Any, a: np.ndarray, dim: int = -1, descending: bool = False) -> list[Call]:
    if descending:
        refused("sorting from the greatest down")
    values, indices = out
    return [
        partial(_assign, indices, partial(np.argsort, a, dim, kind="stable")),
        partial(_assign, values, partial(np.take_along_axis, a, indices, dim)),
    ]


@named("repeat")
def _repeat(out: np.ndarray, a: np.ndarray, times: Sequence[int]) -> list[Call]:
    return [partial(_assign, out, partial(np.tile, a, tuple(times)))]


@named("gather")
def _gather(out: np.ndarray, a: np.ndarray, dim: int, index: np.ndarray, *, sparse_grad: bool = False) -> list[Call]:
    if dim % a.ndim != a.ndim - 1 or not a.flags.c_contiguous or a.shape[:-1] != index.shape[:-1]:
        refused("entries gathered along another axis than the last")
    place, base = _places(a, index)
    return [partial(np.add, index, base, out=place), partial(np.take, a.reshape(-1), place, None, out, "clip")]


@named("scatter_add")
def _scatter_add(out: np.ndarray, a: np.ndarray, dim: int, index: np.ndarray, values: np.ndarray) -> list[Call]:
    one = index.shape[-1] == 1 and index.shape[:-1] == a.shape[:-1] == values.shape[:-1]
    if not one or dim % a.ndim != a.ndim - 1 or not out.flags.c_contiguous:
        refused("entries added at several places of a row")
    place, base = _places(a, index)
    flat, sums = out.reshape(-1), np.empty_like(values)
    return [
        *clone(out, a),
        partial(np.add, index, base, out=place),
        partial(np.take, flat, place, None, sums, "clip"),
        partial(np.add, sums, values, out=sums),
        partial(np.put, flat, place, sums),
    ]


@named("index_select")
def _index_select(out: np.ndarray, a: np.ndarray, dim: int, index: np.ndarray) -> list[Call]:
    return [partial(np.take, a, index, dim, out, "clip")]


@named("index")
def _index(out: np.ndarray, a: np.ndarray, indices: Sequence[Any]) -> list[Call]:
    return [partial(_assign, out, partial(a.__getitem__, _key(indices)))]


@named("index_put")
def _index_put(
    out: np.ndarray, a: np.ndarray, indices: Sequence[Any], values: np.ndarray, accumulate: bool = False
) -> list[Call]:
    put = partial(np.add.at, out, _key(indices), values) if accumulate else partial(_put, out, _key(indices), values)
    return [*clone(out, a), put]


@named("scatter")
def _scatter(out: np.ndarray, a: np.ndarray, dim: int, index: np.ndarray, value: Any) -> list[Call]:
    return [*clone(out, a), partial(np.put_along_axis, out, index, value, dim)]


@named("select_backward")
def _select_backward(out: np.ndarray, gradient: np.ndarray, _: Any, dim: int, index: int) -> list[Call]:
    return _into(out, gradient, dim, index)


@named("slice_backward")
def _slice_backward(
    out: np.ndarray, gradient: np.ndarray, _: Any, dim: int, start: int, end: int, step: int
) -> list[Call]:
    return _into(out, gradient, dim, slice(start, end, step))


def _into(out: np.ndarray, values: np.ndarray, dim: int, where: int | slice) -> list[Call]:
    """Write zeros, but for values at one place along an axis."""
    part = out[(*[slice(None)] * (dim % out.ndim), where, ...)]
    return [partial(np.copyto, out, 0), partial(np.copyto, part, values)]


def _key(indices: Sequence[Any]) -> tuple[Any, ...]:
    if any(index is not None and index.dtype == bool for index in indices):
        refused("entries picked by a condition")
    return tuple(slice(None) if index is None else index for index in indices)


def _assign(out: np.ndarray, made: Call) -> None:
    out[...] = made()


def _put(out: np.ndarray, key: Any, values: np.ndarray) -> None:
    out[key] = values


def _places(a: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return room for places in a flat array, and what indices along its last axis are counted from."""
    rows = a.size // a.shape[-1] if a.shape[-1] else 0
    return np.empty_like(index), (np.arange(rows) * a.shape[-1]).reshape(*a.shape[:-1], 1)
