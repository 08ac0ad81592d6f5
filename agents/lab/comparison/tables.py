"""The numbers of a report: as tables to be read, and as CSV files for whoever wants to compute on."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.lab.comparison import curves
from agents.lab.comparison.analysis import Comparison, Findings, Outcome
from agents.lab.document import Table
from agents.lab.words import interval, number, probability, shown, thousands

COSTS = {
    "steps_per_s": "steps/s",
    "train_seconds": "training s",
    "total_seconds": "whole run s",
    "peak_mb": "peak MB",
}


def score_table(findings: Findings) -> Table:
    """Return how the reference compares with each other label on each task; who has no other side is there too."""
    reference, *others = findings.labels
    rows = []
    for task in findings.tasks:
        compared = {one.against: one for one in findings.scores if one.task is task}
        alone = [reference] if reference in task.runs and not compared else []
        for label in [*alone, *(label for label in others if label in task.runs)]:
            sides = (reference, label) if label in compared else (label,)
            count = " and ".join(map(str, dict.fromkeys(len(task.runs[side]) for side in sides)))
            scores = [_spread(task.scores[side]) if side in sides else "" for side in (reference, label)]
            if label == reference:
                scores[1] = ""
            budget = thousands(task.stored.budget) if task.stored else ""
            rows.append([*_row(findings, task.name, label, compared.get(label), scores), count, budget])
    return Table([*_header(findings), "seeds", "budget"], rows, 2 + len(others[1:2]))


def learning_table(findings: Findings) -> Table:
    """Return how the mean return over training compares."""
    rows = [
        _row(findings, one.task.name, one.against, one, [_spread(one.ours), _spread(one.theirs)])
        for one in findings.learning
    ]
    return Table(_header(findings), rows, 2 + len(findings.labels[2:3]))


def _header(findings: Findings) -> list[str]:
    """Return the names of the columns that compare two sides."""
    reference, *others = findings.labels
    several = len(others) > 1
    names = ["task", *(["against"] if several else []), "verdict", f"{shown(reference)}, mean ± sd"]
    names += ["other side, mean ± sd" if several else f"{shown(label)}, mean ± sd" for label in others[:1]] or [""]
    return [*names, "difference", "95% interval", "p (Holm)", "detectable"]


def _row(findings: Findings, task: str, label: str, one: Comparison | None, scores: Sequence[str]) -> list[str]:
    """Return what those columns say of a comparison with `label`, or of a label with none."""
    names = [task, *([shown(label)] if len(findings.labels) > 2 else [])]
    if one is None:
        return [*names, "alone", *scores, "", "", "", ""]
    winner = {Outcome.BETTER: f"{shown(findings.reference)} better", Outcome.WORSE: f"{shown(label)} better"}
    found = one.found
    numbers = [number(found.value), interval(found.low, found.high), probability(one.adjusted)]
    return [*names, winner.get(one.outcome, one.outcome.value), *scores, *numbers, number(found.detectable)]


def _spread(scores: NDArray[np.float64]) -> str:
    return number(scores.mean()) + (f" ± {number(scores.std(ddof=1))}" if scores.size > 1 else "")


def goal_table(findings: Findings) -> Table:
    """Return the steps and seconds to the goal: median over seeds, and how many reached it at all."""
    header, rows = ["task", "goal"], []
    for label in findings.labels:
        header += [f"{shown(label)}: reached", "steps", "seconds"]
    for task in findings.tasks:
        if task.goal is None:
            continue
        row = [task.name, number(task.goal) + ("" if task.threshold is not None else " *")]
        for label in findings.labels:
            steps = task.reached(label) if label in task.runs else np.empty(0)
            known = steps[~np.isnan(steps)]
            if not known.size:
                row += [""] * 3
                continue
            typical, seconds = float(np.median(known)), float(np.median(task.reached(label, seconds=True)))
            reached = f"{np.isfinite(known).sum()} of {known.size}"
            row += [reached, f"{typical:,.0f}" if math.isfinite(typical) else "never", number(seconds)]
        rows.append(row)
    return Table(header, rows)


def cost_table(findings: Findings) -> Table:
    """Return speed, time and memory of a run: medians over seeds."""
    sides = [(task, label) for task in findings.tasks for label in task.runs]
    known = [name for name in COSTS if any(task.figure(label, name).size for task, label in sides)]
    rows = []
    for task, label in sides:
        values = [task.figure(label, name) for name in known]
        if any(value.size for value in values):
            middles = [number(float(np.median(value)), short=True) if value.size else "" for value in values]
            rows.append([task.name, shown(label), *middles])
    return Table(["task", "side", *(COSTS[name] for name in known)], rows, 2)


def aggregate_table(findings: Findings) -> Table:
    """Return the aggregates of normalised scores, with their intervals."""
    rows = [
        [
            section.title,
            shown(label),
            *(
                f"{value:.2f}" + ("" if math.isnan(low) else f" ({low:.2f} to {high:.2f})")
                for value, low, high in section.metrics[label].values()
            ),
        ]
        for section in findings.sections
        for label in section.labels
    ]
    return Table(["over", "side", *findings.sections[0].metrics[findings.reference]], rows, 2)


def csv_files(findings: Findings) -> dict[str, str]:
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
    figures = ("steps", "train_seconds", "steps_per_s", "total_seconds", "peak_mb")
    timed = ("steps_to_goal", "seconds_to_goal")
    yield ("env", "algo", "label", "seed", "score", "normalised", "episodes", *figures, *timed)
    for task in findings.tasks:
        for label, runs in task.runs.items():
            scaled = task.normalised.get(label, [math.nan] * len(runs))
            reached = zip(task.reached(label), task.reached(label, seconds=True), strict=True)
            for run, part, when in zip(runs, scaled, reached, strict=True):
                costs = [run.figures.get(name, math.nan) for name in figures]
                yield (*run.key, run.score, float(part), run.final.size, *costs, *map(float, when))


def _curves(findings: Findings) -> Iterator[Sequence[Any]]:
    yield curves.COLUMNS
    for task in findings.tasks:
        for run in (run for runs in task.runs.values() for run in runs):
            for point in zip(run.steps, run.returns, run.seconds, strict=True):
                yield (*run.key, *map(float, point))


def _pairs(findings: Findings) -> Iterator[Sequence[Any]]:
    """Two rows for each pair of sides: about the score, and about the mean return over training."""
    names = [f"{name}{end}" for end in ("", "_against") for name in ("seeds", "mean", "sd")]
    found = ("difference", "low", "high", "p", "p_holm", "detectable", "outcome")
    yield ("env", "algo", "hyper", "budget", "measure", "label", "against", *names, *found)
    for task in findings.tasks:
        both = {"score": findings.scores, "mean return over training": findings.learning}
        compared = [(name, one) for name, every in both.items() for one in every if one.task is task]
        hyper, budget = (task.stored.hyper, task.stored.budget) if task.stored else ("", "")
        for measure, one in compared:
            sides: list[Any] = []
            for runs in (one.ours, one.theirs):
                sides += [runs.size, float(runs.mean()), float(runs.std(ddof=1)) if runs.size > 1 else math.nan]
            value, low, high, p, detectable = one.found
            measured = measure if one.unit == "seed" else f"{measure} over {one.unit}s"
            what = (task.env, task.algo, hyper, budget, measured, findings.reference, one.against)
            yield (*what, *sides, value, low, high, p, one.adjusted, detectable, one.outcome.value)


def _aggregate(findings: Findings) -> Iterator[Sequence[Any]]:
    yield "section", "label", "metric", "value", "low", "high"
    for section in findings.sections:
        for label in section.labels:
            for metric, found in section.metrics[label].items():
                yield section.title, label, metric, *found
        for other, found in section.improvement.items():
            yield section.title, findings.reference, f"probability of improvement over {other}", *found
