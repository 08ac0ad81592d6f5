"""Random changes of pictures, as pure functions of random numbers: where each pixel comes from, or its colour.

Coordinates are int64 `[B, H, W]`, the row and the column that a pixel takes its value from. Numbers `u` are uniform in
[0, 1), `[B]` each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SHIFT = 4 / 84  # of a side: four pixels of 84, as DrQ
WINDOW = 7 / 8  # of a side that a crop shows at least
ZOOM = 0.2  # how much larger or smaller pictures get
CONTRAST, BRIGHTNESS = 0.2, 0.1  # how much colours change at most, the latter as a share of their range


class Places(NamedTuple):
    """The row and the column that each pixel takes its value from, `[B, H, W]`."""

    row: Tensor
    column: Tensor


def shifted(places: Places, u: Tensor) -> Places:
    """Move a picture by up to 4 of 84 pixels each way, its edge repeated (DrQ, Kostrikov et al., arXiv:2004.13649)."""
    _, height, width = places.row.shape
    down, right = (
        (torch.floor(number * (2 * pad + 1)).long() - pad)[:, None, None]
        for number, pad in zip(u, (max(round(height * SHIFT), 1), max(round(width * SHIFT), 1)), strict=True)
    )
    return Places((places.row + down).clamp(0, height - 1), (places.column + right).clamp(0, width - 1))


def cropped(places: Places, u: Tensor) -> Places:
    """Show a window of 7/8 of each side at a random place, as large as the picture (RAD: Laskin et al. 2020)."""
    return _zoomed(places, torch.full_like(u[0], WINDOW), u[0], u[1])


def scaled(places: Places, u: Tensor) -> Places:
    """Show a picture up to a fifth larger or smaller around its centre, its edge repeated."""
    half = torch.full_like(u[0], 0.5)
    return _zoomed(places, 1 - ZOOM + 2 * ZOOM * u[0], half, half)


def _zoomed(places: Places, share: Tensor, down: Tensor, right: Tensor) -> Places:
    found = []
    for at, side, start in ((places.row, places.row.shape[1], down), (places.column, places.row.shape[2], right)):
        part, begin = (share * side)[:, None, None], ((1 - share) * side * start)[:, None, None]
        found.append(torch.floor(begin + (at + 0.5) * part / side).long().clamp(0, side - 1))
    return Places(*found)


def flipped(places: Places, u: Tensor) -> Places:
    """Turn left and right about in half of the pictures."""
    column = places.column
    return Places(places.row, torch.where(u[0][:, None, None] < 0.5, column, column.shape[2] - 1 - column))


def rotated(places: Places, u: Tensor) -> Places:
    """Turn square pictures by none to three quarters."""
    row, column = places
    last, turns = row.shape[1] - 1, torch.floor(4 * u[0]).long()[:, None, None]
    rows = torch.stack([row, column, last - row, last - column])
    columns = torch.stack([column, last - row, last - column, row])
    return Places(
        *(
            torch.where(turns < 2, torch.where(turns == 0, a, b), torch.where(turns == 2, c, d))
            for a, b, c, d in (rows, columns)
        )
    )


PLACED: dict[str, Callable[[Places, Tensor], Places]] = {
    "shift": shifted,
    "crop": cropped,
    "scale": scaled,
    "flip": flipped,
    "rotate": rotated,
}


def taken(x: Tensor, places: Places, height: int) -> Tensor:
    """Return pictures `[B, ...]` with each pixel taken from its place; `height` is the axis of the rows, from 1 on."""
    picture = x.movedim((height, height + 1), (1, 2))
    rows = torch.arange(len(x), device=x.device)[:, None, None]
    return picture[rows, places.row, places.column].movedim((1, 2), (height, height + 1))


def coloured(x: Tensor, low: float, high: float, u: Tensor) -> Tensor:
    """Return pictures `[B, ...]` with other contrast and brightness, within `low` and `high`, in the same dtype."""
    each = (-1, *[1] * (x.dim() - 1))
    contrast, brightness = 1 + CONTRAST * (2 * u[0] - 1), BRIGHTNESS * (2 * u[1] - 1)
    share = (x.float() - low) / (high - low)
    share = (share - 0.5) * contrast.view(each) + 0.5 + brightness.view(each)
    found = low + share.clamp(0, 1) * (high - low)
    return found if x.is_floating_point() else found.round().to(x.dtype)
