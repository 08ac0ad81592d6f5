"""A function of tensors as loops over arrays: the statements that C and JavaScript share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from envs.errors import UserError

KINDS = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int",
    torch.int32: "int",
    torch.uint8: "byte",
    torch.int8: "sbyte",
    torch.bool: "bool",
}
FLOATS = ("float", "double")
MULTIPLYING = ("mm", "bmm", "addmm", "linear", "convolution")


@dataclass(frozen=True)
class Value:
    """An array, or a view of one: entry `[i, j]` lies at `offset + i * strides[0] + j * strides[1]` of `name`."""

    name: str
    kind: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        return self.size <= 1 or all(
            n == 1 or stride == usual
            for n, stride, usual in zip(self.shape, self.strides, strides(self.shape), strict=True)
        )

    def permute(self, order: Sequence[int]) -> Value:
        """Return a view with the axes in another order."""
        shape, steps = zip(*((self.shape[i], self.strides[i]) for i in order), strict=True)
        return replace(self, shape=shape, strides=steps)

    def expand(self, shape: Sequence[int]) -> Value:
        """Return a view in which axes of length 1, and those that lack in front, repeat."""
        lack = len(shape) - len(self.shape)
        repeats = (True,) * lack + tuple(n == 1 for n in self.shape)
        steps = tuple(0 if again else step for again, step in zip(repeats, (0,) * lack + self.strides, strict=True))
        return replace(self, shape=tuple(shape), strides=steps)

    def slice(self, dim: int, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
        """Return a view of a part of one axis, which is named as Python's slices name it."""
        axis = dim % len(self.shape)
        found = range(*slice(start, end, step).indices(self.shape[axis]))
        shape = tuple(len(found) if i == axis else n for i, n in enumerate(self.shape))
        steps = tuple(s * step if i == axis else s for i, s in enumerate(self.strides))
        return replace(self, shape=shape, strides=steps, offset=self.offset + found.start * self.strides[axis])

    def select(self, dim: int, index: int) -> Value:
        """Return a view of one place of an axis, without that axis."""
        axis = dim % len(self.shape)
        shape, steps = (tuple(x for i, x in enumerate(xs) if i != axis) for xs in (self.shape, self.strides))
        return Value(self.name, self.kind, shape, steps, self.offset + index % self.shape[axis] * self.strides[axis])

    def at(self, index: Sequence[str]) -> str:
        """Return the entry at an index of expressions, one for each axis."""
        parts = [str(self.offset)] if self.offset else []
        for i, n, stride in zip(index, self.shape, self.strides, strict=True):
            if n > 1 and stride and i != "0":
                parts.append(i if stride == 1 else f"{i} * {stride}")
        return f"{self.name}[{' + '.join(parts) or '0'}]"


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of an array whose last axis is together."""
    found, step = [], 1
    for n in reversed(shape):
        found.append(step)
        step *= n
    return tuple(reversed(found))


@dataclass(frozen=True)
class Language:
    """How what differs is written.

    Attributes:
        counter: the type of a loop's variable.
        variable: a kind to the type of a variable.
        array: kind, name and length to a declaration.
        constant: kind, name and numbers to the declaration of what does not change.
        number: a Python number and the kind it meets to a literal.
        function: the name of a function of real numbers, and a kind, to the function.
        cast: an expression and the kind it becomes.
        bits: an operator of C's on the bits of whole numbers, and what it is on `{a}` and `{b}`.
        whole: whether whole numbers are divided as such, towards zero.
    """

    counter: str
    variable: Callable[[str], str]
    array: Callable[[str, str, int], str]
    constant: Callable[[str, str, Tensor], str]
    number: Callable[[float, str], str]
    function: Callable[[str, str], str]
    cast: Callable[[str, str], str]
    bits: Mapping[str, str]
    whole: bool


@dataclass
class WrittenFunction:
    """A function written out.

    Attributes:
        constants: declarations of weights and other numbers that do not change.
        lines: statements, in order.
        inputs, outputs: arrays that are taken and given.
        work: bytes of the arrays between.
        held: bytes of what does not change.
    """

    constants: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    work: int = 0
    held: int = 0


Table = dict[str, Callable[..., Any]]


class Writer:
    """Writes a graph of PyTorch's core operations out.

    Args:
        views: operations that only look at an array in another way; each gets the writer and the result's form.
        expressions: those of each entry by itself; each gets the writer, the kind that is reckoned in, and entries.
        operations: all others; as `views`. Of several results each may be a function that returns it when it is needed.
    """

    def __init__(self, language: Language, views: Table, expressions: Table, operations: Table) -> None:
        self.language, self.views, self.expressions, self.operations = language, views, expressions, operations
        self.program = WrittenFunction()
        self.values: dict[Any, Any] = {}
        self.counters = 0

    def write(self, exported: Any, names: Sequence[str]) -> WrittenFunction:
        signature, graph = exported.graph_signature, exported.graph
        for node in list(graph.nodes):
            if _name(node).startswith("_assert"):  # of what was seen while it was traced
                graph.erase_node(node)
        graph.eliminate_dead_code()
        nodes = list(graph.nodes)
        held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        held |= signature.inputs_to_lifted_tensor_constants
        taken = iter(names)
        for node in nodes:
            if node.op == "placeholder":
                if node.name in held and not node.users:
                    continue  # of parts that do not act, such as a value function
                if node.name in held:
                    name = held[node.name]
                    tensor = exported.state_dict[name] if name in exported.state_dict else exported.constants[name]
                    self.values[node] = self.constant(tensor.detach())
                else:
                    made = self.made(node.meta["val"], next(taken), declare=False)
                    self.program.inputs.append(made)
                    self.values[node] = made
            elif node.op == "get_attr":
                self.values[node] = self.constant(getattr(exported.graph_module, node.target).detach())
            elif node.op == "call_function":
                self.values[node] = self.call(node)
            elif node.op == "output":
                found = [self.values[output] for output in node.args[0]]
                self.program.outputs = [self.whole(value) for value in found]
        return self.program

    def call(self, node: Any) -> Any:
        name = _name(node)
        if name == "getitem":
            part = self.values[node.args[0]][node.args[1]]
            return part() if callable(part) else part
        args = torch.fx.node.map_arg(list(node.args), lambda argument: self.values[argument])
        options = torch.fx.node.map_arg(dict(node.kwargs), lambda argument: self.values[argument])
        op = name.split(".")[0]
        like = node.meta["val"]
        if op == "_to_copy" and args[0].kind == "sbyte" and _multiplies(node):
            return args[0]  # weights in bytes: both languages multiply them with floats as they are
        if op in self.views:
            return self.views[op](self, like, *args, **options)
        if op in self.expressions:
            return self.elementwise(op, like, args, options)
        if op in self.operations:
            return self.operations[op](self, like, *args, **options)
        raise UserError(f"operation {name} has no plain form: export with --to onnx instead")

    def fresh(self) -> str:
        self.counters += 1
        return f"v{self.counters}"

    def made(self, like: Tensor, name: str | None = None, declare: bool = True) -> Value:
        """Return a new array for a result."""
        shape, kind = tuple(int(n) for n in like.shape), KINDS[like.dtype]
        value = Value(name or self.fresh(), kind, shape, strides(shape))
        if declare:
            self.program.lines.append(self.language.array(kind, value.name, max(value.size, 1)))
            self.program.work += max(value.size, 1) * (8 if kind in ("double", "int") else 4 if kind == "float" else 1)
        return value

    def constant(self, tensor: Tensor) -> Value:
        kind, shape, name = KINDS[tensor.dtype], tuple(tensor.shape), self.fresh()
        self.program.held += tensor.nbytes
        self.program.constants.append(self.language.constant(kind, name, tensor.reshape(-1)))
        return Value(name, kind, shape, strides(shape))

    def number(self, value: float, kind: str = "float") -> str:
        return self.language.number(value, kind)

    def variable(self, name: str, kind: str, value: str) -> str:
        """Return the declaration of a number that changes."""
        return f"{self.language.variable(kind)} {name} = {value};"

    def loop(self, shape: Sequence[int], body: Callable[[list[str]], list[str]]) -> None:
        """Add loops over a shape around what `body` returns for an index."""
        depth, index, lines = 0, [], []
        for n in shape:
            if n == 1:
                index.append("0")
                continue
            i = f"i{depth}"
            lines.append(f"{'  ' * depth}for ({self.language.counter} {i} = 0; {i} < {n}; {i}++) {{")
            index.append(i)
            depth += 1
        made = body(index)
        if depth == 0 and len(made) > 1:  # names of its own
            made = ["{", *(f"  {line}" for line in made), "}"]
        lines += ["  " * depth + line for line in made]
        lines += ["  " * level + "}" for level in reversed(range(depth))]
        self.program.lines += lines

    def whole(self, value: Value) -> Value:
        """Return the value as a contiguous array of its own offset 0."""
        if value.contiguous and not value.offset:
            return value
        dtype = next(dtype for dtype, kind in KINDS.items() if kind == value.kind)
        copy = self.made(torch.empty(value.shape, dtype=dtype, device="meta"))
        self.loop(copy.shape, lambda i: [f"{copy.at(i)} = {value.at(i)};"])
        return copy

    def entry(self, value: Any, index: Sequence[str], kind: str) -> str:
        """Return the entry of a value, or of a number, that meets an index of the shape it is broadcast to."""
        if not isinstance(value, Value):
            return self.number(value, kind)
        return value.at(list(index)[len(index) - len(value.shape) :])

    def elementwise(self, op: str, like: Tensor, args: list[Any], options: dict[str, Any]) -> Value:
        result = self.made(like)
        kinds = [argument.kind for argument in args if isinstance(argument, Value)] + [result.kind]
        kinds += ["float" for argument in args if isinstance(argument, float)]  # whole numbers met by it become floats
        kind = "double" if "double" in kinds else "float" if "float" in kinds else kinds[0]

        def body(index: list[str]) -> list[str]:
            entries = [self.entry(a, index, kind) if a is not None else None for a in args]
            made = self.expressions[op](self, kind, *entries, **options)
            return [f"{result.at(index)} = {self.language.cast(made, result.kind)};"]

        self.loop(result.shape, body)
        return result

    def function(self, name: str, kind: str) -> str:
        return self.language.function(name, "double" if kind == "double" else "float")


def _multiplies(node: Any) -> bool:
    """Whether all that is done with a result is to multiply it, as a matrix or a convolution's weights."""
    names = {user: _name(user).split(".")[0] for user in node.users}
    return bool(names) and all(
        name in MULTIPLYING or (name == "permute" and _multiplies(user)) for user, name in names.items()
    )


def _name(node: Any) -> str:
    return getattr(node.target, "__name__", str(node.target))
