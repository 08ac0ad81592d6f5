"""Small networks on the CPU, computed by NumPy.

For the few rows of one tick PyTorch's dispatch costs several times the arithmetic; NumPy's costs a third of it.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.acting.numpy_cells import numpy_step
from agents.core.checked import ByShape
from agents.core.runtime import Runtime
from agents.core.tree import to_tensor, tree_to_tensor
from agents.core.watch import EVERYWHERE, suits_numpy
from agents.networks.cells import GRU, LSTM
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
        remember: takes in a step of what the normaliser gives, where there is a memory before the layers; else None.
    """

    def __init__(
        self, norm: RunningNorm | None, torso: MLP, head: nn.Linear, cell: Any = None, features: bool = False
    ) -> None:
        self._norm = None if norm is None else (norm.mean.numpy(), norm.var.numpy(), norm.clip)
        self._features = features
        self._activation = _ACTIVATIONS[torso.activation]
        layers = [
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy())
            for layer in (*torso.layers, head)
            if isinstance(layer, nn.Linear)
        ]
        self._layers, self._head = layers[:-1], layers[-1]
        self.remember = None if cell is None else numpy_step(cell)
        sizes = [weight.size for weight, _ in layers] + ([] if cell is None else [cell.weight_hh.numel()])
        self.max_rows = LARGEST // max(sizes)

    @property
    def up_to_date(self) -> bool:
        """Whether there are still no hooks on all modules; what else changes, a `Watch` of the model notices."""
        return not any(EVERYWHERE)

    def __call__(self, obs: np.ndarray, *_: Any) -> np.ndarray:
        """Return the head's output `[N, P]` for float32 observations `[N, ...]`."""
        return self._through_layers(self._read(obs))

    def step(self, obs: np.ndarray, carry: Tensor) -> tuple[np.ndarray, Tensor]:
        """Do the same with a memory: return the head's output and the next carry."""
        assert self.remember is not None
        x, after = self.remember(self._read(obs), carry.numpy())
        return self._through_layers(x), torch.from_numpy(after)

    def _read(self, obs: np.ndarray) -> np.ndarray:
        x = obs if obs.ndim == 2 else obs.reshape(len(obs), -1)
        if self._norm is None:
            return x
        mean, var, clip = self._norm
        found: np.ndarray = ((x - mean) / np.sqrt(var + np.float32(1e-8))).clip(-clip, clip)
        return found

    def _through_layers(self, x: np.ndarray) -> np.ndarray:
        for weight, bias in self._layers:
            x = x @ weight
            x += bias
            x = self._activation(x)
        weight, bias = self._head
        output = x @ weight + bias
        return np.concatenate([output, x], axis=1) if self._features else output


class NumpyRepeat:
    """What `model.act` has PyTorch do with observations that are one array, repeated by NumPy from the second call on.

    What NumPy has not runs as it is, as do numbers of observations beyond the first few (`ByShape`).

    Attributes:
        max_rows, remember: as those of `NumpyForward`.
    """

    remember = None

    def __init__(self, model: Any) -> None:
        def parameters(obs: Tensor, *noise: Any) -> Tensor:
            found: Tensor = model.act(obs, (), *noise)[0]
            return found

        runtime = Runtime("numpy", torch.device("cpu"))
        self._run = ByShape(lambda: runtime.compiled(parameters, state=list), torch.no_grad()(parameters))
        self._one_at_a_time = Lock()  # calls work in the same memory
        self.max_rows = LARGEST // max(parameter.numel() for parameter in model.parameters())

    @property
    def up_to_date(self) -> bool:
        """As that of `NumpyForward`."""
        return not any(EVERYWHERE)

    def __call__(self, obs: np.ndarray, *noise: Any) -> np.ndarray:
        """Return what `model.act` returns first, `[N, P]`, for `[N, ...]`, and what noisy layers draw, if given."""
        cpu = torch.device("cpu")
        with self._one_at_a_time:
            found: np.ndarray = self._run(to_tensor(obs, cpu), *tree_to_tensor(noise, cpu)).numpy()
        return found


def numpy_repeat(model: nn.Module) -> NumpyRepeat | None:
    """Return what repeats `model.act`, or None where that may do more than compute, or PyTorch is the faster one."""
    if any(EVERYWHERE) or not suits_numpy(model) or not hasattr(model, "acting_path"):
        return None
    if getattr(model, "recurrent", False) or getattr(getattr(model, "encoder", None), "keys", None) is not None:
        return None
    if any(getattr(part, "bf16", False) for part in model.modules()):
        return None
    return NumpyRepeat(model) if all(p.device.type == "cpu" for p in model.parameters()) else None


def numpy_forward(model: nn.Module) -> NumpyForward | None:
    """Return what computes `model.act` for observations that are one array, or None where that cannot be told.

    It takes a plain MLP over numbers, with or without one recurrent cell before it, on the CPU, in float32, all of
    whose modules are exactly what they look like: no hooks, no pruning, no parametrisation, no other class in their
    place.
    """
    if not hasattr(model, "acting_path") or any(EVERYWHERE):
        return None
    memory: Any = getattr(model, "memory", None)
    if type(memory) not in (type(None), GRU, LSTM):
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
    if encoder.bf16 or torso.bf16:
        return None
    linear = [*torso.layers, head]
    recurrent = [] if memory is None else [memory, memory.cell]
    parts = [model, encoder, leaf, torso, *linear, *recurrent, *([] if leaf.norm is None else [leaf.norm])]
    if not all(type(layer) is nn.Linear for layer in linear) or not all(_plain(part) for part in parts):
        return None
    cell = None if memory is None else memory.cell
    if cell is not None and type(cell) is not memory.kind:
        return None
    sde = getattr(model, "sde", None)
    return NumpyForward(leaf.norm, torso, head, cell, sde is not None and sde.use_sde)


def _changed(model: nn.Module, said: str, methods: tuple[str, ...]) -> bool:
    """Whether one of the methods comes from a class below the one that has `said`, or belongs to the object alone."""
    kinds = type(model).__mro__
    below = kinds[: next(i for i, kind in enumerate(kinds) if said in vars(kind))]
    return any(name in vars(owner) for owner in (model, *below) for name in methods)


def _plain(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        return False
    if not isinstance(module, nn.Linear | nn.RNNCellBase):
        return True
    names = ("weight", "bias") if isinstance(module, nn.Linear) else ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    tensors: list[Tensor | None] = [module._parameters.get(name) for name in names]
    return all(t is not None and t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
