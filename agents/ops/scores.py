"""How well actions are foretold: pure functions of counts and numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_DRAWN = 100  # actions up to which a confusion matrix is made


class Scores(NamedTuple):
    """Of a confusion matrix: the share foretold rightly, each action's numbers `[A]`, and the mean of their F1.

    NaN stands for actions that were neither taken nor foretold, which the mean leaves out.
    """

    accuracy: float
    precision: Floats
    recall: Floats
    f1: Floats
    macro_f1: float


def confusion(taken: NDArray[np.int64], foretold: NDArray[np.int64], actions: int) -> NDArray[np.int64]:
    """Return how often each action was taken (rows) and which was foretold then (columns), `[A, A]`."""
    return np.bincount(taken * actions + foretold, minlength=actions**2).reshape(actions, actions)


def scores(counts: NDArray[np.int64]) -> Scores:
    """Return what `tallied` does, of a confusion matrix `[A, A]`."""
    return tallied(np.diag(counts), counts.sum(1), counts.sum(0))


def tallied(right: NDArray[np.int64], taken: NDArray[np.int64], foretold: NDArray[np.int64]) -> Scores:
    """Return accuracy, precision, recall and F1, of how often each action was what, `[A]`; 0 where none was right."""
    there = (taken + foretold) > 0

    def share(of: NDArray[np.int64]) -> Floats:
        return np.where(there, right / np.maximum(of, 1), np.nan)

    f1 = np.where(there, 2 * right / np.maximum(taken + foretold, 1), np.nan)
    macro = float(np.nanmean(f1)) if there.any() else float("nan")
    return Scores(float(right.sum() / max(taken.sum(), 1)), share(foretold), share(taken), f1, macro)


def determination(true: Floats, foretold: Floats) -> float:
    """Return R2, the share of the variance of numbers `[M, d]` that is foretold, over all of them together."""
    rest, all_ = ((true - foretold) ** 2).sum(), ((true - true.mean(axis=0)) ** 2).sum()
    return float(1 - rest / all_) if all_ > 0 else float("nan")
