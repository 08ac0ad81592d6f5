"""How a training's parameters, gradients and actions are distributed, for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agents.learning.learner import Learner
from agents.run.doctor.vitals import columns

MOST_PARTS = 32  # of an action that have a histogram each


def histograms(learner: Learner, data: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield tag and numbers, of any shape.

    Gradients are the optimiser's running mean of them, of about ten updates: Adam's and AdamW's first moment. Others
    keep none. Actions are those of what was learnt from last.

    Args:
        data: the rollout, or what is replayed; None for nothing yet.
    """
    parameters, optimizer = learner.parameters, learner.optimizer
    yield from _named("parameters", parameters.views(parameters.vector))
    if optimizer.name.startswith("adam"):
        yield from _named("gradients", parameters.views(optimizer.moments[0]))
    if (found := columns(data)) is not None:
        actions = found[1].flatten(1) if found[1].dim() > 1 else found[1][:, None]
        for part in range(min(actions.shape[1], MOST_PARTS)):
            yield f"actions/{part}" if actions.shape[1] > 1 else "actions", actions[:, part].cpu().numpy()


def _named(group: str, views: dict[str, Tensor]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, view in views.items():
        yield f"{group}/{name}", view.detach().cpu().numpy()
