"""A policy's weights in bytes: whole numbers from -127 to 127, with one factor for each output of a layer."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.run.models import LoadedPolicy

MOST = 127  # of a weight: both signs alike


class Bytes(nn.Module):
    """A linear layer or a 2-D convolution whose weights are the nearest whole multiples of a factor.

    The factor of an output is such that its largest weight is 127 of them; biases stay float32.

    Attributes:
        weight: int8, in the layer's shape.
        scale: factors, float32 `[outputs, 1, ...]`, so many ones as outputs have axes after that of channels.
    """

    weight: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        weight = layer.weight.detach()
        scale = weight.flatten(1).abs().amax(1) / MOST
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        each = scale.view(-1, *[1] * (weight.ndim - 1))
        self.register_buffer("weight", (weight / each).round().to(torch.int8))
        scale = scale.view(-1, *[1] * (weight.ndim - 2))
        self.scale = nn.Parameter(scale, requires_grad=False)
        bias = None if layer.bias is None else layer.bias.detach().clone().view(scale.shape)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._convolution: Any = None
        if isinstance(layer, nn.Conv2d):
            self._convolution = layer.stride, layer.padding, layer.dilation, layer.groups

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        if self._convolution is None:
            y = functional.linear(x, weight)
        else:
            y = functional.conv2d(x, weight, None, *self._convolution)
        y = y * self.scale
        return y if self.bias is None else y + self.bias


def in_bytes(loaded: LoadedPolicy) -> tuple[LoadedPolicy, int, int]:
    """Return the policy with its linear layers and convolutions in bytes, and how many parameters are so, and of all.

    All else stays float32: biases, layer normalisation, cells of memories, layers of other kinds.
    """
    policy = copy.copy(loaded.policy)
    policy.model = copy.deepcopy(loaded.policy.model)
    rounded = 0
    for module in list(policy.model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear or (type(child) is nn.Conv2d and child.padding_mode == "zeros"):
                setattr(module, name, Bytes(child))
                rounded += child.weight.numel()
    total = sum(parameter.numel() for parameter in loaded.policy.model.parameters())
    return replace(loaded, policy=policy), rounded, total
