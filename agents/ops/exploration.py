"""Exploration as pure functions: randomness comes in as an argument, drawn before any action is known to be legal."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def epsilon_greedy(greedy: Any, explore: Any, random: Any) -> Any:
    """Return the `random` actions where `explore` is True, the `greedy` ones elsewhere; all `[N]`, tensors or NumPy."""
    return greedy + explore * (random - greedy)


def random_action(uniform: Any, n: int) -> Any:
    """Return one of the actions 0 to n - 1 for each number in [0, 1), int64 `[N]`, tensors or NumPy."""
    action = uniform * n
    return action.long() if isinstance(action, Tensor) else action.astype(np.int64)


def legal_action(uniform: Tensor, mask: Tensor) -> Tensor:
    """Return a legal action for each row, every one equally likely, int64 `[N]`.

    Args:
        uniform: in [0, 1), `[N]`: the rank of the action among the legal ones, as a share.
        mask: which actions are legal, bool `[N, A]`; at least one of each row.
    """
    rank = (uniform * mask.sum(-1)).long()
    # the first action with more than `rank` legal ones up to it; rounding may not push the rank beyond the last
    return (mask.cumsum(-1) > rank.clamp(max=mask.sum(-1) - 1)[..., None]).long().argmax(-1)
