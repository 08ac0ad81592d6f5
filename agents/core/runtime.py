"""How a pure step is run: as it is written, compiled, or captured in a graph and replayed.

Small networks spend their time in dispatch, not in arithmetic. On a GPU a whole rollout, and a whole loop over
minibatches, is captured once as a CUDA graph and then launched by a single call; on a CPU a step can be compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from agents.core.config import CompileMode
from agents.core.tree import tree_map

Replay = Callable[[], Any]
Recorder = Callable[[Callable[[], Any]], tuple[Replay, Any]]
WARM_UPS = 2  # runs before a capture, in which libraries set themselves up


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def cuda_graph(function: Callable[[], Any]) -> tuple[Replay, Any]:
    """Capture a function without arguments; return what replays it, and the outputs each replay writes anew."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function()
    return graph.replay, outputs


class Compiler:
    """Turns steps and loops into what runs them fastest on a device.

    Both are functions of tensors (or dicts of them) that change tensors in place and never look at a value.

    - `step` is small, such as one optimiser step. `on` compiles it with torch.compile. That takes some ten seconds
      (less the next time: the result is kept on the disk), so `auto` leaves it as it is: it pays in long runs only.
    - `loop` is long, such as all minibatches of an update. On CUDA, `auto` and `on` capture it in a CUDA graph;
      elsewhere it runs as it is. Its outputs belong to the graph: the next call overwrites them.

    What cannot be compiled or captured runs as it is, and `say` tells so once.

    Args:
        mode: `off` runs everything as it is.
        device: where the tensors live.
        record: how a loop is captured; `cuda_graph` on CUDA, None where loops run as they are.
    """

    def __init__(
        self,
        mode: CompileMode = "off",
        device: torch.device | None = None,
        record: Recorder | None = None,
    ) -> None:
        on_cuda = device is not None and device.type == "cuda"
        self.compiles = mode == "on"
        self.record = None if mode == "off" else record or (cuda_graph if on_cuda else None)
        self.on_cuda = on_cuda
        self.say: Callable[[str], None] = _say
        self._done: set[str] = set()

    @property
    def summary(self) -> str:
        """What is done with the steps and loops it was given, for the first lines of a run."""
        return " and ".join(sorted(self._done, reverse=True)) or "eager"

    def step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, or what does the same compiled."""
        if not self.compiles:
            return function
        self._done.add("compiled")
        # Before each call the compiler checks that nothing it relied on has changed, which takes as long as a small
        # step. Only the arguments ever change here, so only they are checked; and as what has been compiled is kept by
        # code object, this function gets one of its own, lest it be taken for another's.
        options: dict[str, Any] = {"guard_filter_fn": torch.compiler.keep_tensor_guards_unsafe}
        if not self.on_cuda:
            options["cpp_wrapper"] = True  # kernels are called without going through Python

        def run(*args: Any) -> Any:
            return function(*args)

        own = FunctionType(run.__code__.replace(), globals(), closure=run.__closure__)
        return _Trial(torch.compile(own, fullgraph=True, dynamic=False, options=options), function, self, "compiled")

    def loop(self, function: Callable[..., Any], state: Callable[[], Sequence[Tensor]]) -> Callable[..., Any]:
        """Return `function`, or what does the same as one captured graph.

        Args:
            function: of tensors or dicts of tensors, always of the same shapes.
            state: returns the tensors that the function changes in place; warming up must not change them.
        """
        if self.record is None:
            return function
        self._done.add("captured")
        return _Trial(_Captured(function, state, self), function, self, "captured")


class _Trial:
    """Runs the fast version; if it fails the first time, before it has changed anything, the plain one from then on."""

    def __init__(self, fast: Callable[..., Any], plain: Callable[..., Any], compiler: Compiler, what: str) -> None:
        self._run, self._plain, self._compiler, self._what = fast, plain, compiler, what
        self._trusted = False

    @torch.no_grad()
    def __call__(self, *args: Any) -> Any:
        if self._trusted:
            return self._run(*args)
        try:
            result = self._run(*args)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            self._compiler.say(f"not {self._what}, runs as it is: {type(error).__name__}: {reason}")
            self._run = self._plain
            result = self._run(*args)
        self._trusted = True
        return result


class _Captured:
    """A function on static inputs, recorded at the first call and replayed at every one."""

    def __init__(
        self,
        function: Callable[..., Any],
        state: Callable[[], Sequence[Tensor]],
        compiler: Compiler,
    ) -> None:
        self._function, self._state, self._compiler = function, state, compiler
        self._inputs: list[Any] = []
        self._replay: Replay | None = None
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

        def restore() -> None:
            for tensor, kept in zip(state, before, strict=True):
                tensor.copy_(kept)

        try:
            self._warm_up()
            restore()
            assert self._compiler.record is not None
            replay, self._outputs = self._compiler.record(lambda: self._function(*self._inputs))
            self._replay = replay
        finally:
            restore()

    def _warm_up(self) -> None:
        if not self._compiler.on_cuda:
            for _ in range(WARM_UPS):
                self._function(*self._inputs)
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
