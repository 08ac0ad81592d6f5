"""The calls of NumPy's and PyTorch's that C++ has, each written into the text of a function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from agents.core.by_numpy.cpp_cells import write_cell
from agents.core.by_numpy.cpp_loops import Each, Text, Untold, kind_of, untold, whole
from agents.core.by_numpy.cpp_sums import dot, matmul, reduce
from agents.core.by_numpy.table import Call
from agents.core.cpp_source import TYPES

WIDEST = 4_096  # numbers that are normalised together, which lie on the stack
# expressions of entries by the names of NumPy's functions; T is the type they are reckoned in
EACH = {
    "absolute": "tl.abs({0})",
    "add": "({0} + {1})",
    "bitwise_and": "({0} & {1})",
    "bitwise_or": "({0} | {1})",
    "cos": "tl.cos({0})",
    "divide": "({0} / {1})",
    "equal": "({0} == {1})",
    "exp": "tl.exp({0})",
    "expm1": "std::expm1({0})",
    "floor": "tl.floor({0})",
    "floor_divide": "(({0} - tl.remainder({0}, {1})) / {1})",
    "greater": "({0} > {1})",
    "greater_equal": "({0} >= {1})",
    "isnan": "({0} != {0})",
    "less": "({0} < {1})",
    "less_equal": "({0} <= {1})",
    "log": "tl.log({0})",
    "log1p": "std::log1p({0})",
    "logical_and": "({0} && {1})",
    "logical_not": "(!{0})",
    "logical_or": "({0} || {1})",
    "maximum": "tl.maximum({0}, {1})",
    "minimum": "tl.minimum({0}, {1})",
    "multiply": "({0} * {1})",
    "negative": "(-{0})",
    "not_equal": "({0} != {1})",
    "power": "(T)std::pow({0}, {1})",
    "remainder": "tl.remainder({0}, {1})",
    "sign": "(T)(({0} > 0) - ({0} < 0))",
    "sin": "tl.sin({0})",
    "sqrt": "tl.sqrt({0})",
    "square": "({0} * {0})",
    "subtract": "({0} - {1})",
    "tanh": "tl.tanh({0})",
}
REAL = {"divide", "power"}  # which are not told of whole numbers
WHOLE = {"floor_divide"}  # which are told of no others
NUMBERS = {"add", "multiply", "subtract", "negative", "absolute", "square"}  # which mean something else for bool

OF_PYTORCH = {  # expressions of entries by the names of PyTorch's operations
    "sigmoid": "((T)1 / ((T)1 + tl.exp(-{0})))",
    "sigmoid_backward": "({0} * ((T)1 - {1}) * {1})",
    "softplus": "(tl.maximum({0}, (T)0) + std::log1p(tl.exp(-tl.abs({0}))))",
    "softplus_backward": "({0} / ((T)1 + tl.exp(-{1})))",
}
ROWWISE = {
    "_log_softmax": "log_softmax",
    "_softmax": "softmax",
    "_log_softmax_backward_data": "log_softmax_backward",
    "_softmax_backward_data": "softmax_backward",
}


def write(text: Text, call: Call) -> None:
    """Write a call.

    Raises:
        Untold: there is no text for it; nothing is written then.
    """
    if not isinstance(call, partial):
        raise Untold
    function, args, named = call.func, call.args, call.keywords
    if isinstance(function, np.ufunc) and function is not np.matmul:
        if set(named) - {"out"} or len(args) != function.nin:
            raise Untold
        text.each(_of_ufunc(function, args, named["out"]))
    elif function is torch.sigmoid:
        text.each(_of_pytorch("sigmoid", [args[0].numpy()], named["out"].numpy()))
    elif written := _WRITTEN.get(getattr(function, "__name__", "")):
        written(text, function, *args, **named)
    else:
        raise Untold


def _literal(number: Any, kind: str) -> str:
    value = number.item() if isinstance(number, np.generic) else number
    if not isinstance(value, int | float):
        raise Untold
    text = repr(value)
    if isinstance(value, bool):
        text = str(value).lower()
    elif not math.isfinite(value):
        text = "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
    return f"({kind})({text})"


def _of_ufunc(ufunc: np.ufunc, args: Sequence[Any], out: np.ndarray) -> Each:
    """Return what a NumPy function does, reckoned in the types that NumPy takes."""
    expression = EACH.get(ufunc.__name__)
    if ufunc is np.invert:
        expression = "(!{0})" if out.dtype == bool else "(~{0})"
    if expression is None or not isinstance(out, np.ndarray):
        raise Untold
    of_numbers = {float: float, int: int}
    kinds = [a.dtype if isinstance(a, np.ndarray | np.generic) else of_numbers.get(type(a)) for a in args]
    if any(kind is None for kind in kinds):
        raise Untold
    try:
        resolved = ufunc.resolve_dtypes((*kinds, None))[:-1]
    except TypeError:
        raise Untold from None
    reckoned = [TYPES.get(dtype.name, "") for dtype in resolved]
    whole = any(kind not in ("float", "double") for kind in reckoned)
    if (
        "" in reckoned
        or ufunc.__name__ in (REAL if whole else WHOLE)
        or ("bool" in reckoned and ufunc.__name__ in NUMBERS)
    ):
        raise Untold
    if ufunc in (np.remainder, np.floor_divide) and whole and not (isinstance(args[1], int) and args[1] > 0):
        raise Untold  # division by zero ends a process
    given = [
        np.broadcast_to(a, out.shape) if isinstance(a, np.ndarray) else _literal(a, kind)
        for a, kind in zip(args, reckoned, strict=True)
    ]
    return Each(out, f"({kind_of(out)}){expression.replace('(T)', f'({reckoned[0]})')}", given, reckoned)


def _of_pytorch(name: str, arrays: Sequence[np.ndarray], out: np.ndarray) -> Each:
    """Return what an operation of PyTorch's does, reckoned in the type of its result."""
    kind, given = kind_of(out), [np.broadcast_to(one, out.shape) for one in arrays]
    return Each(out, OF_PYTORCH[name].replace("(T)", f"({kind})"), given, [kind] * len(given))


