"""The text of a function in C++: loops over arrays of which it is known where they lie.

Operations of each entry by itself are statements of one loop as long as their arrays have one shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from agents.core.cpp_source import TYPES


class Untold(Exception):
    """There is no text for a call."""


class Each(NamedTuple):
    """A statement for each entry of an array.

    Attributes:
        out: the array.
        expression: what is put there, with `{0}`, `{1}`, ... for the arguments.
        args: arrays in the shape of `out`, or texts.
        kinds: what each argument is reckoned in; "" as it is.
        looked_up: an array of which argument 0 is a place along the first axis; what is there is the last argument.
    """

    out: np.ndarray
    expression: str
    args: Sequence[np.ndarray | str]
    kinds: Sequence[str]
    looked_up: np.ndarray | None = None


class Text:
    """The text of a function, as it is written."""

    def __init__(self) -> None:
        self.places: dict[int, str] = {}  # pointers by their addresses
        self.kept: list[np.ndarray] = []  # memory of its own
        self._kinds: dict[str, str] = {}
        self._body: list[str] = []
        self._loop: list[Each] = []

    def text(self) -> str:
        """Return the statements of the function's body."""
        self._end_loop()
        pointers = [
            f"{self._kinds[name]}* const {name} = ({self._kinds[name]}*)given[{i}];"
            for i, name in enumerate(self.places.values())
        ]
        return "".join(f"    {line}\n" for line in [*pointers, *self._body])

    def pointer(self, array: np.ndarray) -> str:
        """Return an expression of where an array lies, as a pointer to its type.

        To bytes for bool: one that was never written may be any byte, which a bool in C++ may not.
        """
        address, kind = address_of(array), kind_of(array).replace("bool", "uint8_t")
        name = self.places.setdefault(address, f"p{len(self.places)}")
        self._kinds.setdefault(name, kind)
        return name if self._kinds[name] == kind else f"(({kind}*){name})"

    def line(self, *lines: str) -> None:
        """Write statements, after the loop that was begun."""
        self._end_loop()
        self._body += lines

    def room(self, count: int) -> np.ndarray:
        """Return memory for so many floats."""
        self.kept.append(np.empty(count, np.float32))
        return self.kept[-1]

    def each(self, each: Each) -> None:
        """Put a statement into the loop that was begun, or begin another."""
        each = _squeezed(each)
        if _clash(each, each):
            raise Untold
        if any(_clash(each, one) or _clash(one, each) or one.out.shape != each.out.shape for one in self._loop):
            self._end_loop()
        self._loop.append(each)

    def _end_loop(self) -> None:
        loop, self._loop = self._loop, []
        if not loop:
            return
        arrays = {_key(array): array for each in loop for array in [*_reads(each), each.out]}
        axes = _merged(loop[0].out.shape, list(arrays.values()), loop)
        names: dict[Any, str] = {}
        before, body = list[str](), list[str]()
        written: dict[Any, np.ndarray] = {}

        def at(array: np.ndarray) -> str:
            steps = [array.strides[last] // array.itemsize for _, last in axes]
            terms = [f"i{n} * {step}" if step != 1 else f"i{n}" for n, step in enumerate(steps) if step]
            return f"{self.pointer(array)}[{' + '.join(terms) or '0'}]"

        def value(arg: np.ndarray | str, kind: str) -> str:
            if isinstance(arg, str):
                return arg
            key = _key(arg)
            if key not in names:
                names[key] = f"x{len(names)}"
                # compilers make no vector instructions of a loop that reads one number again and again
                lines = body if any(arg.strides) or not axes else before
                lines.append(f"const {kind_of(arg)} {names[key]} = {at(arg)};")
            if kind == "bool":
                return f"({names[key]} != 0)"
            if arg.dtype == bool and kind:  # chosen: compilers make vector instructions of that
                return f"({names[key]} ? ({kind})1 : ({kind})0)"
            return names[key] if kind in ("", kind_of(arg)) else f"(({kind}){names[key]})"

        for each in loop:
            args = [value(arg, kind) for arg, kind in zip(each.args, each.kinds, strict=True)]
            if each.looked_up is not None:
                array = each.looked_up
                first, *rest = [stride // array.itemsize for stride in array.strides]
                place = f"within({args[0]}, {len(array)}) * {first}"
                inner = [f"i{n} * {step}" for n, step in enumerate(rest, 1)]
                args.append(f"{self.pointer(array)}[{' + '.join([place, *inner])}]")
            kind = kind_of(each.out)
            names[_key(each.out)] = name = f"y{len(body)}"
            written[_key(each.out)] = each.out
            body.append(f"const {kind} {name} = {each.expression.format(*args)};")
        body += [f"{at(array)} = {names[key]};" for key, array in written.items()]
        loops = [f"for (int64_t i{n} = 0; i{n} < {size}; ++i{n})" for n, (size, _) in enumerate(axes)]
        if loops:
            loops[-1:] = ["APART", loops[-1]]
        self._body += ["{", *before, *loops, "{", *(f"    {line}" for line in body), "}", "}"]


def untold() -> Any:
    raise Untold


def whole(*arrays: np.ndarray | None) -> None:
    """Raise `Untold` for arrays that are not floats without gaps."""
    for one in arrays:
        if one is not None and not (one.dtype == np.float32 and one.flags.c_contiguous and one.size):
            raise Untold


def address_of(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def kind_of(array: np.ndarray) -> str:
    found = TYPES.get(array.dtype.name)
    if found is None or any(stride % array.itemsize for stride in array.strides):
        raise Untold
    return found


def _key(array: np.ndarray) -> tuple[Any, ...]:
    return address_of(array), array.strides, array.dtype


def _clash(one: Each, other: Each) -> bool:
    """Whether one writes what the other reads or writes, and not entry by entry."""
    found = [array for array in [*_reads(other), other.out] if _key(array) != _key(one.out)]
    found += [] if other.looked_up is None else [other.looked_up]
    return any(np.may_share_memory(one.out, array) for array in found)


def _reads(each: Each) -> list[np.ndarray]:
    return [arg for arg in each.args if isinstance(arg, np.ndarray)]


def _squeezed(each: Each) -> Each:
    """Return the same without axes of length 1."""
    for array in (*_reads(each), each.out):
        kind_of(array)
    if each.looked_up is not None:
        return each
    return each._replace(out=np.squeeze(each.out), args=[a if isinstance(a, str) else np.squeeze(a) for a in each.args])


def _merged(shape: tuple[int, ...], arrays: list[np.ndarray], loop: list[Each]) -> list[tuple[int, int]]:
    """Return lengths of loops that go through a shape, and the last axis of each; axes in one piece are one loop."""
    axes: list[tuple[int, int]] = []
    for axis, size in enumerate(shape):
        one = axes and not any(each.looked_up is not None for each in loop)
        if one and all(array.strides[axis - 1] == array.strides[axis] * size for array in arrays):
            axes[-1] = (axes[-1][0] * size, axis)
        else:
            axes.append((size, axis))
    return axes
