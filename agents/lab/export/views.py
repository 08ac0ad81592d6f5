"""Operations that only look at an array in another way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from agents.lab.export.writer import Value, Writer, strides


def _viewed(writer: Writer, like: Tensor, value: Value, *_: Any, **__: Any) -> Value:
    whole, shape = writer.whole(value) if not value.contiguous else value, tuple(int(n) for n in like.shape)
    return Value(whole.name, whole.kind, shape, strides(shape), whole.offset)


def _same(writer: Writer, like: Tensor, value: Value, *_: Any, **__: Any) -> Value:
    return value


def _expanded(writer: Writer, like: Tensor, value: Value, *_: Any, **__: Any) -> Value:
    shape = tuple(like.shape)
    old = (1,) * (len(shape) - len(value.shape)) + value.shape
    kept = (0,) * (len(shape) - len(value.shape)) + value.strides
    steps = tuple(0 if was == 1 else step for was, step in zip(old, kept, strict=True))
    return Value(value.name, value.kind, shape, steps, value.offset)


def _permuted(writer: Writer, like: Tensor, value: Value, order: Sequence[int]) -> Value:
    shape, steps = zip(*((value.shape[i], value.strides[i]) for i in order), strict=True)
    return Value(value.name, value.kind, shape, steps, value.offset)


def _sliced(
    writer: Writer, like: Tensor, value: Value, dim: int = 0, start: int | None = None, end: Any = None, step: int = 1
) -> Value:
    dim %= len(value.shape)
    first = min(max((start or 0) + (value.shape[dim] if (start or 0) < 0 else 0), 0), value.shape[dim])
    steps = tuple(s * step if i == dim else s for i, s in enumerate(value.strides))
    return Value(value.name, value.kind, tuple(like.shape), steps, value.offset + first * value.strides[dim])


def _selected(writer: Writer, like: Tensor, value: Value, dim: int, index: int) -> Value:
    dim %= len(value.shape)
    index %= value.shape[dim]
    shape, steps = (tuple(x for i, x in enumerate(xs) if i != dim) for xs in (value.shape, value.strides))
    return Value(value.name, value.kind, shape, steps, value.offset + index * value.strides[dim])


def _split(writer: Writer, like: Any, value: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    found, first = [], 0
    for part, size in zip(like, sizes, strict=True):
        found.append(_sliced(writer, part, value, dim, first))
        first += size
    return found


VIEWS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "flatten"), _viewed),
    **dict.fromkeys(("clone", "alias", "detach", "lift_fresh_copy", "detach_", "contiguous"), _same),
    "expand": _expanded,
    "permute": _permuted,
    "slice": _sliced,
    "select": _selected,
    "split_with_sizes": _split,
}
