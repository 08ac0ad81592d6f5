"""What PyTorch's operations are in NumPy: each a few calls without arguments, made once for the arrays they work on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

Call = Callable[[], Any]
Operation = Callable[..., list[Call]]
OPERATIONS: dict[str, Operation] = {}
FEW = 8  # columns: so many are reduced one by one, as NumPy is slow along a short last axis


class Untranslated(RuntimeError):
    """There is no NumPy call for an operation, or for its arguments."""


def _named(*names: str) -> Callable[[Operation], Operation]:
    def note(operation: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, operation))
        return operation

    return note


def _ufunc(ufunc: Any) -> Operation:
    return lambda out, *args: [partial(ufunc, *args, out=out)]


UFUNCS = {
    "abs": np.abs,
    "bitwise_and": np.bitwise_and,
    "bitwise_not": np.bitwise_not,
    "bitwise_or": np.bitwise_or,
    "cos": np.cos,
    "eq": np.equal,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": np.greater_equal,
    "gt": np.greater,
    "isnan": np.isnan,
    "le": np.less_equal,
    "log": np.log,
    "log1p": np.log1p,
    "logical_and": np.logical_and,
    "logical_not": np.logical_not,
    "logical_or": np.logical_or,
    "lt": np.less,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}
OPERATIONS |= {name: _ufunc(ufunc) for name, ufunc in UFUNCS.items()}
# whose result may lie where an argument lies
IN_PLACE = {*UFUNCS, "add", "div", "reciprocal", "relu", "rsqrt", "rsub", "sigmoid", "sub"}


@_named("add")
def _add(out: Any, a: Any, b: Any, *, alpha: float = 1) -> list[Call]:
    return _scaled(np.add, out, a, b, alpha)


@_named("sub")
def _sub(out: Any, a: Any, b: Any, alpha: float = 1) -> list[Call]:
    return _scaled(np.subtract, out, a, b, alpha)


@_named("rsub")
def _rsub(out: Any, a: Any, b: Any, alpha: float = 1) -> list[Call]:
    return _scaled(np.subtract, out, b, a, 1) if alpha == 1 else _refused("rsub with alpha")


def _scaled(ufunc: Any, out: np.ndarray, a: Any, b: Any, alpha: float) -> list[Call]:
    if alpha == 1:
        return [partial(ufunc, a, b, out=out)]
    if not isinstance(b, np.ndarray):
        return [partial(ufunc, a, b * alpha, out=out)]
    scaled = np.empty_like(b)
    return [partial(np.multiply, b, alpha, out=scaled), partial(ufunc, a, scaled, out=out)]


@_named("div")
def _div(out: np.ndarray, a: Any, b: Any, *, rounding_mode: str | None = None) -> list[Call]:
    if rounding_mode is not None:
        _refused(f"a quotient rounded by {rounding_mode!r}")
    if not isinstance(b, np.ndarray) and out.dtype == np.float32:
        return (
            [partial(np.multiply, a, np.float32(1 / b), out=out)]
            if b and 1 / b * b == 1
            else [partial(np.divide, a, b, out=out)]
        )
    return [partial(np.divide, a, b, out=out)]


@_named("floor_divide")
def _floor_divide(out: np.ndarray, a: Any, b: Any) -> list[Call]:
    return [partial(np.floor_divide, a, b, out=out)]


@_named("rsqrt")
def _rsqrt(out: np.ndarray, a: np.ndarray) -> list[Call]:
    return [partial(np.sqrt, a, out=out), partial(np.divide, out.dtype.type(1), out, out=out)]


@_named("softplus")
def _softplus(out: np.ndarray, a: np.ndarray, beta: float = 1, threshold: float = 20) -> list[Call]:
    if beta != 1:
        _refused("softplus with beta")
    return [partial(np.logaddexp, a, a.dtype.type(0), out=out)]


@_named("reciprocal")
def _reciprocal(out: np.ndarray, a: np.ndarray) -> list[Call]:
    return [partial(np.divide, 1.0, a, out=out)]


@_named("pow")
def _pow(out: np.ndarray, a: Any, b: Any) -> list[Call]:
    return (
        [partial(np.square, a, out=out)]
        if isinstance(b, int | float) and b == 2
        else [partial(np.power, a, b, out=out)]
    )


@_named("relu")
def _relu(out: np.ndarray, a: np.ndarray) -> list[Call]:
    return [partial(np.maximum, a, a.dtype.type(0), out=out)]


@_named("sigmoid")
def _sigmoid(out: np.ndarray, a: np.ndarray) -> list[Call]:
    half = out.dtype.type(0.5)  # by the hyperbolic tangent, as exp of a large number would overflow
    return [
        partial(np.multiply, a, half, out=out),
        partial(np.tanh, out, out=out),
        partial(np.multiply, out, half, out=out),
        partial(np.add, out, half, out=out),
    ]


@_named("clamp", "clamp_min", "clamp_max")
def _clamp(out: np.ndarray, a: np.ndarray, low: Any = None, high: Any = None, **named: Any) -> list[Call]:
    low, high = named.get("min", low), named.get("max", high)
    last, calls = a, list[Call]()
    for ufunc, bound in ((np.maximum, low), (np.minimum, high)):
        if bound is not None:
            calls.append(partial(ufunc, last, bound, out=out))
            last = out
    return calls


OPERATIONS["clamp_max"] = lambda out, a, high: _clamp(out, a, None, high)


@_named("addcmul")
def _addcmul(out: np.ndarray, a: np.ndarray, b: Any, c: Any, *, value: float = 1) -> list[Call]:
    product = np.empty(np.broadcast_shapes(np.shape(b), np.shape(c)), out.dtype)
    calls = [partial(np.multiply, b, c, out=product)]
    if value != 1:
        calls.append(partial(np.multiply, product, value, out=product))
    return [*calls, partial(np.add, a, product, out=out)]


@_named("lerp")
def _lerp(out: np.ndarray, a: np.ndarray, b: np.ndarray, weight: Any) -> list[Call]:
    way = np.empty_like(out)
    return [
        partial(np.subtract, b, a, out=way),
        partial(np.multiply, way, weight, out=way),
        partial(np.add, a, way, out=out),
    ]


@_named("where")
def _where(out: np.ndarray, condition: np.ndarray, a: Any, b: Any) -> list[Call]:
    if np.shares_memory(out, condition) or np.shares_memory(out, a):
        _refused("where onto one of its arguments")
    return [partial(np.copyto, out, b), partial(np.copyto, out, a, where=condition)]


@_named("masked_fill")
def _masked_fill(out: np.ndarray, a: np.ndarray, mask: np.ndarray, value: Any) -> list[Call]:
    return [*_copy(out, a), partial(np.copyto, out, value, casting="unsafe", where=mask)]


@_named("clone", "_to_copy")
def _copy(out: np.ndarray, a: np.ndarray, **_: Any) -> list[Call]:
    return [] if out is a or _same(out, a) else [partial(np.copyto, out, a, casting="unsafe")]


OPERATIONS["copy"] = lambda out, a, b, *_: [partial(np.copyto, out, b, casting="unsafe")]
OPERATIONS["fill"] = lambda out, a, value: [partial(np.copyto, out, value, casting="unsafe")]
for _name, _value in {"zeros": 0, "zeros_like": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}.items():
    OPERATIONS[_name] = lambda out, *_, value=_value, **__: [partial(np.copyto, out, value)]
OPERATIONS["zero"] = OPERATIONS["zeros"]
OPERATIONS["scalar_tensor"] = lambda out, value, **_: [partial(np.copyto, out, value)]
OPERATIONS["arange"] = lambda out, *args, **_: [partial(np.copyto, out, np.arange(*args))]
OPERATIONS["linspace"] = lambda out, first, last, count, **_: [
    partial(np.copyto, out, np.float32(np.linspace(first, last, count)))
]
OPERATIONS["full"] = lambda out, shape, value, **_: [partial(np.copyto, out, value)]
OPERATIONS["_unsafe_view"] = lambda out, *_: []
for _name in ("empty", "empty_like", "new_empty"):
    OPERATIONS[_name] = lambda out, *_, **__: []


@_named("cat")
def _cat(out: np.ndarray, parts: Sequence[np.ndarray], dim: int = 0) -> list[Call]:
    return [partial(np.concatenate, [part for part in parts if part.size], dim, out)]


@_named("stack")
def _stack(out: np.ndarray, parts: Sequence[np.ndarray], dim: int = 0) -> list[Call]:
    return [partial(np.stack, list(parts), dim, out)]


# matrix products


@_named("mm", "bmm", "mv", "dot")
def _mm(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[Call]:
    if a.shape[-1] == 1 and b.ndim > 1:  # BLAS is slow at outer products
        return [partial(np.multiply, a, b, out=out)]
    return [partial(np.matmul, a, b, out=out)]


@_named("addmm")
def _addmm(
    out: np.ndarray, bias: np.ndarray, a: np.ndarray, b: np.ndarray, *, beta: float = 1, alpha: float = 1
) -> list[Call]:
    if beta != 1 or alpha != 1:
        _refused("addmm with factors")
    return [*_mm(out, a, b), partial(np.add, out, bias, out=out)]


@_named("baddbmm")
def _baddbmm(
    out: np.ndarray, bias: np.ndarray, a: np.ndarray, b: np.ndarray, *, beta: float = 1, alpha: float = 1
) -> list[Call]:
    return _addmm(out, bias, a, b, beta=beta, alpha=alpha)


# reductions


@_named("sum")
def _sum(out: np.ndarray, a: np.ndarray, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> list[Call]:
    axes = _axes(a, dim)
    if axes == (0,) and a.ndim == 2 and a.dtype == np.float32 and len(a) > 1:
        return [partial(np.matmul, np.ones(len(a), np.float32), a, out=_viewed(out, a.shape[1:]))]
    if axes == (a.ndim - 1,) and a.shape[-1] <= FEW:
        return _by_columns(np.add, _viewed(out, a.shape[:-1]), a)
    return [partial(np.add.reduce, a, axes, None, out, keepdim)]


@_named("mean")
def _mean(out: np.ndarray, a: np.ndarray, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> list[Call]:
    axes = _axes(a, dim)
    share = out.dtype.type(1 / math.prod(a.shape[axis] for axis in axes))
    return [*_sum(out, a, list(axes), keepdim), partial(np.multiply, out, share, out=out)]


def _extreme(ufunc: Any) -> Operation:
    def operation(out: np.ndarray, a: np.ndarray, dim: Any = (), keepdim: bool = False) -> list[Call]:
        return [partial(ufunc.reduce, a, _axes(a, dim), None, out, keepdim)]

    return operation


OPERATIONS |= {"amax": _extreme(np.maximum), "amin": _extreme(np.minimum)}


@_named("argmax")
def _argmax(out: np.ndarray, a: np.ndarray, dim: int | None = None, keepdim: bool = False) -> list[Call]:
    if dim is None or keepdim:
        _refused("argmax over all entries")
    return [partial(np.argmax, a, dim, out)]


@_named("max")
def _max(out: Any, a: np.ndarray, dim: int | None = None, keepdim: bool = False) -> list[Call]:
    if dim is None:
        return [partial(np.maximum.reduce, a, None, None, out)]
    values, indices = out
    shape = tuple(size for axis, size in enumerate(a.shape) if axis != dim % a.ndim)
    return [
        partial(np.maximum.reduce, a, dim, None, values, keepdim),
        partial(np.argmax, a, dim, _viewed(indices, shape)),
    ]


@_named("std_mean")
def _std_mean(out: Any, a: np.ndarray, dim: Any = None, *, correction: float = 1, keepdim: bool = False) -> list[Call]:
    if correction and a.size <= correction:
        _refused("the deviation of a single number")
    return [*_var_mean(out, a, dim, correction=correction, keepdim=keepdim), partial(np.sqrt, out[0], out=out[0])]


@_named("var_mean")
def _var_mean(out: Any, a: np.ndarray, dim: Any = None, *, correction: float = 1, keepdim: bool = False) -> list[Call]:
    (variance, mean), axes, apart = out, list(_axes(a, dim)), np.empty_like(a)
    each = _viewed(mean, [1 if axis in axes else size for axis, size in enumerate(a.shape)])
    count = math.prod(a.shape[axis] for axis in axes)
    return [
        *_mean(mean, a, axes, keepdim),
        partial(np.subtract, a, each, out=apart),
        partial(np.square, apart, out=apart),
        *_mean(variance, apart, axes, keepdim),
        partial(np.multiply, variance, a.dtype.type(count / (count - correction)), out=variance),
    ]


@_named("linalg_vector_norm")
def _vector_norm(
    out: np.ndarray, a: np.ndarray, order: float = 2, dim: Any = None, keepdim: bool = False
) -> list[Call]:
    if order != 2 or a.ndim != 1:
        _refused("a norm but that of a vector")
    return [partial(np.dot, a, a, out), partial(np.sqrt, out, out=out)]


def _axes(a: np.ndarray, dim: Any) -> tuple[int, ...]:
    dims = range(a.ndim) if dim in (None, [], ()) else [dim] if isinstance(dim, int) else dim
    return tuple(axis % a.ndim for axis in dims)


def _by_columns(ufunc: Any, out: np.ndarray, a: np.ndarray) -> list[Call]:
    """Reduce along a short last axis."""
    columns = [a[..., index] for index in range(a.shape[-1])]
    if len(columns) == 1:
        return [partial(np.copyto, out, columns[0])]
    first, second, *others = columns
    return [partial(ufunc, first, second, out=out), *(partial(ufunc, out, other, out=out) for other in others)]


# over classes


@_named("_log_softmax")
def _log_softmax(out: np.ndarray, a: np.ndarray, dim: int, to_float: bool) -> list[Call]:
    largest, powers = _last(a, dim), np.empty_like(a)
    total = np.empty_like(largest)
    return [
        *_reduced(np.maximum, largest, a),
        partial(np.subtract, a, largest, out=out),
        partial(np.exp, out, out=powers),
        *_reduced(np.add, total, powers),
        partial(np.log, total, out=total),
        partial(np.subtract, out, total, out=out),
    ]


@_named("_log_softmax_backward_data")
def _log_softmax_backward(out: np.ndarray, gradient: np.ndarray, made: np.ndarray, dim: int, _: Any) -> list[Call]:
    total = _last(gradient, dim)
    return [
        *_reduced(np.add, total, gradient),
        partial(np.exp, made, out=out),
        partial(np.multiply, out, total, out=out),
        partial(np.subtract, gradient, out, out=out),
    ]


@_named("_softmax")
def _softmax(out: np.ndarray, a: np.ndarray, dim: int, to_float: bool) -> list[Call]:
    total = _last(a, dim)
    return [
        *_reduced(np.maximum, total, a),
        partial(np.subtract, a, total, out=out),
        partial(np.exp, out, out=out),
        *_reduced(np.add, total, out),
        partial(np.divide, out, total, out=out),
    ]


@_named("_softmax_backward_data")
def _softmax_backward(out: np.ndarray, gradient: np.ndarray, made: np.ndarray, dim: int, _: Any) -> list[Call]:
    total = _last(gradient, dim)
    return [
        partial(np.multiply, gradient, made, out=out),
        *_reduced(np.add, total, out),
        partial(np.subtract, gradient, total, out=out),
        partial(np.multiply, out, made, out=out),
    ]


def _last(a: np.ndarray, dim: int) -> np.ndarray:
    if dim % a.ndim != a.ndim - 1:
        _refused("classes that are not along the last axis")
    return np.empty((*a.shape[:-1], 1), a.dtype)


def _reduced(ufunc: Any, out: np.ndarray, a: np.ndarray) -> list[Call]:
    if a.shape[-1] <= FEW:
        return _by_columns(ufunc, out[..., 0], a)
    return [partial(ufunc.reduce, a, -1, None, out, True)]


@_named("logsumexp")
def _logsumexp(out: np.ndarray, a: np.ndarray, dim: Any, keepdim: bool = False) -> list[Call]:
    axes = _axes(a, dim)
    if axes != (a.ndim - 1,):
        _refused("a sum of powers over another axis than the last")
    largest, powers = _last(a, -1), np.empty_like(a)
    total = _viewed(out, largest.shape)
    return [
        *_reduced(np.maximum, largest, a),
        partial(np.subtract, a, largest, out=powers),
        partial(np.exp, powers, out=powers),
        *_reduced(np.add, total, powers),
        partial(np.log, total, out=total),
        partial(np.add, total, largest, out=total),
    ]


# picking


@_named("sort")
def _sort(out: Any, a: np.ndarray, dim: int = -1, descending: bool = False) -> list[Call]:
    if descending:
        _refused("sorting from the greatest down")
    values, indices = out
    return [
        partial(_assign, indices, partial(np.argsort, a, dim, kind="stable")),
        partial(_assign, values, partial(np.take_along_axis, a, indices, dim)),
    ]


@_named("repeat")
def _repeat(out: np.ndarray, a: np.ndarray, times: Sequence[int]) -> list[Call]:
    return [partial(_assign, out, partial(np.tile, a, tuple(times)))]


@_named("gather")
def _gather(out: np.ndarray, a: np.ndarray, dim: int, index: np.ndarray, *, sparse_grad: bool = False) -> list[Call]:
    if dim % a.ndim != a.ndim - 1 or not a.flags.c_contiguous or a.shape[:-1] != index.shape[:-1]:
        _refused("entries gathered along another axis than the last")
    place, base = _places(a, index)
    return [partial(np.add, index, base, out=place), partial(np.take, a.reshape(-1), place, None, out, "clip")]


@_named("scatter_add")
def _scatter_add(out: np.ndarray, a: np.ndarray, dim: int, index: np.ndarray, values: np.ndarray) -> list[Call]:
    one = index.shape[-1] == 1 and index.shape[:-1] == a.shape[:-1] == values.shape[:-1]
    if not one or dim % a.ndim != a.ndim - 1 or not out.flags.c_contiguous:
        _refused("entries added at several places of a row")
    place, base = _places(a, index)
    flat, sums = out.reshape(-1), np.empty_like(values)
    return [
        *_copy(out, a),
        partial(np.add, index, base, out=place),
        partial(np.take, flat, place, None, sums, "clip"),
        partial(np.add, sums, values, out=sums),
        partial(np.put, flat, place, sums),
    ]


@_named("index")
def _index(out: np.ndarray, a: np.ndarray, indices: Sequence[Any]) -> list[Call]:
    return [partial(_assign, out, partial(a.__getitem__, _key(indices)))]


@_named("index_put")
def _index_put(
    out: np.ndarray, a: np.ndarray, indices: Sequence[Any], values: np.ndarray, accumulate: bool = False
) -> list[Call]:
    put = partial(np.add.at, out, _key(indices), values) if accumulate else partial(_put, out, _key(indices), values)
    return [*_copy(out, a), put]


@_named("scatter")
def _scatter(out: np.ndarray, a: np.ndarray, dim: int, index: np.ndarray, value: Any) -> list[Call]:
    return [*_copy(out, a), partial(np.put_along_axis, out, index, value, dim)]


@_named("select_backward")
def _select_backward(out: np.ndarray, gradient: np.ndarray, _: Any, dim: int, index: int) -> list[Call]:
    return _into(out, gradient, dim, index)


@_named("slice_backward")
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
        _refused("entries picked by a condition")
    return tuple(slice(None) if index is None else index for index in indices)


def _assign(out: np.ndarray, made: Call) -> None:
    out[...] = made()


def _put(out: np.ndarray, key: Any, values: np.ndarray) -> None:
    out[key] = values


def _places(a: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return room for places in a flat array, and what indices along its last axis are counted from."""
    rows = a.size // a.shape[-1] if a.shape[-1] else 0
    return np.empty_like(index), (np.arange(rows) * a.shape[-1]).reshape(*a.shape[:-1], 1)


