"""Small networks on the CPU, computed by NumPy.

For the few rows of one tick PyTorch's dispatch costs several times the arithmetic; NumPy's costs a third of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.networks.encoders import Encoder, Flat
from agents.networks.layers import MLP
from agents.networks.normalize import RunningNorm

LARGEST = 100 * 64 * 64  # rows x inputs x outputs of a layer: beyond, PyTorch's kernels are the faster ones

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": lambda x: np.tanh(x, out=x),
    "relu": lambda x: np.maximum(x, 0.0, out=x),
}


class NumpyForward:
    """Normaliser, hidden layers and head as one function of NumPy observations; it sees changes made in place.

    Args:
        features: the head's inputs are put after its output.

    Attributes:
        max_rows: up to how many observations it is the faster way.
    """

    def __init__(self, norm: RunningNorm | None, torso: MLP, head: nn.Linear, features: bool = False) -> None:
        self._norm = None if norm is None else (norm.mean.numpy(), norm.var.numpy(), norm.clip)
        self._features = features
        self._activation = _ACTIVATIONS[torso.activation]
        layers = [
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy())
            for layer in (*torso.layers, head)
            if isinstance(layer, nn.Linear)
        ]
        self._layers, self._head = layers[:-1], layers[-1]
        self.max_rows = LARGEST // max(weight.size for weight, _ in layers)

    @property
    def up_to_date(self) -> bool:
        """Whether there are still no hooks on all modules; what else changes, a `Watch` of the model notices."""
        return not _hooked_everywhere()

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Return the head's output `[N, P]` for float32 observations `[N, ...]`."""
        x = obs if obs.ndim == 2 else obs.reshape(len(obs), -1)
        if self._norm is not None:
            mean, var, clip = self._norm
            x = ((x - mean) / np.sqrt(var + np.float32(1e-8))).clip(-clip, clip)
        for weight, bias in self._layers:
            x = x @ weight
            x += bias
            x = self._activation(x)
        weight, bias = self._head
        output = x @ weight + bias
        return np.concatenate([output, x], axis=1) if self._features else output


def numpy_forward(model: nn.Module) -> NumpyForward | None:
    """Return what computes `model.act` for observations that are one array, or None where that cannot be told.

    It takes a plain MLP over numbers, on the CPU, in float32, all of whose modules are exactly what they look like:
    no hooks, no pruning, no parametrisation, no other class in their place.
    """
    if getattr(model, "recurrent", True) or not hasattr(model, "acting_path") or _hooked_everywhere():
        return None
    if _changed(model, "acting_path", ("act", "look")):
        return None
    path: Any = model.acting_path
    encoder, torso, head = path()
    if type(encoder) is not Encoder or encoder.keys is not None or type(torso) is not MLP or torso.norms is not None:
        return None
    (leaf,) = encoder.leaves
    if type(leaf) is not Flat or leaf.scale is not None or torso.activation not in _ACTIVATIONS:
        return None
    if leaf.norm is not None and type(leaf.norm) is not RunningNorm:
        return None
    linear = [*torso.layers, head]
    parts = [model, encoder, leaf, torso, *linear, *([] if leaf.norm is None else [leaf.norm])]
    if not all(type(layer) is nn.Linear for layer in linear) or not all(_plain(part) for part in parts):
        return None
    sde = getattr(model, "sde", None)
    return NumpyForward(leaf.norm, torso, head, sde is not None and sde.use_sde)


def _changed(model: nn.Module, said: str, methods: tuple[str, ...]) -> bool:
    """Whether one of the methods comes from a class below the one that has `said`, or belongs to the object alone."""
    kinds = type(model).__mro__
    below = kinds[: next(i for i, kind in enumerate(kinds) if said in vars(kind))]
    return any(name in vars(owner) for owner in (model, *below) for name in methods)


def _hooked_everywhere() -> bool:
    hooks: Any = torch.nn.modules.module
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)


def _plain(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        return False
    if not isinstance(module, nn.Linear):
        return True
    tensors: list[Tensor | None] = [module._parameters.get("weight"), module._parameters.get("bias")]
    return all(t is not None and t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
