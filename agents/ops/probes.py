"""Linear probes: how much of known quantities a linear function of features tells. Pure functions of NumPy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SHRINKAGE = 1e-2  # of the ridge, in variances of a feature


def probed(features: Floats, targets: Floats, held_features: Floats, held_targets: Floats) -> float:
    """Return R2 of ridge regression on rows that it was not fitted to: the mean over the targets' columns.

    Both sides are shifted and scaled by mean and deviation of the rows that are fitted to, so that no unit counts;
    the solution is the closed form (Hoerl & Kennard 1970), with a penalty of `SHRINKAGE` times the number of rows.

    Args:
        features, targets: `[M, F]` and `[M, d]`, that are fitted to.
        held_features, held_targets: `[K, F]` and `[K, d]`, that are judged. Columns that never change among either
            targets are left out.

    Returns:
        1 where all is told, 0 where it tells no more than the mean, less where it misleads; NaN where nothing varies.
    """
    varies = (targets.std(0) > 0) & (held_targets.std(0) > 0)
    if not varies.any():
        return float("nan")
    targets, held_targets = targets[:, varies], held_targets[:, varies]
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > 0, deviation, np.inf)
    x, held_x = (features - mean) / scale, (held_features - mean) / scale
    middle = targets.mean(0)
    penalty = SHRINKAGE * len(x)
    if x.shape[1] <= len(x):
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (targets - middle))
    else:  # the same weights by the smaller of the two systems
        weights = x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), targets - middle)
    error = ((held_targets - middle - held_x @ weights) ** 2).sum(0)
    return float(np.mean(1 - error / ((held_targets - held_targets.mean(0)) ** 2).sum(0)))


def to_go(reward: Floats, lengths: NDArray[np.int64], gamma: float) -> Floats:
    """Return the discounted sum of rewards from each transition to its episode's end, `[M]`.

    Args:
        reward: `[M]`, episode after episode.
        lengths: of the episodes.
    """
    found, ends, later = np.empty(len(reward)), set((np.cumsum(lengths) - 1).tolist()), 0.0
    for i in range(len(reward) - 1, -1, -1):
        later = float(reward[i]) + (0.0 if i in ends else gamma * later)
        found[i] = later
    return found
