"""Operations that put entries together: products, sums, choices, convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from agents.lab.export.writer import KINDS, Value, Writer
from envs.errors import UserError


def _product(w: Writer, like: Tensor, a: Value, b: Value) -> Value:
    """`[M, K] @ [K, N]`, or with a first axis of batches."""
    result = w.made(like)
    inner = a.shape[-1]

    def body(index: list[str]) -> list[str]:
        *batch, m, n = index
        left, right = a.at([*batch, m, "k"]), b.at([*batch, "k", n])
        return [
            w.variable("sum", result.kind, w.number(0.0, result.kind)),
            f"for ({w.language.counter} k = 0; k < {inner}; k++) sum += {left} * {right};",
            f"{result.at(index)} = sum;",
        ]

    w.loop(result.shape, body)
    return result


def _addmm(w: Writer, like: Tensor, bias: Value, a: Value, b: Value, beta: float = 1, alpha: float = 1) -> Value:
    if beta != 1 or alpha != 1:
        raise UserError("a scaled addmm has no plain form: export with --to onnx instead")
    return w.elementwise("add", like, [_product(w, like, a, b), bias], {})


def _linear(w: Writer, like: Tensor, x: Value, weight: Value, bias: Value | None = None) -> Value:
    turned = Value(weight.name, weight.kind, weight.shape[::-1], weight.strides[::-1], weight.offset)
    made = _product(w, like, x, turned)
    return made if bias is None else w.elementwise("add", like, [made, bias], {})


def _convolution(
    w: Writer,
    like: Tensor,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    if transposed or len(like.shape) != 4:
        raise UserError("only 2-D convolutions have a plain form: export with --to onnx instead")
    result = w.made(like)
    (high, wide), count = x.shape[2:], weight.shape[1]
    (up, left), (down, right), (dy, dx) = padding, stride, dilation
    rows, columns = weight.shape[2:]
    counter, each = w.language.counter, weight.shape[0] // groups

    def body(index: list[str]) -> list[str]:
        n, o, y, z = index
        first = "0" if groups == 1 else f"{o} / {each} * {count}"
        if groups != 1 and counter != "int":
            first = f"Math.floor({o} / {each}) * {count}"
        start = w.number(0.0, result.kind) if bias is None else bias.at([o])
        return [
            w.variable("sum", result.kind, start),
            f"for ({counter} c = 0; c < {count}; c++)",
            f"for ({counter} p = 0; p < {rows}; p++)",
            f"for ({counter} q = 0; q < {columns}; q++) {{",
            f"  {counter} a = {y} * {down} + p * {dy} - {up}, b = {z} * {right} + q * {dx} - {left};",
            f"  if (a >= 0 && a < {high} && b >= 0 && b < {wide})",
            f"    sum += {x.at([n, f'(c + {first})', 'a', 'b'])} * {weight.at([o, 'c', 'p', 'q'])};",
            "}",
            f"{result.at(index)} = sum;",
        ]

    w.loop(result.shape, body)
    return result


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
    count = 1
    for axis in axes:
        count *= value.shape[axis]
    kind = KINDS[like.dtype]
    zero, last = w.number(0.0, kind), f"sum / {w.number(float(count), kind)}"
    return _fold(w, like, value, axes, lambda _: zero, lambda entry: f"sum += {entry};", last)


def _extreme(sign: str) -> Callable[..., Value]:
    def fold(w: Writer, like: Tensor, value: Value, dim: Any = None, keepdim: bool = False) -> Value:
        return _fold(
            w,
            like,
            value,
            _axes(value, dim),
            lambda zero: zero,
            lambda entry: f"if ({entry} {sign} sum) sum = {entry};",
        )

    return fold


def _any(w: Writer, like: Tensor, value: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return _fold(w, like, value, _axes(value, dim), lambda _: "0", lambda entry: f"if ({entry}) sum = 1;")


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
                f"for ({w.language.counter} k = 1; k < {value.shape[axis]}; k++) if ({entry} {sign} {zero}) best = k;",
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
    count, counter, kind = 1, w.language.counter, x.kind
    for n in shape:
        count *= n

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


def _copy(w: Writer, there: Value, value: Value) -> None:
    w.loop(value.shape, lambda i: [f"{there.at(i)} = {value.at(i)};"])


def _joined(w: Writer, like: Tensor, parts: Sequence[Value], dim: int = 0) -> Value:
    result = w.made(like)
    axis, first = dim % len(result.shape), 0
    for part in parts:
        if part.shape == (0,):
            continue
        there = Value(result.name, result.kind, part.shape, result.strides, first * result.strides[axis])
        _copy(w, there, part)
        first += part.shape[axis]
    return result


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
    if any(index is not None and index.kind == "byte" for index in indices):
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
    result, axis = w.made(like), dim % len(value.shape)
    _copy(w, result, value)
    place = index % value.shape[axis]
    shape, steps = (tuple(x for i, x in enumerate(xs) if i != axis) for xs in (result.shape, result.strides))
    there = Value(result.name, result.kind, shape, steps, place * result.strides[axis])
    _copy(w, there, part)
    return result


def _put_slice(
    w: Writer,
    like: Tensor,
    value: Value,
    part: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    """slice_scatter: a copy in which some of one axis are others."""
    result = w.made(like)
    _copy(w, result, value)
    first, last, step = slice(start, end, step).indices(result.shape[dim])
    shape = tuple(len(range(first, last, step)) if i == dim else n for i, n in enumerate(result.shape))
    steps = tuple(s * step if i == dim else s for i, s in enumerate(result.strides))
    there = Value(result.name, result.kind, shape, steps, first * result.strides[dim])
    if part.shape != shape:
        part = Value(part.name, part.kind, shape, tuple(0 for _ in shape), part.offset)
    _copy(w, there, part)
    return result


OPERATIONS: dict[str, Callable[..., Any]] = {
    "addmm": _addmm,
    **dict.fromkeys(("mm", "bmm"), _product),
    "linear": _linear,
    "convolution": _convolution,
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
    "cat": _joined,
    "cumsum": _running,
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
