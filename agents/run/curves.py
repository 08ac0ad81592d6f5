"""The curves that a run writes while it trains, read for those who look at them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from agents.run.sinks import read_scalars

LARGEST = 1e100  # sizes of numbers that are taken seriously: their squares are to be numbers too


class Curve(NamedTuple):
    """Values at rising steps, as many of the one as of the other."""

    steps: list[int]
    values: list[float]

    def thinned(self, most: int) -> Curve:
        """Return at most about so many of its points, evenly spread, the last one always among them."""
        every = max(1, -(-len(self.steps) // most))
        first = (len(self.steps) - 1) % every
        return Curve(self.steps[first::every], self.values[first::every])


def read_curves(file: Path) -> dict[str, Curve]:
    """Return the curve of each tag of a run's CSV file; {} where there is none.

    The file may be growing and may be anybody's: rows and cells that are no numbers, and steps that do not rise, are
    left out.

    Raises:
        UserError: it cannot be read, is malformed, or larger than any of ours.
    """
    curves: dict[str, Curve] = {}
    for step, scalars in read_scalars(file):
        for tag, value in scalars.items():
            if abs(value) <= LARGEST:  # and no NaN
                curve = curves.setdefault(tag, Curve([], []))
                if not curve.steps or curve.steps[-1] < step:
                    curve.steps.append(step)
                    curve.values.append(value)
    return curves