def _copyto(text: Text, _: Any, out: np.ndarray, value: Any, casting: str = "", where: Any = None) -> None:
    kind = kind_of(out)
    given = np.broadcast_to(value, out.shape) if isinstance(value, np.ndarray) else _literal(value, kind)
    if where is None:
        return text.each(Each(out, "{0}", [given], [kind]))
    return text.each(Each(out, "{1} ? {0} : {2}", [given, np.broadcast_to(where, out.shape), out], [kind, "", kind]))


def _concatenate(text: Text, _: Any, parts: Sequence[np.ndarray], dim: int, out: np.ndarray) -> None:
    begin, dim = 0, dim % out.ndim
    for part in (*parts, out):
        kind_of(part)
    if any(np.may_share_memory(part, out) for part in parts):
        raise Untold
    for part in parts:
        end = begin + part.shape[dim]
        _copyto(text, None, out[(*[slice(None)] * dim, slice(begin, end))], part)
        begin = end


def _stack(text: Text, _: Any, parts: Sequence[np.ndarray], dim: int, out: np.ndarray) -> None:
    _concatenate(text, None, [np.expand_dims(part, dim) for part in parts], dim, out)


def _take(text: Text, _: Any, array: np.ndarray, index: Any, axis: int | None, out: np.ndarray, mode: str) -> None:
    if axis not in (None, 0) or mode != "clip" or index.dtype != np.int64 or not array.size:
        raise Untold
    if axis is None:
        array = array.reshape(-1) if array.flags.c_contiguous else untold()
    rest = array.shape[1:]
    if not out.flags.c_contiguous or array.dtype != out.dtype or np.may_share_memory(array, out):
        raise Untold
    one = index.reshape(-1) if index.flags.c_contiguous else untold()
    places = np.broadcast_to(one.reshape(-1, *[1] * len(rest)), (one.size, *rest))
    kind_of(array)
    text.each(Each(out.reshape(one.size, *rest), "{1}", [places], ["int64_t"], array))


def _assign(text: Text, _: Any, out: np.ndarray, made: Any) -> None:
    """Write entries picked by one or two arrays of places along the first axes."""
    array, key = _picked(made)
    loops, place, size = _rows_of(text, array, key)
    rows = out.reshape(size, -1) if out.flags.c_contiguous else untold()
    if out.dtype != array.dtype or np.may_share_memory(out, array):
        raise Untold
    width = rows.shape[1]
    to, source = text.pointer(rows), text.pointer(array)
    text.line(
        loops, f"    for (int64_t j = 0; j < {width}; ++j) {to}[i * {width} + j] = {source}[({place}) * {width} + j];"
    )


def _at(text: Text, function: Any, array: np.ndarray, key: Any, values: np.ndarray) -> None:
    """Write what is added at places along the first axes, where one may come more than once."""
    if function.__self__ is not np.add or array.dtype != values.dtype or not values.flags.c_contiguous:
        raise Untold
    loops, place, size = _rows_of(text, array, key)
    if values.shape != (size, *array.shape[len(key) :]) or np.may_share_memory(values, array):
        raise Untold
    width = values.size // size
    to, source = text.pointer(array), text.pointer(values)
    text.line(
        loops, f"    for (int64_t j = 0; j < {width}; ++j) {to}[({place}) * {width} + j] += {source}[i * {width} + j];"
    )


def _picked(made: Any) -> tuple[np.ndarray, Any]:
    named = isinstance(made, partial) and getattr(made.func, "__name__", "") == "__getitem__"
    return (made.func.__self__, made.args[0]) if named else untold()


