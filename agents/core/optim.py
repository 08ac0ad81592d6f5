"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], learning_rate: float, eps: float
) -> torch.optim.Optimizer:
    """Build `adam`, `adamw`, `sgd` or `rmsprop`, fused where PyTorch has it (`eps` is not SGD's)."""
    match name:
        case "adam":
            return torch.optim.Adam(parameters, lr=learning_rate, eps=eps, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=learning_rate, eps=eps, fused=True)
        case "sgd":
            return torch.optim.SGD(parameters, lr=learning_rate, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=learning_rate, eps=eps, foreach=True)
    raise ValueError(f"no optimiser is called {name}")


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use `learning_rate` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
