"""Operations that go over the entries of axes: sums, extremes and their places, softmax, layer norm, cumsum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from agents.lab.export.writer import FLOATS, KINDS, Value, Writer


def _axes(value: Value, dim: Any) -> list[int]:
    if dim is None or dim == []:
        return list(range(len(value.shape)))
    return [axis % len(value.shape) for axis in ([dim] if isinstance(dim, int) else dim)]


def _fold(
    w: Writer,
    like: Tensor,
    value: Value,
    axes: list[int],
    first: Callable[[str], str],
    then: Callable[[str], str],
    last: str = "sum",
) -> Value:
    """Go over `axes` with one variable `sum`: `first` of the first entry begins it, `then` takes in each entry."""
    result = w.made(like)
    kept = [axis for axis in range(len(value.shape)) if axis not in axes]
    has_axes = len(result.shape) == len(value.shape) and len(value.shape) > len(kept)

    def body(index: list[str]) -> list[str]:
        outer = [index[axis] for axis in kept] if has_axes else index
        place = dict(zip(kept, outer, strict=True))
        entry = value.at([place.get(axis, f"r{axis}") for axis in range(len(value.shape))])
        zero = value.at([place.get(axis, "0") for axis in range(len(value.shape))])
        loops = [f"for ({w.language.counter} r{axis} = 0; r{axis} < {value.shape[axis]}; r{axis}++)" for axis in axes]
        return [
            w.variable("sum", result.kind, first(zero)),
            *loops,
            f"  {{ {then(entry)} }}",
            f"{result.at(index)} = {last};",
        ]

    w.loop(result.shape, body)
    return result


def _sum(w: Writer, like: Tensor, value: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    zero = w.number(0.0, KINDS[like.dtype])
    return _fold(w, like, value, _axes(value, dim), lambda _: zero, lambda entry: f"sum += {entry};")


def _mean(w: Writer, like: Tensor, value: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    axes = _axes(value, dim)
    count = math.prod(value.shape[axis] for axis in axes)
    kind = KINDS[like.dtype]
    zero, last = w.number(0.0, kind), f"sum / {w.number(float(count), kind)}"
    return _fold(w, like, value, axes, lambda _: zero, lambda entry: f"sum += {entry};", last)


def _beats(value: Value, entry: str, sign: str, best: str) -> str:
    """Return whether an entry takes the place of the best until now, as the first NaN does."""
    nan = f" || ({entry} != {entry} && {best} == {best})" if value.kind in FLOATS else ""
    return f"{entry} {sign} {best}{nan}"


def _extreme(sign: str) -> Callable[..., Value]:
    def fold(w: Writer, like: Tensor, value: Value, dim: Any = None, keepdim: bool = False) -> Value:
        return _fold(
            w,
            like,
            value,
            _axes(value, dim),
            lambda zero: zero,
            lambda entry: f"if ({_beats(value, entry, sign, 'sum')}) sum = {entry};",
        )

    return fold


def _any(w: Writer, like: Tensor, value: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return _fold(w, like, value, _axes(value, dim), lambda _: "0", lambda entry: f"if ({entry} != 0) sum = 1;")


def _place(sign: str) -> Callable[..., Value]:
    """argmax and argmin over one axis: the first of equal ones, as PyTorch's."""

    def find(w: Writer, like: Tensor, value: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None:
            value = Value(w.whole(value).name, value.kind, (value.size,), (1,))
            dim = 0
        axis, result = dim % len(value.shape), w.made(like)

        def body(index: list[str]) -> list[str]:
            rest = [index[i] for i in range(len(index)) if not (keepdim and i == axis)]
            entry = value.at([*rest[:axis], "k", *rest[axis:]])
            zero = value.at([*rest[:axis], "best", *rest[axis:]])
            return [
                f"{w.language.counter} best = 0;",
                f"for ({w.language.counter} k = 1; k < {value.shape[axis]}; k++)",
                f"  if ({_beats(value, entry, sign, zero)}) best = k;",
                f"{result.at(index)} = best;",
            ]

        w.loop(result.shape, body)
        return result

    return find


def _extreme_and_place(sign: str) -> Callable[..., list[Callable[[], Value]]]:
    def both(w: Writer, like: Any, value: Value, dim: int, keepdim: bool = False) -> list[Callable[[], Value]]:
        return [
            partial(_extreme(sign), w, like[0], value, dim, keepdim),
            partial(_place(sign), w, like[1], value, dim, keepdim),
        ]

    return both


def _softmax(log: bool) -> Callable[..., Value]:
    def made(w: Writer, like: Tensor, value: Value, dim: int, half: bool = False) -> Value:
        result, axis, kind = w.made(like), dim % len(value.shape), value.kind
        exp, counter, count = w.function("exp", kind), w.language.counter, value.shape[axis]

        def body(index: list[str]) -> list[str]:
            def entry(of: Value) -> str:
                return of.at([*index[:axis], "k", *index[axis + 1 :]])

            each = f"for ({counter} k = 0; k < {count}; k++)"
            last = f"{entry(result)} / sum" if not log else f"{entry(result)} - {w.function('log', kind)}(sum)"
            powers = f"{exp}({entry(value)} - most)"
            kept = powers if not log else f"{entry(value)} - most"
            return [
                w.variable("most", kind, value.at([*index[:axis], "0", *index[axis + 1 :]])),
                f"{each} if ({entry(value)} > most) most = {entry(value)};",
                w.variable("sum", kind, w.number(0.0, kind)),
                f"{each} {{ {entry(result)} = {kept}; sum += {powers}; }}",
                f"{each} {entry(result)} = {last};",
            ]

        w.loop([1 if i == axis else n for i, n in enumerate(value.shape)], body)
        return result

    return made


def _layer_norm(
    w: Writer, like: Any, x: Value, shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> list[Any]:
    result, kept = w.made(like[0]), len(x.shape) - len(shape)
    count, counter, kind = math.prod(shape), w.language.counter, x.kind

    def body(index: list[str]) -> list[str]:
        inner = [f"r{i}" for i in range(len(shape))]
        loops = " ".join(f"for ({counter} r{i} = 0; r{i} < {n}; r{i}++)" for i, n in enumerate(shape))
        at = [*index[:kept], *inner]
        made = f"({x.at(at)} - mean) / {w.function('sqrt', kind)}(square / {count} + {w.number(eps, kind)})"
        if weight is not None:
            made = f"{made} * {weight.at(inner)}"
        if bias is not None:
            made = f"{made} + {bias.at(inner)}"
        return [
            w.variable("mean", kind, w.number(0.0, kind)),
            f"{loops} mean += {x.at(at)};",
            f"mean /= {count};",
            w.variable("square", kind, w.number(0.0, kind)),
            f"{loops} square += ({x.at(at)} - mean) * ({x.at(at)} - mean);",
            f"{loops} {result.at(at)} = {made};",
        ]

    w.loop([*x.shape[:kept], *[1] * len(shape)], body)
    return [result, None, None]


def _running(w: Writer, like: Tensor, value: Value, dim: int, **_: Any) -> Value:
    """cumsum."""
    result, axis = w.made(like), dim % len(value.shape)

    def body(index: list[str]) -> list[str]:
        at = [*index[:axis], "k", *index[axis + 1 :]]
        return [
            w.variable("sum", result.kind, w.number(0.0, result.kind)),
            f"for ({w.language.counter} k = 0; k < {value.shape[axis]}; k++) {{",
            f"  sum += {value.at(at)};",
            f"  {result.at(at)} = sum;",
            "}",
        ]

    w.loop([1 if i == axis else n for i, n in enumerate(value.shape)], body)
    return result


FOLDS: dict[str, Callable[..., Any]] = {
    "sum": _sum,
    "mean": _mean,
    "amax": _extreme(">"),
    "amin": _extreme("<"),
    "max": _extreme_and_place(">"),
    "min": _extreme_and_place("<"),
    "any": _any,
    "argmax": _place(">"),
    "argmin": _place("<"),
    "_softmax": _softmax(log=False),
    "_log_softmax": _softmax(log=True),
    "native_layer_norm": _layer_norm,
    "cumsum": _running,
}
