"""Action masks of environments on tensors, which do not look at them while they are stepped."""

from __future__ import annotations

import torch
from gymnasium import Space

from agents.core.types import Obs
from agents.networks.models import action_mask
from envs.actions import choices
from envs.adapters.masks import ACTION_MASK
from envs.errors import EnvError


def refuse_no_action(obs: Obs, action_space: Space) -> None:
    """Look at observations to act on, `[N, ...]` or `[T, N, ...]`; where there are masks this waits for their device.

    Raises:
        EnvError: a mask allows none of the actions, or none of one of several choices.
    """
    mask, counts = action_mask(obs), choices(action_space)
    if mask is None or not counts or mask.shape[-1] != sum(counts):
        return
    stuck = torch.stack([~choice.any(-1) for choice in mask.split(counts, dim=-1)]).any(0)
    if stuck.any():
        env = int(stuck.view(-1, stuck.shape[-1]).any(0).long().argmax())
        raise EnvError(f"environment {env}: its {ACTION_MASK} allows no action")
