"""Operations of each entry by itself, copies, and what is made anew."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from agents.core.by_numpy.table import OPERATIONS, Call, Operation, named, refused, same_place

LARGE = 2_048  # numbers from which on several calls cost less than NumPy's tanh


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
    "remainder": np.remainder,
    "neg": np.negative,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
}
OPERATIONS |= {name: _ufunc(ufunc) for name, ufunc in UFUNCS.items()}
# whose result may lie where an argument lies
IN_PLACE = {*UFUNCS, "add", "div", "reciprocal", "relu", "rsqrt", "rsub", "sub", "tanh"}


@named("add")
def _add(out: Any, a: Any, b: Any, *, alpha: float = 1) -> list[Call]:
    return _scaled(np.add, out, a, b, alpha)


@named("sub")
def _sub(out: Any, a: Any, b: Any, alpha: float = 1) -> list[Call]:
    return _scaled(np.subtract, out, a, b, alpha)


@named("rsub")
def _rsub(out: Any, a: Any, b: Any, alpha: float = 1) -> list[Call]:
    return _scaled(np.subtract, out, b, a, 1) if alpha == 1 else refused("rsub with alpha")


def _scaled(ufunc: Any, out: np.ndarray, a: Any, b: Any, alpha: float) -> list[Call]:
    if alpha == 1:
        return [partial(ufunc, a, b, out=out)]
    if not isinstance(b, np.ndarray):
        return [partial(ufunc, a, b * alpha, out=out)]
    scaled = np.empty_like(b)
    return [partial(np.multiply, b, alpha, out=scaled), partial(ufunc, a, scaled, out=out)]


@named("div")
def _div(out: np.ndarray, a: Any, b: Any, *, rounding_mode: str | None = None) -> list[Call]:
    if rounding_mode is not None:
        refused(f"a quotient rounded by {rounding_mode!r}")
    return [partial(np.divide, a, b, out=out)]


@named("floor_divide")
def _floor_divide(out: np.ndarray, a: Any, b: Any) -> list[Call]:
    return [partial(np.floor_divide, a, b, out=out)]


@named("rsqrt")
def _rsqrt(out: np.ndarray, a: np.ndarray) -> list[Call]:
    return [partial(np.sqrt, a, out=out), partial(np.divide, out.dtype.type(1), out, out=out)]


@named("reciprocal")
def _reciprocal(out: np.ndarray, a: np.ndarray) -> list[Call]:
    return [partial(np.divide, 1.0, a, out=out)]


@named("pow")
def _pow(out: np.ndarray, a: Any, b: Any) -> list[Call]:
    if isinstance(b, int | float) and b == 2:
        return [partial(np.square, a, out=out)]
    return [partial(np.power, a, b, out=out)]


@named("relu")
def _relu(out: np.ndarray, a: np.ndarray) -> list[Call]:
    return [partial(np.maximum, a, _zeros(a.shape, a.dtype), out=out)]  # NumPy is slow beside a single number


@cache
def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.zeros(shape, dtype)


@named("tanh")
def _tanh(out: np.ndarray, a: np.ndarray) -> list[Call]:
    if a.size < LARGE:
        return [partial(np.tanh, a, out=out)]
    one, two, made = out.dtype.type(1), out.dtype.type(2), torch.from_numpy(out)
    return [  # 2 sigmoid(2 a) - 1: PyTorch's sigmoid is several times as fast as either's tanh
        partial(np.multiply, a, two, out=out),
        partial(torch.sigmoid, made, out=made),
        partial(np.multiply, out, two, out=out),
        partial(np.subtract, out, one, out=out),
    ]


@named("clamp", "clamp_min")
def _clamp(out: np.ndarray, a: np.ndarray, min: Any = None, max: Any = None) -> list[Call]:
    last, calls = a, list[Call]()
    for ufunc, bound in ((np.maximum, min), (np.minimum, max)):
        if bound is not None:
            calls.append(partial(ufunc, last, bound, out=out))
            last = out
    return calls


OPERATIONS["clamp_max"] = lambda out, a, high: _clamp(out, a, None, high)


@named("addcmul")
def _addcmul(out: np.ndarray, a: np.ndarray, b: Any, c: Any, *, value: float = 1) -> list[Call]:
    product = np.empty(np.broadcast_shapes(np.shape(b), np.shape(c)), out.dtype)
    calls = [partial(np.multiply, b, c, out=product)]
    if value != 1:
        calls.append(partial(np.multiply, product, value, out=product))
    return [*calls, partial(np.add, a, product, out=out)]


@named("lerp")
def _lerp(out: np.ndarray, a: np.ndarray, b: np.ndarray, weight: Any) -> list[Call]:
    way = np.empty_like(out)
    far = not isinstance(weight, np.ndarray) and weight >= 0.5  # PyTorch counts from the nearer end
    return [
        partial(np.subtract, b, a, out=way),
        partial(np.multiply, way, 1 - weight if far else weight, out=way),
        partial(np.subtract, b, way, out=out) if far else partial(np.add, a, way, out=out),
    ]


@named("where")
def _where(out: np.ndarray, condition: np.ndarray, a: Any, b: Any) -> list[Call]:
    if np.shares_memory(out, condition) or np.shares_memory(out, a):
        refused("where onto one of its arguments")
    return [partial(np.copyto, out, b), partial(np.copyto, out, a, where=condition)]


@named("masked_fill")
def _masked_fill(out: np.ndarray, a: np.ndarray, mask: np.ndarray, value: Any) -> list[Call]:
    return [*clone(out, a), partial(np.copyto, out, value, casting="unsafe", where=mask)]


@named("clone", "_to_copy")
def clone(out: np.ndarray, a: np.ndarray, **_: Any) -> list[Call]:
    return [] if out is a or same_place(out, a) else [partial(np.copyto, out, a, casting="unsafe")]


OPERATIONS["copy"] = lambda out, a, b, *_: [partial(np.copyto, out, b, casting="unsafe")]
OPERATIONS["fill"] = lambda out, a, value: [partial(np.copyto, out, value, casting="unsafe")]
for _name, _value in {"zeros": 0, "zeros_like": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}.items():
    OPERATIONS[_name] = lambda out, *_, value=_value, **__: [partial(np.copyto, out, value, casting="unsafe")]
OPERATIONS["zero"] = OPERATIONS["zeros"]
OPERATIONS["scalar_tensor"] = lambda out, value, **_: [partial(np.copyto, out, value, casting="unsafe")]
OPERATIONS["arange"] = lambda out, *args, **_: [partial(np.copyto, out, np.arange(*args))]
OPERATIONS["linspace"] = lambda out, first, last, count, **_: [
    partial(np.copyto, out, np.float32(np.linspace(first, last, count)))
]
OPERATIONS["full"] = lambda out, shape, value, **_: [partial(np.copyto, out, value)]
for _name in ("empty", "empty_like", "new_empty", "_unsafe_view", "unsafe_split"):
    OPERATIONS[_name] = lambda out, *_, **__: []


@named("cat")
def _cat(out: np.ndarray, parts: Sequence[np.ndarray], dim: int = 0) -> list[Call]:
    return [partial(np.concatenate, [part for part in parts if part.size], dim, out)]


@named("stack")
def _stack(out: np.ndarray, parts: Sequence[np.ndarray], dim: int = 0) -> list[Call]:
    return [partial(np.stack, list(parts), dim, out)]


@named("tanh_backward")
def _tanh_backward(out: np.ndarray, gradient: np.ndarray, made: np.ndarray) -> list[Call]:
    return [
        partial(np.square, made, out=out),
        partial(np.subtract, out.dtype.type(1), out, out=out),
        partial(np.multiply, out, gradient, out=out),
    ]


@named("threshold_backward")
def _threshold_backward(out: np.ndarray, gradient: np.ndarray, made: np.ndarray, threshold: float) -> list[Call]:
    passes = np.empty(made.shape, bool)
    return [partial(np.greater, made, threshold, out=passes), partial(np.multiply, gradient, passes, out=out)]
