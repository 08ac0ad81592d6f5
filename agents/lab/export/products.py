"""Operations that multiply arrays: products of matrices and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from agents.lab.export.writer import Value, Writer
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
    made = _product(w, like, x, weight.permute((1, 0)))
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


PRODUCTS: dict[str, Callable[..., Any]] = {
    "addmm": _addmm,
    **dict.fromkeys(("mm", "bmm"), _product),
    "linear": _linear,
    "convolution": _convolution,
}
