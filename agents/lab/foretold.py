"""How well a clone foretells the actions of held-out episodes, for the page of its run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.lab.document import Document, Table
from agents.lab.drawing import Picture, make_picture
from agents.lab.words import plural
from agents.ops.scores import MOST_DRAWN, Scores, scores
from agents.run.storage import read_json
from envs.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORT = "held_out.json"
WRITTEN = 12  # actions up to which its numbers are written in it


def show_foretold(document: Document, run: Path) -> None:
    """Show the confusion matrix of a run's held-out episodes, and each action's scores, if there is one."""
    counts = read_confusion(run / REPORT)
    if counts is None:
        return
    made = scores(counts)
    document.heading("What it foretells", "foretold")
    total = plural(int(counts.sum()), "action")
    told = f"it foretells {made.accuracy:.1%}; macro F1 {made.macro_f1:.3f}."
    document.text(f"Of {total} in episodes that it never learnt from {told}")
    document.show_pictures([confusion_picture(counts)])
    head = ["action", "taken", "precision", "recall", "F1"]
    document.table(Table(head, list(_rows(counts, made)), texts=0))


def _rows(counts: Any, made: Scores) -> Any:
    for index, taken in enumerate(counts.sum(1).tolist()):
        found = [made.precision[index], made.recall[index], made.f1[index]]
        yield [str(index), f"{taken:,}", *("" if np.isnan(value) else f"{value:.3f}" for value in found)]


def read_confusion(file: Path) -> np.ndarray | None:
    """Return the matrix in a run's report, counts `[A, A]`; None where there is none, or nothing like one."""
    if not file.is_file():
        return None
    try:
        counts = np.array(read_json(file)["confusion"])
    except (UserError, KeyError, ValueError, TypeError):
        return None
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] <= MOST_DRAWN
    sound = square and counts.dtype == np.int64 and counts.min(initial=0) >= 0 and counts.max(initial=0) < 2**40
    return counts if sound and counts.sum() else None


def confusion_picture(counts: np.ndarray) -> Picture:
    """Draw how often each action was taken (rows) and which was foretold then (columns)."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = len(counts)

    def paint(axes: Axes) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        axes.set_xlabel("foretold")
        axes.set_ylabel("taken")
        axes.set_title("actions, share of each row")
        axes.grid(False)
        if size <= WRITTEN:
            axes.set_xticks(range(size))
            axes.set_yticks(range(size))
            for (row, column), share in np.ndenumerate(shares):
                axes.text(
                    column, row, f"{share:.0%}", ha="center", va="center", color="white" if share > 0.6 else "black"
                )

    alt = f"Confusion of {size} actions: {np.trace(counts) / counts.sum():.1%} of all are foretold rightly"
    return make_picture("confusion", alt, min(1.6 + 0.4 * size, 4.4), paint)
