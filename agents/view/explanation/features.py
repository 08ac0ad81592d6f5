"""What an observation is taken apart into to be explained: numbers, channels or regions of pictures, whole leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces

from agents.networks.pictures import Layout, layout_by
from envs.adapters.masks import ACTION_MASK
from envs.names import Names
from envs.spaces import leaf_spaces
from envs.words import Tokens, Written

MOST = 256  # features of a leaf: more numbers than that go in groups
SIDE = 6  # regions along each side of a picture


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """A part of an observation that is looked at as one.

    Attributes:
        path: of its leaf, "" where the observation is one array.
        where: which of the leaf's numbers belong to it, bool of the leaf's shape.
    """

    name: str
    path: str
    where: np.ndarray

    def leaf(self, tree: Any) -> Any:
        """Return what a tree of observations holds of this leaf."""
        return tree[self.path] if isinstance(tree, dict) else tree

    def replaced(self, obs: Any, others: Any) -> Any:
        """Return NumPy observations `[N, ...]` in which this feature is what it is in `others`, row by row."""
        leaf = np.where(self.where, self.leaf(others), self.leaf(obs))
        return {**obs, self.path: leaf} if isinstance(obs, dict) else leaf

    def summed(self, leaves: dict[str, np.ndarray]) -> np.ndarray | None:
        """Return the sum over its numbers of arrays `[..., *shape]` by path, `[...]`; None without its leaf's."""
        if self.path not in leaves:
            return None
        return leaves[self.path][..., self.where].sum(axis=-1)


def leaves_of(space: Space) -> dict[str, Space]:
    """Return path -> space of what a canonical observation is made of, masks of actions left out."""
    return {path: leaf for path, leaf in leaf_spaces(space).items() if path != ACTION_MASK}


def features_of(space: Space, names: Names, picture_axes: str = "auto") -> list[Feature]:
    """Return the features of a canonical observation space.

    A vector's are its numbers, a picture's are its channels where these have names, and regions otherwise; a text or a
    sequence is one feature. The mask of legal actions is none.

    Args:
        picture_axes: as `agents.networks.pictures.layout_by` takes it.
    """
    return [
        feature
        for path, leaf in leaves_of(space).items()
        for feature in _of_leaf(path, leaf, names, layout_by(leaf, picture_axes))
    ]


def picture_leaves(space: Space, picture_axes: str = "auto") -> dict[str, Layout]:
    """Return path -> layout of the pictures of a canonical observation space."""
    found = {path: layout_by(leaf, picture_axes) for path, leaf in leaves_of(space).items()}
    return {path: layout for path, layout in found.items() if layout is not None}


def is_continuous(leaf: Space) -> bool:
    """Whether a leaf's numbers are quantities, so that there is a gradient."""
    return isinstance(leaf, spaces.Box) and not isinstance(leaf, Written)


def _of_leaf(path: str, leaf: Space, names: Names, layout: Layout | None) -> Iterator[Feature]:
    shape: tuple[int, ...] = leaf.shape or ()
    count = math.prod(shape)
    if isinstance(leaf, Written | Tokens):
        yield Feature(path or "text", path, np.ones(shape, bool))
    elif layout is not None:
        yield from _of_picture(path, names, layout)
    elif count <= MOST:
        for place, name in enumerate(names.of_leaf(path, count)):
            yield Feature(name, path, _at(shape, place))
    else:
        for places in np.array_split(np.arange(count), MOST):
            yield Feature(f"{path} {places[0]} to {places[-1]}".strip(), path, _at(shape, places))


def _of_picture(path: str, names: Names, layout: Layout) -> Iterator[Feature]:
    places = np.arange(math.prod(layout.shape)).reshape(1, *layout.shape)
    channels = layout.fold(torch.from_numpy(places))[0].numpy()  # [C, H, W]
    given = names.observations.get(path, ())
    if len(given) == len(channels):
        for name, channel in zip(given, channels, strict=True):
            yield Feature(name, path, _at(layout.shape, channel))
        return
    height, width = layout.size
    for rows in np.array_split(np.arange(height), min(SIDE, height)):
        for columns in np.array_split(np.arange(width), min(SIDE, width)):
            name = f"{path} rows {rows[0]}-{rows[-1]}, columns {columns[0]}-{columns[-1]}".strip()
            yield Feature(name, path, _at(layout.shape, channels[:, rows][:, :, columns]))


def _at(shape: tuple[int, ...], places: Any) -> np.ndarray:
    """Return where in an array of this shape the given places are, counted along a row."""
    found = np.zeros(math.prod(shape), bool)
    found[np.asarray(places).ravel()] = True
    return found.reshape(shape)
