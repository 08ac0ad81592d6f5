"""What tests read out of trajectories."""

from __future__ import annotations

from typing import Any

import torch

from agents.core.tree import tree_map
from agents.data.trajectory import Trajectory


def successors(trajectory: Trajectory) -> Any:
    """Return the observation after every transition, `[T, N, ...]`.

    Where an episode only terminated, and the trajectory has no `next_obs`, it is the first of the next episode.
    """
    if trajectory.next_obs is not None:
        return trajectory.next_obs
    following = tree_map(lambda obs, last: torch.cat([obs[1:], last[None]]), trajectory.obs, trajectory.last_obs)
    if trajectory.final is not None:
        t, n, final, _ = trajectory.final
        tree_map(lambda leaf, own: leaf.index_put_((t, n), own), following, final)
    return following
