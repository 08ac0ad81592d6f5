"""Operations that put entries elsewhere, or fill arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.lab.export.writer import Value, Writer
from envs.errors import UserError


def _copy(w: Writer, there: Value, value: Value) -> None:
    w.loop(value.shape, lambda i: [f"{there.at(i)} = {value.at(i)};"])


def _joined(w: Writer, like: Tensor, parts: Sequence[Value], dim: int = 0) -> Value:
    result = w.made(like)
    axis, first = dim % len(result.shape), 0
    for part in parts:
        if part.shape == (0,):
            continue
        _copy(w, result.slice(axis, first, first + part.shape[axis]), part)
        first += part.shape[axis]
    return result


def _picked(w: Writer, like: Tensor, weight: Value, index: Value, *_: Any, **__: Any) -> Value:
    """Rows of a table (embedding)."""
    result, axes = w.made(like), len(index.shape)
    w.loop(result.shape, lambda i: [f"{result.at(i)} = {weight.at([index.at(i[:axes]), *i[axes:]])};"])
    return result


def _index_select(w: Writer, like: Tensor, value: Value, dim: int, index: Value) -> Value:
    result, axis = w.made(like), dim % len(value.shape)
    w.loop(
        result.shape,
        lambda i: [f"{result.at(i)} = {value.at([*i[:axis], index.at([i[axis]]), *i[axis + 1 :]])};"],
    )
    return result


def _indexed(w: Writer, like: Tensor, value: Value, indices: Sequence[Value | None]) -> Value:
    """Entries named by arrays of indices for axes that lie together."""
    result = w.made(like)
    place = _placed(w, value, indices, len(result.shape))
    w.loop(result.shape, lambda i: [f"{result.at(i)} = {value.at(place(i))};"])
    return result


def _placed(w: Writer, value: Value, indices: Sequence[Value | None], depth: int) -> Callable[[list[str]], list[str]]:
    """Return what makes of an index of `depth` axes, the broadcast one of `indices` in it, the one of `value`."""
    named = [axis for axis, index in enumerate(indices) if index is not None]
    if named != list(range(named[0], named[-1] + 1)):
        raise UserError("indices of axes apart have no plain form: export with --to onnx instead")
    if any(index is not None and index.kind in ("bool", "byte") for index in indices):
        raise UserError("masks as indices have no plain form: export with --to onnx instead")
    first = named[0]
    wide = depth - (len(value.shape) - len(named))

    def place(i: list[str]) -> list[str]:
        inner = i[first : first + wide]
        found = [w.entry(indices[axis], inner, "int") for axis in named]
        return [*i[:first], *found, *i[first + wide :]]

    return place


def _put_indexed(
    w: Writer, like: Tensor, value: Value, indices: Sequence[Value | None], part: Value, accumulate: bool = False
) -> Value:
    """index_put: a copy in which entries named by indices are others."""
    result = w.made(like)
    _copy(w, result, value)
    shapes = [index.shape for index in indices if index is not None]
    broad = tuple(torch.broadcast_shapes(*shapes))
    named = [axis for axis, index in enumerate(indices) if index is not None]
    shape = (*value.shape[: named[0]], *broad, *value.shape[named[-1] + 1 :])
    place, sign = _placed(w, value, indices, len(shape)), "+=" if accumulate else "="
    w.loop(shape, lambda i: [f"{result.at(place(i))} {sign} {w.entry(part, i, result.kind)};"])
    return result


def _gather(w: Writer, like: Tensor, value: Value, dim: int, index: Value, **_: Any) -> Value:
    result, axis = w.made(like), dim % len(value.shape)
    w.loop(result.shape, lambda i: [f"{result.at(i)} = {value.at([*i[:axis], index.at(i), *i[axis + 1 :]])};"])
    return result


def _filled(find: Callable[..., Any]) -> Callable[..., Value]:
    def fill(w: Writer, like: Tensor, *args: Any, **_: Any) -> Value:
        result = w.made(like)
        number = find(*args)
        text = number.at(["0"] * len(number.shape)) if isinstance(number, Value) else w.number(number, result.kind)
        w.loop(result.shape, lambda i: [f"{result.at(i)} = {text};"])
        return result

    return fill


def _arange(w: Writer, like: Tensor, start: float, end: float, step: float = 1, **_: Any) -> Value:
    return w.constant(torch.arange(start, end, step, dtype=like.dtype))


def _put(w: Writer, like: Tensor, value: Value, part: Value, dim: int, index: int) -> Value:
    """select_scatter: a copy in which one slice is another."""
    result = w.made(like)
    _copy(w, result, value)
    _copy(w, result.select(dim, index), part)
    return result


def _put_slice(w: Writer, like: Tensor, value: Value, part: Value, dim: int = 0, *bounds: Any, **named: Any) -> Value:
    """slice_scatter: a copy in which some of one axis are others."""
    result = w.made(like)
    _copy(w, result, value)
    there = result.slice(dim, *bounds, **named)
    _copy(w, there, part.expand(there.shape))
    return result


PLACES: dict[str, Callable[..., Any]] = {
    "cat": _joined,
    "embedding": _picked,
    "index_select": _index_select,
    "gather": _gather,
    "index": _indexed,
    "full": _filled(lambda shape, value: value),
    "full_like": _filled(lambda like, value: value),
    "scalar_tensor": _filled(lambda value: value),
    **dict.fromkeys(("zeros", "zeros_like", "empty", "empty_like", "empty_permuted"), _filled(lambda *_: 0)),
    **dict.fromkeys(("ones", "ones_like"), _filled(lambda *_: 1)),
    "arange": _arange,
    "index_put": _put_indexed,
    "select_scatter": _put,
    "slice_scatter": _put_slice,
}
