"""The tables of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agents.lab.comparison.document import Table
from agents.lab.comparison.findings import Contest, Findings, Outcome, Task
from agents.lab.comparison.words import interval, points, probability, shown, thousands


def pair_table(findings: Findings) -> Table:
    """Return how the reference compares with each other label on each task; who stands alone is there too."""
    reference, *others = findings.labels
    several = len(others) > 1
    rows = []
    for task in findings.tasks:
        met = {contest.against: contest for contest in findings.contests[task.key]}
        alone = [reference] if reference in task.runs and not met else []
        for label in [*alone, *(label for label in others if label in task.runs)]:
            sides = (reference, label) if label in met else (label,)
            seeds = [len(task.runs[side]) for side in sides]
            count = " and ".join(map(str, dict.fromkeys(seeds)))
            scores = [_spread(task.scores.get(side)) if side in sides else "" for side in (reference, label)]
            if label == reference:
                scores[1] = ""
            row = [task.name, *([shown(label)] if several else []), *_compared(reference, met.get(label)), count]
            rows.append(
                [*row[: 2 + several], *scores, *row[2 + several :], thousands(task.pair.budget) if task.pair else ""]
            )
    return Table([*_header(findings), "seeds", "budget"], rows, 2 + several)


def _header(findings: Findings) -> list[str]:
    """Return the names of the columns that compare two sides."""
    reference, *others = findings.labels
    several = len(others) > 1
    names = ["task", *(["against"] if several else []), "verdict", f"{shown(reference)}, mean ± sd"]
    names += ["other side, mean ± sd" if several else f"{shown(label)}, mean ± sd" for label in others[:1]] or [""]
    return [*names, "difference", "95% interval", "p (Holm)", "detectable"]


def _compared(reference: str, contest: Contest | None) -> list[str]:
    """Return verdict, difference, interval, p and what could have been detected."""
    if contest is None:
        return ["alone", "", "", "", ""]
    found = contest.found
    winner = {Outcome.BETTER: f"{shown(reference)} better", Outcome.WORSE: f"{shown(contest.against)} better"}
    return [
        winner.get(contest.outcome, contest.outcome.value),
        points(found.value),
        interval(found.low, found.high),
        probability(contest.adjusted),
        points(found.detectable),
    ]


def _spread(scores: NDArray[np.float64] | None) -> str:
    if scores is None:
        return ""
    return points(scores.mean()) + (f" ± {points(scores.std(ddof=1))}" if scores.size > 1 else "")


def learning_table(findings: Findings) -> Table:
    """Return how the mean return over training compares."""
    reference, *others = findings.labels
    several = len(others) > 1
    rows = [
        [
            task.name,
            *([shown(met.against)] if several else []),
            verdict,
            _spread(met.ours),
            _spread(met.theirs),
            *figures,
        ]
        for task in findings.tasks
        for met in findings.learning[task.key]
        for verdict, *figures in [_compared(reference, met)]
    ]
    return Table(_header(findings), rows, 2 + several)


def goal_table(findings: Findings) -> Table:
    """Return the steps and seconds to the goal: median over seeds, and how many reached it at all."""
    header = ["task", "goal"]
    for label in findings.labels:
        header += [f"{shown(label)}: reached", "steps", "seconds"]
    rows = []
    for task in findings.tasks:
        if task.goal is None:
            continue
        row = [task.name, points(task.goal) + ("" if task.threshold is not None else " *")]
        for label in findings.labels:
            row += _reached(task, label) if label in task.runs else [""] * 3
        rows.append(row)
    return Table(header, rows)


def _reached(task: Task, label: str) -> list[str]:
    steps, seconds = task.reached(label), task.reached(label, seconds=True)
    known = steps[~np.isnan(steps)]
    if not known.size:
        return ["", "", ""]
    count = f"{np.isfinite(known).sum()} of {known.size}"
    typical = float(np.median(known))
    return [count, f"{typical:,.0f}" if math.isfinite(typical) else "never", points(float(np.median(seconds)))]


def cost_table(findings: Findings) -> Table:
    """Return speed, time, memory and energy of a run: medians over seeds."""
    figures = {"steps_per_s": "steps/s", "train_seconds": "training s", "total_seconds": "whole run s"}
    figures |= {"peak_mb": "peak MB", "energy_j": "energy J"}
    shown_figures = {
        name: title
        for name, title in figures.items()
        if any(task.figure(label, name).size for task in findings.tasks for label in task.runs)
    }
    rows = []
    for task in findings.tasks:
        for label in task.runs:
            values = [task.figure(label, name) for name in shown_figures]
            if any(value.size for value in values):
                rows.append([task.name, shown(label), *(_middle(value) for value in values)])
    return Table(["task", "side", *shown_figures.values()], rows, 2)


def _middle(values: NDArray[np.float64]) -> str:
    if not values.size:
        return ""
    middle = float(np.median(values))
    return f"{middle:,.0f}" if middle >= 100 else points(middle)


def aggregate_table(findings: Findings) -> Table:
    """Return the aggregates of normalised scores, with their intervals."""
    metrics: Sequence[str] = list(next(iter(findings.sections[0].metrics.values()))) if findings.sections else []
    rows = []
    for section in findings.sections:
        for label in section.labels:
            found = [section.metrics[label][metric] for metric in metrics]
            cells = [
                f"{one.value:.2f}" + ("" if math.isnan(one.low) else f" ({one.low:.2f} to {one.high:.2f})")
                for one in found
            ]
            rows.append([section.title, shown(label), *cells])
    return Table(["over", "side", *metrics], rows, 2)
