"""Nested dicts and tuples of arrays, such as observations and recurrent states, treated as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def tree_map(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply `fn` to each array of `tree` (and of the trees of the same shape in `rest`); None stays None."""
    if isinstance(tree, dict):
        if not rest:  # which is quicker, and most calls are such
            return {key: tree_map(fn, leaf) for key, leaf in tree.items()}
        return {key: tree_map(fn, leaf, *(other[key] for other in rest)) for key, leaf in tree.items()}
    if isinstance(tree, tuple):
        leaves = [tree_map(fn, *columns) for columns in zip(tree, *rest, strict=True)]
        return type(tree)(*leaves) if hasattr(tree, "_fields") else tuple(leaves)
    return None if tree is None else fn(tree, *rest)


def unstacked(tree: Any, count: int) -> list[Any]:
    """Return the `count` rows of arrays, or of a tuple of arrays, each again a tuple; of () and None, those."""
    if isinstance(tree, tuple):
        return list(zip(*tree, strict=True)) if tree else [tree] * count
    return [tree] * count if tree is None else list(tree)


def to_tensor(array: Any, device: torch.device) -> Tensor:
    """Share a NumPy array's memory as a tensor where possible; move it only if `device` is not the CPU."""
    tensor = array if isinstance(array, Tensor) else torch.from_numpy(array)
    return tensor if tensor.device == device else tensor.to(device, non_blocking=True)


def tree_to_tensor(tree: Any, device: torch.device) -> Any:
    """`to_tensor` for every array of a tree."""
    return tree_map(lambda leaf: to_tensor(leaf, device), tree)


def to_numpy(array: Any) -> np.ndarray:
    """Share a CPU tensor's memory as a NumPy array, or copy it from another device; arrays stay as they are."""
    return array.cpu().numpy() if isinstance(array, Tensor) else array


def named_leaves(obs: Any) -> dict[str, Any]:
    """Return the arrays of canonical observations by name; one that is alone has the name ""."""
    return dict(obs) if isinstance(obs, dict) else {"": obs}


def rows_of(obs: Any) -> int:
    """Return how many observations a batch holds."""
    return len(next(iter(obs.values())) if isinstance(obs, dict) else obs)


def restarted(carry: Any, start: Any) -> Any:
    """Return a recurrent state `[N, ...]` that is zero where an episode starts (bool `[N]`), as it is elsewhere."""
    return tree_map(lambda leaf: leaf * ~start.view(-1, *[1] * (leaf.dim() - 1)), carry)
