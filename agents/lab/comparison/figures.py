"""A report's pictures, as PNG: narrow, so that a phone shows them, and to be told apart without colour."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.lab.comparison.analysis import Findings, Outcome, Section, Task
from agents.lab.comparison.curves import RunResult
from agents.lab.comparison.document import Picture
from agents.lab.words import number, plural, shown, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, DPI, COLOURS = 4.6, 150, 64
GRID = 120  # points of a learning curve
GREY = "#555555"
STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names are what they are
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "grid.alpha": 0.25,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
}
# Okabe and Ito's palette, which all eyes tell apart; dashes and marks tell the sides apart on grey paper too
SIDES: Sequence[tuple[str, Any, str]] = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#000000", (0, (6, 2, 1, 2, 1, 2)), "v"),
    ("#E69F00", (0, (1, 1)), "P"),
    ("#56B4E9", (0, (8, 3)), "X"),
)


class Mark(NamedTuple):
    """A value with its interval (or range), on a row and of a side; hollow where it may not be claimed."""

    row: int
    side: str
    value: float
    low: float
    high: float
    hollow: bool = False


def _picture(name: str, alt: str, height: float, paint: Callable[[Axes], None]) -> Picture:
    """Return what `paint` draws, `height` inches high, in few colours, as pictures of lines are."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in letters that the font lacks
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        paint(axes)
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            columns = 2 if max(map(len, labels)) > 12 else 3
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=3.2)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # once, where savefig would draw twice
    image = Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")
    packed = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return Picture(f"{name}.png", packed.getvalue(), alt, *image.size)


def _style(findings: Findings, label: str) -> dict[str, Any]:
    """Give a label the same looks in all pictures."""
    looks = SIDES[findings.labels.index(label) % len(SIDES)]
    return dict(zip(("color", "linestyle", "marker"), looks, strict=True))


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _draw_rows(axes: Axes, findings: Findings, names: Sequence[str], marks: Sequence[Mark], legend: bool) -> None:
    """Draw marks on named rows, the first on top; with a legend, the sides of a row beneath one another."""
    sides = [label for label in findings.labels if any(mark.side == label for mark in marks)]
    for row in range(1, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f3f3f3", linewidth=0, zorder=0)
    for number_, side in enumerate(sides):
        place = (number_ - (len(sides) - 1) / 2) * 0.8 / len(sides) if legend else 0.0
        own, style = [mark for mark in marks if mark.side == side], _style(findings, side)
        rows, color = [mark.row + place for mark in own], style["color"]
        axes.hlines(rows, [m.low for m in own], [m.high for m in own], color=color, linewidth=5, alpha=0.35)
        axes.scatter(
            [mark.value for mark in own],
            rows,
            s=22,
            marker=style["marker"],
            edgecolors=color,
            facecolors=["white" if mark.hollow else color for mark in own],
            zorder=3,
            label=_short(shown(side), 24) if legend else None,
        )
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def draw_curve(findings: Findings, task: Task, name: str, seconds: bool) -> Iterator[Picture]:
    """Draw the mean return over training, with a band from the worst to the best seed; nothing without curves."""
    at = "seconds of training" if seconds else "environment steps"
    known = {label: _mean_curve(runs, seconds) for label, runs in task.runs.items()}
    curves = {label: curve for label, curve in known.items() if curve is not None}
    if not curves:
        return
    ends = [f"{shown(label)} {number(mean[-1])} at {number(x[-1])}" for label, (x, mean, _, _) in curves.items()]

    def paint(axes: Axes) -> None:
        for label, (x, mean, low, high) in curves.items():
            style = _style(findings, label)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.16, linewidth=0)
            named = f"{_short(shown(label), 20)} ({plural(len(task.runs[label]), 'seed')})"
            axes.plot(x, mean, label=named, markevery=(GRID // 16, GRID // 8), **style)
        if task.threshold is not None:
            axes.axhline(task.threshold, color=GREY, linewidth=0.9, linestyle=":")
            place = axes.get_yaxis_transform()
            axes.text(0.01, task.threshold, "threshold", transform=place, va="bottom", fontsize=7.5, color=GREY)
        axes.set_title(_short(task.name, 44))
        axes.set_xlabel(at)
        axes.set_ylabel("return")
        axes.margins(y=0.1)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: thousands(value))

    alt = f"Learning curves on {task.name}: mean return against {at}. At the end: {'; '.join(ends)}."
    yield _picture(name, alt, 2.9, paint)


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
    for task in findings.tasks:
        for one in findings.scores[task.key] if task.scale else ():
            zero, top = task.scale or (math.nan, math.nan)
            value, low, high = (bound / (top - zero) for bound in one.found[:3])
            hollow = one.outcome not in (Outcome.BETTER, Outcome.WORSE)
            marks.append(Mark(len(names), one.against, value, low, high, hollow))
            names.append(f"{task.name}{f' / {shown(one.against)}' if several else ''}")
    if not names:
        return
    sides = f"{shown(findings.reference)} less {'the other side' if several else shown(findings.labels[1])}"

    def paint(axes: Axes) -> None:
        _draw_rows(axes, findings, names, marks, legend=False)
        axes.axvline(0, color="black", linewidth=0.9)
        axes.set_xlabel(f"normalised score, {_short(sides, 30)} (right of 0: better)")

    claimed = sum(not mark.hollow for mark in marks)
    alt = f"Differences of normalised scores, {sides}, with 95% intervals: {claimed} of {len(marks)} may be claimed."
    yield _picture("differences", alt, 0.8 + 0.25 * len(names), paint)


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
        _draw_rows(axes, findings, [lower.get(metric, metric) for metric in names], marks, legend=True)
        axes.set_title(_short(section.title, 44))
        axes.set_xlabel("normalised score (0 random play, 1 goal)")
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))

    told = ", ".join(f"{shown(label)} {section.metrics[label]['IQM'].value:.2f}" for label in section.labels)
    alt = f"Aggregates of normalised scores with 95% intervals, {section.title}. Interquartile means: {told}."
    return _picture(name, alt, 1.1 + 0.2 * len(names) * (len(section.labels) + 0.6), paint)


