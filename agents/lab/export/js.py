"""Functions of tensors as JavaScript."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

from torch import Tensor

from agents.lab.export.writer import FLOATS, Language, WrittenFunction

ARRAYS = {
    "float": "Float32Array",
    "double": "Float64Array",
    "int": "Float64Array",  # whole numbers up to 2^53
    "byte": "Uint8Array",
    "sbyte": "Int8Array",
    "bool": "Uint8Array",
}
# Bits of whole numbers up to 2^53, of which JavaScript's own operators see 32; and what Math lacks
PRELUDE = """\
const HALF = 2 ** 30;
const high = x => Math.floor(x / HALF), low = x => x - high(x) * HALF;
const bits = (f, a, b) => f(high(a), high(b)) * HALF + f(low(a), low(b));
const both = (a, b) => bits((x, y) => x & y, a, b), either = (a, b) => bits((x, y) => x | y, a, b);
const unlike = (a, b) => bits((x, y) => x ^ y, a, b);
const even = x => { const n = Math.round(x); return Math.abs(x % 1) === 0.5 && n % 2 !== 0 ? n - 1 : n; };
const erf = x => {
  let sum = x, term = x;
  if (Math.abs(x) > 5) return Math.sign(x);
  for (let n = 1; n < 80; n++) { term *= -x * x / n; sum += term / (2 * n + 1); }
  return 2 / Math.sqrt(Math.PI) * sum;
};
const fmod = (a, b) => a % b;
const floats = text => new Float32Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
"""


def _number(value: float, kind: str) -> str:
    if math.isinf(value) or math.isnan(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return repr(float(value)) if kind in FLOATS else str(int(value))


def _constant(kind: str, name: str, numbers: Tensor) -> str:
    if kind == "float":
        packed = base64.b64encode(numbers.numpy().astype("<f4").tobytes()).decode()
        return f'const {name} = floats("{packed}");'
    return f"const {name} = new {ARRAYS[kind]}([{', '.join(_number(x, kind) for x in numbers.tolist())}]);"


JS = Language(
    counter="let",
    variable=lambda kind: "let",
    array=lambda kind, name, size: f"const {name} = new {ARRAYS[kind]}({size});",
    constant=_constant,
    number=_number,
    function=lambda name, kind: {"erf": "erf", "fmod": "fmod", "round": "even"}.get(name, f"Math.{name}"),
    cast=lambda text, kind: (
        f"Math.trunc({text})" if kind == "int" else f"({text}) != 0" if kind == "bool" else f"+({text})"
    ),
    bits={
        "&": "both({a}, {b})",
        "|": "either({a}, {b})",
        "^": "unlike({a}, {b})",
        ">>": "Math.floor({a} / 2 ** ({b}))",
        "<<": "(({a}) * 2 ** ({b}))",
    },
    whole=False,
)


def function(name: str, program: WrittenFunction) -> list[str]:
    """Return the lines of a function of arrays that returns its outputs, a list of arrays."""
    taken, given = (", ".join(value.name for value in values) for values in (program.inputs, program.outputs))
    return [
        f"const {name} = (() => {{",
        *program.constants,
        f"return ({taken}) => {{",
        *(f"  {line}" for line in program.lines),
        f"  return [{given}];",
        "};",
        "})();",
    ]


def script(functions: Sequence[tuple[str, WrittenFunction]]) -> str:
    """Return a script that defines functions."""
    return PRELUDE + "\n".join(line for name, program in functions for line in function(name, program)) + "\n"
