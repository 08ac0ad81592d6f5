"""Small networks on the CPU, read through NumPy.

For the few rows of one tick PyTorch's dispatch costs several times the arithmetic; NumPy's costs a third of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from agents.networks.build import MLP
from agents.networks.encoder import Encoder, Flat

LARGEST = 100 * 64 * 64  # rows x inputs x outputs of a layer: beyond, PyTorch's kernels are the faster ones

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": lambda x: np.tanh(x, out=x),
    "relu": lambda x: np.maximum(x, 0.0, out=x),
}


class HostNetwork:
    """An encoder, a torso and a head as one function of a NumPy observation.

    It reads the parameters where they lie, so it is always up to date, as long as they are changed in place.

    Attributes:
        max_rows: up to how many observations it is the faster way.
    """

    def __init__(self, flat: Flat, torso: MLP, head: nn.Linear) -> None:
        self._norm = None if flat.norm is None else (flat.norm.mean.numpy(), flat.norm.var.numpy(), flat.norm.clip)
        self._activation = _ACTIVATIONS[torso.activation]
        self._layers = [_arrays(layer) for layer in torso.layers]
        self._head = _arrays(head)
        self.max_rows = LARGEST // max(weight.size for weight, _ in (*self._layers, self._head))

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
        return x @ weight + bias


def _arrays(layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach().numpy().T, layer.bias.detach().numpy()


def on_host(encoder: Encoder, torso: MLP, head: nn.Module) -> HostNetwork | None:
    """Return the NumPy reading of a network, or None where it is not on the CPU or not a plain MLP over numbers."""
    if encoder.keys is not None or not isinstance(head, nn.Linear) or torso.activation not in _ACTIVATIONS:
        return None
    (leaf,) = encoder.leaves
    if not isinstance(leaf, Flat) or leaf.scale is not None or head.weight.device.type != "cpu":
        return None
    return HostNetwork(leaf, torso, head)
