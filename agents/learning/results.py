"""What an update gives, and what is said of one after which a training cannot go on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor

from agents.data.batch import Batch
from agents.data.trajectory import Trajectory
from envs.errors import UserError

HUGE = 1e6  # rewards and observations from which on they are the likely cause of a divergence


class UpdateResult(NamedTuple):
    """What an update gives.

    Attributes:
        metrics: TensorBoard tag -> scalar.
        priorities: of the batch's transitions, `[B]`, for the sampler; None if the algorithm has none.
        health: a scalar that is finite as long as losses, gradients and parameters are.
        data: what was learnt from.
        steps: of each optimiser step a number that is finite if its loss and gradient are, `[M]`.
    """

    metrics: dict[str, Tensor | float]
    priorities: Tensor | None
    health: Tensor
    data: Trajectory | Batch | None = None
    steps: Tensor | None = None


class Diverged(UserError):
    """A loss, a gradient or a parameter is not finite any more.

    Attributes:
        data: what was learnt from then.
        what: the first thing that was not finite: "obs", "reward", ..., of the data, "loss" or "gradient".
        minibatch: of the update's, from 0 on; None where all are finite.
        where: of the data, the place of the first number that is not finite, `(t, n)` of a rollout or `(b,)`.
    """

    data: Trajectory | Batch | None = None
    what: str = "gradient"
    minibatch: int | None = None
    where: tuple[int, ...] | None = None


def divergence(result: UpdateResult, step: int, finite: bool, norm_obs: bool) -> Diverged:
    """Return what is said of an update at `step` whose loss, gradient or parameters are not finite.

    Args:
        finite: whether all parameters still are.
        norm_obs: whether observations are normalised, so that their size does not matter.
    """
    parts = {tag: value for tag, value in result.metrics.items() if tag.endswith("loss")}
    loss = float(parts.get("train/loss", sum(parts.values())))
    what = "a gradient is" if finite else "the parameters are"
    error = Diverged(
        f"the training diverged: at step {step:,} its loss is {loss:g} and {what} not finite any more; "
        f"{_cause(result.data, norm_obs)}"
    )
    error.data, error.what = result.data, "gradient" if math.isfinite(loss) else "loss"
    if result.steps is not None and (bad := (~result.steps.isfinite()).flatten().nonzero()).numel():
        error.minibatch = int(bad[0])
    for name, leaf in _named_leaves(result.data):
        if leaf.is_floating_point() and (places := (~leaf.isfinite()).nonzero()).numel():
            error.what = name
            error.where = tuple(places[0][: 1 if isinstance(result.data, Batch) else 2].tolist())
            break
    return error


def _cause(data: Trajectory | Batch | None, norm_obs: bool) -> str:
    """Return what most likely made a training on this data diverge, and what to do about it."""
    if data is not None:
        rewards = _largest(data.return_ if isinstance(data, Batch) else data.reward)
        if rewards >= HUGE:
            return f"rewards reach {rewards:.2g}: scale them in the environment, to about 1"
        observations = 0.0 if norm_obs else _largest(data.obs)
        if observations >= HUGE:
            return f"observations reach {observations:.2g}: scale them in the environment, or set norm_obs"
    return "try a smaller learning_rate, and look at the size of rewards and observations"


def _largest(values: Any) -> float:
    """Return the largest magnitude of the floats in a tensor or a dict of tensors."""
    leaves = values.values() if isinstance(values, dict) else [values]
    return max((float(leaf.abs().max()) for leaf in leaves if leaf.is_floating_point()), default=0.0)


def _named_leaves(data: Trajectory | Batch | None) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of what was learnt from that came from environments, by name."""
    for name in ("obs", "action", "reward", "return_", "next_obs"):
        found = getattr(data, name, None)
        for key, leaf in found.items() if isinstance(found, dict) else [("", found)]:
            if leaf is not None:
                yield f"{name}.{key}" if key else name, leaf
