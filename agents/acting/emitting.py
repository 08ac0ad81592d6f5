"""Operations on tensors `[..., N, ...]` of N environments as statements of a kernel, in Triton or C++.

What was recorded of a function is read again with names in the place of numbers: an array of names for the axes but
that of the environments, and each name is a variable: of Triton's with a number for every environment of a program,
of C++'s with that of the environment whose turn it is. So views, assignments to parts and broadcasting are NumPy's own,
nothing has an address, and no loop is left. Hidden layers alone are tiles, whose numbers have one name together. Export
writes loops over arrays in memory for one environment, so the two have nothing but the names of operations in common.

Expressions are written as Triton has them, `tl.where(a, b, c)`; in C++ `tl` is an object with methods of these names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from agents.core.tracing import Noted
from envs.errors import UserError

ENVS = 8191  # environments of a recording: a prime number that no other axis has, which tells theirs
MOST_ENTRIES = 256  # numbers of one environment in one array: beyond, a kernel would take minutes to compile


class Refused(UserError):
    """A function has something that no kernel is written for."""


@dataclass(slots=True)
class NameArray:
    """A name for each number of one environment."""

    entries: np.ndarray
    dtype: torch.dtype


@dataclass(slots=True)
class Held:
    """A tensor that is the same for all environments and in all ticks, such as weights: where its numbers lie."""

    pointer: str
    places: np.ndarray
    dtype: torch.dtype


@dataclass(slots=True)
class Tile:
    """What a hidden layer has for each environment, in one variable."""

    name: str
    width: int


class Emitter(ABC):
    """Writes recorded operations out, in the language of a subclass.

    Args:
        operations: in order.
        device: of the kernel; tensors elsewhere are constants.
        learnt: addresses of the tensors that change between two runs, such as weights.

    Attributes:
        head: statements that come once, before all ticks.
        before: those that come before the first tick, of each environment in a language that takes one by one.
        body: those of a tick.
        held: tensors that the kernel is handed, in the order of its arguments `p0`, `p1`, ...
        widest: of the hidden layers, numbers.
        types: of numbers, in the language.
        layer_limit: a hidden layer may be so wide.
        remainder: expression of a remainder that has the sign of the divisor.
        quotient: operator that divides whole numbers of which nothing remains.
    """

    types: ClassVar[dict[torch.dtype, str]]
    layer_limit: ClassVar[int]
    remainder: ClassVar[str]
    quotient: ClassVar[str]

    def __init__(self, operations: Sequence[Noted], device: torch.device, learnt: set[int]) -> None:
        self.operations, self._device, self._learnt = operations, device, learnt
        self.head: list[str] = []
        self.before: list[str] = []
        self.body: list[str] = []
        self.held: list[Tensor] = []
        self.widest = 0
        self._values: dict[int, Any] = {}
        self._made: dict[str, str] = {}
        self._fixed: set[str] = set()

    def give(self, tensor: Tensor, entries: np.ndarray) -> None:
        """Say what stands for the numbers of an input."""
        self._values[id(tensor)] = NameArray(entries, tensor.dtype)

    def give_tile(self, tensor: Tensor, name: str, pointer: str) -> None:
        """Say that what a memory goes on from is a tile, which lies at a pointer before the first tick."""
        self._values[id(tensor)] = tile = Tile(name, tensor.shape[-1])
        self.before += self.tile_read(tile, pointer)

    def remembered(self, tensor: Tensor) -> bool:
        """Return whether a tensor is what a memory goes on from."""
        return any(operation.is_function and operation.args[1] is tensor for operation in self.operations)

    def run(self, table: dict[str, Callable[..., Any]]) -> None:
        """Write all operations out.

        Raises:
            Refused: there is one that cannot be.
        """
        for operation in self.operations:
            in_place = operation.name.endswith("_") and not operation.name.endswith("__")
            name = operation.name.removesuffix("_") if in_place else operation.name
            if name not in table:
                raise Refused(f"operation {operation.name} is not written out")
            results = results_of(operation)
            for result in results:
                if isinstance(result, Tensor) and not self._takes_tiles(operation):
                    self.shape(result)
            made = table[name](self, operation)
            if in_place:
                self._assign(operation.args[0], made)
                continue
            for tensor, value in zip(results, made if isinstance(made, list) else [made], strict=True):
                self._values[id(tensor)] = value

    def _takes_tiles(self, operation: Noted) -> bool:
        args = [each for arg in operation.args for each in (arg if isinstance(arg, list | tuple) else [arg])]
        return any(isinstance(self._values.get(id(arg)), Tile) for arg in args)

    def _assign(self, tensor: Tensor, value: Any) -> None:
        mine = self._values.get(id(tensor))
        if isinstance(mine, NameArray) and isinstance(value, NameArray):
            mine.entries[...] = np.broadcast_to(self.cast(value, mine.dtype).entries, mine.entries.shape)
        elif isinstance(value, Tile):
            self._values[id(tensor)] = value
        else:
            raise Refused("something is changed that is not its own")

    def shape(self, tensor: Tensor) -> list[int]:
        """Return a tensor's shape without the axis of the environments."""
        shape = list(tensor.shape)
        if shape.count(ENVS) > 1:
            raise Refused("environments are not apart from each other")
        rest = [n for n in shape if n != ENVS]
        if len(rest) == len(shape):
            return rest
        if len(rest) > 1 and np.prod(rest) > MOST_ENTRIES and tensor.dim() > 2:
            raise Refused(f"an array has {np.prod(rest):,} numbers for each environment")
        return rest

    def axis(self, tensor: Tensor, dim: int) -> int:
        """Return which axis of the names is `dim` of a tensor."""
        dim %= tensor.dim()
        if tensor.shape[dim] == ENVS:
            raise Refused("environments are not apart from each other")
        return sum(n != ENVS for n in tensor.shape[:dim])

    def value(self, tensor: Tensor) -> Any:
        """Return what stands for a tensor; one that was not seen before is held."""
        if (found := self._values.get(id(tensor))) is not None:
            return found
        if ENVS in tensor.shape:
            raise Refused(f"a tensor {[*tensor.shape]} comes from elsewhere")
        if tensor.device != self._device or (tensor.dim() == 0 and tensor.data_ptr() not in self._learnt):
            entries = np.empty(tensor.shape, object)
            for index in np.ndindex(*entries.shape):
                entries[index] = self.constant(tensor[index].item(), tensor.dtype)
            return NameArray(entries, tensor.dtype)
        places = np.zeros((), np.int64)
        for n, stride in zip(tensor.shape, tensor.stride(), strict=True):
            places = places[..., None] + np.arange(n) * stride
        self._values[id(tensor)] = value = Held(f"p{len(self.held)}", places, tensor.dtype)
        self.held.append(tensor)
        return value

    def names(self, tensor: Tensor) -> NameArray:
        """Return names of a tensor's numbers; those of a held one are read."""
        value = self.value(tensor)
        if isinstance(value, Tile):
            raise Refused("a hidden layer goes elsewhere than into the next")
        if isinstance(value, NameArray):
            return value
        if value.places.size > MOST_ENTRIES:
            raise Refused(f"an array of {value.places.size:,} numbers goes into no product")
        entries = np.empty(value.places.shape, object)
        for index, place in np.ndenumerate(value.places):
            entries[index] = self.name(f"tl.load({value.pointer} + {place})")
        return NameArray(entries, value.dtype)

    @abstractmethod
    def defined(self, name: str, expression: str) -> str:
        """Return the statement that gives a variable its value."""

    @abstractmethod
    def literal(self, number: float | int, dtype: torch.dtype) -> str:
        """Return the expression of a number."""

    @abstractmethod
    def converted(self, name: str, dtype: torch.dtype) -> str:
        """Return the expression of a variable in another type."""

    @abstractmethod
    def read(self, pointer: str, address: str) -> str:
        """Return the expression of what lies at an address of the environment's own."""

    @abstractmethod
    def written(self, pointer: str, address: str, name: str) -> str:
        """Return the statement that puts a variable there."""

    @abstractmethod
    def over_tiles(self, template: str, operands: list[Tile | str]) -> Tile:
        """Write an expression of each number of a hidden layer by itself."""

    @abstractmethod
    def hidden(self, value: NameArray | Tile, weight: Held, bias: Held | None) -> Tile:
        """Write a linear layer `[inputs, outputs]` that another follows."""

    @abstractmethod
    def normalised(self, tile: Tile, weight: Held | None, bias: Held | None, eps: float) -> Tile:
        """Write a layer normalisation of a hidden layer."""

    @abstractmethod
    def along(self, tile: Tile, weight: Held, j: int) -> str:
        """Return the expression of number `j` of what a linear layer makes of a hidden layer, without its bias."""

    def beside_tiles(self, name: str) -> str:
        """Return the expression of a variable among those of a hidden layer's numbers."""
        return name

    def cell(self, kind: str, x: NameArray | Tile, carry: Tile, weights: Sequence[Held]) -> list[Tile]:
        """Write one step of a memory of one cell; return what it remembers and what it goes on from.

        Args:
            kind: which cell, as `agents.core.tracing.known_as` has it.
            weights: of the inputs and of the hidden state, and their biases.
        """
        raise Refused("the policy remembers earlier steps")

    def tile_read(self, tile: Tile, pointer: str) -> list[str]:
        """Return statements that make a variable of what lies at a pointer, for each environment."""
        raise Refused("the policy remembers earlier steps")

    def tile_written(self, pointer: str, tile: Tile, ticks: bool) -> str:
        """Return the statement that puts a tile at a pointer, for each environment, or each one in each tick."""
        raise Refused("a hidden layer goes elsewhere than into the next")

    def tile_moved(self, tile: Tile, source: Tile) -> str:
        """Return the statement that gives a tile the numbers of another."""
        raise Refused("the policy remembers earlier steps")

    @abstractmethod
    def kernel(
        self,
        types: dict[str, torch.dtype],
        state: dict[str, str],
        tick: Sequence[str],
        moved: Sequence[str],
        after: Sequence[str],
    ) -> str:
        """Return the text of a kernel.

        Args:
            types: of what lies where its arguments say, by their names.
            state: variables that go from tick to tick, with what they are before the first.
            tick: statements at the end of each tick, after `body`.
            moved: what the variables of `state` are after it, in their order.
            after: statements after the last tick.
        """

    def spelled(self, template: str, dtype: torch.dtype) -> str:
        """Return a template whose own numbers are of a type."""
        return template

    def name(self, expression: str, *operands: str, fixed: bool | None = None) -> str:
        """Return a variable that holds an expression."""
        if (found := self._made.get(expression)) is not None:
            return found
        name = self._made[expression] = f"v{len(self._made)}"
        once = all(operand in self._fixed for operand in operands) if fixed is None else fixed
        if once:
            self._fixed.add(name)
        (self.head if once else self.body).append(self.defined(name, expression))
        return name

    def constant(self, value: Any, dtype: torch.dtype) -> str:
        """Return a variable that holds a number of a type, not rounded to another on the way."""
        return self.name(self.literal(float(value) if dtype.is_floating_point else int(value), dtype))

    def cast(self, value: NameArray, dtype: torch.dtype) -> NameArray:
        """Return a value in another type."""
        if value.dtype == dtype:
            return value
        if dtype not in self.types or value.dtype not in self.types:
            raise Refused(f"numbers are {value.dtype} and become {dtype}")
        entries = np.empty(value.entries.shape, object)
        for index, name in np.ndenumerate(value.entries):
            made = f"({name} != 0)" if dtype == torch.bool else self.converted(name, dtype)
            entries[index] = self.name(made, name)
        return NameArray(entries, dtype)

    def elementwise(self, result: Tensor, template: str, args: Sequence[Any], *dtypes: torch.dtype) -> NameArray | Tile:
        """Return an expression of each number by itself.

        Args:
            result: of what shape and type.
            template: with `{0}`, `{1}`, ... for the arguments.
            args: tensors and numbers.
            dtypes: what each argument is reckoned in, the last one for all others too.
        """
        kinds = [dtypes[min(i, len(dtypes) - 1)] for i in range(len(args))]
        values = [self.value(arg) if isinstance(arg, Tensor) else arg for arg in args]
        if any(isinstance(value, Tile) for value in values):
            return self._of_tiles(template, values)
        shape, template = self.shape(result), self.spelled(template, kinds[-1])
        columns = [
            np.broadcast_to(self._aligned(arg, result, kind), shape)
            if isinstance(arg, Tensor)
            else np.broadcast_to(np.array(self.constant(arg, kind), object), shape)
            for arg, kind in zip(args, kinds, strict=True)
        ]
        kind = torch.bool if result.dtype == torch.bool else kinds[-1]
        entries = np.empty(shape, object)
        for index in np.ndindex(*shape):
            operands: list[Any] = [column[index] for column in columns]
            entries[index] = self.name(template.format(*operands), *operands)
        return self.cast(NameArray(entries, kind), result.dtype)

    def _of_tiles(self, template: str, values: list[Any]) -> Tile:
        operands: list[Tile | str] = []
        for value in values:
            if isinstance(value, NameArray) and value.entries.size == 1:
                operands.append(self.beside_tiles(self.cast(value, torch.float32).entries.item()))
            elif isinstance(value, Tile | float | int):
                operands.append(value if isinstance(value, Tile) else self.constant(value, torch.float32))
            else:
                raise Refused("a hidden layer meets what is none")
        return self.over_tiles(self.spelled(template, torch.float32), operands)

    def _aligned(self, tensor: Tensor, result: Tensor, dtype: torch.dtype) -> np.ndarray:
        """Return the names of an operand, ready to be broadcast to those of the result."""
        entries = self.cast(self.names(tensor), dtype).entries
        place = list(result.shape).index(ENVS) - result.dim() + tensor.dim() if ENVS in result.shape else -1
        if place < 0 or tensor.shape[place] == ENVS:
            return entries
        return np.squeeze(entries, axis=place)

    def product(self, operation: Noted) -> NameArray | Tile:
        """Return a linear layer of environments: a tile if another follows, else names."""
        *bias, x, weight = operation.args
        (result,) = results_of(operation)
        value, held = self.value(x), self.value(weight)
        if not isinstance(held, Held) or held.dtype != torch.float32 or ENVS not in x.shape:
            raise Refused("a product is not that of a linear layer in float32")
        if operation.named:
            raise Refused("a product has factors")
        inputs, outputs = held.places.shape
        if not isinstance(value, Tile) and (value.entries.shape != (inputs,) or value.dtype != torch.float32):
            raise Refused("a product is not that of a linear layer in float32")
        if self._feeds(result):
            if max(inputs, outputs) > self.layer_limit:
                raise Refused(f"a hidden layer of {max(inputs, outputs)} is wider than {self.layer_limit}")
            self.widest = max(self.widest, outputs)
            return self.hidden(value, held, self.value(bias[0]) if bias else None)
        if outputs > MOST_ENTRIES // 4:
            raise Refused(f"{outputs} numbers come out of the network")
        offsets = self.names(bias[0]).entries if bias else np.full(outputs, self.constant(0.0, torch.float32), object)
        entries = np.empty(outputs, object)
        for j in range(outputs):
            if isinstance(value, Tile):
                total = self.along(value, held, j)
            else:
                factors = [self.name(f"tl.load({held.pointer} + {place})") for place in held.places[:, j]]
                total = " + ".join(f"{a} * {b}" for a, b in zip(value.entries, factors, strict=True))
            entries[j] = self.name(f"{total} + {offsets[j]}", fixed=False)
        return NameArray(entries, torch.float32)

    def _feeds(self, tensor: Tensor) -> bool:
        """Whether a result goes, number by number, into another product."""
        for operation in self.operations:
            if any(arg is tensor for arg in operation.args):
                if operation.name in ("addmm", "mm"):
                    return True
                same = [one for one in results_of(operation) if isinstance(one, Tensor) and one.shape == tensor.shape]
                if same and same[0] is not tensor and self._feeds(same[0]):
                    return True
        return False


def results_of(operation: Noted) -> list[Any]:
    """Return what an operation returned, one after the other."""
    return list(operation.result) if isinstance(operation.result, list | tuple) else [operation.result]
