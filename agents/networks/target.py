"""Target networks: copies that follow the network in training slowly, and carry no gradient."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from agents.core.watch import plain_attributes
from agents.networks.models import Model

ASIDE = ("curiosity", "auxiliary")  # parts of a model that learn beside it, which nobody asks a target about
AnyModel = TypeVar("AnyModel", bound=Model)


def make_target(model: AnyModel) -> AnyModel:
    """Return a copy of a model that is not trained and has the same normalisers, without what learns `ASIDE`."""
    # pruned weights are worked out from others at each call; only parameters can be copied
    others: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    others |= {id(getattr(model, name)): None for name in ASIDE if getattr(model, name, None) is not None}
    target = copy.deepcopy(model, others).requires_grad_(False).eval()
    target.share_statistics(model)
    return target


def copy_of(model: AnyModel, target: AnyModel) -> AnyModel:
    """Return a target network that is a copy of a model again: `target`, whose tensors stay in their places where both
    are alike, or a new one.
    """
    if not alike(target, model):
        return make_target(model)
    follow(tensors(target), tensors(model), 1.0)
    return target


class Tensors(NamedTuple):
    """A network's parameters and buffers; looking for them takes longer than changing them."""

    parameters: list[Tensor]
    buffers: list[Tensor]


def tensors(network: nn.Module) -> Tensors:
    """Return a network's tensors, which are others once a layer has been replaced."""
    return Tensors(
        [parameter for name, parameter in network.named_parameters() if not _aside(name)],
        [buffer for name, buffer in network.named_buffers() if not _aside(name)],
    )


@torch.no_grad()
def follow(target: Tensors, model: Tensors, tau: float) -> None:
    """Move a target's parameters towards the model's by the share `tau` (1 copies them), its statistics all the way."""
    if tau == 1.0:  # whatever was there, NaN included
        torch._foreach_copy_(target.parameters, model.parameters)
    else:
        torch._foreach_lerp_(target.parameters, model.parameters, tau)
    for mine, theirs in zip(target.buffers, model.buffers, strict=True):
        mine.copy_(theirs)


def alike(target: nn.Module, model: nn.Module) -> bool:
    """Return whether both have the same parameters, buffers, modules, hooks and attributes, whatever their values."""
    return _structure(target) == _structure(model)


def _structure(network: nn.Module) -> list[Any]:
    modules = [
        (
            type(module),
            plain_attributes(module),
            *module._forward_hooks,
            *module._forward_pre_hooks,
            vars(module).get("forward"),
        )
        for name, module in network.named_modules()
        if not _aside(name)
    ]
    named = *network.named_parameters(), *network.named_buffers()
    shapes = [(name, tensor.shape) for name, tensor in named if not _aside(name)]
    return [*modules, *shapes]


def _aside(name: str) -> bool:
    return name.partition(".")[0] in ASIDE
