"""The panel beside the picture: which policy plays, how it goes, and what the policy makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from agents.view import bars
from agents.view.canvas import ACCENT, LINE, MUTED, QUIET, TEXT, TextPainter, number
from agents.view.charts import draw_distribution, draw_series

if TYPE_CHECKING:
    from pygame import Rect, Surface

    from agents.view.viewer import ViewState

PANEL, PAD = 372, 26  # pixels of the panel's width and of its edges
SLIDER = 76, 22  # where in the panel the line of checkpoints begins, and its height
_GAP, _LEAST, _MOST, _DISTRIBUTION = 22, 64, 210, 92  # heights of charts


def draw_sidebar(surface: Surface, box: Rect, state: ViewState, write: TextPainter) -> None:
    """Fill a box with all of it; the chart of values takes what room the rest leaves."""
    import pygame

    size = next((size for size in (21, 18, 16) if write.font(size, True).size(state.title)[0] <= box.width), 14)
    write(surface, state.title, size, TEXT, True, box.width, midleft=(box.left, box.top + 12))
    write(surface, state.subtitle, 13, MUTED, width=box.width, topleft=(box.left, box.top + 30))
    write(surface, state.episode, 13, MUTED, width=box.width, topleft=(box.left, box.top + 50))
    top = box.top + 84
    if len(state.checkpoints) > 1:
        draw_slider(surface, pygame.Rect(box.left, box.top + SLIDER[0], box.width, SLIDER[1]), state)
        top += SLIDER[1]
    _draw_figures(surface, pygame.Rect(box.left, top, box.width, 66), state, write)
    top += 66
    rows = len(state.bars) + (state.hidden > 0)
    below = 30 + rows * bars.ROW + _GAP if rows else _GAP
    below += (_DISTRIBUTION + _GAP) * (state.distribution is not None)
    plot = pygame.Rect(box.left, top, box.width, max(_LEAST, min(_MOST, box.bottom - top - below)))
    draw_series(surface, plot, state.series_title, state.series, state.position, state.resets, write)
    top = plot.bottom + _GAP
    if state.distribution is not None:
        place = pygame.Rect(box.left, top, box.width, _DISTRIBUTION)
        draw_distribution(surface, place, *state.distribution, write)
        top = place.bottom + _GAP
    if rows:
        place = pygame.Rect(box.left, top, box.width, below)
        bars.draw_bars(surface, place, state.bars_title, state.bars, state.hidden, write)


def _draw_figures(surface: Surface, box: Rect, state: ViewState, write: TextPainter) -> None:
    column = box.width // 3
    for i, (name, value) in enumerate(
        (("return", number(state.ret)), ("step", f"{state.step:,}"), ("reward", number(state.reward)))
    ):
        left = box.left + i * column
        write(surface, name, 12, MUTED, topleft=(left, box.top))
        write(surface, value, 20, TEXT, True, column - 6, topleft=(left, box.top + 18))


def slider_places(checkpoints: Sequence[int]) -> np.ndarray:
    """Return where on the line of checkpoints each lies, 0 to 1, by its step."""
    steps = np.asarray(checkpoints, np.float64)
    return (steps - steps[0]) / max(steps[-1] - steps[0], 1)


def draw_slider(surface: Surface, box: Rect, state: ViewState) -> None:
    """A line with a dot for each checkpoint, from the first to the last, and a larger one for what plays."""
    import pygame

    middle, ends = box.top + 10, (box.left + 5, box.right - 6)
    pygame.draw.line(surface, LINE, (ends[0], middle), (ends[1], middle), 2)
    places = slider_places(state.checkpoints)
    for place in places:
        pygame.draw.circle(surface, QUIET, (round(ends[0] + place * (ends[1] - ends[0])), middle), 3)
    if state.checkpoint is not None:
        first, last = state.checkpoints[0], state.checkpoints[-1]
        here = min(max((state.checkpoint - first) / max(last - first, 1), 0.0), 1.0)
        pygame.draw.circle(surface, ACCENT, (round(ends[0] + here * (ends[1] - ends[0])), middle), 6)