def _rows_of(text: Text, array: np.ndarray, key: Any) -> tuple[str, str, int]:
    """Return a loop over the places that a key names, the place within it, counted in rows, and how many there are."""
    whole = isinstance(key, tuple) and array.flags.c_contiguous and array.size
    if not whole or not all(isinstance(one, np.ndarray) and one.dtype == np.int64 for one in key) or len(key) > 2:
        raise Untold
    if not all(one.flags.c_contiguous and one.ndim == 1 and one.shape == key[0].shape for one in key):
        raise Untold
    if not key[0].size:
        raise Untold
    place = " + ".join(
        f"along({text.pointer(one)}[i], {array.shape[axis]}) * {math.prod(array.shape[axis + 1 : len(key)])}"
        for axis, one in enumerate(key)
    )
    return f"for (int64_t i = 0; i < {key[0].size}; ++i)", place, key[0].size


def _put(text: Text, _: Any, array: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    whole = all(one.flags.c_contiguous for one in (array, index, values))
    if (
        not (whole and array.size)
        or index.dtype != np.int64
        or index.size != values.size
        or array.dtype != values.dtype
    ):
        raise Untold
    to, place, value = text.pointer(array), text.pointer(index), text.pointer(values)
    loop = f"for (int64_t i = 0; i < {index.size}; ++i) {to}[within({place}[i], {array.size})] = {value}[i];"
    text.line(loop)


def _argmax(text: Text, _: Any, a: np.ndarray, dim: int, out: np.ndarray) -> None:
    if not a.ndim or dim % a.ndim != a.ndim - 1 or not (a.flags.c_contiguous and out.flags.c_contiguous) or not a.size:
        raise Untold
    text.line(f"argmax({text.pointer(out)}, {text.pointer(a)}, {a.size // a.shape[-1]}, {a.shape[-1]});")


def _called(made: Any) -> tuple[str, list[np.ndarray], list[Any]]:
    """Return the name of an operation of PyTorch's that is called, the arrays it is called with, and all arguments."""
    if not isinstance(made, partial) or not hasattr(made.func, "_schema"):
        raise Untold
    arrays = [arg.numpy() for arg in made.args if isinstance(arg, torch.Tensor)]
    return made.func._schema.name.removeprefix("aten::").removesuffix("_"), arrays, list(made.args)


def _by_pytorch(text: Text, _: Any, out: np.ndarray, made: Any, *more: Any) -> None:
    """Write a call of PyTorch's: of entries, or of rows."""
    name, arrays, args = _called(made) if not more else untold()
    if name in OF_PYTORCH:
        more_args = args[len(arrays) :]
        beta, threshold = more_args + [1, 20][len(more_args) :]
        if beta != 1 or threshold < 20:  # from there on it is the number itself, to rounding
            raise Untold
        return text.each(_of_pytorch(name, arrays, out))
    dim = next((arg for arg in args if isinstance(arg, int)), 0)
    if name not in ROWWISE or not out.ndim or dim % out.ndim != out.ndim - 1:
        raise Untold
    whole(out, *arrays)
    pointers = ", ".join(text.pointer(one) for one in (out, *arrays))
    text.line(f"{ROWWISE[name]}<{out.shape[-1]}>({pointers}, {out.size // out.shape[-1]});")


def _several_by_pytorch(text: Text, _: Any, outs: Sequence[np.ndarray | None], made: Any) -> None:
    """Write a call of PyTorch's that returns several arrays."""
    if isinstance(made, partial) and not hasattr(made.func, "_schema"):
        return write_cell(text, made.func, [arg.numpy() for arg in made.args], outs)
    name, arrays, args = _called(made)
    if name not in ("native_layer_norm", "native_layer_norm_backward"):
        raise Untold
    width = math.prod(next(arg for arg in args if isinstance(arg, list | tuple)))
    if width > WIDEST:
        raise Untold
    tensors = [arg.numpy() if isinstance(arg, torch.Tensor) else None for arg in args]
    whole(*outs, *arrays)
    if name == "native_layer_norm":
        x, _shape, weight, bias, eps = tensors[0], *tensors[1:4], args[4]
        given, last = [*outs, x, weight, bias], f", {eps!r}"
    else:
        gradient, x, _shape, mean, scale, weight = tensors[:6]
        given, last = [*outs, gradient, x, mean, scale, weight], ""
    assert x is not None
    texts = ", ".join("(float*)nullptr" if one is None else text.pointer(one) for one in given)
    text.line(f"{name.removeprefix('native_')}<{width}>({texts}, {x.size // width}{last});")


_WRITTEN: dict[str, Callable[..., None]] = {
    "copyto": _copyto,
    "concatenate": _concatenate,
    "stack": _stack,
    "take": _take,
    "put": _put,
    "argmax": _argmax,
    "dot": dot,
    "matmul": matmul,
    "reduce": reduce,
    "_assign": _assign,
    "at": _at,
    "_put": _by_pytorch,
    "_put_several": _several_by_pytorch,
}
