"""Named numbers of a run over its steps, and what is known of its settings: all that a diagnosis is made from."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from operator import attrgetter
from statistics import median
from typing import Any, NamedTuple

from agents.run.curves import LARGEST

MOST_POINTS = 4_000  # of one series; of a longer one every second point goes
MOST_SERIES = 500
RECENT = 0.05  # of the steps so far: the newest stretch, which is one interval of evaluations at the end of a run
DEVIATION = "doctor/ep_rew_std"  # of the returns of single episodes
FEWEST = 2  # points that are looked at together, where there are as many


class Point(NamedTuple):
    """A number at a step."""

    step: int
    value: float


class History:
    """Series of numbers by TensorBoard tag, in the order of their steps.

    Args:
        facts: settings by their names, and `time_limit` (whether episodes are cut); only those that are known.

    Attributes:
        words: what to call the thing that a number is of, by the number's tag.
        step: the newest step there is.
    """

    def __init__(self, facts: Mapping[str, Any] | None = None) -> None:
        self.facts = dict(facts or {})
        self.words: dict[str, str] = {}
        self.step = 0
        self._series: dict[str, list[Point]] = {}
        self._finite: dict[str, list[Point]] = {}  # of those that were asked for since they last grew

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Take in numbers at a step that is no earlier than those before."""
        self.step = max(self.step, step)
        for tag, value in scalars.items():
            series = self._series.get(tag)
            if series is None:
                if len(self._series) >= MOST_SERIES:
                    continue
                series = self._series[tag] = []
            series.append(Point(step, float(value)))
            if len(series) > MOST_POINTS:
                del series[1:-1:2]
            self._finite.pop(tag, None)

    def until(self, step: int) -> History:
        """Return what was known at a step; the budget, if it is not, is taken to be what was trained."""
        made = History({"total_timesteps": self.total} | self.facts)
        made.words, made.step = self.words, step
        for tag, series in self._series.items():
            if kept := [point for point in series if point.step <= step]:
                made._series[tag] = kept
        return made

    @property
    def total(self) -> int:
        """The budget in steps; the newest step where that is not known."""
        return max(self.number("total_timesteps", 0), self.step, 1)

    @property
    def progress(self) -> float:
        """The part of the budget that is done, 0 to 1; 1 where the budget is not known."""
        return self.step / self.total

    def number(self, name: str, default: Any = None) -> Any:
        """Return a fact that is a finite number, or else `default`."""
        value = self.facts.get(name)
        return (
            value
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
            else default
        )

    def all(self, tag: str) -> list[Point]:
        """Return a series as it is, NaN and infinity included; empty where there is none."""
        return self._series.get(tag, [])

    def tags(self) -> list[str]:
        """Return the names of all series."""
        return list(self._series)

    def points(self, tag: str) -> list[Point]:
        """Return the finite points of a series."""
        if tag not in self._finite:
            self._finite[tag] = [point for point in self._series.get(tag, ()) if math.isfinite(point.value)]
        return self._finite[tag]

    def recent(self, tag: str, fewest: int = FEWEST) -> list[float]:
        """Return the newest values: of the last twentieth of the steps, and at least `fewest`; [] where too few are."""
        points, since = self.points(tag), self.step * (1 - RECENT)
        if len(points) < fewest:
            return []
        newest = min(bisect_left(points, since, key=attrgetter("step")), len(points) - fewest)
        return [point.value for point in points[newest:]]

    def now(self, tag: str, fewest: int = FEWEST) -> float | None:
        """Return the median of the newest values."""
        values = self.recent(tag, fewest)
        return median(values) if values else None

    def first(self, tag: str) -> float | None:
        """Return a series' first finite value."""
        points = self.points(tag)
        return points[0].value if points else None

    def learnt(self, tag: str = "rollout/ep_rew_mean") -> bool:
        """Whether returns have risen since the beginning, and are nearer to the best than to the first.

        Where it is known how far single episodes lie apart, they have risen by more than that: the first means are of
        a few episodes.
        """
        values = [point.value for point in self.points(tag)]
        if len(values) < FEWEST:
            return False
        first, best, last = values[0], max(values), values[-1]
        spread = max(best - min(values), abs(first))
        chance = max(self.first(DEVIATION) or 0.0, self.now(DEVIATION, 1) or 0.0)
        return best - first > 0.05 * spread and last > first + max(0.5 * (best - first), chance)
