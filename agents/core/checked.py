"""What stands in a function's place: programs for each shape and version, compared with it before they are used."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.core.by_numpy.program import tensors_of
from agents.core.tree import tree_map

Function = Callable[..., Any]
Version = Callable[[], Hashable]  # of all that a function reads beside its arguments: another value, another program
Found = tuple[Any, Sequence[Tensor]]  # a function's outputs, and what it left in what it changes in place
Agree = Callable[[Found, Found, Sequence[Tensor]], str]  # what is right, what was found, and the state before
MOST_SHAPES = 8
# how far what stands in a function's place may be from it: relative to a tensor's norm, and each of its numbers, as
# some outputs are differences of nearly equal numbers
TOLERANCE, TINY = 1e-3, {"outputs": 1e-5, "state": 1e-8}
# the most for what changes in place: of how far it was moved, as a small step would pass for none; and of its norm
MOVED, ROUNDED = 0.1, 1e-6


class Disagreement(RuntimeError):
    """A kernel does not do what the function in whose place it stands does."""


class ByVersion:
    """Makes a program anew whenever what a function reads beside its arguments has another version."""

    def __init__(self, make: Callable[[], Function], version: Version) -> None:
        self._make, self._version = make, version
        self._program: tuple[Hashable, Function] | None = None

    def __call__(self, *args: Any) -> Any:
        version = self._version()
        if self._program is None or self._program[0] != version:
            self._program = version, self._make()
        return self._program[1](*args)


class ByShape:
    """Makes a program for each set of shapes and types that its arguments come in.

    Args:
        make: makes one.
        otherwise: runs for other shapes once there are `MOST_SHAPES`; those that soon come again get a program in the
            place of the oldest. None for a program for each, as few are expected.
    """

    def __init__(self, make: Callable[[], Function], otherwise: Function | None = None) -> None:
        self._make, self._otherwise = make, otherwise
        self._programs: dict[Hashable, Function] = {}
        self._passed: dict[Hashable, None] = {}  # the last shapes that `otherwise` ran for

    def __call__(self, *args: Any) -> Any:
        shapes = tuple([(tensor.shape, tensor.dtype) for tensor in tensors_of(args)])
        program = self._programs.get(shapes)
        return (program or self._program(shapes))(*args)

    def _program(self, shapes: Hashable) -> Function:
        if self._otherwise is not None and len(self._programs) == MOST_SHAPES:
            if shapes not in self._passed:
                if len(self._passed) == MOST_SHAPES:
                    del self._passed[next(iter(self._passed))]
                self._passed[shapes] = None
                return self._otherwise
            del self._passed[shapes], self._programs[next(iter(self._programs))]
        self._programs[shapes] = self._make()
        return self._programs[shapes]


class Checked:
    """A kernel; its first call compares it with the plain function.

    Raises:
        Disagreement: it does something else. What either changes in place is as it was before.
    """

    def __init__(
        self,
        plain: Function,
        kernel: Callable[[], Function],
        state: Callable[[], Sequence[Tensor]],
        agree: Agree,
        sample: Callable[..., Sequence[Any]] | None = None,
    ) -> None:
        self._plain, self._make, self._state, self._agree, self._sample = plain, kernel, state, agree, sample
        self._kernel: Function | None = None

    def __call__(self, *args: Any) -> Any:
        if self._kernel is not None:
            return self._kernel(*args)
        state = list(self._state())
        before = [tensor.clone() for tensor in state]
        try:
            sample = args if self._sample is None else self._sample(*args)
            expected = tree_map(torch.clone, self._plain(*sample))
            after = [tensor.clone() for tensor in state]
            copy_into(state, before)
            kernel = self._make()
            result = kernel(*sample)
            wrong = self._agree((expected, after), (result, state), before)
            if wrong:
                raise Disagreement(wrong)
            if self._sample is not None:
                copy_into(state, before)
                result = kernel(*args)
        except BaseException:
            copy_into(state, before)
            raise
        self._kernel = kernel
        return result


def all_close(expected: Found, got: Found, before: Sequence[Tensor]) -> str:
    """Return what is wrong with outputs and state beside those that are right, but for rounding; "" if nothing is."""
    for kind, right, found in zip(("outputs", "state"), expected, got, strict=True):
        for index, (a, b) in enumerate(zip(tensors_of(right), tensors_of(found), strict=True)):
            a, b = a.double(), b.double()
            same = (a == b) | (a.isnan() & b.isnan())  # infinity and NaN too: some metrics are
            apart = (a - b).masked_fill(same, 0.0).norm()
            size = a[a.isfinite()].norm()
            allowed = TOLERANCE * size
            if kind == "state":
                way = a - before[index].double()
                allowed = torch.minimum(allowed, MOVED * way[way.isfinite()].norm() + ROUNDED * size)
            if not bool(apart <= allowed + TINY[kind] * math.sqrt(a.numel())):
                return f"number {index} of its {kind} is {apart:.2g} from that of PyTorch"
    return ""


def copy_into(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
