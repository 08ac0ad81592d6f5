"""Noting the operations that PyTorch runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import TorchDispatchMode

Tensors = Sequence[Tensor]


class Noted(NamedTuple):
    """An operation of PyTorch's that was run, or a function that is noted as one (`as_one`)."""

    func: Any
    args: Sequence[Any]
    named: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """Its name without that of its overload; ending in "_" where it changes its first argument."""
        if self.is_function:
            return ""
        return str(self.func._schema.name).removeprefix("aten::")

    @property
    def given(self) -> list[Any]:
        """All its arguments, those with names last."""
        return [*self.args, *self.named.values()]

    @property
    def is_function(self) -> bool:
        """Whether it is a function of tensors that returns new ones."""
        return not hasattr(self.func, "_schema")

    @property
    def is_view(self) -> bool:
        """Whether it only names memory anew: what it returns is an alias that it does not write to."""
        if self.is_function:
            return False
        if self.name in ("squeeze_", "t_", "transpose_", "unsqueeze_"):  # which change the name alone
            return True
        made = self.func._schema.returns
        return all(each.alias_info is not None and not each.alias_info.is_write for each in made)


class Tracer(TorchDispatchMode):
    """Notes the operations that are run while it is active.

    Args:
        kept: what is noted of a tree of arguments or results; by default the same tensors.

    Attributes:
        within: whether what runs is part of a function that is noted as one.
    """

    active: ClassVar[list[Tracer]] = []

    def __init__(self, kept: Callable[[Any], Any] = lambda tree: tree) -> None:
        super().__init__()
        self.noted: list[Noted] = []
        self._kept = kept
        self.within = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch would import its compiler, which takes 2 s

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.within:
            self.noted.append(Noted(func, *self._kept((args, kwargs or {}, result))))
        return result

    def __enter__(self) -> Any:
        Tracer.active.append(self)
        return super().__enter__()

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        Tracer.active.pop()

    def run(self, function: Callable[..., Tensors], *tensors: Tensor) -> Tensors:
        """Return what a function does, which is noted and not what it consists of."""
        self.within = True
        try:
            result = function(*tensors)
        finally:
            self.within = False
        self.noted.append(Noted(function, *self._kept((tensors, {}, result))))
        return result


def noting() -> bool:
    """Whether operations are being noted: they are to be repeated for other values than those there are now."""
    return bool(Tracer.active) and not Tracer.active[-1].within


def known_as(name: str) -> Callable[[Any], Any]:
    """Name a function that is run `as_one`, for programs that have it in another language."""

    def note(function: Any) -> Any:
        function.known_as = name
        return function

    return note


def as_one(function: Callable[..., Tensors], *tensors: Tensor) -> Tensors:
    """Return what a differentiable function makes of tensors.

    Its operations may depend on values, if only the shapes of its results do not: while operations are traced, it is
    noted as one of them, and its gradient as another, to be called again in this order.
    """
    if not Tracer.active:
        return function(*tensors)
    if not torch.is_grad_enabled():
        return Tracer.active[-1].run(function, *tensors)
    result: Tensors = _AsOne.apply(Differentiable(function), *tensors)
    return result


class Differentiable:
    """A function with what its gradient takes of the last call.

    Attributes:
        function: the function.
        wanted: which arguments a gradient is wanted of.
        used: which results have one.
        compiled: what another language's text for it leaves for the gradient's; None where there is none.
    """

    def __init__(self, function: Callable[..., Tensors]) -> None:
        self.function = function
        self.wanted: Sequence[bool] = ()
        self.used: Sequence[bool] = ()
        self.compiled: Any = None
        self._given: Tensors = ()
        self._made: Tensors = ()

    def forward(self, *tensors: Tensor) -> Tensors:
        self._given = [
            tensor.detach().requires_grad_(wanted) for tensor, wanted in zip(tensors, self.wanted, strict=True)
        ]
        with torch.enable_grad():
            self._made = self.function(*self._given)
        return [tensor.detach() for tensor in self._made]

    def backward(self, *gradients_and_given: Tensor) -> Tensors:
        gradients = gradients_and_given[: sum(self.used)]
        made = [tensor for tensor, used in zip(self._made, self.used, strict=True) if used]
        given = [tensor for tensor, wanted in zip(self._given, self.wanted, strict=True) if wanted]
        # of a scalar, as PyTorch imports SymPy for gradients along tensors, which takes 2 s
        with torch.enable_grad():
            along = [
                torch.dot(one.flatten(), gradient.flatten()) for one, gradient in zip(made, gradients, strict=True)
            ]
            total = torch.stack(along).sum()
        return torch.autograd.grad(total, given, materialize_grads=True)


class _AsOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Differentiable, *tensors: Tensor) -> Any:
        ctx.set_materialize_grads(False)
        ctx.function, function.wanted = function, ctx.needs_input_grad[1:]
        ctx.save_for_backward(*tensors)
        return tuple(Tracer.active[-1].run(function.forward, *tensors))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        function: Differentiable = ctx.function
        function.used = [gradient is not None for gradient in gradients]
        given = [gradient for gradient in gradients if gradient is not None]
        # what the function was given is an argument, so that its memory is not given to others before
        found = iter(Tracer.active[-1].run(function.backward, *given, *ctx.saved_tensors))
        return None, *(next(found) if wanted else None for wanted in function.wanted)
