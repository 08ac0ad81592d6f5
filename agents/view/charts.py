"""Curves and distributions in the panel of `watch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from agents.view.canvas import ACCENT, LINE, MUTED, QUIET, TRACK, WARM, TextPainter, number, rounded, smooth

if TYPE_CHECKING:
    from pygame import Rect, Surface

COLUMNS = 40  # of a distribution
HEAD = 24  # pixels of a chart's title


def chart_range(series: Sequence[float]) -> tuple[float, float]:
    """Return the round numbers that a chart of `series` lies between.

    Of eight values or more, the most extreme 2% at either end (one at least) count only where the others already take
    a third of the height with them; so one wild value does not flatten all others.
    """
    values = np.sort(np.asarray(series, np.float64))
    low, high = float(values[0]), float(values[-1])
    if (count := len(values)) >= 8:
        cut = max(1, count // 50)
        inner = float(values[cut]), float(values[-1 - cut])
        if 0 < 3 * (inner[1] - inner[0]) < high - low:
            low, high = inner
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        margin = 0.1 * max(abs(low), abs(high)) or 1.0
        low, high = low - margin, high + margin
    unit = 10.0 ** np.floor(np.log10((high - low) / 2))
    step = unit * next(k for k in (1, 2, 5, 10) if (high - low) / (k * unit) <= 5)
    return float(np.floor(low / step + 1e-9) * step), float(np.ceil(high / step - 1e-9) * step)


def draw_series(
    surface: Surface, box: Rect, title: str, series: Sequence[float], at: int, resets: Sequence[int], write: TextPainter
) -> None:
    """A line over the episode as far as it is known, with the bounds of its axis, and the value of this moment.

    Args:
        at: which of `series` is this moment's.
        resets: at which of them memory began anew; each has a line down the chart.
    """
    import pygame

    values = np.asarray(series, np.float64)
    low, high = chart_range(series)
    value = write(surface, number(values[at]), 13, ACCENT, True, topright=(box.right, box.top - 1))
    name = write(surface, title, 12, MUTED, topleft=box.topleft)
    if resets:
        write(
            surface, "│ memory reset", 12, WARM, width=value.left - name.right - 30, topleft=(name.right + 14, box.top)
        )
    area = pygame.Rect(box.left, box.top + HEAD, box.width, box.height - HEAD)
    rounded(surface, area, TRACK, 6, 120)
    labels = [number(high), number(low)]
    axis = max(write.font(11).size(label)[0] for label in labels)
    inner = pygame.Rect(area.left + axis + 16, area.top + 10, area.width - axis - 28, area.height - 20)
    for label, y in zip(labels, (inner.top, inner.bottom), strict=True):
        write(surface, label, 11, MUTED, midright=(inner.left - 6, y))
        pygame.draw.line(surface, LINE, (inner.left, y), (inner.right, y))
    across = np.linspace(0, 1, max(len(values), 2))
    for reset in resets:
        x = inner.left + round(across[min(reset, len(across) - 1)] * inner.width)
        pygame.draw.line(surface, WARM, (x, inner.top), (x, inner.bottom), 2)
    # where the bounds leave values out, the line runs along the edge
    down = 1 - np.clip((np.broadcast_to(values, len(across)) - low) / (high - low), 0, 1)

    def paint(large: Surface, scale: int) -> None:
        x = (inner.left - area.left + across * inner.width) * scale
        y = (inner.top - area.top + down * inner.height) * scale
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        floor = (inner.bottom - area.top) * scale
        if at + 1 < len(values):
            pygame.draw.lines(large, (*QUIET, 255), False, points[at:], 2 * scale)
        if at or len(values) == 1:
            done = points[: at + 1] if at else points
            pygame.draw.polygon(large, (*ACCENT, 38), [(done[0][0], floor), *done, (done[-1][0], floor)])
            pygame.draw.lines(large, (*ACCENT, 255), False, done, 2 * scale)
        pygame.draw.circle(large, (*ACCENT, 255), points[at] if len(values) > 1 else points[-1], 4 * scale)

    surface.blit(smooth(area.size, ACCENT, paint), area)


def columns_of(returns: np.ndarray, probabilities: np.ndarray, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges `[columns + 1]` of equal parts between the least and the greatest return, and what lies in each.

    Args:
        returns, probabilities: of a distribution, `[K]` each; what has no part in it, below 0.1%, sets no bound.
    """
    there = returns[probabilities > 0.001 * probabilities.max()]
    low, high = float(there.min()), float(there.max())
    margin = 0.0 if high - low > 1e-6 * max(abs(low), abs(high)) else 0.05 * abs(low) or 0.5
    mass, edges = np.histogram(returns, columns, (low - margin, high + margin), weights=probabilities)
    return edges, mass


def draw_distribution(
    surface: Surface, box: Rect, title: str, returns: np.ndarray, probabilities: np.ndarray, write: TextPainter
) -> None:
    """Columns over the returns that an action may have, with the bounds of the axis below, and a line at the mean."""
    import pygame

    columns = min(COLUMNS, len(returns))
    edges, mass = columns_of(returns, probabilities, columns)
    mean = float((returns * probabilities).sum() / probabilities.sum())
    said = write(surface, f"mean {number(mean)}", 12, MUTED, topright=box.topright)
    write(surface, title, 12, MUTED, width=said.left - box.left - 12, topleft=box.topleft)
    area = pygame.Rect(box.left, box.top + HEAD, box.width, box.height - HEAD - 16)
    rounded(surface, area, TRACK, 6, 120)
    write(surface, number(float(edges[0])), 11, MUTED, topleft=area.bottomleft)
    write(surface, number(float(edges[-1])), 11, MUTED, topright=area.bottomright)
    inner = area.inflate(-12, -8)
    lefts = np.rint(inner.left + np.linspace(0, inner.width, columns + 1)).astype(int).tolist()
    for left, right, share in zip(lefts, lefts[1:], mass / mass.max(), strict=False):
        height = round(share * inner.height)
        pygame.draw.rect(surface, ACCENT, (left, inner.bottom - height, max(right - left - 1, 1), height))
    x = inner.left + round(float(np.clip((mean - edges[0]) / (edges[-1] - edges[0]), 0, 1)) * inner.width)
    pygame.draw.line(surface, WARM, (x, area.top), (x, area.bottom - 1), 2)
