"""The curves that a run writes while it trains, read for those who look at them."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import NamedTuple

from agents.run.storage import read_bytes

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
        UserError: it cannot be read, or is larger than any of ours.
    """
    if not file.exists():
        return {}
    text = read_bytes(file).decode(errors="replace")
    curves: dict[str, Curve] = {}
    try:
        for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])):
            step = row.get("step") or ""
            if not (step.isascii() and step.isdecimal() and len(step) <= 15):
                continue
            for tag, cell in row.items():
                value = _number(cell) if tag is not None and tag != "step" else math.nan
                if abs(value) <= LARGEST:  # and no NaN
                    curve = curves.setdefault(tag, Curve([], []))
                    if not curve.steps or curve.steps[-1] < int(step):
                        curve.steps.append(int(step))
                        curve.values.append(value)
    except csv.Error:
        return curves  # as far as it can be read
    return curves


def _number(cell: object) -> float:
    try:
        return float(cell) if isinstance(cell, str) else math.nan
    except ValueError:
        return math.nan
