"""What each of PyTorch's operations is in a kernel, as far as native environments and small networks take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.acting.emitting import ENVS, Emitter, Held, NameArray, Refused, Tile, results_of
from agents.core.tracing import Noted

Write = Callable[[Emitter, Noted], Any]


def _tensors(op: Noted) -> list[Any]:
    """Return the arguments that an expression is of: tensors and numbers."""
    return [arg for arg in op.args if isinstance(arg, Tensor | float | int)]


def _each(template: str) -> Write:
    """An expression of each number by itself, reckoned in the type of the result."""

    def write(e: Emitter, op: Noted) -> Any:
        args, text = _tensors(op), template
        for factor in (op.named[name] for name in ("alpha", "value") if op.named.get(name, 1) != 1):
            text = text.replace("{1}", f"({{1}} * {{{len(args)}}})")
            args.append(factor)
        return e.elementwise(op.result, text, args, op.result.dtype)

    return write


def _plain(write: Write, count: int) -> Write:
    """An operation of `count` arguments, without the factors that it may have."""

    def written(e: Emitter, op: Noted) -> Any:
        if any(extra not in (1, "none") for extra in (*op.args[count:], *op.named.values())):
            raise Refused(f"operation {op.name} with factors is not written out")
        return write(e, op)

    return written


def _compared(sign: str) -> Write:
    def write(e: Emitter, op: Noted) -> Any:
        a, b = op.args
        return e.elementwise(op.result, f"({{0}} {sign} {{1}})", [a, b], torch.result_type(a, b))

    return write


def _whole(real: str, whole: str) -> Write:
    """One expression for real numbers, another for whole ones."""

    def write(e: Emitter, op: Noted) -> Any:
        dtype = op.result.dtype
        template = real if dtype.is_floating_point else whole
        return e.elementwise(op.result, template, _tensors(op), dtype)

    return write


def _divided(e: Emitter, op: Noted) -> Any:
    how = op.named.get("rounding_mode")
    if how is None:
        return _each("({0} / {1})")(e, op)
    if how == "floor":
        return _floored(e, op)
    raise Refused(f"operation div, rounded by {how!r}, is not written out")


def _remainder(e: Emitter, op: Noted) -> Any:
    return _each(e.remainder)(e, op)


def _floored(e: Emitter, op: Noted) -> Any:
    return _whole("tl.floor({0} / {1})", f"(({{0}} - {e.remainder}) {e.quotient} {{1}})")(e, op)


def _inverted(e: Emitter, op: Noted) -> Any:
    return _each("({0} == 0)" if op.result.dtype == torch.bool else "(~{0})")(e, op)


def _power(e: Emitter, op: Noted) -> Any:
    powers = {2: "({0} * {0})", 3: "({0} * {0} * {0})", 0.5: "tl.sqrt({0})", -1: "(1.0 / {0})", 1: "{0}"}
    exponent = op.args[1]
    if not isinstance(exponent, int | float) or exponent not in powers:
        raise Refused("a power other than 2, 3, 0.5, 1 and -1 is not written out")
    return e.elementwise(op.result, powers[exponent], [op.args[0]], op.result.dtype)


def _clamped(e: Emitter, op: Noted) -> Any:
    low, high = (*op.args[1:], None, None)[:2]
    low, high = op.named.get("min", low), op.named.get("max", high)
    text, args = "{0}", [op.args[0]]
    for bound, function in ((low, "maximum"), (high, "minimum")):
        if bound is not None:
            text = f"tl.{function}({text}, {{{len(args)}}})"
            args.append(bound)
    return e.elementwise(op.result, text, args, op.result.dtype)


def _chosen(e: Emitter, op: Noted) -> Any:
    return e.elementwise(op.result, "tl.where({0}, {1}, {2})", op.args, torch.bool, op.result.dtype)


def _copied(e: Emitter, op: Noted) -> Any:
    """Another type, or the same numbers; a copy, as what is changed in place may be changed later."""
    value = e.value(op.args[0])
    if isinstance(value, Tile):
        return value
    made = e.cast(e.names(op.args[0]), op.result.dtype)
    return NameArray(made.entries.copy(), made.dtype)


def _put(e: Emitter, op: Noted) -> Any:
    """copy_: what is put into the place of another, in its type."""
    made = e.elementwise(op.result, "{0}", [op.args[1]], op.result.dtype)
    if isinstance(made, Tile):
        raise Refused("a hidden layer goes elsewhere than into the next")
    return made


def _full(e: Emitter, result: Tensor, value: Any) -> NameArray:
    number = value.item() if isinstance(value, Tensor) else value
    return NameArray(np.full(e.shape(result), e.constant(number, result.dtype), object), result.dtype)


def _filled(place: int | float | None, at: int = 0) -> Write:
    """An array of one number: `place`, or if that is None the argument `at`."""
    return lambda e, op: _full(e, op.result, op.args[at] if place is None else place)


def _view(change: Callable[[Emitter, Noted, np.ndarray], np.ndarray]) -> Write:
    """Another look at the same names."""

    def write(e: Emitter, op: Noted) -> Any:
        value = e.value(op.args[0])
        if isinstance(value, Tile):
            if [n for n in op.result.shape if n != 1] == [n for n in op.args[0].shape if n != 1]:
                return value
            raise Refused("a hidden layer goes elsewhere than into the next")
        if isinstance(value, Held):
            return Held(value.pointer, change(e, op, value.places), value.dtype)
        return NameArray(change(e, op, value.entries), value.dtype)

    return write


def _reshaped(e: Emitter, op: Noted, entries: np.ndarray) -> np.ndarray:
    before, after = list(op.args[0].shape), list(op.result.shape)
    if ENVS in before and ENVS in after:
        in_front = [int(np.prod(shape[: shape.index(ENVS)])) for shape in (before, after)]
        if in_front[0] != in_front[1]:
            raise Refused("environments are not apart from each other")
    elif ENVS in before:
        raise Refused("environments are not apart from each other")
    return entries.reshape(e.shape(op.result))


def _selected(e: Emitter, op: Noted, entries: np.ndarray) -> np.ndarray:
    _, dim, index = op.args
    return entries[(slice(None),) * e.axis(op.args[0], dim) + (index, ...)]


def _sliced(e: Emitter, op: Noted, entries: np.ndarray) -> np.ndarray:
    usual: list[Any] = [0, None, None, 1]
    dim, start, end, step = [*op.args[1:], *usual[len(op.args) - 1 :]]
    if op.args[0].shape[dim] == ENVS and op.result.shape == op.args[0].shape:
        return entries
    return entries[(slice(None),) * e.axis(op.args[0], dim) + (slice(start, end, step),)]


def _permuted(e: Emitter, op: Noted, entries: np.ndarray) -> np.ndarray:
    tensor = op.args[0]
    order = [d % tensor.dim() for d in (op.args[1] if len(op.args) > 1 else range(tensor.dim())[::-1])]
    return entries.transpose([e.axis(tensor, d) for d in order if tensor.shape[d] != ENVS])


def _swapped(e: Emitter, op: Noted, entries: np.ndarray) -> np.ndarray:
    tensor, a, b = op.args
    order = list(range(tensor.dim()))
    order[a], order[b] = order[b], order[a]
    return entries.transpose([e.axis(tensor, d) for d in order if tensor.shape[d] != ENVS])


def _expanded(e: Emitter, op: Noted, entries: np.ndarray) -> np.ndarray:
    tensor, result = op.args[0], op.result
    if ENVS in result.shape and ENVS not in tensor.shape:
        place = list(result.shape).index(ENVS) - result.dim() + tensor.dim()
        entries = np.squeeze(entries, axis=place) if place >= 0 else entries
    lack = len(e.shape(result)) - entries.ndim
    return np.broadcast_to(entries.reshape((1,) * lack + entries.shape), e.shape(result))


def _parts(e: Emitter, op: Noted) -> list[Any]:
    """unbind and split: each result is a view of some of the names along one axis."""
    tensor = op.args[0]
    dims = {"unbind": (1, 0), "split": (2, 0), "split_with_sizes": (2, 0)}
    at, usual = dims[op.name]
    dim = op.named.get("dim", op.args[at] if len(op.args) > at else usual)
    axis, value, start = e.axis(tensor, dim), e.value(tensor), 0
    entries = value.places if isinstance(value, Held) else e.names(tensor).entries
    found: list[Any] = []
    for result in results_of(op):
        if op.name == "unbind":
            part: Any = (len(found), ...)
        else:
            size = result.shape[dim]
            part, start = (slice(start, start + size),), start + size
        view = entries[(slice(None),) * axis + part]
        found.append(
            Held(value.pointer, view, value.dtype) if isinstance(value, Held) else NameArray(view, value.dtype)
        )
    return found


def _joined(e: Emitter, op: Noted) -> NameArray | Tile:
    """cat and stack."""
    result, tensors = op.result, op.args[0]
    if len(tensors) == 1 and isinstance(alone := e.value(tensors[0]), Tile):
        return alone
    dim = (op.args[1] if len(op.args) > 1 else 0) % result.dim()
    arrays = [e.cast(e.names(tensor), result.dtype).entries for tensor in tensors]
    axis = sum(n != ENVS for n in result.shape[:dim])
    if op.name == "cat":
        e.axis(result, dim)
    return NameArray((np.concatenate if op.name == "cat" else np.stack)(arrays, axis), result.dtype)


def _scattered(e: Emitter, op: Noted) -> NameArray:
    """scatter of a number to one place of an axis, as a one-hot row has it."""
    tensor, dim, index, value = op.args
    if isinstance(value, Tensor) or index.shape[dim] != 1:
        raise Refused("scatter to several places is not written out")
    dtype, axis = tensor.dtype, e.axis(tensor, dim)
    entries = np.moveaxis(e.names(tensor).entries.copy(), axis, 0)
    (places,), number = np.moveaxis(e.names(index).entries, axis, 0), e.constant(value, dtype)
    for k, *rest in np.ndindex(*entries.shape):
        spot, place, at = (k, *rest), e.constant(k, torch.int64), np.asarray(places, object)[tuple(rest)]
        hit = e.name(f"({at} == {place})", str(at), place)
        entries[spot] = e.name(f"tl.where({hit}, {number}, {entries[spot]})", hit, number, entries[spot])
    return NameArray(np.moveaxis(entries, 0, axis), dtype)


def _folded(template: str, reckoned: Callable[[Noted], torch.dtype]) -> Write:
    """An expression of two numbers, over the entries of some axes, from the first on."""

    def write(e: Emitter, op: Noted) -> NameArray:
        tensor, result = op.args[0], op.result
        dims = op.args[1] if len(op.args) > 1 else None
        dims = [dims] if isinstance(dims, int) else list(dims or range(tensor.dim()))
        keep = op.args[2] if len(op.args) > 2 else False
        axes = sorted(e.axis(tensor, dim) for dim in dims)
        dtype = reckoned(op)
        entries = e.cast(e.names(tensor), dtype).entries
        for axis in reversed(axes):
            first, *rest = np.moveaxis(entries, axis, 0)
            total = np.array(first, object)
            for each in rest:
                for index in np.ndindex(*total.shape):
                    pair: Any = total[index], np.array(each, object)[index]
                    total[index] = e.name(template.format(*pair), *pair)
            entries = np.expand_dims(total, axis) if keep else total
        return e.cast(NameArray(entries, dtype), result.dtype)

    return write


def _mean(e: Emitter, op: Noted) -> Any:
    total = _folded("({} + {})", _of_result)(e, op)
    count = op.args[0].numel() / op.result.numel()
    divisor = e.constant(count, total.dtype)
    entries = np.empty(total.entries.shape, object)
    for index in np.ndindex(*entries.shape):
        name: Any = total.entries[index]
        entries[index] = e.name(f"{name} / {divisor}", name)
    return NameArray(entries, total.dtype)


def _place(sign: str) -> Write:
    """argmax and argmin: the first of equal ones."""

    def write(e: Emitter, op: Noted) -> NameArray:
        tensor, result = op.args[0], op.result
        if len(op.args) < 2 or op.args[1] is None or (len(op.args) > 2 and op.args[2]):
            raise Refused("argmax of all axes is not written out")
        rows = np.moveaxis(e.names(tensor).entries, e.axis(tensor, op.args[1]), 0)
        entries = np.empty(rows.shape[1:], object)
        for index in np.ndindex(*entries.shape):
            best, place = rows[(0, *index)], e.constant(0, torch.int64)
            for k in range(1, len(rows)):
                other = rows[(k, *index)]
                more = e.name(f"({other} {sign} {best})", other, best)
                number = e.constant(k, torch.int64)
                place = e.name(f"tl.where({more}, {number}, {place})", more, place)
                best = e.name(f"tl.where({more}, {other}, {best})", more, other, best)
            entries[index] = place
        return NameArray(entries, result.dtype)

    return write


def _of_result(op: Noted) -> torch.dtype:
    return op.result.dtype


def _product(e: Emitter, op: Noted) -> Any:
    return e.product(op)


def _normalised(e: Emitter, op: Noted) -> list[Any]:
    x, shape, *held, eps = op.args
    value, (weight, bias) = e.value(x), (None if one is None else e.value(one) for one in held)
    if not isinstance(value, Tile) or list(shape) != [value.width]:
        raise Refused("what is normalised is no hidden layer")
    return [e.normalised(value, weight, bias, eps), None, None]


def _remembered(e: Emitter, op: Noted) -> list[Tile]:
    """A function that is noted as one: a step of a memory, which starts nowhere within it."""
    x, carry, start, *weights = op.args
    before, kind = e.value(carry), getattr(op.func, "known_as", "")
    if not kind or len(start) != 1 or not isinstance(before, Tile):
        raise Refused("a function is not written out")
    return e.cell(kind, e.value(x), before, [e.value(weight) for weight in weights])


TANH = "(1.0 - 2.0 / (tl.exp(2.0 * {0}) + 1.0))"
SIGMOID = "(1.0 / (1.0 + tl.exp(-{0})))"

OPERATIONS: dict[str, Write] = {
    **{name: _each(f"({{0}} {sign} {{1}})") for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*"))},
    "rsub": _plain(_each("({1} - {0})"), 2),
    "div": _divided,
    "remainder": _remainder,
    "floor_divide": _floored,
    "addcmul": _each("({0} + {1} * {2})"),
    "pow": _power,
    "square": _each("({0} * {0})"),
    "neg": _each("(-{0})"),
    "abs": _each("tl.abs({0})"),
    "reciprocal": _each("(1.0 / {0})"),
    "rsqrt": _each("(1.0 / tl.sqrt({0}))"),
    **{name: _each(f"tl.{name}({{0}})") for name in ("sin", "cos", "exp", "log", "sqrt", "floor", "ceil")},
    "erf": _each("tl.erf({0})"),
    "tanh": _each(TANH),
    "sigmoid": _each(SIGMOID),
    "relu": _each("tl.maximum({0}, 0.0)"),
    "silu": _each(f"({{0}} * {SIGMOID})"),
    "elu": _plain(_each("tl.where({0} > 0, {0}, tl.exp({0}) - 1.0)"), 1),
    "gelu": _plain(_each("(0.5 * {0} * (1.0 + tl.erf({0} * 0.7071067811865476)))"), 1),
    "maximum": _each("tl.maximum({0}, {1})"),
    "minimum": _each("tl.minimum({0}, {1})"),
    **dict.fromkeys(("clamp", "clamp_min", "clip"), _clamped),
    "where": _chosen,
    **{
        name: _compared(sign)
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="), ("eq", "=="), ("ne", "!="))
    },
    **dict.fromkeys(("bitwise_or", "logical_or", "__or__"), _each("({0} | {1})")),
    **dict.fromkeys(("bitwise_and", "logical_and", "__and__"), _each("({0} & {1})")),
    **dict.fromkeys(("bitwise_xor", "logical_xor", "__xor__"), _each("({0} ^ {1})")),
    "bitwise_not": _inverted,
    "logical_not": lambda e, op: e.elementwise(op.result, "({0} == 0)", op.args[:1], op.args[0].dtype),
    **dict.fromkeys(("bitwise_right_shift", "__rshift__"), _each("({0} >> {1})")),
    **dict.fromkeys(("bitwise_left_shift", "__lshift__"), _each("({0} << {1})")),
    **dict.fromkeys(("_to_copy", "clone", "lift_fresh", "contiguous"), _copied),
    "copy": _put,
    "fill": _filled(None, 1),
    "zero": _filled(0),
    **dict.fromkeys(("alias", "detach"), _view(lambda e, op, entries: entries)),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"), _view(_reshaped)),
    "select": _view(_selected),
    "slice": _view(_sliced),
    **dict.fromkeys(("permute", "t", "numpy_T"), _view(_permuted)),
    "transpose": _view(_swapped),
    "expand": _view(_expanded),
    **dict.fromkeys(("unbind", "split", "split_with_sizes"), _parts),
    **dict.fromkeys(("cat", "stack"), _joined),
    **dict.fromkeys(
        ("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "empty_strided"), _filled(0)
    ),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), _filled(1)),
    "scalar_tensor": _filled(None, 0),
    **dict.fromkeys(("full", "full_like"), _filled(None, 1)),
    "new_full": _filled(None, 2),
    "scatter": _scattered,
    "amax": _folded("tl.maximum({}, {})", _of_result),
    "amin": _folded("tl.minimum({}, {})", _of_result),
    "sum": _folded("({} + {})", _of_result),
    "mean": _mean,
    "any": _folded("({} | {})", lambda op: torch.bool),
    "all": _folded("({} & {})", lambda op: torch.bool),
    "argmax": _place(">"),
    "argmin": _place("<"),
    **dict.fromkeys(("addmm", "mm"), _product),
    "native_layer_norm": _normalised,
    "": _remembered,
}
