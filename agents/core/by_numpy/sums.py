"""Matrix products and reductions."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch

from agents.core.by_numpy.table import OPERATIONS, Call, Operation, named, refused, viewed

SHARED = 1 << 20  # multiply-adds: from so many on several threads pay for a product
FEW = 8  # columns: so many are reduced one by one, as NumPy is slow along a short last axis


@named("mm", "bmm", "mv", "dot")
def _mm(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[Call]:
    if a.shape[-1] == 1 and b.ndim > 1:  # BLAS is slow at outer products
        return [partial(np.multiply, a, b, out=out)]
    product = {2: torch.mm, 3: torch.bmm}.get(out.ndim)
    if product and torch.get_num_threads() > 1 and out.size * a.shape[-1] >= SHARED:  # NumPy's take one
        return [partial(product, *map(torch.from_numpy, (a, b)), out=torch.from_numpy(out))]
    return [partial(np.matmul, a, b, out=out)]


@named("addmm", "baddbmm")
def _addmm(
    out: np.ndarray, bias: np.ndarray, a: np.ndarray, b: np.ndarray, *, beta: float = 1, alpha: float = 1
) -> list[Call]:
    if beta != 1 or alpha != 1:
        refused("a product added with factors")
    return [*_mm(out, a, b), partial(np.add, out, bias, out=out)]


@named("sum")
def summed(out: np.ndarray, a: np.ndarray, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> list[Call]:
    axes = _axes(a, dim)
    if axes == (0,) and a.ndim == 2 and a.dtype == np.float32 and len(a) > 1:
        return [partial(np.matmul, np.ones(len(a), np.float32), a, out=viewed(out, a.shape[1:]))]
    if axes == (a.ndim - 1,) and a.shape[-1] <= FEW and a.dtype == out.dtype:  # truth values are counted in integers
        return _by_columns(np.add, viewed(out, a.shape[:-1]), a)
    return [partial(np.add.reduce, a, axes, None, out, keepdim)]


@named("cumsum")
def _cumsum(out: np.ndarray, a: np.ndarray, dim: int, *, dtype: Any = None) -> list[Call]:
    return [partial(np.cumsum, a, dim, None, out)]


@named("mean")
def averaged(
    out: np.ndarray, a: np.ndarray, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> list[Call]:
    axes = _axes(a, dim)
    share = out.dtype.type(1 / math.prod(a.shape[axis] for axis in axes))
    return [*summed(out, a, list(axes), keepdim), partial(np.multiply, out, share, out=out)]


def _extreme(ufunc: Any) -> Operation:
    def operation(out: np.ndarray, a: np.ndarray, dim: Any = (), keepdim: bool = False) -> list[Call]:
        return [partial(ufunc.reduce, a, _axes(a, dim), None, out, keepdim)]

    return operation


OPERATIONS |= {"amax": _extreme(np.maximum), "amin": _extreme(np.minimum)}


@named("argmax")
def _argmax(out: np.ndarray, a: np.ndarray, dim: int | None = None, keepdim: bool = False) -> list[Call]:
    if dim is None or keepdim:
        refused("argmax over all entries")
    return [partial(np.argmax, a, dim, out)]


@named("max")
def _max(out: Any, a: np.ndarray, dim: int | None = None, keepdim: bool = False) -> list[Call]:
    if dim is None:
        return [partial(np.maximum.reduce, a, None, None, out)]
    values, indices = out
    shape = tuple(size for axis, size in enumerate(a.shape) if axis != dim % a.ndim)
    return [
        partial(np.maximum.reduce, a, dim, None, values, keepdim),
        partial(np.argmax, a, dim, viewed(indices, shape)),
    ]


@named("std_mean")
def _std_mean(out: Any, a: np.ndarray, dim: Any = None, *, correction: float = 1, keepdim: bool = False) -> list[Call]:
    return [*_var_mean(out, a, dim, correction=correction, keepdim=keepdim), partial(np.sqrt, out[0], out=out[0])]


@named("var_mean")
def _var_mean(out: Any, a: np.ndarray, dim: Any = None, *, correction: float = 1, keepdim: bool = False) -> list[Call]:
    (variance, mean), axes, apart = out, list(_axes(a, dim)), np.empty_like(a)
    each = viewed(mean, [1 if axis in axes else size for axis, size in enumerate(a.shape)])
    count = math.prod(a.shape[axis] for axis in axes)
    if count <= correction:
        refused("the deviation of a single number")
    return [
        *averaged(mean, a, axes, keepdim),
        partial(np.subtract, a, each, out=apart),
        partial(np.square, apart, out=apart),
        *averaged(variance, apart, axes, keepdim),
        partial(np.multiply, variance, a.dtype.type(count / (count - correction)), out=variance),
    ]


@named("var")
def _var(out: Any, a: np.ndarray, dim: Any = None, *, correction: float = 1, keepdim: bool = False) -> list[Call]:
    return _var_mean((out, np.empty_like(out)), a, dim, correction=correction, keepdim=keepdim)


@named("linalg_vector_norm")
def _vector_norm(
    out: np.ndarray, a: np.ndarray, order: float = 2, dim: Any = None, keepdim: bool = False
) -> list[Call]:
    if order != 2 or a.ndim != 1:
        refused("a norm but that of a vector")
    return [partial(np.dot, a, a, viewed(out, ())), partial(np.sqrt, out, out=out)]


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


def reduced(ufunc: Any, out: np.ndarray, a: np.ndarray) -> list[Call]:
    """Reduce along the last axis into `out`, which keeps it with a length of 1."""
    if a.shape[-1] <= FEW:
        return _by_columns(ufunc, out[..., 0], a)
    return [partial(ufunc.reduce, a, -1, None, out, True)]


@named("logsumexp")
def _logsumexp(out: np.ndarray, a: np.ndarray, dim: Any, keepdim: bool = False) -> list[Call]:
    if [axis % a.ndim for axis in dim] != [a.ndim - 1]:
        refused("a sum of powers over another axis than the last")
    largest, powers = np.empty((*a.shape[:-1], 1), a.dtype), np.empty_like(a)
    total = viewed(out, largest.shape)
    return [
        *reduced(np.maximum, largest, a),
        partial(np.subtract, a, largest, out=powers),
        partial(np.exp, powers, out=powers),
        *reduced(np.add, total, powers),
        partial(np.log, total, out=total),
        partial(np.add, total, largest, out=total),
    ]
