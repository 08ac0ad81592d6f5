"""Operations that only look at an array in another way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from torch import Tensor

from agents.lab.export.writer import Value, Writer, strides


def _viewed(writer: Writer, like: Tensor, value: Value, *_: Any, **__: Any) -> Value:
    whole, shape = writer.whole(value) if not value.contiguous else value, tuple(int(n) for n in like.shape)
    return Value(whole.name, whole.kind, shape, strides(shape), whole.offset)


def _same(writer: Writer, like: Tensor, value: Value, *_: Any, **__: Any) -> Value:
    return value


def _expanded(writer: Writer, like: Tensor, value: Value, *_: Any, **__: Any) -> Value:
    return value.expand(like.shape)


def _permuted(writer: Writer, like: Tensor, value: Value, order: Sequence[int]) -> Value:
    return value.permute(order)


def _sliced(writer: Writer, like: Tensor, value: Value, dim: int = 0, *bounds: Any, **named: Any) -> Value:
    return value.slice(dim, *bounds, **named)


def _selected(writer: Writer, like: Tensor, value: Value, dim: int, index: int) -> Value:
    return value.select(dim, index)


def _split(writer: Writer, like: Any, value: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    ends = list(accumulate(sizes))
    return [value.slice(dim, end - size, end) for size, end in zip(sizes, ends, strict=True)]


VIEWS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "flatten"), _viewed),
    **dict.fromkeys(("clone", "alias", "detach", "lift_fresh_copy", "detach_", "contiguous"), _same),
    "expand": _expanded,
    "permute": _permuted,
    "slice": _sliced,
    "select": _selected,
    "split_with_sizes": _split,
}
