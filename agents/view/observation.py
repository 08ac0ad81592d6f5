"""What the agent sees, for those who watch it: numbers with their names, and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces

from agents.networks.pictures import Layout, picture_layout
from agents.view.viewer import number
from envs.adapters.masks import ACTION_MASK
from envs.names import Names
from envs.words import Written, text_of


def readings(obs: Any, space: Space, names: Names) -> list[tuple[str, str]]:
    """Return the name and the value of each number of an observation; neither pictures nor masks are among them.

    Args:
        obs: canonical, without a batch axis.
        space: canonical.
    """
    found = []
    for path, leaf, values in _leaves(obs, space):
        if path == ACTION_MASK or picture_layout(leaf) is not None:
            continue
        if isinstance(leaf, Written):
            found.append((path or "text", text_of(values)))
            continue
        flat = np.atleast_1d(values).ravel()
        whole, given = values.dtype.kind in "iub", names.of_leaf(path, len(flat))
        found += [(name, str(int(x)) if whole else number(float(x))) for name, x in zip(given, flat, strict=True)]
    return found


def pictures(obs: Any, space: Space) -> list[np.ndarray]:
    """Return the pictures of an observation, uint8 `[H, W, 3]`: stacked ones and channels that are no colours apart."""
    found: list[np.ndarray] = []
    for _, leaf, values in _leaves(obs, space):
        if (layout := picture_layout(leaf)) is not None:
            assert isinstance(leaf, spaces.Box)
            low, high = float(leaf.low.min()), float(leaf.high.max())
            shares = (values.astype(np.float32) - low) / max(high - low, 1e-9)
            found += _tiles(np.rint(shares.clip(0, 1) * 255).astype(np.uint8), layout)
    return found


def _tiles(pixels: np.ndarray, layout: Layout) -> list[np.ndarray]:
    channels = layout.fold(torch.from_numpy(pixels)[None])[0].numpy()
    others = layout.shape[: layout.side] + layout.shape[layout.side + 2 :]
    if others and others[-1] == 3:  # colours run fastest
        return [np.moveaxis(colours, 0, -1) for colours in channels.reshape(-1, 3, *layout.size)]
    return [grey[:, :, None].repeat(3, axis=2) for grey in channels]


def _leaves(obs: Any, space: Space) -> Iterator[tuple[str, Space, np.ndarray]]:
    if isinstance(space, spaces.Dict):
        for path, leaf in space.spaces.items():
            yield path, leaf, np.asarray(obs[path])
    else:
        yield "", space, np.asarray(obs)
