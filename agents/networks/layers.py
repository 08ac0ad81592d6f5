"""Layers that networks are made of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.core.precision import Mixed, mixed
from agents.core.settings import Activation
from envs.errors import UserError, not_one_of


def tanh(x: Tensor) -> Tensor:
    """Return tanh; compiled, through the sigmoid, for which the compiler has a kernel six times as fast."""
    return 2 * torch.sigmoid(2 * x) - 1 if torch.compiler.is_compiling() else torch.tanh(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
}


class MLP(Mixed):
    """Linear layers with an activation after each, and between the two, if asked for, layer normalisation.

    Raises:
        UserError: there is no such activation.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], activation: Activation, layer_norm: bool = False) -> None:
        super().__init__()
        if activation not in get_args(Activation):
            raise UserError(f"activation: {not_one_of(activation, ACTIVATIONS)}")
        sizes = [inputs, *widths]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths) if layer_norm else None
        self.features = sizes[-1]
        self.activation = activation

    @mixed
    def forward(self, x: Tensor) -> Tensor:
        activation = ACTIVATIONS[self.activation]
        for i, layer in enumerate(self.layers):
            x = layer(x)
            x = activation(x if self.norms is None else self.norms[i](x))
        return x


class Ensemble(nn.Module):
    """Linear layers side by side, each with weights of its own, as one batched product."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # of nn.Linear
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """Return each member's outputs `[n, B, outputs]` of `x`, `[n, B, inputs]`, or `[B, inputs]` for all of them.

        Args:
            frozen: gradients go through to `x` alone.
        """
        weight, bias = (self.weight.detach(), self.bias.detach()) if frozen else (self.weight, self.bias)
        return torch.baddbmm(bias, x.expand(len(weight), *x.shape[-2:]), weight)


class HiddenEnsemble(Ensemble, Mixed):
    """One that is not the last."""

    @mixed
    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        return super().forward(x, frozen)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167) that is told which statistics to take.

    Its running statistics change in `update` alone, so that a step of training stays a function of its arguments.

    Args:
        shape: of what is normalised, but for the batch, which is the last axis but one: `[size]`, or `[n, 1, size]`.
        momentum: share of a new batch in the running statistics.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, *shape: int, momentum: float = 0.01, eps: float = 1e-3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("var", torch.ones(shape))
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Tensor, batch: bool, frozen: bool = False) -> Tensor:
        """Normalise `x` by its own statistics if `batch`, else by the running ones; `frozen` as in `Ensemble`."""
        weight, bias = (self.weight.detach(), self.bias.detach()) if frozen else (self.weight, self.bias)
        if batch:
            var, mean = torch.var_mean(x, dim=-2, correction=0, keepdim=True)
        else:
            var, mean = self.var, self.mean
        return torch.addcmul(bias, (x - mean) * (var + self.eps).rsqrt(), weight)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        var, mean = torch.var_mean(x, dim=-2, keepdim=True)
        self.mean.lerp_(mean.view_as(self.mean), self.momentum)
        self.var.lerp_(var.view_as(self.var), self.momentum)


def orthogonal(module: nn.Module, gain: float) -> None:
    """Initialise every linear and convolutional layer orthogonally, biases at 0 (Saxe et al. 2014)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class SpectralLinear(nn.Linear):
    """A linear layer whose weights are divided by their largest singular value (Miyato et al. 2018, arXiv:1802.05957).

    That is u^T W v for the singular vectors, which a pass leaves alone: `refresh` brings them up to date, by one power
    iteration at each call.
    """

    u: Tensor
    v: Tensor

    def __init__(self, like: nn.Linear) -> None:
        super().__init__(like.in_features, like.out_features)
        self.load_state_dict(like.state_dict())
        self.register_buffer("u", F.normalize(torch.randn(like.out_features), dim=0))
        self.register_buffer("v", torch.zeros(like.in_features))
        for _ in range(15):
            self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the singular vectors nearer to those of the present weights."""
        self.v.copy_(F.normalize(self.u @ self.weight, dim=0))
        self.u.copy_(F.normalize(self.weight @ self.v, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / (self.u @ self.weight @ self.v), self.bias)


class NoisyLinear(nn.Module):
    """A linear layer whose weights are disturbed by factorised noise (Fortunato et al. 2018, arXiv:1706.10295, sec. 3).

    The noise comes in as an argument, `inputs + outputs` standard normal numbers for each row or for all of them; the
    disturbed weights are never written down, as W x + sigma_W (e_out e_in^T) x is W x + e_out sigma_W (e_in x).

    Args:
        std: sigma_0, the size of the noise at the start, divided by the root of `inputs`.
    """

    def __init__(self, inputs: int, outputs: int, std: float) -> None:
        super().__init__()
        self.mean = nn.Linear(inputs, outputs)
        self.deviation = nn.Linear(inputs, outputs)
        self.inputs, self.noise_size = inputs, inputs + outputs
        bound = 1 / math.sqrt(inputs)
        for parameter in (self.mean.weight, self.mean.bias):
            nn.init.uniform_(parameter, -bound, bound)
        for parameter in (self.deviation.weight, self.deviation.bias):
            nn.init.constant_(parameter, std * bound)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the outputs `[..., outputs]` of `x` `[..., inputs]`; without noise `[..., D]`, those of the means."""
        y = self.mean(x)
        if noise is None:
            return y
        noise = noise.sign() * noise.abs().sqrt()
        into, out = noise[..., : self.inputs], noise[..., self.inputs :]
        return torch.addcmul(y, out, self.deviation(into * x))
