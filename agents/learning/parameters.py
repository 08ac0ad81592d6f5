"""A network's parameters as one vector: its gradient, clipping and steps are then a few kernels.

Small networks spend their time in dispatch, not in arithmetic. Nothing here waits for the device or looks at a value,
so that a step can be compiled or captured in a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from agents.core.tracing import noting
from agents.core.watch import Watch
from envs.errors import UserError

LossFunction = Callable[..., tuple[Tensor, Any]]


UNUSED = {"allow_unused": True, "materialize_grads": True}  # options of autograd, with which it takes longer


class FlatParameters:
    """The trainable parameters of `network`, moved into one vector of which each becomes a view.

    Frozen ones (`requires_grad` is False) are no part of it. `refresh` follows whatever is done to the network: layers
    replaced, pruned or parametrised, parameters frozen or moved.

    Attributes:
        vector: float32 `[P]`; writing to it changes the network.
        scale: factors of the steps, `[P]`, or None where all are 1. See `set_scale`.
        version: another one whenever programs that use all this would no longer do the same.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.scale: Tensor | None = None
        self._watch = Watch(network)
        self._scales: dict[str, float] = {}
        self._zeros: dict[str, Tensor] = {}
        self._rescaled = 0
        self._named: dict[str, nn.Parameter] = {}
        self._leaves: list[nn.Parameter] = []
        self._unused: dict[str, Any] = {}  # `UNUSED` once a parameter was found that no loss depends on
        self._gather()

    def _gather(self) -> None:
        self._named = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        self._leaves, self._unused = list(self._named.values()), {}
        if not self._named:
            raise UserError("the network has no parameter that requires a gradient: there is nothing to train")
        for name, parameter in self._named.items():
            if parameter.dtype != torch.float32:
                raise UserError(f"parameter {name} is {parameter.dtype}: training takes float32 (network.float())")
        with torch.no_grad():
            self.vector = torch.cat([parameter.flatten() for parameter in self._named.values()])
            for parameter, view in zip(self._named.values(), self.views(self.vector).values(), strict=True):
                parameter.data = view
            self._scale()
        self._gathered = self._watch.version()

    @property
    def version(self) -> tuple[int, int]:
        return self._gathered, self._rescaled

    def refresh(self) -> bool:
        """Return whether the network has changed; if so, its parameters have moved into a new vector.

        Raises:
            UserError: its parameters cannot be trained: none is left, or one is not float32.
        """
        if self._watch.version() == self._gathered:
            return False
        self.network.eval()  # new layers would be in training mode, which is for updates alone
        self._gather()
        return True

    def train(self, mode: bool) -> None:
        """Put the network into training or evaluation mode; that is no change of version."""
        self._watch.train(mode)

    def set_scale(self, prefix: str, factor: float) -> None:
        """Multiply the steps of all parameters whose names begin with `prefix`; 0 holds them still.

        Raises:
            UserError: no trainable parameter's name begins so.
        """
        if not any(name.startswith(prefix) for name in self._named):
            raise UserError(f"no trainable parameter begins with {prefix!r}; there are {', '.join(self._named)}")
        self._scales[prefix] = factor
        self._rescaled += 1
        self._scale()

    @torch.no_grad()
    def hold_at_zero(self, where: dict[str, Tensor]) -> None:
        """Set parameters to 0 where masks by their names say so, bool in their shapes, and hold them there."""
        self._zeros |= where
        self._rescaled += 1
        for name, view in self.views(self.vector).items():
            if name in where:
                view[where[name]] = 0.0
        self._scale()

    def _scale(self) -> None:
        if not self._scales and not self._zeros:
            return
        self.scale = torch.ones_like(self.vector)
        for name, view in self.views(self.scale).items():
            if name in self._zeros and self._zeros[name].shape == view.shape:
                view[self._zeros[name]] = 0.0
            for prefix, factor in self._scales.items():
                if name.startswith(prefix):
                    view.mul_(factor)

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Return parts of a vector `[P]` under the names and in the shapes of the parameters."""
        parts = vector.split([parameter.numel() for parameter in self._named.values()])
        return {
            name: part.view(parameter.shape) for (name, parameter), part in zip(self._named.items(), parts, strict=True)
        }

    def gradient(self, loss_of: LossFunction, *args: Any) -> tuple[Tensor, Tensor, Any]:
        """Return the gradient `[P]` of a loss, the loss, and what else its function returned.

        Args:
            loss_of: called with the network, or what stands for it, and `args`; returns the loss, a scalar, and
                tensors to hand out, which must not require gradients. Parameters that it does not use get zeros.
        """
        if torch.compiler.is_compiling():  # the compiler takes functions of the vector, eager execution its leaves

            def of_vector(vector: Tensor) -> tuple[Tensor, Any]:
                loss, rest = loss_of(_WithParameters(self.network, self.views(vector)), *args)
                return loss, (loss.detach(), rest)

            gradient, (loss, rest) = torch.func.grad(of_vector, has_aux=True)(self.vector)
            return gradient, loss, rest
        with torch.enable_grad():
            loss, rest = loss_of(self.network, *args)
            try:
                # a second try would be noted, too
                gradients = torch.autograd.grad(loss, self._leaves, **(UNUSED if noting() else self._unused))
            except RuntimeError:
                if self._unused:
                    raise
                self._unused = UNUSED
                return self.gradient(loss_of, *args)
        return torch.cat([gradient.flatten() for gradient in gradients]), loss.detach(), rest


class _WithParameters:
    """Calls a network, or a module of it, with other parameters than its own."""

    def __init__(self, network: nn.Module, parameters: dict[str, Tensor]) -> None:
        self._network, self._parameters = network, parameters

    def __call__(self, *args: Any, **named: Any) -> Any:
        return torch.func.functional_call(self._network, self._parameters, args, named)

    def __getattr__(self, name: str) -> Any:
        if name in self._parameters:
            return self._parameters[name]
        found, prefix = getattr(self._network, name), f"{name}."
        if not isinstance(found, nn.Module):
            return found
        inner = {key.removeprefix(prefix): value for key, value in self._parameters.items() if key.startswith(prefix)}
        return _WithParameters(found, inner)


def clipped(gradient: Tensor, norm: Tensor, max_norm: float) -> Tensor:
    """Scale a gradient of this norm down to `max_norm`, as `torch.nn.utils.clip_grad_norm_` does."""
    return gradient * (max_norm / (norm + 1e-6)).clamp(max=1.0)
