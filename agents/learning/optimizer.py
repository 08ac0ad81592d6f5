"""Optimisers that step one vector of parameters with few kernels."""

from __future__ import annotations

import math
from typing import Any, get_args

import torch
from torch import Tensor

from agents.core.saved import count, like, part
from agents.core.settings import OptimizerName
from agents.learning.parameters import FlatParameters
from envs.errors import UserError, not_one_of


class Optimizer:
    """Adam, AdamW, SGD or RMSprop on one vector: torch.optim's updates, with its default settings.

    Args:
        name: `adam` (Kingma & Ba 2015, arXiv:1412.6980), `adamw` (Loshchilov & Hutter 2019, arXiv:1711.05101, weight
            decay 0.01), `sgd` (without momentum) or `rmsprop` (Tieleman & Hinton 2012).
        parameters: changed by `step`.
        eps: keeps divisors from 0 (SGD has none).

    Raises:
        UserError: there is no optimiser of that name.
    """

    def __init__(self, name: str, parameters: FlatParameters, eps: float) -> None:
        if name not in get_args(OptimizerName):
            raise UserError(f"optimizer: {not_one_of(name, get_args(OptimizerName))}")
        count = {"adam": 2, "adamw": 2, "sgd": 0, "rmsprop": 1}[name]
        self.name, self.parameters, self.eps = name, parameters, eps
        self.moments = [torch.zeros_like(parameters.vector) for _ in range(count)]
        self._shapes = _shapes(parameters)
        self.steps = 0

    def refresh(self) -> None:
        """Follow `FlatParameters.refresh`: moments go with their parameters, those of new ones begin at 0."""
        moments, shapes = self.moments, self._shapes
        self.moments, self._shapes = (
            [torch.zeros_like(self.parameters.vector) for _ in moments],
            _shapes(self.parameters),
        )
        for old, new in zip(moments, self.moments, strict=True):
            parts = dict(zip(shapes, old.split([shape.numel() for shape in shapes.values()]), strict=True))
            for name, view in self.parameters.views(new).items():
                if shapes.get(name) == view.shape:
                    view.copy_(parts[name].view(view.shape))

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
        vector = self.parameters.vector
        return torch.tensor(rows, dtype=vector.dtype).to(vector.device, non_blocking=True)

    @staticmethod
    def paced(rates: Tensor, learning_rate: Tensor) -> Tensor:
        """Return a row of `rates` of the learning rate 1 for another one, a scalar tensor."""
        rate, eps, decay = rates.unbind()
        return torch.stack([rate * learning_rate, eps, 1 - (1 - decay) * learning_rate])

    def step(self, gradient: Tensor, rates: Tensor) -> None:
        """Take one step against `gradient` `[P]` with a row of `rates`."""
        rate, eps, decay = rates.unbind()
        vector, scale = self.parameters.vector, self.parameters.scale
        if scale is not None:
            rate = rate * scale
        if self.name == "sgd":
            vector.sub_(gradient * rate)
            return
        if self.name == "adamw":
            vector.mul_(decay if scale is None else 1 - (1 - decay) * scale)
        *mean, square = self.moments
        square.mul_(0.99 if self.name == "rmsprop" else 0.999)
        square.addcmul_(gradient, gradient, value=0.01 if self.name == "rmsprop" else 0.001)
        for first in mean:
            gradient = first.lerp_(gradient, 0.1)
        step = square.sqrt().add_(eps)  # and all else in its memory: a large network's is slow to come by
        vector.sub_(torch.div(gradient, step, out=step).mul_(rate))

    def state_dict(self) -> dict[str, Any]:
        """Return the moments and the number of steps taken."""
        return {"moments": {str(index): moment for index, moment in enumerate(self.moments)}, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: it is the state of another optimiser.
        """
        mine, steps = self.state_dict()["moments"], count(part(state, "steps"), "the optimizer's steps")
        saved = like(part(state, "moments"), mine, "moments")
        if not all(moment.isfinite().all() for moment in saved.values()):
            raise ValueError("the optimizer's moments hold NaN or infinite values")
        for name, moment in mine.items():
            moment.copy_(saved[name])
        self.steps = steps


def _shapes(parameters: FlatParameters) -> dict[str, torch.Size]:
    return {name: view.shape for name, view in parameters.views(parameters.vector).items()}
