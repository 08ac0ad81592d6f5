"""A report's numbers as CSV, for whoever wants to compute on."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agents.lab.comparison import imported
from agents.lab.comparison.findings import Findings

FIGURES = ("steps", "train_seconds", "steps_per_s", "total_seconds", "peak_mb", "energy_j")


def spreadsheets(findings: Findings) -> dict[str, str]:
    """Return file name -> CSV. `curves.csv` has the columns that can be imported."""
    return {
        "scores.csv": _csv(_scores(findings)),
        "curves.csv": _csv(_curves(findings)),
        "pairs.csv": _csv(_pairs(findings)),
        "aggregate.csv": _csv(_aggregate(findings)),
    }


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue()


def _cell(value: Any) -> str:
    """Write a number in full and nan as nothing; text that spreadsheets take for a formula gets a quote mark."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else repr(float(value))
    return str(value)


def _scores(findings: Findings) -> Iterator[Sequence[Any]]:
    timed = ("steps_to_goal", "seconds_to_goal")
    yield ("env", "algo", "label", "seed", "score", "normalised", "episodes", *FIGURES, *timed)
    for task in findings.tasks:
        for label, runs in task.runs.items():
            scaled = task.normalised.get(label, [math.nan] * len(runs))
            reached = zip(task.reached(label), task.reached(label, seconds=True), strict=True)
            for run, part, when in zip(runs, scaled, reached, strict=True):
                figures = [run.figures.get(name, math.nan) for name in FIGURES]
                name = (task.env, task.algo, label, run.seed)
                yield (*name, run.score, float(part), run.final.size, *figures, *map(float, when))


def _curves(findings: Findings) -> Iterator[Sequence[Any]]:
    yield imported.COLUMNS
    for task in findings.tasks:
        for label, runs in task.runs.items():
            for run in runs:
                for step, value, seconds in zip(run.steps, run.returns, run.seconds, strict=True):
                    yield task.env, task.algo, label, run.seed, float(step), float(value), float(seconds)


def _pairs(findings: Findings) -> Iterator[Sequence[Any]]:
    """Two rows for each pair of sides: about the score, and about the mean return over training."""
    side = ("seeds", "mean", "sd")
    found = ("difference", "low", "high", "p", "p_holm", "detectable", "outcome")
    names = [f"{name}{end}" for end in ("", "_against") for name in side]
    yield ("env", "algo", "hyper", "budget", "measure", "label", "against", *names, *found)
    for task in findings.tasks:
        told = [("score", contest) for contest in findings.contests[task.key]]
        told += [("mean return over training", contest) for contest in findings.learning[task.key]]
        for measure, contest in told:
            pair, one = task.pair, contest.found
            sides: list[Any] = []
            for runs in (contest.ours, contest.theirs):
                sides += [runs.size, float(runs.mean()), float(runs.std(ddof=1)) if runs.size > 1 else math.nan]
            what = (task.env, task.algo, pair.hyper if pair else "", pair.budget if pair else "", measure)
            values = (one.value, one.low, one.high, one.p, contest.adjusted, one.detectable, contest.outcome.value)
            yield (*what, findings.reference, contest.against, *sides, *values)


def _aggregate(findings: Findings) -> Iterator[Sequence[Any]]:
    yield "section", "label", "metric", "value", "low", "high"
    for section in findings.sections:
        for label in section.labels:
            for metric, found in section.metrics[label].items():
                yield section.title, label, metric, *found
        for other, found in section.improvement.items():
            yield section.title, findings.reference, f"probability of improvement over {other}", *found
