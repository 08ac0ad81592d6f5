"""Values that change over a run, and intervals that do not drift."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.core.settings import Schedule


def scheduled(value: Schedule, progress: float) -> float:
    """Return a schedule's value when `progress` (0 at the start, 1 at the end) of the run is done."""
    if isinstance(value, str):
        return float(value.removeprefix("lin_")) * max(1.0 - progress, 0.0)
    return value


def linear(start: float, end: float, fraction: Any) -> Any:
    """Go from `start` to `end` as `fraction`, a number or a NumPy array, goes from 0 to 1, and stay there."""
    if isinstance(fraction, np.ndarray):
        return start + (end - start) * np.minimum(np.maximum(fraction, 0.0), 1.0)
    return start + (end - start) * min(max(fraction, 0.0), 1.0)


def crossings(before: int, after: int, every: int) -> int:
    """Count the multiples of `every` in `(before, after]`: how often an interval fell due; 0 if `every` is 0.

    Steps grow by the number of environments, so `step % every == 0` would miss most of them; and as
    nothing is remembered between calls, nothing drifts after a load.
    """
    return after // every - before // every if every else 0
