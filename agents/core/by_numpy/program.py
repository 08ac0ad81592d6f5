"""Functions of small tensors on the CPU as programs of NumPy calls.

PyTorch's dispatch costs several times the arithmetic of a small network's update. A function that looks at no value
calls the same operations on the same memory each time. Here they are noted once, while PyTorch runs them, the
backward pass included; from then on NumPy repeats them, without dispatch, autograd, or views to make.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.core.by_numpy import arithmetic, losses, picking, sums  # noqa: F401  (they fill OPERATIONS in)
from agents.core.by_numpy.arithmetic import IN_PLACE
from agents.core.by_numpy.in_cpp import compiled, looped
from agents.core.by_numpy.table import OPERATIONS, Call, Untranslated
from agents.core.tracing import Noted, Tracer
from agents.core.tree import tree_map

# where one call of PyTorch's costs less than several of NumPy's
BY_PYTORCH = {
    *("_log_softmax", "_log_softmax_backward_data", "_safe_softmax", "_softmax", "_softmax_backward_data"),
    *("log_sigmoid_backward", "log_sigmoid_forward", "sigmoid", "sigmoid_backward", "softplus", "softplus_backward"),
    *("native_layer_norm", "native_layer_norm_backward"),
    *("elu", "elu_backward", "gelu", "gelu_backward", "silu", "silu_backward"),
}


class NumpyProgram:
    """A pure function of trees of tensors: `record` has PyTorch run it, and calls repeat that by NumPy.

    Args:
        function: as `agents.core.runtime.Runtime` takes them.

    Attributes:
        inputs: the arrays that arguments are copied into, as far as calls read them.
        result: what the function returns, in the memory that calls write to.
        calls: what is done, one after the other.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.inputs: list[np.ndarray] = []
        self.result: Any = None
        self.calls: list[Call] = []
        self._used: list[bool] = []  # which of the inputs
        self._kept: Any = None

    def record(self, *args: Any) -> Any:
        """Do what the function does, and note how.

        Raises:
            Untranslated: NumPy has nothing for one of its operations.
        """
        inputs = tree_map(torch.clone, args)
        with Tracer(_as_they_are) as tracer:
            self.result = self._function(*inputs)
        memory = Memory(tracer.noted, tensors_of(self.result))
        self.calls = list(translated(tracer.noted, memory))
        given = tensors_of(inputs)
        read = {_place(tensor) for operation in tracer.noted for tensor in tensors_of(operation.given)}
        read |= {_place(tensor) for tensor in tensors_of(self.result)}
        self.inputs = [tensor.numpy() for tensor in given]
        self._used = [_place(tensor) in read for tensor in given]
        return tree_map(torch.clone, self.result)

    @property
    def outputs(self) -> list[np.ndarray]:
        """The arrays of `result`."""
        return [tensor.numpy() for tensor in tensors_of(self.result)]

    def compile(self) -> None:
        """Have C++ do what NumPy does, as far as it can.

        Raises:
            UserError: there is no compiler, or it does not work; NumPy goes on then.
        """
        self.calls, self._kept = compiled(self.calls)

    def take_in(self, args: Any) -> None:
        """Copy the first arguments, a tree, to where calls read them, if any does."""
        for mine, used, given in zip(self.inputs, self._used, tensors_of(args), strict=False):
            if used:
                np.copyto(mine, given.numpy())

    def __call__(self, *args: Any) -> Any:
        """Do what the function does for arguments of the same shapes."""
        self.take_in(args)
        with np.errstate(all="ignore"):
            for call in self.calls:
                call()
        return tree_map(torch.clone, self.result)


