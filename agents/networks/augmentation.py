"""Pictures changed at random as they are learnt from, so that a network learns what such changes leave as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import Space
from torch import Tensor

from agents.networks.pictures import Layout, layout_by
from agents.ops.augment import PLACED, Places, coloured, taken
from envs.adapters.masks import ACTION_MASK
from envs.errors import UserError
from envs.spaces import leaf_spaces


class Augmentation:
    """Changes the pictures of observations, each by random numbers of its own; the channels of one picture alike.

    Args:
        space: canonical.
        names: what is done: rows of `PLACED`, and "colour".
        axes: as `layout_by` takes them.

    Raises:
        UserError: there are no pictures, or those that are to be rotated are not square, or one whose colours are to
            change has no finite bounds.
    """

    def __init__(self, space: Space, names: Sequence[str], axes: str = "auto") -> None:
        leaves = leaf_spaces(space)
        found = {name: layout_by(leaf, axes) for name, leaf in leaves.items() if name != ACTION_MASK}
        self.layouts: dict[str, Layout] = {name: layout for name, layout in found.items() if layout is not None}
        if not self.layouts:
            raise UserError("augment changes pictures, and the observation has none: leave it out")
        if "rotate" in names and not all(layout.square for layout in self.layouts.values()):
            raise UserError("augment rotate turns pictures by quarters, so they must be as wide as high: leave it out")
        self.names = tuple(names)
        self._bounds: dict[str, tuple[float, float]] = {}
        for name in self.layouts:
            leaf: Any = leaves[name]
            low, high = self._bounds[name] = float(leaf.low.min()), float(leaf.high.max())
            if "colour" in names and not high - low <= torch.finfo(torch.float32).max:
                raise UserError(
                    f"augment colour changes pictures within finite bounds, and {name or 'the observation'} is a Box "
                    f"from {low:g} to {high:g}: give it finite ones, such as 0 and 1, or leave colour out"
                )

    def __call__(self, obs: Any, generator: torch.Generator) -> Any:
        """Return observations `[*, ...]`, of any leading shape, with their pictures changed.

        Args:
            obs: tensors.
            generator: of their device.
        """
        if not isinstance(obs, dict):
            return self._changed(obs, "", generator)
        return {name: self._changed(x, name, generator) if name in self.layouts else x for name, x in obs.items()}

    def _changed(self, x: Tensor, name: str, generator: torch.Generator) -> Tensor:
        layout, lead = self.layouts[name], x.shape[: x.dim() - len(self.layouts[name].shape)]
        flat = x.reshape(-1, *layout.shape)
        u = torch.rand(len(self.names), 2, len(flat), generator=generator, device=x.device)
        places: Places | None = None
        for kind, numbers in zip(self.names, u, strict=True):
            if kind in PLACED:
                places = PLACED[kind](self._as_is(flat, layout) if places is None else places, numbers)
        if places is not None:
            flat = taken(flat, places, layout.side + 1)
        if "colour" in self.names:
            flat = coloured(flat, *self._bounds[name], u[self.names.index("colour")])
        return flat.reshape(*lead, *layout.shape)

    @staticmethod
    def _as_is(x: Tensor, layout: Layout) -> Places:
        height, width = layout.size
        row, column = torch.meshgrid(
            torch.arange(height, device=x.device), torch.arange(width, device=x.device), indexing="ij"
        )
        return Places(row.expand(len(x), -1, -1), column.expand(len(x), -1, -1))
