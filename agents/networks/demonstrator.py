"""What a demonstrator, a frozen network of another run, makes of observations that action values are learnt from."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.core.types import Obs
from agents.networks.models import ActorCritic, QNetwork, action_mask
from agents.ops.distributions import masked
from agents.ops.values import large_margin


def below_demonstrator(demonstrator: ActorCritic | QNetwork, obs: Obs, q_BA: Tensor, margin: float) -> Tensor:
    """Return how far action values are from having the demonstrator's action ahead by `margin`, `[B]`.

    Args:
        demonstrator: of the same actions; its own is that of the largest number, which is a logit or a value.
        obs: those of the values, `[B, ...]`.
    """
    with torch.no_grad():
        numbers_BA, _ = demonstrator.act(obs, ())
        shown_B = masked(numbers_BA, action_mask(obs)).argmax(-1)
    return large_margin(q_BA, shown_B, margin)
