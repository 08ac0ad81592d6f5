"""A report's pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.lab.comparison.analysis import Findings, Outcome, Section, TaskRuns
from agents.lab.comparison.curves import RunResult
from agents.lab.drawing import GREY, Mark, Picture, draw_rows, logarithmic, make_picture, shorten, side_style
from agents.lab.words import number, plural, shown, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID = 120  # points of a learning curve


def draw_curve(findings: Findings, task: TaskRuns, name: str, seconds: bool) -> Iterator[Picture]:
    """Draw the mean return over training, with a band from the worst to the best seed; nothing without curves."""
    at = "seconds of training" if seconds else "environment steps"
    known = {label: _mean_curve(runs, seconds) for label, runs in task.runs.items()}
    curves = {label: curve for label, curve in known.items() if curve is not None}
    if not curves:
        return
    ends = [f"{shown(label)} {number(mean[-1])} at {number(x[-1])}" for label, (x, mean, _, _) in curves.items()]

    def paint(axes: Axes) -> None:
        for label, (x, mean, low, high) in curves.items():
            style = side_style(findings.labels, label)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.16, linewidth=0)
            named = f"{shorten(shown(label), 20)} ({plural(len(task.runs[label]), 'seed')})"
            axes.plot(x, mean, label=named, markevery=(GRID // 16, GRID // 8), **style)
        if task.threshold is not None:
            axes.axhline(task.threshold, color=GREY, linewidth=0.9, linestyle=":")
            place = axes.get_yaxis_transform()
            axes.text(0.01, task.threshold, "threshold", transform=place, va="bottom", fontsize=7.5, color=GREY)
        axes.set_title(shorten(task.name, 44))
        axes.set_xlabel(at)
        axes.set_ylabel("return")
        axes.margins(y=0.1)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: thousands(value))

    alt = f"Learning curves on {task.name}: mean return against {at}. At the end: {'; '.join(ends)}."
    yield make_picture(name, alt, 2.9, paint)


def _mean_curve(runs: Sequence[RunResult], seconds: bool) -> tuple[NDArray[np.float64], ...] | None:
    """Return x, mean, lowest and highest over the seeds where all of them are known; None where they nowhere are."""
    lines = [(run.seconds if seconds else run.steps, run.returns) for run in runs]
    if any(x.size < 2 or np.isnan(x).any() for x, _ in lines):
        return None
    first, last = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if first >= last:
        return None
    grid = np.linspace(first, last, GRID)
    values = np.stack([np.interp(grid, x, y) for x, y in lines])
    return grid, values.mean(0), values.min(0), values.max(0)


def draw_differences(findings: Findings) -> Iterator[Picture]:
    """Draw each score's difference on the normalised scale, with its interval; hollow where it may not be claimed."""
    names: list[str] = []
    marks: list[Mark] = []
    several = len(findings.labels) > 2
    for one in (one for one in findings.scores if one.task.scale):
        zero, top = one.task.scale or (math.nan, math.nan)
        value, low, high = (bound / (top - zero) for bound in one.found[:3])
        hollow = one.outcome not in (Outcome.BETTER, Outcome.WORSE)
        marks.append(Mark(len(names), one.against, value, low, high, hollow))
        names.append(f"{one.task.name}{f' / {shown(one.against)}' if several else ''}")
    if not names:
        return
    sides = f"{shown(findings.reference)} less {'the other side' if several else shown(findings.labels[1])}"

    def paint(axes: Axes) -> None:
        draw_rows(axes, findings.labels, names, marks, legend=False)
        axes.axvline(0, color="black", linewidth=0.9)
        axes.set_xlabel(f"normalised score, {shorten(sides, 30)} (right of 0: better)")

    claimed = sum(not mark.hollow for mark in marks)
    alt = f"Differences of normalised scores, {sides}, with 95% intervals: {claimed} of {len(marks)} may be claimed."
    yield make_picture("differences", alt, 0.8 + 0.25 * len(names), paint)


