"""A policy as one C header that needs nothing but the standard library's mathematics."""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from agents.lab.export.check import Runner
from agents.lab.export.module import Exported
from agents.lab.export.plain import write_plain
from agents.lab.export.writer import FLOATS, Language, WrittenFunction
from agents.run.storage import write_text
from agents.run.terminal import visible
from envs.errors import UserError

TYPES = {
    "float": "float",
    "double": "double",
    "int": "int64_t",
    "byte": "uint8_t",
    "sbyte": "int8_t",
    "bool": "uint8_t",
}
DTYPES: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "int": np.int64,
    "byte": np.uint8,
    "sbyte": np.int8,
    "bool": np.uint8,
}
FLAGS = ("-O2", "-std=c99", "-Wall", "-Werror", "-shared", "-fPIC")
MOST_WORK = 4 * 2**20  # bytes of arrays between, which lie on the stack


def _number(value: float, kind: str) -> str:
    if kind not in FLOATS:
        return str(int(value))
    with np.errstate(over="ignore"):
        exact = DTYPES[kind](value)
    if not math.isfinite(exact):
        return "NAN" if math.isnan(exact) else "INFINITY" if exact > 0 else "-INFINITY"
    return f"{exact!s}f" if kind == "float" else str(exact)


def _constant(kind: str, name: str, numbers: Tensor) -> str:
    found = [_number(x, kind) for x in numbers.tolist()]
    return f"static const {TYPES[kind]} {name}[{max(len(found), 1)}] = {{{', '.join(found) or '0'}}};"


def _function(name: str, kind: str) -> str:
    name = "rint" if name == "round" else name  # to even, as PyTorch's
    return f"{name}f" if kind == "float" else name


C = Language(
    counter="int",
    variable=lambda kind: TYPES[kind],
    array=lambda kind, name, size: f"{TYPES[kind]} {name}[{size}];",
    constant=_constant,
    number=_number,
    function=_function,
    cast=lambda text, kind: f"({text}) != 0" if kind == "bool" else f"({TYPES[kind]})({text})",
    bits={sign: f"({{a}} {sign} {{b}})" for sign in ("&", "|", "^", ">>", "<<")},
    whole=True,
)


def identifiers(names: Iterable[str]) -> list[str]:
    """Return names as C and JavaScript take them, no two the same."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = f"policy_{plain}" if plain[:1].isdigit() else plain
        numbered = (f"{plain}_{n}" for n in count(2))
        found.append(next(each for each in chain([plain], numbered) if each not in found))
    return found


def c_program(exported: Exported) -> WrittenFunction:
    """Return the policy's function of one observation."""
    example = tuple(exported.example(1).values())
    return write_plain(exported, example, identifiers(exported.inputs), C)


def write_c(exported: Exported, about: dict[str, Any], path: Path) -> None:
    """Write the header; its one function is `<file>_act`, and its first lines say what memory it takes.

    Raises:
        UserError: an operation has no form in C, or the arrays between are too large for a stack.
    """
    program = c_program(exported)
    if program.work > MOST_WORK:
        raise UserError(f"the arrays between take {program.work:,} bytes, more than {MOST_WORK:,}: use --to onnx")
    told = [
        f"{about['algo']} on {about['env']}, step {about['step']:,}. Needs the C library's mathematics (-lm).",
        f"{program.held:,} bytes of constants, {program.work:,} bytes of stack.",
        "Observations are as the environment gives them.",
        *_told(exported),
    ]
    write_text(path, header(exported.outputs, program, path.stem, told))


def header(outputs: Sequence[str], program: WrittenFunction, name: str, told: Sequence[str]) -> str:
    """Return the text of a header whose function is `<name>_act`, with lines about it at its beginning."""
    (name,) = identifiers([name])
    handed = [
        f"for (int i = 0; i < {max(v.size, 1)}; i++) {output}[i] = {v.name}[i];"
        for output, v in zip(identifiers(outputs), program.outputs, strict=True)
    ]
    text = [
        *(f"// {visible(line)}" for line in told),
        f"#ifndef {name.upper()}_H",
        f"#define {name.upper()}_H",
        "#include <math.h>",
        "#include <stdint.h>",
        "",
        *program.constants,
        "",
        f"static void {name}_act({signature(outputs, program)}) {{",
        *(f"  {line}" for line in program.lines + handed),
        "}",
        "",
        "#endif",
    ]
    return "\n".join(text) + "\n"


def signature(outputs: Sequence[str], program: WrittenFunction) -> str:
    """Return the parameters of the function, inputs before outputs."""
    taken = [f"const {TYPES[v.kind]} {v.name}[{max(v.size, 1)}]" for v in program.inputs]
    given = [
        f"{TYPES[v.kind]} {name}[{max(v.size, 1)}]"
        for name, v in zip(identifiers(outputs), program.outputs, strict=True)
    ]
    return ", ".join(taken + given)


def _told(exported: Exported) -> list[str]:
    shapes = [list(shape) or "one number" for shape, _ in exported.inputs.values()]
    lines = [f"{name}: {shape}" for name, shape in zip(identifiers(exported.inputs), shapes, strict=True)]
    states = [name for name in identifiers(exported.outputs) if name.startswith("next_")]
    if states:
        lines.append(
            f"{', '.join(states)}: hand them back in the next step; zeros and episode_start = 1 as an episode begins"
        )
    return lines


def c_runner(exported: Exported, path: Path) -> Runner | None:
    """Return what compiles the header and works it out, row by row; None where there is no C compiler."""
    return compiled(list(exported.inputs), exported.outputs, c_program(exported), path)


def compiled(inputs: Sequence[str], outputs: Sequence[str], program: WrittenFunction, path: Path) -> Runner | None:
    """Return a function from inputs by name, `[N, ...]`, to outputs by name; None where there is no C compiler.

    Raises:
        UserError: the compiler refuses the header.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    folder = tempfile.TemporaryDirectory(prefix="agents-export-")
    library, source = Path(folder.name) / "policy.so", Path(folder.name) / "policy.c"
    names = ", ".join([v.name for v in program.inputs] + identifiers(outputs))
    call = f"{identifiers([path.stem])[0]}_act({names});"
    shutil.copyfile(path, source.with_name("policy.h"))  # as a path may hold what C takes for more than a name
    source.write_text(f'#include "policy.h"\nvoid act({signature(outputs, program)}) {{ {call} }}\n')
    words = [compiler, *FLAGS, str(source), "-o", str(library), "-lm"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{compiler} refuses {path}: {' '.join(done.stderr.split())[:300]}")
    act = ctypes.CDLL(str(library)).act

    def run(given: dict[str, np.ndarray], kept: Any = folder) -> dict[str, np.ndarray]:
        rows = len(next(iter(given.values())))
        taken = [
            np.ascontiguousarray(given[name], DTYPES[v.kind]).reshape(rows, -1)
            for name, v in zip(inputs, program.inputs, strict=True)
        ]
        found = [np.empty((rows, max(v.size, 1)), DTYPES[v.kind]) for v in program.outputs]
        pointers = [(array.ctypes.data, array.strides[0]) for array in taken + found]
        for row in range(rows):
            act(*(ctypes.c_void_p(start + row * step) for start, step in pointers))
        return dict(zip(outputs, found, strict=True))

    return run
