"""What collectors return: T ticks of N environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor


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
        final: the successors of truncated transitions, which are not the next observation; None if there are none, or
            `next_obs` has them.
        next_obs: every true successor, `[T, N, ...]`, if the collector keeps them.
        valid: False on dummy transitions, which belong to no minibatch; None when all are real.
        carries: the recurrent state that each observation was acted on with, if the collector keeps them.
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
    carries: Any = None


def has_pictures(obs: Any) -> bool:
    """Whether any observation of a trajectory, `[T, N, ...]`, has more axes than a vector has."""
    return any(leaf.dim() > 3 for leaf in (obs.values() if isinstance(obs, dict) else [obs]))
