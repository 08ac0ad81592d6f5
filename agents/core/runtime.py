"""How a pure function is run: as it is written, compiled, or captured in a graph and replayed.

Small networks spend their time in dispatch, not in arithmetic. On a GPU a whole rollout, and all minibatches of an
update, are captured once as a CUDA graph and then launched by a single call; on a CPU an update or some ticks can be
compiled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from time import perf_counter
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from agents.core.by_numpy.program import NumpyProgram, ScanProgram, tensors_of
from agents.core.by_numpy.table import Untranslated
from agents.core.checked import (
    Agree,
    ByShape,
    ByVersion,
    Checked,
    Function,
    Version,
    all_close,
    copy_into,
)
from agents.core.cpp_source import compiled_folder
from agents.core.settings import CompileMode
from agents.core.tree import tree_map
from envs.errors import UserError

Capture = Callable[[Callable[[], Any]], tuple[Callable[[], Any], Any]]
WARM_UPS = 2  # runs before a capture, in which libraries set themselves up


def cuda_graph(function: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
    """Capture a function without arguments; return what replays it, and the outputs each replay writes anew."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function()
    return graph.replay, outputs


def resolved_mode(mode: CompileMode, device: torch.device, by_numpy: bool = True, bf16: bool = False) -> CompileMode:
    """Return what a mode comes to on a device: "auto" takes kernels and graphs on CUDA, NumPy on a CPU.

    Neither NumPy nor the kernels compute in bfloat16.

    Args:
        by_numpy: whether NumPy is the faster one there.
    """
    if device.type == "cuda" and mode in ("auto", "kernels", "graphs"):
        return "graphs" if bf16 or mode == "graphs" else "kernels"
    if device.type == "cpu" and (mode == "numpy" or (mode == "auto" and by_numpy)):
        return "off" if bf16 else "numpy"
    return "on" if mode == "on" else "off"


def keep_compiled() -> None:
    """Let PyTorch's compiler keep what it makes in `compiled_folder`, unless a folder is set.

    Its own choice is the system's temporary folder, which a restart empties and where others may write.
    """
    folder = compiled_folder()
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def _always() -> Hashable:
    return None


def _itself(function: Function) -> Function:
    return function


