"""Operations of each entry by itself, as expressions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agents.lab.export.writer import FLOATS, Writer
from envs.errors import UserError


def _scaled(sign: str) -> Callable[..., str]:
    def expression(w: Writer, kind: str, a: str, b: str, alpha: float = 1) -> str:
        return f"{a} {sign} {b}" if alpha == 1 else f"{a} {sign} {w.number(alpha, kind)} * {b}"

    return expression


def _infix(sign: str) -> Callable[..., str]:
    return lambda w, kind, a, b: f"({a} {sign} {b})"


def _call(name: str) -> Callable[..., str]:
    return lambda w, kind, *a, **_: f"{w.function(name, kind)}({', '.join(a)})"


def _clamp(w: Writer, kind: str, a: str, low: str | None = None, high: str | None = None) -> str:
    made = a
    if low is not None:
        made = f"({made} < {low} ? {low} : {made})"
    return made if high is None else f"({made} > {high} ? {high} : {made})"


def _elu(w: Writer, kind: str, a: str, alpha: Any = 1.0, scale: Any = 1.0, inner: Any = 1.0) -> str:
    one = w.number(1.0, kind)
    alpha, scale, inner = (x if isinstance(x, str) else w.number(x, kind) for x in (alpha, scale, inner))
    return f"{scale} * ({a} > 0 ? {a} : {alpha} * ({w.function('exp', kind)}({a} * {inner}) - {one}))"


def _sigmoid(w: Writer, kind: str, a: str) -> str:
    one = w.number(1.0, kind)
    return f"{one} / ({one} + {w.function('exp', kind)}(-({a})))"


def _gelu(w: Writer, kind: str, a: str, approximate: str = "none") -> str:
    if approximate != "none":
        raise UserError("GELU by tanh has no plain form: export with --to onnx instead")
    half, root = w.number(0.5, kind), w.number(math.sqrt(0.5), kind)
    return f"{half} * {a} * ({w.number(1.0, kind)} + {w.function('erf', kind)}({a} * {root}))"


def _quotient(w: Writer, kind: str, a: str, b: str, rounding_mode: str | None = None) -> str:
    if rounding_mode == "floor":
        return _floored(w, kind, a, b)
    if rounding_mode == "trunc":
        return f"{a} / ({b})" if _whole(w, kind) else f"{w.function('trunc', kind)}({a} / ({b}))"
    return f"{w.language.cast(a, kind)} / ({b})"


def _whole(w: Writer, kind: str) -> bool:
    """Whether `/` and `%` are those of whole numbers."""
    return kind not in FLOATS and w.language.whole


def _floored(w: Writer, kind: str, a: str, b: str) -> str:
    if not _whole(w, kind):
        return f"{w.function('floor', kind)}({a} / ({b}))"
    return f"({a} / {b} - ({a} % {b} != 0 && ({a} < 0) != ({b} < 0)))"


def _remainder(w: Writer, kind: str, a: str, b: str) -> str:
    """Of the divisor's sign, as Python's."""
    made = f"({a} % {b})" if _whole(w, kind) else f"{w.function('fmod', kind)}({a}, {b})"
    return f"({made} != 0 && ({made} < 0) != ({b} < 0) ? {made} + {b} : {made})"


def _either(sign: str) -> Callable[..., str]:
    """The larger or smaller of two; NaN, which neither comparison finds, where one of them is."""
    return lambda w, kind, a, b: f"({a} {sign} {b} ? {a} : {b} {sign}= {a} ? {b} : {a} + {b})"


def _bits(sign: str) -> Callable[..., str]:
    return lambda w, kind, a, b: w.language.bits[sign].format(a=a, b=b)


EXPRESSIONS: dict[str, Callable[..., str]] = {
    "add": _scaled("+"),
    "sub": _scaled("-"),
    "mul": _infix("*"),
    "div": _quotient,
    **{name: _infix(sign) for name, sign in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="))},
    **{name: _infix(sign) for name, sign in (("gt", ">"), ("ge", ">="))},
    **{
        name: _bits(sign)
        for sign, names in (
            ("&", ("bitwise_and", "__and__")),
            ("|", ("bitwise_or", "__or__")),
            ("^", ("bitwise_xor", "__xor__")),
            (">>", ("__rshift__", "bitwise_right_shift")),
            ("<<", ("__lshift__", "bitwise_left_shift")),
        )
        for name in names
    },
    "copy": lambda w, kind, a, b, *_: b,
    "floor_divide": _floored,
    "remainder": _remainder,
    "logical_and": lambda w, kind, a, b: f"({a} != 0 && {b} != 0)",
    "logical_or": lambda w, kind, a, b: f"({a} != 0 || {b} != 0)",
    "logical_xor": lambda w, kind, a, b: f"(({a} != 0) != ({b} != 0))",
    "logical_not": lambda w, kind, a: f"({a} == 0)",
    "bitwise_not": lambda w, kind, a: f"({a} == 0)" if kind == "bool" else f"(-1 - {a})",
    **{name: _call(name) for name in ("tanh", "exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "floor", "ceil")},
    **{name: _call(name) for name in ("erf", "round", "pow", "tan", "atan2")},
    "abs": lambda w, kind, a: f"({a} < 0 ? -({a}) : {a})",
    "neg": lambda w, kind, a: f"-({a})",
    "sign": lambda w, kind, a: f"({a} > 0) - ({a} < 0)",
    "reciprocal": lambda w, kind, a: f"{w.number(1.0, kind)} / ({a})",
    "rsqrt": lambda w, kind, a: f"{w.number(1.0, kind)} / {w.function('sqrt', kind)}({a})",
    "relu": lambda w, kind, a: f"({a} < 0 ? 0 : {a})",  # NaN stays
    "leaky_relu": lambda w, kind, a, slope=0.01: (
        f"({a} > 0 ? {a} : {slope if isinstance(slope, str) else w.number(slope, kind)} * {a})"
    ),
    "sigmoid": _sigmoid,
    "elu": _elu,
    "gelu": _gelu,
    **dict.fromkeys(("clamp", "hardtanh"), _clamp),
    "maximum": _either(">"),
    "minimum": _either("<"),
    "where": lambda w, kind, a, b, c: f"({a} ? {b} : {c})",
    "isnan": lambda w, kind, a: f"({a} != {a})",
    "_to_copy": lambda w, kind, a, **_: a,
}
