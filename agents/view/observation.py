"""What the agent sees, for those who watch it: numbers with their names, and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import Space, spaces

from agents.networks.pictures import Layout, layout_by
from agents.view.canvas import WARM, number
from envs.adapters.masks import ACTION_MASK
from envs.names import Names
from envs.words import Written, text_of

EMPTY: Mapping[str, np.ndarray] = MappingProxyType({})
TINT = 0.85  # of a picture's colour at its most salient place
Saliency = Mapping[str, np.ndarray]  # as `saliency` of `agents.view.saliency` returns it


class Reading(NamedTuple):
    """A number that the agent sees; `weight`, 0 to 1, is its saliency as a share of the greatest."""

    name: str
    text: str
    weight: float = 0.0


def readings(obs: Any, space: Space, names: Names, saliency: Saliency = EMPTY, axes: str = "auto") -> list[Reading]:
    """Return each number of an observation; neither pictures nor masks are among them.

    Args:
        obs: canonical, without a batch axis.
        space: canonical.
        saliency: of the observation's leaves.
        axes: which of them are pictures, as `layout_by` takes it.
    """
    found: list[Reading] = []
    for path, leaf, values in _leaves(obs, space):
        if path == ACTION_MASK or layout_by(leaf, axes) is not None:
            continue
        if isinstance(leaf, Written):
            found.append(Reading(path or "text", text_of(values)))
            continue
        flat = np.atleast_1d(values).ravel()
        given = names.of_leaf(path, len(flat))
        texts = [str(int(x)) if values.dtype.kind in "iub" else number(float(x)) for x in flat]
        weights = np.ravel(saliency.get(path, np.zeros(len(flat)))).tolist()
        found += map(Reading, given, texts, weights)
    most = max([reading.weight for reading in found], default=0.0) or 1.0
    return [reading._replace(weight=reading.weight / most) for reading in found]


def pictures(obs: Any, space: Space, saliency: Saliency = EMPTY, axes: str = "auto") -> list[np.ndarray]:
    """Return the pictures of an observation, uint8 `[H, W, 3]`: stacked ones and channels that are no colours apart.

    Where there is a `saliency` of the leaf, salient places are tinted; `axes` as `readings` takes it.
    """
    found: list[np.ndarray] = []
    for path, leaf, values in _leaves(obs, space):
        if path != ACTION_MASK and (layout := layout_by(leaf, axes)) is not None:
            assert isinstance(leaf, spaces.Box)
            low, high = float(leaf.low.min()), float(leaf.high.max())
            if not np.isfinite(high - low):  # numbers that are a picture as the user says
                low, high = float(values.min()), float(values.max())
            shares = (values.astype(np.float32) - low) / max(high - low, 1e-9)
            tiles = _tiles(np.rint(shares.clip(0, 1) * 255).astype(np.uint8), layout)
            if path in saliency:
                weights = saliency[path] / (saliency[path].max() or 1.0)
                heat = [share.max(axis=2, keepdims=True) for share in _tiles(weights, layout)]
                tiles = [_tinted(tile, TINT * share) for tile, share in zip(tiles, heat, strict=True)]
            found += tiles
    return found


def _tinted(tile: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.rint(tile // 2 * (1 - share) + np.array(WARM) * share).astype(np.uint8)


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