class Runtime:
    """Turns pure functions into what runs them fastest on a device.

    They are functions of trees of tensors that may change tensors in place and never look at a value. What else they
    read (Python numbers, whether a module trains) is fixed when they are compiled or captured; `version` names it,
    and for another version they are compiled or captured anew.

    - `compiled` is for small functions, such as one optimiser step. With mode `numpy` NumPy repeats what PyTorch did in
      the first call, if it has all of its operations; with mode `on` on a CPU that becomes a function in C++, in about
      a second. What NumPy has not takes torch.compile some ten seconds (less the next time: the result is kept on the
      disk), which pays in long runs only.
    - `scanned` is for a function that is called again and again with the next rows of the same tensors.
    - `captured` is for long ones, such as all minibatches of an update. On CUDA, all modes but `off` capture them in a
      CUDA graph; elsewhere they run as they are. Outputs belong to the graph: the next call overwrites them.
    - `replaced` is for those that a kernel of our own does at once, in mode `kernels`, and on a CPU in mode `on`. Its
      first call also runs the plain function on the same input, and the kernel is used only if both agree.

    What cannot be compiled, captured or replaced runs as it is, and `say` tells so once.

    Args:
        mode: `off` runs everything as it is.
        device: where the tensors live.
        record: how a function is captured; `cuda_graph` on CUDA, None where they run as they are.
        by_numpy: whether mode `on` takes what NumPy has, where that is faster than PyTorch's compiler.

    Attributes:
        in_cpp: whether what NumPy has becomes functions in C++.
        preparing: seconds of first calls so far, in which programs are compiled, captured or compared.
    """

    def __init__(
        self,
        mode: CompileMode = "off",
        device: torch.device | None = None,
        record: Capture | None = None,
        by_numpy: bool = True,
    ) -> None:
        self.on_cuda = device is not None and device.type == "cuda"
        self.compiles = mode == "on"
        self.replaces = mode == "kernels" or (mode == "on" and not self.on_cuda)
        self.in_cpp = mode == "on" and by_numpy and not self.on_cuda
        self.translates = mode == "numpy" or self.in_cpp
        self.record = None if mode == "off" else record or (cuda_graph if self.on_cuda else None)
        self.say: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
        self.preparing = 0.0
        self._used: set[str] = set()
        self._without_cpp = False  # which was said

    @property
    def summary(self) -> str:
        """What is done with the functions it was given, for the first lines of a run."""
        return " and ".join(sorted(self._used, reverse=True)) or "eager"

    def compiled(
        self,
        function: Function,
        version: Version = _always,
        state: Callable[[], Sequence[Tensor]] | None = None,
        repeats: Callable[[], bool] = lambda: True,
        by_pytorch: bool = True,
    ) -> Function:
        """Return `function`, or what does the same compiled or by NumPy.

        Args:
            function: of tensors or trees of them, always of the same shapes.
            version: as in `Runtime`.
            state: returns the tensors that the function changes in place; without it NumPy does not take it on.
            repeats: whether it does nothing but compute, and the same in each call; NumPy takes on no other.
            by_pytorch: whether PyTorch's compiler takes on what NumPy does not.
        """
        otherwise = self._by_pytorch if self.compiles and by_pytorch else _itself
        by_numpy = state is not None and self.translates
        if self.compiles and (by_numpy or by_pytorch):
            self._used.add("compiled")
        if state is None or not self.translates:
            return function if otherwise is _itself else ByVersion(lambda: otherwise(function), version)
        if not self.in_cpp and state():  # what changes nothing is no update
            self._used.add("NumPy for updates")

        def made() -> Function:
            if not repeats():
                return otherwise(function)
            return ByShape(lambda: self._translated(function, state, otherwise))

        return ByVersion(made, version)

    def scanned(
        self,
        function: Function,
        otherwise: Function,
        version: Version,
        state: Callable[[], Sequence[Tensor]] | None,
        repeats: Callable[[], bool],
    ) -> Function:
        """Return what calls `function` with `fixed` and each row of the tensors of `each`, and stacks what it returns.

        In mode `on` on a CPU it is one loop in C++, where NumPy and C++ have all of the function's operations.

        Args:
            function: of `(fixed, row)`, trees of tensors.
            otherwise: what runs elsewhere, called with `(fixed, each)`.
            version, state, repeats: as `compiled` takes them.
        """
        if not self.in_cpp or state is None:
            return otherwise

        def plain(fixed: Any, each: Any) -> Any:
            rows = range(len(tensors_of(each)[0]))
            found = [function(fixed, tree_map(lambda leaf, m=m: leaf[m], each)) for m in rows]
            return tree_map(lambda *leaves: torch.stack(leaves), *found)

        def sample(fixed: Any, each: Any) -> Sequence[Any]:  # rounding errors grow from row to row
            return fixed, tree_map(lambda leaf: leaf[[0, -1]], each)

        def made() -> Function:
            if not repeats():
                return otherwise
            fast = Checked(plain, lambda: ScanProgram(function), state, all_close, sample)
            return _WithFallback(fast, otherwise, self, "in one loop", Untranslated, UserError)

        return ByVersion(lambda: ByShape(made), version)

    def captured(
        self, function: Function, state: Callable[[], Sequence[Tensor]], version: Version = _always
    ) -> Function:
        """Return `function`, or what does the same as one captured graph.

        Args:
            function: of tensors or trees of them, always of the same shapes.
            state: returns the tensors that the function changes in place; warming up must not change them.
            version: as in `Runtime`.
        """
        if self.record is None:
            return function
        self._used.add("captured")
        return ByVersion(lambda: _WithFallback(_Graph(function, state, self), function, self, "captured"), version)

    def replaced(
        self,
        function: Function,
        kernel: Callable[[], Function],
        state: Callable[[], Sequence[Tensor]],
        agree: Agree,
        version: Version = _always,
        sample: Callable[..., Sequence[Any]] | None = None,
        otherwise: Function | None = None,
    ) -> Function:
        """Return `function`, or a kernel in its place.

        Args:
            function: of tensors or trees of them, always of the same shapes: what is right.
            kernel: makes what does the same faster.
            state: returns the tensors that either changes in place.
            agree: what is wrong with the kernel's outputs and state beside the plain ones, in words; "" if nothing is.
            version: as in `Runtime`.
            sample: makes of the first arguments those on which both are compared; None for the same.
            otherwise: what runs where there is no kernel, or it fails; None for `function`.
        """
        plain = otherwise or function
        if not self.replaces:
            return plain
        self._used.add("in kernels")
        return ByVersion(
            lambda: _WithFallback(Checked(function, kernel, state, agree, sample), plain, self, "in a kernel"), version
        )

    def _translated(
        self, function: Function, state: Callable[[], Sequence[Tensor]], otherwise: Callable[[Function], Function]
    ) -> Function:
        program = NumpyProgram(function)

        def made() -> Function:
            if self.in_cpp:
                try:
                    program.compile()
                except UserError as error:
                    if not self._without_cpp:
                        self.say(f"not in C++, by NumPy: {error}")
                    self._without_cpp = True
            return program

        fast = Checked(program.record, made, state, all_close)
        return _WithFallback(fast, otherwise(function), self, "by NumPy", Untranslated)

    def _by_pytorch(self, function: Function) -> Function:
        # made when it is called: PyTorch's compiler takes 2 s to import
        return ByVersion(lambda: _WithFallback(self._compile(function), function, self, "compiled"), _always)

    def _compile(self, function: Function) -> Function:
        # Before each call the compiler checks that nothing it relied on has changed, which takes as long as a small
        # step. Only the arguments and the version change here, so of its checks those on arguments are enough. What
        # has been compiled is kept by code object: this function gets one of its own, lest it be taken for another's.
        keep_compiled()
        options: dict[str, Any] = {"guard_filter_fn": torch.compiler.keep_tensor_guards_unsafe}
        if not self.on_cuda:
            options["cpp_wrapper"] = True  # kernels are called without going through Python

        def run(*args: Any) -> Any:
            return function(*args)

        own = FunctionType(run.__code__.replace(), globals(), closure=run.__closure__)
        return torch.compile(own, fullgraph=True, dynamic=False, options=options)