def draw_aggregates(findings: Findings, section: Section, name: str) -> Picture:
    """Draw each aggregate of normalised scores with its interval."""
    names = [*section.metrics[section.labels[0]]]
    marks = [
        Mark(row, label, *section.metrics[label][metric])
        for label in section.labels
        for row, metric in enumerate(names)
    ]

    def paint(axes: Axes) -> None:
        lower = {"optimality gap": "optimality gap\n(lower is better)"}
        draw_rows(axes, findings.labels, [lower.get(metric, metric) for metric in names], marks, legend=True)
        axes.set_title(shorten(section.title, 44))
        axes.set_xlabel("normalised score (0 random play, 1 goal)")
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))

    summary = ", ".join(f"{shown(label)} {section.metrics[label]['IQM'].value:.2f}" for label in section.labels)
    alt = f"Aggregates of normalised scores with 95% intervals, {section.title}. Interquartile means: {summary}."
    return make_picture(name, alt, 1.1 + 0.2 * len(names) * (len(section.labels) + 0.6), paint)


def draw_improvement(findings: Findings) -> Picture:
    """Draw how probable it is that a run of the reference beats one of another label, in each section."""
    rows = [(section, other, found) for section in findings.sections for other, found in section.improvement.items()]
    names = [f"{shown(other)}, {section.title}" for section, other, _ in rows]
    beats = f"a run of {shown(findings.reference)} beats one of the other side"

    def paint(axes: Axes) -> None:
        marks = [Mark(row, other, *found) for row, (_, other, found) in enumerate(rows)]
        draw_rows(axes, findings.labels, names, marks, legend=False)
        axes.axvline(0.5, color="black", linewidth=0.9)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel(shorten(beats, 60))

    summary = "; ".join(f"{name}: {found.value:.0%}" for name, (_, _, found) in zip(names, rows, strict=True))
    alt = f"How probable it is that {beats}, with 95% intervals. {summary}."
    return make_picture("improvement", alt, 0.8 + 0.28 * len(rows), paint)


def draw_profiles(findings: Findings, section: Section, name: str) -> Picture:
    """Draw which part of the runs scores above each level."""

    def paint(axes: Axes) -> None:
        for label in section.labels:
            style, (part, low, high) = side_style(findings.labels, label), section.profiles[label]
            axes.fill_between(section.levels, low, high, color=style["color"], alpha=0.16, linewidth=0, step="mid")
            named = shorten(shown(label), 24)
            axes.plot(section.levels, part, drawstyle="steps-mid", label=named, markevery=12, **style)
        axes.axvline(1, color=GREY, linewidth=0.9, linestyle=":")
        axes.set_title(shorten(section.title, 44))
        axes.set_xlabel("normalised score (0 random play, 1 goal)")
        axes.set_ylabel("part of the runs above it")
        axes.set_ylim(-0.02, 1.04)

    goal = int(np.argmin(abs(section.levels - 1)))
    summary = ", ".join(f"{shown(label)} {section.profiles[label][0][goal]:.0%}" for label in section.labels)
    alt = f"Performance profiles, {section.title}: part of the runs above each normalised score. Above 1: {summary}."
    return make_picture(name, alt, 2.9, paint)


def draw_costs(findings: Findings, figure: str, title: str, name: str) -> Iterator[Picture]:
    """Draw one figure of the runs, such as steps per second: median over seeds, and from the lowest to the highest."""
    names: list[str] = []
    marks = []
    for task in findings.tasks:
        known = [(label, values) for label in task.runs if (values := task.figure(label, figure)).size]
        marks += [
            Mark(len(names), label, float(np.median(values)), values.min(), values.max())
            for label, values in known
            if values.min() > 0
        ]
        names += [task.name] if known else []
    if not marks:
        return

    def paint(axes: Axes) -> None:
        axes.set_xscale("log")
        draw_rows(axes, findings.labels, names, marks, legend=True)
        logarithmic(axes, min(mark.low for mark in marks), max(mark.high for mark in marks))
        axes.set_xlabel(f"{title} (logarithmic)")

    alt = f"{title} on each task: median over seeds, and from the lowest to the highest. The table has the numbers."
    yield make_picture(name, alt, 1.1 + 0.3 * len(names), paint)
