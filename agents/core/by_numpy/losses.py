"""Losses, and their backward passes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from agents.core.by_numpy.sums import averaged, summed
from agents.core.by_numpy.table import Call, named, refused


@named("mse_loss")
def _mse(out: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int = 1) -> list[Call]:
    gap = np.empty(np.broadcast_shapes(a.shape, b.shape), a.dtype)
    calls: list[Call] = [partial(np.subtract, a, b, out=gap)]
    if reduction == 0:
        return [*calls, partial(np.square, gap, out=out)]
    return [*calls, partial(np.square, gap, out=gap), *(averaged if reduction == 1 else summed)(out, gap)]


@named("mse_loss_backward")
def _mse_backward(out: np.ndarray, gradient: Any, a: np.ndarray, b: np.ndarray, reduction: int) -> list[Call]:
    factor = out.dtype.type(2 / a.size if reduction == 1 else 2)
    return [
        partial(np.subtract, a, b, out=out),
        partial(np.multiply, out, factor, out=out),
        partial(np.multiply, out, gradient, out=out),
    ]


@named("smooth_l1_loss")
def _smooth_l1(out: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int = 1, beta: float = 1.0) -> list[Call]:
    if beta != 1.0 or a.shape != b.shape:
        refused("smooth_l1_loss with beta")
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
    return calls if reduction == 0 else [*calls, *(averaged if reduction == 1 else summed)(out, made)]


@named("smooth_l1_loss_backward")
def _smooth_l1_backward(
    out: np.ndarray, gradient: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int, beta: float
) -> list[Call]:
    if beta != 1.0 or a.shape != b.shape:
        refused("smooth_l1_loss with beta")
    one = out.dtype.type(1)
    calls: list[Call] = [
        partial(np.subtract, a, b, out=out),
        partial(np.minimum, out, one, out=out),
        partial(np.maximum, out, -one, out=out),
        partial(np.multiply, out, gradient, out=out),
    ]
    return calls if reduction != 1 else [*calls, partial(np.multiply, out, out.dtype.type(1 / a.size), out=out)]


@named("huber_loss")
def _huber(out: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int = 1, delta: float = 1.0) -> list[Call]:
    return _smooth_l1(out, a, b, reduction) if delta == 1 else refused("huber_loss with delta")


@named("huber_loss_backward")
def _huber_backward(
    out: np.ndarray, gradient: np.ndarray, a: np.ndarray, b: np.ndarray, reduction: int, delta: float
) -> list[Call]:
    return _smooth_l1_backward(out, gradient, a, b, reduction, delta)