class _WithFallback:
    """Runs the fast version; if it fails the first time, before it has changed anything, the plain one from then on.

    That is said, unless the error is of a kind `expected`.
    """

    def __init__(
        self,
        fast: Function,
        plain: Function,
        runtime: Runtime,
        what: str,
        *expected: type[Exception],
    ) -> None:
        self._run, self._plain, self._runtime, self._what, self._expected = fast, plain, runtime, what, expected
        self._works = False

    @torch.no_grad()
    def __call__(self, *args: Any) -> Any:
        if self._works:
            return self._run(*args)
        runtime = self._runtime
        before, began = runtime.preparing, perf_counter()
        try:
            result = self._run(*args)
        except Exception as error:
            if not isinstance(error, self._expected):
                reason = str(error).strip().partition("\n")[0]
                runtime.say(f"not {self._what}, runs as it is: {type(error).__name__}: {reason}")
            self._run = self._plain
            result = self._run(*args)
        self._works = True
        runtime.preparing = before + perf_counter() - began  # what was prepared within this call is part of it
        return result


class _Graph:
    """A function on static inputs, recorded at the first call and replayed at every one."""

    def __init__(self, function: Function, state: Callable[[], Sequence[Tensor]], runtime: Runtime) -> None:
        self._function, self._state, self._runtime = function, state, runtime
        self._inputs: list[Any] = []
        self._replay: Callable[[], Any] | None = None
        self._outputs: Any = None

    def __call__(self, *args: Any) -> Any:
        if self._replay is None:
            self._capture(args)
        for static, given in zip(self._inputs, args, strict=True):
            tree_map(lambda to, value: to.copy_(value, non_blocking=True), static, given)
        assert self._replay is not None
        self._replay()
        return self._outputs

    def _capture(self, args: Sequence[Any]) -> None:
        self._inputs = [tree_map(torch.clone, given) for given in args]
        state = list(self._state())
        before = [tensor.clone() for tensor in state]

        try:
            self._warm_up()
            copy_into(state, before)
            assert self._runtime.record is not None
            self._replay, self._outputs = self._runtime.record(lambda: self._function(*self._inputs))
        finally:
            copy_into(state, before)

    def _warm_up(self) -> None:
        if not self._runtime.on_cuda:
            for _ in range(WARM_UPS):
                self._function(*self._inputs)
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
