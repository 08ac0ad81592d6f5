"""What is normalised along the last axis: softmax over classes, layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from agents.core.by_numpy.arithmetic import inverse_root
from agents.core.by_numpy.sums import reduced, summed
from agents.core.by_numpy.table import Call, named, refused, viewed


@named("_log_softmax")
def _log_softmax(out: np.ndarray, a: np.ndarray, dim: int, to_float: bool) -> list[Call]:
    largest, powers = _last(a, dim), np.empty_like(a)
    total = np.empty_like(largest)
    return [
        *reduced(np.maximum, largest, a),
        partial(np.subtract, a, largest, out=out),
        partial(np.exp, out, out=powers),
        *reduced(np.add, total, powers),
        partial(np.log, total, out=total),
        partial(np.subtract, out, total, out=out),
    ]


@named("_log_softmax_backward_data")
def _log_softmax_backward(out: np.ndarray, gradient: np.ndarray, made: np.ndarray, dim: int, _: Any) -> list[Call]:
    total = _last(gradient, dim)
    return [
        *reduced(np.add, total, gradient),
        partial(np.exp, made, out=out),
        partial(np.multiply, out, total, out=out),
        partial(np.subtract, gradient, out, out=out),
    ]


@named("_softmax")
def _softmax(out: np.ndarray, a: np.ndarray, dim: int, to_float: bool) -> list[Call]:
    total = _last(a, dim)
    return [
        *reduced(np.maximum, total, a),
        partial(np.subtract, a, total, out=out),
        partial(np.exp, out, out=out),
        *reduced(np.add, total, out),
        partial(np.divide, out, total, out=out),
    ]


@named("_safe_softmax")
def _safe_softmax(out: np.ndarray, a: np.ndarray, dim: int, dtype: Any = None) -> list[Call]:
    """Of what is -inf altogether 0."""
    total, none = _last(a, dim), np.empty((*a.shape[:-1], 1), bool)
    return [
        *reduced(np.maximum, total, a),
        partial(np.isneginf, total, out=none),
        partial(np.copyto, total, 0, where=none),
        partial(np.subtract, a, total, out=out),
        partial(np.exp, out, out=out),
        *reduced(np.add, total, out),
        partial(np.copyto, total, 1, where=none),
        partial(np.divide, out, total, out=out),
    ]


@named("_softmax_backward_data")
def _softmax_backward(out: np.ndarray, gradient: np.ndarray, made: np.ndarray, dim: int, _: Any) -> list[Call]:
    total = _last(gradient, dim)
    return [
        partial(np.multiply, gradient, made, out=out),
        *reduced(np.add, total, out),
        partial(np.subtract, gradient, total, out=out),
        partial(np.multiply, out, made, out=out),
    ]


def _last(a: np.ndarray, dim: int) -> np.ndarray:
    if dim % a.ndim != a.ndim - 1:
        refused("classes that are not along the last axis")
    return np.empty((*a.shape[:-1], 1), a.dtype)


@named("logsumexp")
def _logsumexp(out: np.ndarray, a: np.ndarray, dim: Any, keepdim: bool = False) -> list[Call]:
    if [axis % a.ndim for axis in dim] != [a.ndim - 1]:
        refused("a sum of powers over another axis than the last")
    largest, powers = _last(a, -1), np.empty_like(a)
    total = viewed(out, largest.shape)
    return [
        *reduced(np.maximum, largest, a),
        partial(np.subtract, a, largest, out=powers),
        partial(np.exp, powers, out=powers),
        *reduced(np.add, total, powers),
        partial(np.log, total, out=total),
        partial(np.add, total, largest, out=total),
    ]


@named("native_layer_norm")
def _layer_norm(
    out: Any, a: np.ndarray, shape: Sequence[int], weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> list[Call]:
    if len(shape) != 1:
        refused("a layer normalised over several axes")
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
        *inverse_root(inverse, inverse),
        partial(np.multiply, made, inverse, out=made),
    ]
    for ufunc, factor in ((np.multiply, weight), (np.add, bias)):
        if factor is not None:
            calls.append(partial(ufunc, made, factor, out=made))
    return calls


@named("native_layer_norm_backward")
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
            partial(np.multiply, gradient, 1 if weight is None else weight, out=to_input),
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
    return summed(out, a.reshape(-1, a.shape[-1]), 0)
