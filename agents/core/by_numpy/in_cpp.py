"""NumPy programs in C++: calls that follow one another as one function, made by the compiler of the system.

What C++ has no text for stays a call of NumPy's or PyTorch's, between two functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agents.core.by_numpy.cpp_calls import write
from agents.core.by_numpy.cpp_cells import CELLS
from agents.core.by_numpy.cpp_loops import Text, Untold, address_of
from agents.core.by_numpy.cpp_prelude import PRELUDE
from agents.core.by_numpy.table import Call, Untranslated
from agents.core.cpp_source import EXACT, MATHS, CppFunction


def compiled(calls: Sequence[Call]) -> tuple[list[Call], Any]:
    """Return calls that do the same, those one after the other that C++ has as one; and what they need kept alive.

    Raises:
        UserError: there is no compiler, or it refuses the text.
    """
    runs: list[Text | Call] = []
    for call in calls:
        last = runs[-1] if runs and isinstance(runs[-1], Text) else Text()
        try:
            write(last, call)
        except Untold:
            runs.append(call)
        else:
            if not runs or runs[-1] is not last:
                runs.append(last)
    functions = [run for run in runs if isinstance(run, Text)]
    if not functions:
        return list(calls), None
    lines = [f"static void f{i}(void** given) {{\n{function.text()}}}\n" for i, function in enumerate(functions)]
    which = "".join(f"        case {i}: return f{i}(given);\n" for i in range(len(functions)))
    begin = 'extern "C" void kernel(int64_t which, int64_t, void** given) {\n    switch (which) {\n'
    library = CppFunction(f"{MATHS}{PRELUDE}{CELLS}{''.join(lines)}{begin}{which}    }}\n}}\n", EXACT)
    bound = iter([library.bound(i, list(function.places)) for i, function in enumerate(functions)])
    return [next(bound) if isinstance(run, Text) else run for run in runs], [calls, functions, library]


def looped(calls: Sequence[Call], given: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> Callable[..., None]:
    """Return a function that makes calls again and again, on one row after the other.

    It takes how often, then the addresses of the rows that go into `given`, and of those that take what is in `made`.

    Raises:
        Untranslated: C++ has no text for one of them, or an array has gaps.
        UserError: there is no compiler, or it refuses the text.
    """
    function = Text()
    try:
        for call in calls:
            write(function, call)
    except Untold:
        raise Untranslated("there is no text in C++ for a call") from None
    if not all(one.flags.c_contiguous for one in (*given, *made)):
        raise Untranslated("a row has gaps")
    text, used = function.text(), list(function.places)
    copies = []
    for n, one in enumerate((*given, *made)):
        here, there = f"given[{len(used) + 2 * n}]", f"(char*)given[{len(used) + 2 * n + 1}] + m * {one.nbytes}"
        to, source = (here, there) if n < len(given) else (there, here)
        copies.append(f"        std::memcpy({to}, {source}, {one.nbytes});\n")
    begin = 'extern "C" void kernel(int64_t, int64_t count, void** given) {\n'
    loop = f"    for (int64_t m = 0; m < count; ++m) {{\n{''.join(copies[: len(given)])}        f(given);\n"
    loop += "".join(copies[len(given) :]) + "    }\n}\n"
    library = CppFunction(f"{MATHS}{PRELUDE}{CELLS}static void f(void** given) {{\n{text}}}\n{begin}{loop}", EXACT)

    def run(count: int, *rows: int, kept: Any = (calls, function, given, made)) -> None:
        pairs = [address for one, row in zip((*given, *made), rows, strict=True) for address in (address_of(one), row)]
        library.bound(0, [*used, *pairs], count)()

    return run
