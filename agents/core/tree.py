"""Observations are one array or a dict of arrays; these treat both alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def tree_map(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply `fn` to each array of `tree` (and of the trees of the same shape in `rest`)."""
    if isinstance(tree, dict):
        return {key: tree_map(fn, leaf, *(other[key] for other in rest)) for key, leaf in tree.items()}
    return fn(tree, *rest)


def to_tensor(array: Any, device: torch.device) -> Tensor:
    """Share a NumPy array's memory as a tensor where possible; move it only if `device` is not the CPU."""
    tensor = array if isinstance(array, Tensor) else torch.from_numpy(array)
    return tensor if tensor.device == device else tensor.to(device, non_blocking=True)


def tree_to_tensor(tree: Any, device: torch.device) -> Any:
    """`to_tensor` for every array of an observation."""
    return tree_map(lambda leaf: to_tensor(leaf, device), tree)


def to_numpy(array: Any) -> np.ndarray:
    """Share a CPU tensor's memory as a NumPy array, or copy it from another device; arrays stay as they are."""
    return array.cpu().numpy() if isinstance(array, Tensor) else array


def place(tree: Any, device: torch.device) -> Any:
    """Bring an observation to where buffers on `device` take it cheapest: NumPy on the CPU, tensors elsewhere."""
    if device.type == "cpu":
        return tree_map(to_numpy, tree)
    return tree_to_tensor(tree, device)
