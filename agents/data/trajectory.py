"""What collectors return: T ticks of N environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.core.tree import tree_map


class Final(NamedTuple):
    """The observations that F episodes ended with, and where: tick `t` of environment `n`, int64 `[F]`.

    `carry` is the recurrent state that such an observation is looked at with, `[F, ...]`; () without memory.
    """

    t: Tensor
    n: Tensor
    obs: Any
    carry: Any


@dataclass(slots=True)
class Trajectory:
    """T ticks of N environments, `[T, N, ...]`, on one device. Its tensors may be reused by the next one.

    Attributes:
        obs: what was acted on.
        action: as chosen: before clipping and squashing.
        reward: raw, float32.
        terminated, truncated: see `envs.api.Step`.
        start: whether an observation is the first of its episode.
        carry: the recurrent state at the first tick, `[N, ...]`; () without memory.
        last_obs, last_carry: what the next trajectory begins with, `[N, ...]`.
        final: successors that are not the next observation, because the episode ended; at least those of truncated
            transitions. None where `next_obs` has them all.
        next_obs: every true successor, `[T, N, ...]`, where the collector has them at no cost.
        valid: False on dummy transitions, which belong to no minibatch; None when all are real.
    """

    obs: Any
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    start: Tensor
    carry: Any
    last_obs: Any
    last_carry: Any
    final: Final | None = None
    next_obs: Any = None
    valid: Tensor | None = None

    def successors(self) -> Any:
        """Return the true successor of every transition, `[T, N, ...]`."""
        if self.next_obs is not None:
            return self.next_obs
        following = tree_map(lambda obs, last: torch.cat([obs[1:], last[None]]), self.obs, self.last_obs)
        if self.final is not None:
            t, n = self.final.t, self.final.n
            tree_map(lambda rows, final: rows.index_put_((t, n), final), following, self.final.obs)
        return following
