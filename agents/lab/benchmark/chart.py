"""The benchmark at a glance: how many times better than the baseline each program is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.lab.benchmark.rounds import Result, baseline_of, by_case, ratio
from agents.lab.words import number
from agents.run.storage import disk

OURS, COMPILED, OTHERS = "#0072B2", "#E69F00", "#999999"  # of Okabe and Ito's palette, which all eyes tell apart
ROW = 0.27  # inches


def groups(results: Sequence[Result]) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return a heading for each case that has a baseline, and (program, times better than the baseline) under it."""
    found = []
    for case, group in by_case(results):
        baseline = baseline_of(group)
        compared = [(result.program.name, ratio(result, baseline)) for result in group if not result.program.baseline]
        bars = [(name, better) for name, better in compared if better is not None]
        if bars and baseline is not None:
            median = number(baseline.median() or 0.0, short=True)
            found.append((f"{case.title}  (1x = {baseline.program.name}, {median} {case.measure.unit})", bars))
    return found


def draw(results: Sequence[Result], footer: str, path: Path) -> None:
    """Write a bar chart to `path`, with `footer` as a line beneath; nothing where nothing can be compared.

    Raises:
        UserError: the file cannot be written.
    """
    drawn = groups(results)
    if not drawn:
        return
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    height = sum(1.25 + len(bars) for _, bars in drawn)  # rows
    figure = Figure(figsize=(8.5, ROW * height + 1.3), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    row, ticks, names = 0.0, [], []
    for heading, bars in drawn:
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # hides the lines of the grid
        place = axes.get_yaxis_transform()
        axes.text(0, row, heading, transform=place, va="center", fontsize=8, weight="bold", bbox=behind)
        row += 1
        for name, better in bars:
            colour = COMPILED if "compiled" in name else OURS if name.startswith("ours") else OTHERS
            axes.barh(row, better - 1, left=1, height=0.75, color=colour)
            side: Any = {"xytext": (3, 0), "ha": "left"} if better >= 1 else {"xytext": (-3, 0), "ha": "right"}
            side |= {"textcoords": "offset points", "va": "center", "fontsize": 8}
            axes.annotate(f"{number(better, short=True)}x", (better, row), **side)
            ticks.append(row)
            names.append(name)
            row += 1
        row += 0.25
    values = [better for _, bars in drawn for _, better in bars]
    axes.set_ylim(row - 0.25, -0.75)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(0.5, min(values) / 1.6), max(2.0, max(values) * 1.6))
    axes.xaxis.set_major_locator(LogLocator(base=2))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.axvline(1, color="black", linewidth=1)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("times faster or smaller than the baseline (further right is better)", fontsize=8)
    axes.set_title("This suite beside stable-baselines3", loc="left", fontsize=11, weight="bold")
    figure.supxlabel(footer, fontsize=7, color="#555555")
    with disk("write", path):
        figure.savefig(path)