class ScanProgram:
    """A pure function of two trees of tensors, called with the rows of the second, one after the other, in C++.

    The first call has PyTorch run it on the first row, and notes how.

    Args:
        function: of `fixed`, what is the same for all rows, and of a row of `each`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._program = NumpyProgram(function)
        self._run: Callable[..., None] | None = None

    def __call__(self, fixed: Any, each: Any) -> Any:
        """Return what the function does of all rows, stacked.

        Raises:
            Untranslated: C++ has nothing for one of its operations.
            UserError: there is no compiler.
        """
        rows, begin, program = [tensor.contiguous() for tensor in tensors_of(each)], 0, self._program
        if self._run is None:
            begin, first = 1, program.record(fixed, tree_map(lambda leaf: leaf[0], each))
            self._run = looped(program.calls, program.inputs[-len(rows) :], program.outputs)
        made = tree_map(lambda leaf: leaf.new_empty(len(rows[0]), *leaf.shape), program.result)
        if begin:
            tree_map(lambda to, leaf: to[0].copy_(leaf), made, first)
        program.take_in(fixed)
        self._run(len(rows[0]) - begin, *(tensor[begin:].data_ptr() for tensor in (*rows, *tensors_of(made))))
        return made


class Memory:
    """Where the tensors of noted operations lie.

    What is made and used up on the way shares memory with what is made later, so that it stays in the processor's
    caches; all else lies where it lies.

    Args:
        noted: the operations.
        kept: tensors to be read when all operations are done.
    """

    def __init__(self, noted: Sequence[Noted], kept: Sequence[Tensor]) -> None:
        self._blocks: dict[int, Tensor] = {}
        self._free: defaultdict[int, list[Tensor]] = defaultdict(list)
        self._last: dict[int, int] = {}
        made: set[int] = set()
        seen: set[int] = set()
        for index, operation in enumerate(noted):
            given = [_place(tensor) for tensor in tensors_of(operation.given)]
            found = [_place(tensor) for tensor in tensors_of(operation.result)]
            made |= set(found) - set(given) - seen
            seen.update(given, found)
            self._last.update(dict.fromkeys([*given, *found], index))
        self._own = made - {_place(tensor) for tensor in kept} - {0}

    def arrays(self, value: Any) -> Any:
        """Return the arrays that stand for tensors."""
        if isinstance(value, list | tuple):
            return [self.arrays(each) for each in value]
        if not isinstance(value, Tensor):
            return value
        if _place(value) not in self._own:
            return value.numpy()
        size, strides = value.element_size(), value.stride()
        dtype = torch.empty(0, dtype=value.dtype).numpy().dtype
        block = self._blocks[_place(value)].numpy()
        return np.ndarray(value.shape, dtype, block, value.storage_offset() * size, [size * each for each in strides])

    def make_room(self, index: int, operation: Noted) -> None:
        """Give a block to what the operation of this number makes: an argument's, where it may lie there."""
        fresh = [t for t in tensors_of(operation.result) if _place(t) in self._own and _place(t) not in self._blocks]
        if fresh and operation.name in IN_PLACE:
            for tensor in tensors_of(operation.args):
                if self._ends(tensor, index) and _alike(tensor, fresh[0]):
                    self._blocks[_place(fresh[0])] = self._blocks.pop(_place(tensor))
                    return
        for tensor in fresh:
            size = tensor.untyped_storage().nbytes()
            free = self._free[size]
            self._blocks[_place(tensor)] = free.pop() if free else torch.empty(size, dtype=torch.uint8)

    def release(self, index: int, operation: Noted) -> None:
        """Take back the blocks of what no later operation uses."""
        for tensor in tensors_of((operation.args, operation.result)):
            if self._ends(tensor, index):
                block = self._blocks.pop(_place(tensor))
                self._free[len(block)].append(block)

    def _ends(self, tensor: Tensor, index: int) -> bool:
        return _place(tensor) in self._blocks and self._last[_place(tensor)] == index


def translated(noted: Sequence[Noted], memory: Memory) -> Iterator[Call]:
    """Yield NumPy calls that repeat PyTorch's operations.

    Raises:
        Untranslated: there is nothing for one of them.
    """
    for index, operation in enumerate(noted):
        if operation.is_function or operation.name.removesuffix("_") in BY_PYTORCH:
            args = _tensors(memory.arrays(operation.args))
            named = {name: _tensors(memory.arrays(value)) for name, value in operation.named.items()}
            memory.make_room(index, operation)
            put = _put_several if isinstance(operation.result, list | tuple) else _put
            yield partial(put, memory.arrays(operation.result), partial(operation.func, *args, **named))
        elif not operation.is_view:
            make = OPERATIONS.get(operation.name.removesuffix("_"))
            if make is None:
                raise Untranslated(f"NumPy has nothing for {operation.func}")
            args = memory.arrays(operation.args)
            named = {name: memory.arrays(value) for name, value in operation.named.items() if name != "out"}
            memory.make_room(index, operation)
            yield from make(memory.arrays(operation.result), *args, **named)
        memory.release(index, operation)


def _put(to: np.ndarray, by_pytorch: Callable[[], Tensor]) -> None:
    np.copyto(to, by_pytorch().numpy())


def _put_several(to: Sequence[Any], by_pytorch: Callable[[], Sequence[Tensor]]) -> None:
    for place, made in zip(to, by_pytorch(), strict=True):
        if place is not None:  # None is what nobody asked for
            np.copyto(place, made.numpy())


def _tensors(value: Any) -> Any:
    """Return arrays as tensors of the same memory; all else as it is."""
    if isinstance(value, list):
        return [_tensors(each) for each in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _as_they_are(tree: Any) -> Any:
    """Return other names for the same memory, whose shapes nothing changes later."""
    if isinstance(tree, Tensor):
        return tree.detach()
    if isinstance(tree, dict):
        return {key: _as_they_are(each) for key, each in tree.items()}
    return [_as_they_are(each) for each in tree] if isinstance(tree, list | tuple) else tree


def tensors_of(tree: Any) -> list[Tensor]:
    """Return the tensors of dicts, lists and tuples."""
    if isinstance(tree, Tensor):
        return [tree]
    found: list[Tensor] = []
    if isinstance(tree, dict | list | tuple):
        for each in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(each, Tensor):
                found.append(each)
            else:
                found += tensors_of(each)
    return found


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors, of which one is made of the other entry by entry, fill as much memory in the same order."""
    filled = a.is_contiguous() and b.is_contiguous() and a.dtype == b.dtype
    return filled and a.untyped_storage().nbytes() == b.untyped_storage().nbytes()
