"""The operations of PyTorch that NumPy has, by name; the modules beside this one fill it in.

Each is a function of the arrays that an operation works on, the result first, which returns calls without arguments
that do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Call = Callable[[], Any]
Operation = Callable[..., list[Call]]
OPERATIONS: dict[str, Operation] = {}


class Untranslated(RuntimeError):
    """There is no NumPy call for an operation, or for its arguments."""


def named(*names: str) -> Callable[[Operation], Operation]:
    def note(operation: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, operation))
        return operation

    return note


def viewed(a: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the same memory in another shape."""
    view = a.view()
    view.shape = tuple(shape)  # raises where that would take a copy
    return view


def same_place(a: np.ndarray, b: np.ndarray) -> bool:
    return a.__array_interface__["data"] == b.__array_interface__["data"] and a.strides == b.strides


def refused(what: str) -> Any:
    raise Untranslated(f"NumPy has nothing for {what}")