def draw_improvement(findings: Findings) -> Picture:
    """Draw how probable it is that a run of the reference beats one of another label, in each section."""
    rows = [(section, other, found) for section in findings.sections for other, found in section.improvement.items()]
    names = [f"{shown(other)}, {section.title}" for section, other, _ in rows]
    beats = f"a run of {shown(findings.reference)} beats one of the other side"

    def paint(axes: Axes) -> None:
        marks = [Mark(row, other, *found) for row, (_, other, found) in enumerate(rows)]
        _draw_rows(axes, findings, names, marks, legend=False)
        axes.axvline(0.5, color="black", linewidth=0.9)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel(_short(beats, 60))

    told = "; ".join(f"{name}: {found.value:.0%}" for name, (_, _, found) in zip(names, rows, strict=True))
    alt = f"How probable it is that {beats}, with 95% intervals. {told}."
    return _picture("improvement", alt, 0.8 + 0.28 * len(rows), paint)


def draw_profiles(findings: Findings, section: Section, name: str) -> Picture:
    """Draw which part of the runs scores above each level."""

    def paint(axes: Axes) -> None:
        for label in section.labels:
            style, (part, low, high) = _style(findings, label), section.profiles[label]
            axes.fill_between(section.levels, low, high, color=style["color"], alpha=0.16, linewidth=0, step="mid")
            named = _short(shown(label), 24)
            axes.plot(section.levels, part, drawstyle="steps-mid", label=named, markevery=12, **style)
        axes.axvline(1, color=GREY, linewidth=0.9, linestyle=":")
        axes.set_title(_short(section.title, 44))
        axes.set_xlabel("normalised score (0 random play, 1 goal)")
        axes.set_ylabel("part of the runs above it")
        axes.set_ylim(-0.02, 1.04)

    goal = int(np.argmin(abs(section.levels - 1)))
    told = ", ".join(f"{shown(label)} {section.profiles[label][0][goal]:.0%}" for label in section.labels)
    alt = f"Performance profiles, {section.title}: part of the runs above each normalised score. Above 1: {told}."
    return _picture(name, alt, 2.9, paint)


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
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_xscale("log")
        _draw_rows(axes, findings, names, marks, legend=True)
        wide = max(mark.high for mark in marks) > 100 * min(mark.low for mark in marks)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda value, _: thousands(value))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"{title} (logarithmic)")

    alt = f"{title} on each task: median over seeds, and from the lowest to the highest. The table has the numbers."
    yield _picture(name, alt, 1.1 + 0.3 * len(names), paint)
