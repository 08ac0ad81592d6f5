"""The benchmark at a glance: how many times better than the baseline each program is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.lab.benchmark.rounds import Result, baseline_of, by_case, ratio
from agents.lab.drawing import GREY, Mark, draw_rows, make_picture
from agents.lab.words import number
from agents.run.storage import disk

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def ratios(results: Sequence[Result]) -> dict[str, tuple[str, float]]:
    """Return row -> (program, times better than the baseline), of each case that has one."""
    found = {}
    for case, group in by_case(results):
        baseline = baseline_of(group)
        for result in group:
            if not result.program.baseline and (better := ratio(result, baseline)) is not None:
                name = result.program.name
                found[f"{number(better, short=True)}x {case.name}, {name}"] = (name, better)
    return found


def draw(results: Sequence[Result], footer: str, path: Path) -> None:
    """Draw them into `path`, with `footer` as a line beneath; nothing where nothing can be compared.

    Raises:
        UserError: the file cannot be written.
    """
    found = ratios(results)
    if not found:
        return
    marks = [
        Mark(row, name, better, min(better, 1), max(better, 1)) for row, (name, better) in enumerate(found.values())
    ]
    programs = list(dict.fromkeys(mark.side for mark in marks))

    def paint(axes: Axes) -> None:
        axes.set_xscale("log", base=2)
        draw_rows(axes, programs, list(found), marks, legend=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
        axes.axvline(1, color="black", linewidth=0.9)
        axes.set_title("Beside stable-baselines3")
        axes.set_xlabel("times faster or smaller than the baseline")
        axes.figure.supxlabel(footer, fontsize=5.5, color=GREY)

    with disk("write", path):
        path.write_bytes(make_picture("bench", "", 1.0 + 0.25 * len(found), paint).png)
