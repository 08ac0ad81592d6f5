"""Spaces as Minari writes them in its `metadata.json`, to and from those of Gymnasium."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from envs.errors import UserError
from envs.space_json import space_from_json
from envs.words import PRINTED, is_text, text_to_json

DEEPEST = 20  # levels of Dict and Tuple


def to_minari(space: Space) -> dict[str, Any]:
    """Return a space as Minari's `serialize_space` writes it.

    Raises:
        UserError: Minari knows no such space.
    """
    match space:
        case spaces.Box():
            bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
            return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}
        case spaces.Discrete():
            return {"type": "Discrete", "dtype": "int64", "start": int(space.start), "n": int(space.n)}
        case spaces.MultiDiscrete():
            numbers = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
            return {"type": "MultiDiscrete", "dtype": str(space.dtype), **numbers}
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
        case spaces.Dict():
            return {"type": "Dict", "subspaces": {key: to_minari(part) for key, part in space.spaces.items()}}
        case spaces.Tuple():
            return {"type": "Tuple", "subspaces": [to_minari(part) for part in space.spaces]}
    if is_text(space):
        text = text_to_json(space)
        length, characters = text["max_length"], text.get("characters", PRINTED)
        return {
            "type": "Text",
            "max_length": length,
            "min_length": getattr(space, "min_length", 0),
            "charset": characters,
        }
    raise UserError(f"{space} cannot be recorded: Minari's format has no such space")


def from_minari(written: Any) -> Space:
    """Return the space that Minari wrote, which may be anybody's text.

    Raises:
        ValueError, UserError: it is none.
    """
    return space_from_json(_ours(json.loads(written) if isinstance(written, str) else written, DEEPEST))


def _ours(space: Any, depth: int) -> dict[str, Any]:
    """Write a space as `envs.space_json.space_from_json` reads it."""
    if not depth:
        raise ValueError("a space of too many levels")
    match space:
        case {"type": "Box", "low": low, "high": high}:
            bounds = {"low": np.ravel(low).tolist(), "high": np.ravel(high).tolist()}
            return space | bounds
        case {"type": "Discrete", "n": n}:
            return {"type": "Discrete", "n": n, "start": space.get("start", 0)}
        case {"type": "MultiDiscrete", "nvec": nvec}:
            start = space.get("start")
            started = {"start": start} if start is not None and np.any(start) else {}
            return {"type": "MultiDiscrete", "nvec": nvec, "dtype": space.get("dtype", "int64"), **started}
        case {"type": "Dict", "subspaces": dict(parts)}:
            return {"type": "Dict", "spaces": {str(key): _ours(part, depth - 1) for key, part in parts.items()}}
        case {"type": "Tuple", "subspaces": list(parts)}:
            return {"type": "Tuple", "spaces": [_ours(part, depth - 1) for part in parts]}
        case {"type": "Text", "max_length": longest, "charset": characters}:
            return {"type": "Text", "max_length": longest, "characters": characters}
        case {"type": "MultiBinary", "n": n}:
            return {"type": "MultiBinary", "n": n}
    raise ValueError(f"no space that is known: {str(space)[:60]}")
