"""What a policy makes of its actions, as rows of a picture: probabilities, action values, or means and deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import Space, spaces

from agents.ops.distributions import parameter_count
from agents.run.play import Moment
from agents.view.canvas import ACCENT, MUTED, QUIET, TEXT, TRACK, TextPainter, number, rounded
from envs.actions import Hybrid

if TYPE_CHECKING:
    from pygame import Rect, Surface

MAX_BARS = 8
ROW = 25
_LABEL = 132  # pixels that an action's name may take


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of the panel's lower half: `start`, `end` and the dot `mark` are shares of its track."""

    label: str
    text: str
    start: float
    end: float
    mark: float | None = None
    chosen: bool = False


def action_bars(
    moment: Moment, space: Space, names: Sequence[str] = (), most: int = MAX_BARS
) -> tuple[str, list[Bar], int]:
    """Return a title, a row for each action (at most `most`) and how many actions are left out.

    `names` are those of the actions, or of their parts; without any they are numbers.

    Probabilities are drawn from 0 to 1, Q-values from the lowest to the highest of the moment (NaN is an illegal
    action's), and Gaussians as mean +- std between the action's bounds, with a dot for the action taken. Of many
    actions the best are shown, the one taken always among them. Where no policy was asked, the action taken is all
    there is.
    """
    outputs, action = moment.outputs, np.atleast_1d(moment.action)
    if "returns" in outputs:
        most //= 2  # the chart of the distribution takes their room
    if isinstance(space, Hybrid):
        return _part_bars(moment, space, names)
    if isinstance(space, spaces.Box):
        rows = [_dimension_bar(i, outputs, float(action[i]), space, names) for i in range(min(len(action), most))]
        return "action, mean ± std" if "mean" in outputs else "action", rows, len(action) - len(rows)
    labels, taken = choices(action, space, names)
    if "q_values" in outputs:
        title, values = "Q-values", outputs["q_values"]
        legal = ~np.isnan(values)
        texts = [number(value) if allowed else "illegal" for value, allowed in zip(values.tolist(), legal, strict=True)]
        low, high = float(values[legal].min()), float(values[legal].max())
        ends = np.where(legal, 0.04 + 0.96 * (np.nan_to_num(values) - low) / max(high - low, 1e-9), 0.0)
    elif "probabilities" in outputs:
        title, ends = "action probabilities", outputs["probabilities"]
        texts = [f"{value:.2f}" for value in ends.tolist()]
    else:
        title, ends = "action", np.array(taken, np.float64)
        texts = [""] * len(labels)
    order = sorted(range(len(labels)), key=lambda i: (not taken[i], -ends[i]))[:most]
    rows = [Bar(labels[i], texts[i], 0, float(ends[i]), chosen=taken[i]) for i in sorted(order)]
    return title, rows, len(labels) - len(rows)


def _part_bars(moment: Moment, space: Hybrid, names: Sequence[str]) -> tuple[str, list[Bar], int]:
    """Return the rows of all parts, of each so many that there is room for all; `names` are of the row's numbers."""
    most, rest, found, hidden = max(MAX_BARS // len(space.parts), 1), dict(moment.outputs), list[Bar](), 0
    given = space.split(np.array(names)) if (len(names),) == space.shape else [()] * len(space.parts)
    for (key, part), action, own in zip(space.parts.items(), space.split(moment.action), given, strict=True):
        outputs = dict[str, np.ndarray]()
        for name in ("mean", "std") if isinstance(part, spaces.Box) else ("probabilities",):
            if name in rest:
                outputs[name], rest[name] = np.split(rest[name], [parameter_count(part)])
        one = isinstance(part, spaces.Discrete)  # whose name is the whole part's
        _, bars, more = action_bars(replace(moment, outputs=outputs, action=action), part, () if one else own, most)
        title = f"{own if one and np.size(own) else key}: "
        found += [replace(bar, label=bar.label if np.size(own) and not one else title + bar.label) for bar in bars]
        hidden += more
    return "action", found[:MAX_BARS], hidden + len(found[MAX_BARS:])


def choices(action: np.ndarray, space: Space, names: Sequence[str] = ()) -> tuple[list[str], list[bool]]:
    """Return the label of each choice of a canonical action space, and whether it was taken."""
    match space:
        case spaces.Discrete():
            return _labels(int(space.n), names), [k == action[0] for k in range(int(space.n))]
        case spaces.MultiDiscrete():
            parts = _labels(len(space.nvec), names)
            pairs = [(k, choice) for k, n in enumerate(space.nvec.tolist()) for choice in range(n)]
            return [f"{parts[k]}: {choice}" for k, choice in pairs], [bool(action[k] == choice) for k, choice in pairs]
    return _labels(len(action), names), [bool(chosen) for chosen in action]


def _labels(count: int, names: Sequence[str]) -> list[str]:
    return list(names) if len(names) == count else [str(k) for k in range(count)]


def _dimension_bar(
    i: int, outputs: dict[str, np.ndarray], action: float, space: spaces.Box, names: Sequence[str]
) -> Bar:
    label = _labels(int(np.prod(space.shape)), names)[i]
    mean, std = (float(outputs[key][i]) if key in outputs else 0.0 for key in ("mean", "std"))
    low, high = float(space.low[i]), float(space.high[i])
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        high = max(1.0, abs(mean) + std, abs(action))
        low = -high
    start, end, mark = np.clip((np.array([mean - std, mean + std, action]) - low) / (high - low), 0, 1).tolist()
    if "mean" not in outputs:
        return Bar(label, f"{action:+.2f}", 0, 0, mark)
    return Bar(label, f"{mean:+.2f} ± {std:.2f}", start, end, mark)


def draw_bars(surface: Surface, box: Rect, title: str, bars: Sequence[Bar], hidden: int, write: TextPainter) -> None:
    """Draw rows under a title, and below them how many found no room."""
    import pygame

    write(surface, title, 12, MUTED, topleft=box.topleft)
    label = min(_LABEL, max(write.font(13, True).size(bar.label)[0] for bar in bars)) + 12
    digits = max(60, *(write.font(13).size(bar.text)[0] + 12 for bar in bars))  # no jitter as digits come and go
    for i, bar in enumerate(bars):
        middle = box.top + 30 + i * ROW + ROW // 2
        color = ACCENT if bar.chosen else QUIET
        strong = TEXT if bar.chosen else MUTED
        write(surface, bar.label, 13, strong, bar.chosen, label - 12, midleft=(box.left, middle))
        write(surface, bar.text, 13, strong, midright=(box.right, middle))
        track = pygame.Rect(box.left + label, middle - 6, box.width - label - digits, 12)
        rounded(surface, track, TRACK, 6)
        start, end = (round(share * track.width) for share in (bar.start, bar.end))
        if end > start:
            rounded(surface, pygame.Rect(track.left + start, track.top, max(end - start, 4), track.height), color, 6)
        if bar.mark is not None:
            dot = pygame.Rect(0, 0, 8, 18)
            dot.center = (track.left + round(bar.mark * track.width), middle)
            rounded(surface, dot, ACCENT, 4)
    if hidden:
        more = f"and {hidden:,} more"
        write(surface, more, 12, MUTED, topleft=(box.left + label, box.top + 34 + len(bars) * ROW))
