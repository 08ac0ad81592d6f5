"""What the agent sees, for those who watch it: numbers with their names, and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces

from agents.networks.pictures import Layout, layout_by
from agents.view.viewer import number
from envs.adapters.masks import ACTION_MASK
from envs.names import Names
from envs.words import Written, text_of


def readings(obs: Any, space: Space, names: Names, axes: str = "auto") -> list[tuple[str, str]]:
    """Return the name and the value of each number of an observation; neither pictures nor masks are among them.

    Args:
        obs: canonical, without a batch axis.
        space: canonical.
        axes: which arrays are pictures, as `layout_by` takes them.
    """
    found = []
    for path, leaf, values in _leaves(obs, space):
        if path == ACTION_MASK or layout_by(leaf, axes) is not None:
            continue
        if isinstance(leaf, Written):
            found.append((path or "text", text_of(values)))
            continue
        flat = np.atleast_1d(values).ravel()
        given = names.stacked(path)
        if len(given) != len(flat):
            given = (path,) if path and len(flat) == 1 else tuple(f"{path} {i}".strip() for i in range(len(flat)))
        whole = values.dtype.kind in "iub"
        found += [(name, str(int(x)) if whole else number(float(x))) for name, x in zip(given, flat, strict=True)]
    return found


def pictures(obs: Any, space: Space, axes: str = "auto") -> list[np.ndarray]:
    """Return the pictures of an observation, uint8 `[H, W, 3]`: stacked ones and channels that are no colours apart.

    Args:
        obs, space, axes: as `readings` takes them.
    """
    found: list[np.ndarray] = []
    for path, leaf, values in _leaves(obs, space):
        if path != ACTION_MASK and (layout := layout_by(leaf, axes)) is not None:
            assert isinstance(leaf, spaces.Box)
            low, high = float(leaf.low.min()), float(leaf.high.max())
            if not np.isfinite(high - low):  # numbers that are a picture as the user says
                low, high = float(values.min()), float(values.max())
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
