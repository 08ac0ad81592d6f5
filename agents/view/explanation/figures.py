"""An explanation's pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.lab.drawing import GREY, Mark, Picture, draw_rows, make_picture, side_style
from agents.lab.words import number
from agents.view.canvas import png
from agents.view.explanation.effects import Importance
from agents.view.explanation.features import picture_leaves
from agents.view.explanation.timeline import Timeline
from agents.view.observation import pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from agents.view.explanation.explain import Explanation, Reason

MOST = 16  # features that are drawn
WIDEST = 480  # pixels of an environment's picture
MEASURES = {"changed": "actions changed", "gradient": "gradient", "integrated": "integrated gradients"}


def draw_importances(importances: Sequence[Importance]) -> Picture:
    """Draw each measure of each feature, as a share of the sum over all features."""
    totals = {name: sum(getattr(one, name) or 0.0 for one in importances) for name in MEASURES}
    shown, labels = importances[:MOST], [label for name, label in MEASURES.items() if totals[name]]
    marks = []
    for row, one in enumerate(shown):
        for name, label in MEASURES.items():
            value = getattr(one, name)
            if value is not None and totals[name]:
                marks.append(Mark(row, label, value / totals[name], 0.0, value / totals[name]))

    def paint(axes: Axes) -> None:
        draw_rows(axes, labels, [one.feature.name for one in shown], marks, legend=True)
        axes.set_xlim(left=0)
        axes.set_xlabel("share of the sum over all features")

    first = shown[0].feature.name
    return make_picture("importances", f"What counts, most first: {first}.", 1.0 + 0.42 * len(shown), paint)


def draw_timeline(timeline: Timeline) -> Iterator[Picture]:
    """Draw value and return to come, surprise, and indecision over the episode, the most striking moments marked."""
    striking = timeline.striking()
    lines: dict[str, list[tuple[str, NDArray[np.float64]]]] = {
        "regret": [("value", timeline.value), ("return that came", timeline.to_come)],
        "surprise": [("temporal difference error", timeline.surprise)],
        "indecision": [("indecision", timeline.indecision)],
    }
    for kind, curves in lines.items():
        if all(np.isnan(curve).all() for _, curve in curves) or (kind == "indecision" and not striking[kind]):
            continue  # not known, or the same everywhere

        def paint(axes: Axes, curves: list[tuple[str, NDArray[np.float64]]] = curves, kind: str = kind) -> None:
            labels, steps = [label for label, _ in curves], np.arange(1, len(timeline) + 1)
            for label, curve in curves:
                axes.plot(steps, curve, label=label, **side_style(labels, label), markevery=[])
            for at in striking[kind]:
                axes.axvline(at + 1, color=GREY, linewidth=0.9, linestyle=":")
                place = axes.get_xaxis_transform()
                axes.text(at + 1, 1.0, str(at + 1), transform=place, ha="center", va="bottom", fontsize=7, color=GREY)
            axes.set_xlabel("step of the episode")

        places = ", ".join(str(at + 1) for at in striking[kind]) or "none"
        yield make_picture(f"timeline-{kind}", f"{curves[0][0]} over the episode; marked steps: {places}.", 2.4, paint)


def draw_moment(found: Explanation, reason: Reason, name: str) -> Iterator[Picture]:
    """Draw the environment at a decision, and for each picture that was seen what its places are worth."""
    frame = found.frames.get(reason.at)
    if frame is not None:
        every = -(-frame.shape[1] // WIDEST)
        small = frame[::every, ::every]
        height, width = small.shape[:2]
        yield Picture(f"{name}.png", png(small), f"The environment before step {reason.at + 1}.", width, height)
    space, moment = found.loaded.observation_space, found.timeline.moments[reason.at]
    axes = found.loaded.config.params.network.picture_axes
    layouts = picture_leaves(space, axes)
    for (method, path), heat in reason.heat.items():
        obs, leaf = (moment.obs[path], space.spaces[path]) if path else (moment.obs, space)  # type: ignore[attr-defined]
        tiles = pictures(obs, leaf, axes=axes)
        seen = np.max([tile.mean(axis=2) for tile in tiles], axis=0)
        flat = layouts[path].fold(torch.from_numpy(heat[None].copy()))[0].numpy().mean(axis=0)
        alt = f"What was seen and what it is worth by {method}: from {number(flat.min())} to {number(flat.max())}."
        yield make_picture(f"{name}-{method}", alt, 3.4, partial(_paint_heat, overlaid(seen, flat), method))


def _paint_heat(pixels: NDArray[np.float64], title: str, axes: Axes) -> None:
    axes.imshow(pixels)
    axes.set_title(title)
    axes.set_axis_off()


def overlaid(seen: NDArray[Any], heat: NDArray[Any]) -> NDArray[np.float64]:
    """Return a dimmed grey picture `[H, W]` of 0 to 255 under red where heat is positive and blue where it is negative.

    Returns:
        Colours from 0 to 1, `[H, W, 3]`.
    """
    grey = 0.5 * np.asarray(seen, np.float64)[..., None].repeat(3, axis=2) / 255
    share = (np.abs(heat) / (np.abs(heat).max() or 1.0))[..., None]
    colour = np.where(heat[..., None] > 0, (1.0, 0.15, 0.1), (0.2, 0.4, 1.0))
    return grey * (1 - share) + colour * share