# normalisation


@_named("native_layer_norm")
def _layer_norm(
    out: Any, a: np.ndarray, shape: Sequence[int], weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> list[Call]:
    if len(shape) != 1:
        _refused("a layer normalised over several axes")
    made, mean, inverse = out
    share, squares = a.dtype.type(1 / a.shape[-1]), np.empty_like(a)
    calls: list[Call] = [
        partial(np.add.reduce, a, -1, None, mean, True),
        partial(np.multiply, mean, share, out=mean),
        partial(np.subtract, a, mean, out=made),
        partial(np.square, made, out=squares),
        partial(np.add.reduce, squares, -1, None, inverse, True),
        partial(np.multiply, inverse, share, out=inverse),
        partial(np.add, inverse, a.dtype.type(eps), out=inverse),
        *_rsqrt(inverse, inverse),
        partial(np.multiply, made, inverse, out=made),
    ]
    for ufunc, factor in ((np.multiply, weight), (np.add, bias)):
        if factor is not None:
            calls.append(partial(ufunc, made, factor, out=made))
    return calls


@_named("native_layer_norm_backward")
def _layer_norm_backward(
    out: Any,
    gradient: np.ndarray,
    a: np.ndarray,
    shape: Sequence[int],
    mean: np.ndarray,
    inverse: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    wanted: Sequence[bool],
) -> list[Call]:
    to_input, to_weight, to_bias = out
    share, standard, product = a.dtype.type(1 / a.shape[-1]), np.empty_like(a), np.empty_like(a)
    along, total = np.empty_like(mean), np.empty_like(mean)
    calls: list[Call] = [
        partial(np.subtract, a, mean, out=standard),
        partial(np.multiply, standard, inverse, out=standard),
    ]
    if wanted[1]:
        calls += [partial(np.multiply, gradient, standard, out=product), *_over_rows(to_weight, product)]
    if wanted[2]:
        calls += _over_rows(to_bias, gradient)
    if wanted[0]:
        calls += [  # inverse * (g - mean(g) - x * mean(g * x)) for what comes to x, the standardised input
            *([partial(np.copyto, to_input, gradient)] if weight is None else []),
            *([partial(np.multiply, gradient, weight, out=to_input)] if weight is not None else []),
            partial(np.multiply, to_input, standard, out=product),
            partial(np.add.reduce, product, -1, None, along, True),
            partial(np.multiply, along, share, out=along),
            partial(np.add.reduce, to_input, -1, None, total, True),
            partial(np.multiply, total, share, out=total),
            partial(np.subtract, to_input, total, out=to_input),
            partial(np.multiply, standard, along, out=product),
            partial(np.subtract, to_input, product, out=to_input),
            partial(np.multiply, to_input, inverse, out=to_input),
        ]
    return calls


def _over_rows(out: np.ndarray, a: np.ndarray) -> list[Call]:
    return _sum(out, a.reshape(-1, a.shape[-1]), 0)


# losses and the backward passes of activations


@_named("mse_loss")
def _mse(out: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int = 1) -> list[Call]:
    gap = np.empty(np.broadcast_shapes(a.shape, b.shape), a.dtype)
    calls: list[Call] = [partial(np.subtract, a, b, out=gap)]
    if reduction == 0:
        return [*calls, partial(np.square, gap, out=out)]
    return [*calls, partial(np.square, gap, out=gap), *(_mean if reduction == 1 else _sum)(out, gap)]


@_named("mse_loss_backward")
def _mse_backward(out: np.ndarray, gradient: Any, a: np.ndarray, b: np.ndarray, reduction: int) -> list[Call]:
    factor = out.dtype.type(2 / a.size if reduction == 1 else 2)
    return [
        partial(np.subtract, a, b, out=out),
        partial(np.multiply, out, factor, out=out),
        partial(np.multiply, out, gradient, out=out),
    ]


@_named("smooth_l1_loss")
def _smooth_l1(out: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int = 1, beta: float = 1.0) -> list[Call]:
    if beta != 1.0 or a.shape != b.shape:
        _refused("smooth_l1_loss with beta")
    gap, near = np.empty_like(a), np.empty_like(a)
    made = out if reduction == 0 else np.empty_like(a)
    calls: list[Call] = [  # |x| <= 1: x^2 / 2, beyond: |x| - 1/2, that is c (|x| - c / 2) with c = min(|x|, 1)
        partial(np.subtract, a, b, out=gap),
        partial(np.abs, gap, out=gap),
        partial(np.minimum, gap, a.dtype.type(1), out=near),
        partial(np.multiply, near, a.dtype.type(-0.5), out=made),
        partial(np.add, made, gap, out=made),
        partial(np.multiply, made, near, out=made),
    ]
    return calls if reduction == 0 else [*calls, *(_mean if reduction == 1 else _sum)(out, made)]


@_named("smooth_l1_loss_backward")
def _smooth_l1_backward(
    out: np.ndarray, gradient: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int, beta: float
) -> list[Call]:
    if beta != 1.0 or a.shape != b.shape:
        _refused("smooth_l1_loss with beta")
    one = out.dtype.type(1)
    calls: list[Call] = [
        partial(np.subtract, a, b, out=out),
        partial(np.minimum, out, one, out=out),
        partial(np.maximum, out, -one, out=out),
        partial(np.multiply, out, gradient, out=out),
    ]
    return calls if reduction != 1 else [*calls, partial(np.multiply, out, out.dtype.type(1 / a.size), out=out)]


@_named("huber_loss")
def _huber(out: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int = 1, delta: float = 1.0) -> list[Call]:
    return _smooth_l1(out, a, b, reduction) if delta == 1 else _refused("huber_loss with delta")


@_named("huber_loss_backward")
def _huber_backward(
    out: np.ndarray, gradient: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int, delta: float
) -> list[Call]:
    return _smooth_l1_backward(out, gradient, a, b, reduction, delta)


@_named("softplus_backward")
def _softplus_backward(out: np.ndarray, gradient: np.ndarray, a: np.ndarray, beta: float, _: float) -> list[Call]:
    return [*_sigmoid(out, a), partial(np.multiply, out, gradient, out=out)]


@_named("tanh_backward")
def _tanh_backward(out: np.ndarray, gradient: np.ndarray, made: np.ndarray) -> list[Call]:
    return [
        partial(np.square, made, out=out),
        partial(np.subtract, out.dtype.type(1), out, out=out),
        partial(np.multiply, out, gradient, out=out),
    ]


@_named("sigmoid_backward")
def _sigmoid_backward(out: np.ndarray, gradient: np.ndarray, made: np.ndarray) -> list[Call]:
    return [
        partial(np.subtract, out.dtype.type(1), made, out=out),
        partial(np.multiply, out, made, out=out),
        partial(np.multiply, out, gradient, out=out),
    ]


@_named("threshold_backward")
def _threshold_backward(out: np.ndarray, gradient: np.ndarray, made: np.ndarray, threshold: float) -> list[Call]:
    passes = np.empty(made.shape, bool)
    return [partial(np.greater, made, threshold, out=passes), partial(np.multiply, gradient, passes, out=out)]


def _viewed(a: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the same memory in another shape."""
    view = a.view()
    view.shape = tuple(shape)  # raises where that would take a copy
    return view


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.__array_interface__["data"] == b.__array_interface__["data"] and a.strides == b.strides


def _refused(what: str) -> Any:
    raise Untranslated(f"NumPy has nothing for {what}")
