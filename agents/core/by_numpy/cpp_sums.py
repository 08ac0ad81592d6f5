"""Products and sums in C++, each written into the text of a function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agents.core.by_numpy.cpp_loops import Text, Untold, kind_of, untold

LANES = 16  # floats: columns of a product are padded to a multiple of this many
MOST_WEIGHTS = 512 * 512  # of a product's second factor; beyond, a library's products are faster
MOST = 1_024  # numbers that a sum of floats takes in one by one
MOST_DOTTED = MOST * LANES  # numbers of which products are added up at once; of more, the sums of so many are
FOLDED = {"add": "{0} + {1}", "maximum": "tl.maximum({0}, {1})", "minimum": "tl.minimum({0}, {1})"}


def dot(text: Text, _: Any, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    if not all(one.dtype == np.float32 and one.flags.c_contiguous for one in (a, b, out)) or a.ndim != 1:
        raise Untold
    text.line(f"*{text.pointer(out)} = dot({text.pointer(a)}, {text.pointer(b)}, {a.size});")


def matmul(text: Text, _: Any, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    if out.dtype != np.float32 or a.dtype != b.dtype or a.dtype != np.float32 or not (a.size and b.size):
        raise Untold
    if any(np.may_share_memory(out, one) for one in (a, b)):
        raise Untold
    if b.ndim == 1:
        b, out = b[:, None], out[..., None]
    if a.ndim == 1:
        a, out = a[None], out[..., None, :]
    batch = out.shape[:-2]
    inner, columns = b.shape[-2:]
    if inner * columns > MOST_WEIGHTS or math.prod(batch) > LANES:
        raise Untold
    for one in (a, b, out):
        kind_of(one)
    a, b = (np.broadcast_to(one, (*batch, *one.shape[-2:])) for one in (a, b))
    for index in np.ndindex(batch):
        product(text, a[index], b[index], out[index])


def padded(columns: int) -> int:
    """Return how many columns of a product's second factor lie in memory."""
    return -(-columns // LANES) * LANES


def product(text: Text, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Write the product of two matrices."""
    (am, ak), (bk, bn), (om, on) = ([stride // 4 for stride in one.strides] for one in (a, b, out))
    (rows, inner), columns = a.shape, b.shape[1]
    to, left, right = (text.pointer(one) for one in (out, a, b))
    if columns < LANES <= inner <= MOST_DOTTED and ak == bk == 1:
        text.line(f"for (int64_t m = 0; m < {rows}; ++m) for (int64_t n = 0; n < {columns}; ++n)")
        text.line(f"    {to}[m * {om} + n * {on}] = dot({left} + m * {am}, {right} + n * {bn}, {inner});")
        return
    if columns < LANES <= rows:  # the other way round: the rows are more
        rows, columns, left, right = columns, rows, right, left
        am, ak, bk, bn, om, on = bn, bk, ak, am, on, om
    if bn != 1 or columns % LANES:
        width = padded(columns)
        room = text.pointer(text.room(inner * width))
        text.line(f"packed({room}, {right}, {bk}, {bn}, {inner}, {columns}, {width});")
        right, bk = room, width
    text.line(f"product({to}, {om}, {on}, {left}, {am}, {ak}, {right}, {bk}, {rows}, {inner}, {columns});")


def reduce(
    text: Text, function: Any, a: np.ndarray, axes: Any, dtype: Any, out: np.ndarray, keepdim: bool = False
) -> None:
    fold = FOLDED.get(function.__self__.__name__)
    if fold is None or dtype is not None or not a.size:
        raise Untold
    dims = range(a.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
    gone = sorted(axis % a.ndim for axis in dims)
    kept = [axis for axis in range(a.ndim) if axis not in gone]
    kind = kind_of(out)
    if not (out.dtype == a.dtype or (a.dtype == bool and out.dtype == np.int64)) or kind == "bool":
        raise Untold
    if np.may_share_memory(a, out):
        raise Untold
    result = out.reshape([a.shape[axis] for axis in kept]) if out.flags.c_contiguous else untold()
    kind_of(a)
    text.line()
    inner = int(np.prod([a.shape[axis] for axis in gone]))
    whole = a.flags.c_contiguous and gone == list(range(len(kept), a.ndim))
    if whole and inner >= LANES and fold == FOLDED["add"] and a.dtype == out.dtype:
        to, start = text.pointer(result), text.pointer(a)
        text.line(f"for (int64_t i = 0; i < {result.size}; ++i) {to}[i] = total({start} + i * {inner}, {inner});")
        return
    to, start, steps = text.pointer(result), text.pointer(a), [stride // a.itemsize for stride in a.strides]
    rows = [f"for (int64_t i{axis} = 0; i{axis} < {a.shape[axis]}; ++i{axis})" for axis in range(a.ndim)]
    place = " + ".join(["0", *(f"i{axis} * {result.strides[n] // result.itemsize}" for n, axis in enumerate(kept))])
    first = " + ".join(["0", *(f"i{axis} * {steps[axis]}" for axis in kept)])
    where = " + ".join(["0", *(f"i{axis} * {steps[axis]}" for axis in range(a.ndim))])
    each = f"({kind})({start}[{where}]{' != 0' if a.dtype == bool else ''})"
    begin = f"({kind}){start}[{first}]" if fold != FOLDED["add"] else "0"
    if kept and inner <= MOST and (not gone or steps[kept[-1]] < steps[gone[-1]]):  # row by row
        apart = [*(rows[axis] for axis in kept[:-1]), "APART", rows[kept[-1]]]
        text.line(*apart, f"    {to}[{place}] = {begin};", *(rows[axis] for axis in gone), *apart)
        text.line(f"    {to}[{place}] = {fold.format(f'{to}[{place}]', each)};")
        return
    text.line(
        *(rows[axis] for axis in kept),
        "{",
        f"    {'double' if kind == 'float' else kind} sum = {begin};",
        *(rows[axis] for axis in gone),
    )
    text.line(f"        sum = {fold.format('sum', each)};", f"    {to}[{place}] = sum;", "}")
