"""MiniGrid's environments (Chevalier-Boisvert et al. 2023): what each cell of the grid holds, as planes of 0 and 1.

Their pictures `[W, H, 3]` are none: each cell has the number of an object, of a colour and of a state. Here every
number has a plane of its own, as numbers that only name a thing say nothing by their size.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

PLANES = (11, 6, 4)  # objects, colours, and states or directions of the agent


def in_planes(env: gymnasium.Env) -> gymnasium.Env:
    """Return an environment with planes in the place of MiniGrid's numbers, or as it is where it shows none.

    A wrapper may show something else in an array of the same shape: pixels, or where an object is. Spaces of what is
    MiniGrid's own go to 255.
    """
    if not any(base.__module__ == "minigrid.minigrid_env" for base in type(env.unwrapped).__mro__):
        return env
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if type(layer).__name__.startswith("RGB"):  # it shows pixels
            return env
        layer = layer.env
    space = env.observation_space
    leaf = space.spaces.get("image") if isinstance(space, spaces.Dict) else space
    if not isinstance(leaf, spaces.Box) or leaf.dtype != np.uint8 or len(leaf.shape) != 3 or leaf.shape[-1] != 3:
        return env
    return Planes(env) if (leaf.high == 255).all() else env


class Planes(gymnasium.ObservationWrapper):
    """Shows MiniGrid's numbers `[W, H, 3]` as planes uint8 `[W, H, 21]` of 0 and 1."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        own: Any = env.observation_space
        self._in_dict = isinstance(own, spaces.Dict)
        sides = (own["image"] if self._in_dict else own).shape[:2]
        planes = spaces.Box(0, 1, (*sides, sum(PLANES)), np.uint8)
        self.observation_space = spaces.Dict({**own.spaces, "image": planes}) if self._in_dict else planes
        self._rows = [np.eye(count, dtype=np.uint8) for count in PLANES]

    def observation(self, observation: Any) -> Any:
        if self._in_dict:
            return {**observation, "image": self._planes(observation["image"])}
        return self._planes(observation)

    def _planes(self, numbers: np.ndarray) -> np.ndarray:
        most = numbers.reshape(-1, len(PLANES)).max(axis=0)
        if (most >= PLANES).any():
            raise ValueError(
                f"an array of MiniGrid's numbers holds {most.tolist()}, where objects, colours and states are below "
                f"{PLANES}; if a wrapper shows something else, its space must say so: other bounds than 0 and 255"
            )
        return np.concatenate([rows[numbers[..., i]] for i, rows in enumerate(self._rows)], axis=-1)
