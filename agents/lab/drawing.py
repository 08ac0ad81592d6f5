"""Pictures as PNG: narrow, so that a phone shows them, and to be told apart without colour."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agents.lab.words import shown, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, DPI, COLOURS = 4.6, 150, 64
GREY = "#555555"
LEGEND_ROWS, LEGEND_ROW = 2, 0.2  # rows of the legend that a picture has room for, and the inches of each further one
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


class Picture(NamedTuple):
    """A PNG with a file name, words for those who cannot see it, and its size in pixels."""

    name: str
    png: bytes
    alt: str
    width: int
    height: int


class Mark(NamedTuple):
    """A value with its interval (or range), on a row and of a side; hollow where it may not be claimed."""

    row: int
    side: str
    value: float
    low: float
    high: float
    hollow: bool = False


def make_picture(name: str, alt: str, height: float, paint: Callable[[Axes], None]) -> Picture:
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
            beyond = -(-len(labels) // columns) - LEGEND_ROWS
            figure.set_figheight(height + max(beyond, 0) * LEGEND_ROW)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # once, where savefig would draw twice
    image = Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")
    packed = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return Picture(f"{name}.png", packed.getvalue(), alt, *image.size)


def side_style(labels: Sequence[str], label: str) -> dict[str, Any]:
    """Give a label the same looks in all pictures; where colours come again, dashes and marks are others."""
    again, place = divmod(labels.index(label), len(SIDES))
    color, (_, linestyle, marker) = SIDES[place][0], SIDES[(place + again) % len(SIDES)]
    return {"color": color, "linestyle": linestyle, "marker": marker}


def shorten(text: str, most: int = 34) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def draw_rows(axes: Axes, labels: Sequence[str], names: Sequence[str], marks: Sequence[Mark], legend: bool) -> None:
    """Draw marks on named rows, the first on top; with a legend, the sides of a row beneath one another."""
    sides = [label for label in labels if any(mark.side == label for mark in marks)]
    for row in range(1, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f3f3f3", linewidth=0, zorder=0)
    for index, side in enumerate(sides):
        place = (index - (len(sides) - 1) / 2) * 0.8 / len(sides) if legend else 0.0
        own, style = [mark for mark in marks if mark.side == side], side_style(labels, side)
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
            label=shorten(shown(side), 24) if legend else None,
        )
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def logarithmic(axes: Axes, low: float, high: float) -> None:
    """Let x be logarithmic, with plain numbers from `low` to `high` at powers of ten, or closer."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: thousands(value))
    axes.xaxis.set_minor_formatter(NullFormatter())
