"""A network's parameters as one vector, and optimisers that step it with few kernels.

Small networks spend their time in dispatch, not in arithmetic: clipping, stepping or copying one vector costs a few
kernels, where a list of layers costs a few for each. Nothing here waits for the device or looks at a value, so that a
step can be compiled or captured in a graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class FlatParameters:
    """The parameters of `network`, moved into one vector of which each becomes a view.

    Args:
        network: on its device already; `network.to()` would tear the views off.

    Attributes:
        vector: float32 `[P]`; writing to it changes the network.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._named = dict(network.named_parameters())
        with torch.no_grad():
            self.vector = torch.cat([parameter.flatten() for parameter in self._named.values()])
            for parameter, view in zip(self._named.values(), self.views(self.vector).values(), strict=True):
                parameter.data = view

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Return parts of a vector `[P]` under the names and in the shapes of the parameters."""
        parts = vector.split([parameter.numel() for parameter in self._named.values()])
        return {
            name: part.view(parameter.shape) for (name, parameter), part in zip(self._named.items(), parts, strict=True)
        }

    def gradient(self, loss_of: Callable[..., tuple[Tensor, Any]], *args: Any) -> tuple[Tensor, Any]:
        """Return the gradient `[P]` of a loss, and what else its function returned.

        Args:
            loss_of: called with the network, or what stands for it, and `args`; returns the loss, a scalar, and
                tensors to hand out, which must not require gradients.
        """
        if torch.compiler.is_compiling():  # the compiler takes functions of the vector, eager execution its leaves

            def of_vector(vector: Tensor) -> tuple[Tensor, Any]:
                return loss_of(_Standing(self.network, self.views(vector)), *args)

            return torch.func.grad(of_vector, has_aux=True)(self.vector)
        with torch.enable_grad():
            loss, rest = loss_of(self.network, *args)
            gradients = torch.autograd.grad(loss, list(self._named.values()))
        return torch.cat([gradient.flatten() for gradient in gradients]), rest


class _Standing:
    """Calls a network with other parameters than its own."""

    def __init__(self, network: nn.Module, parameters: dict[str, Tensor]) -> None:
        self._network, self._parameters = network, parameters

    def __call__(self, *args: Any) -> Any:
        return torch.func.functional_call(self._network, self._parameters, args)


def clipped(gradient: Tensor, max_norm: float) -> Tensor:
    """Scale a gradient down to `max_norm`, as `torch.nn.utils.clip_grad_norm_` does."""
    return gradient * (max_norm / (torch.linalg.vector_norm(gradient) + 1e-6)).clamp(max=1.0)


class Optimizer:
    """Adam, AdamW, SGD or RMSprop on one vector: torch.optim's updates, with its default settings.

    Args:
        name: `adam` (Kingma & Ba 2015, arXiv:1412.6980), `adamw` (Loshchilov & Hutter 2019, arXiv:1711.05101, weight
            decay 0.01), `sgd` (without momentum) or `rmsprop` (Tieleman & Hinton 2012).
        vector: the parameters `[P]`, changed by `step`.
        eps: keeps divisors from 0 (SGD has none).
    """

    def __init__(self, name: str, vector: Tensor, eps: float) -> None:
        count = {"adam": 2, "adamw": 2, "sgd": 0, "rmsprop": 1}[name]
        self.name, self.vector, self.eps = name, vector, eps
        self.moments = [torch.zeros_like(vector) for _ in range(count)]
        self.steps = 0

    def rates(self, learning_rate: float, count: int = 1) -> Tensor:
        """Return the three scalars that each of the next `count` steps needs, `[count, 3]`, on the device.

        They are tensors made beforehand because a compiled or captured step cannot take numbers from the host. The
        caller counts `steps` as it takes them.
        """
        rows = []
        for steps in range(self.steps + 1, self.steps + count + 1):
            root = scale = decay = 1.0
            if self.name.startswith("adam"):
                root = math.sqrt(1 - 0.999**steps)
                scale = root / (1 - 0.9**steps)
            if self.name == "adamw":
                decay = 1 - 0.01 * learning_rate
            rows.append((learning_rate * scale, self.eps * root, decay))
        return torch.tensor(rows, dtype=self.vector.dtype).to(self.vector.device, non_blocking=True)

    def step(self, gradient: Tensor, rates: Tensor) -> None:
        """Take one step against `gradient` `[P]` with a row of `rates`."""
        rate, eps, decay = rates.unbind()
        if self.name == "sgd":
            self.vector.sub_(gradient * rate)
            return
        if self.name == "adamw":
            self.vector.mul_(decay)
        *mean, square = self.moments
        square.mul_(0.99 if self.name == "rmsprop" else 0.999)
        square.addcmul_(gradient, gradient, value=0.01 if self.name == "rmsprop" else 0.001)
        for first in mean:
            gradient = first.lerp_(gradient, 0.1)
        self.vector.sub_(gradient / square.sqrt().add_(eps) * rate)

    def state_dict(self) -> dict[str, Any]:
        """Return the moments and the number of steps taken."""
        return {"moments": {str(index): moment for index, moment in enumerate(self.moments)}, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        for index, moment in enumerate(self.moments):
            moment.copy_(state["moments"][str(index)])
        self.steps = state["steps"]
