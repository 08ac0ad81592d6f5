"""Spaces as JSON, and back, whoever wrote it: nothing is made that would not fit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from envs.errors import UserError
from envs.spaces import MOST_ENTRIES, OBSERVATIONS, brief
from envs.words import is_text, text_from_json, text_to_json

_DTYPES = (
    "bool",
    "float16",
    "float32",
    "float64",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


def space_to_json(space: Space) -> dict[str, Any]:
    """Return a space as plain JSON data (infinite bounds as strings).

    Raises:
        UserError: it is not made of Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple.
    """
    match space:
        case spaces.Dict():
            return {"type": "Dict", "spaces": {key: space_to_json(leaf) for key, leaf in space.spaces.items()}}
        case spaces.Tuple():
            return {"type": "Tuple", "spaces": [space_to_json(leaf) for leaf in space.spaces]}
        case spaces.Box():
            bounds = {"low": _bound_to_json(space.low), "high": _bound_to_json(space.high)}
            return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
        case spaces.Discrete():
            start = {"start": int(space.start)} if space.start else {}
            return {"type": "Discrete", "n": int(space.n), **start, **_integer_type(space)}
        case spaces.MultiDiscrete():
            start = {"start": space.start.tolist()} if space.start.any() else {}
            return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), **start, **_integer_type(space)}
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
        case spaces.Sequence():
            return {"type": "Sequence", "of": space_to_json(space.feature_space), "stack": space.stack}
    if is_text(space):
        return text_to_json(space)
    raise UserError(f"{space} cannot be saved: it must be made of {OBSERVATIONS}")


def _integer_type(space: Space) -> dict[str, str]:
    return {} if space.dtype == np.int64 else {"dtype": str(space.dtype)}


def _bound_to_json(bound: np.ndarray) -> list[float | str]:
    """Return the bound's entries in order, or just one if all are equal."""
    flat = bound.ravel()
    values = flat[:1] if (flat == flat[0]).all() else flat
    return [value if math.isfinite(value) else str(value) for value in values.tolist()]


def space_from_json(data: Any) -> Space:
    """Return the space that `space_to_json` described.

    Raises:
        UserError: `data` describes no space.
    """
    try:
        if (entries := _entries(data)) > MOST_ENTRIES:
            raise UserError(
                f"not the description of a space: it has {entries:,} entries, and at most {MOST_ENTRIES:,} are allowed"
            )
        return _space(data)
    except (ValueError, TypeError, OverflowError, AssertionError, RecursionError) as error:
        raise UserError(f"not the description of a space: {brief(data)}") from error


def _entries(data: Any) -> int:
    """Return how many numbers the spaces described have, where that is plain."""
    match data:
        case {"spaces": dict(leaves)}:
            return sum(map(_entries, leaves.values()))
        case {"spaces": list(leaves)}:
            return sum(map(_entries, leaves))
        case {"shape": list(sides)} | {"n": list(sides)}:
            return math.prod(_count(side) for side in sides)
        case {"type": "MultiBinary", "n": n}:
            return _count(n)
        case {"of": symbols}:
            return _entries(symbols)
    return 1


def _space(data: Any) -> Space:
    """Return the space that was described; anything unexpected raises ValueError, TypeError or OverflowError."""
    match data:
        case {"type": "Dict", "spaces": dict(leaves), **rest} if leaves and not rest:
            return spaces.Dict({key: _space(leaf) for key, leaf in leaves.items()})
        case {"type": "Tuple", "spaces": list(leaves), **rest} if leaves and not rest:
            return spaces.Tuple([_space(leaf) for leaf in leaves])
        case {"type": "Discrete", "n": n, **rest} if rest.keys() <= {"start", "dtype"}:
            dtype = _integer_dtype(rest.get("dtype", "int64"))
            return spaces.Discrete(_count(n), start=_integer(rest.get("start", 0)), dtype=dtype)
        case {"type": "Text", **rest}:
            return text_from_json(rest)
        case {"type": "Sequence", "of": dict(symbols), "stack": bool(stack), **rest} if not rest:
            return spaces.Sequence(_space(symbols), stack=stack)
        case {"type": "MultiBinary", "n": list(sides), **rest} if sides and not rest:
            shape = tuple(_count(side) for side in sides)
            return spaces.MultiBinary(shape)
        case {"type": "MultiBinary", "n": n, **rest} if not rest:
            return spaces.MultiBinary(n)
        case {"type": "MultiDiscrete", "nvec": list(nvec), **rest} if nvec and rest.keys() <= {"start", "dtype"}:
            counts, start = _integers(nvec), _integers(rest["start"]) if "start" in rest else None
            dtype = _integer_dtype(rest.get("dtype", "int64"))
            if counts.min() > 0 and counts.max() < 2**31:
                return spaces.MultiDiscrete(counts, dtype=dtype, start=start)
        case {"type": "Box", "shape": list(sides), "dtype": str(dtype), **bounds} if dtype in _DTYPES:
            shape = tuple(_count(side) for side in sides)
            if bounds.keys() == {"low", "high"}:
                low, high = (_bound_from_json(bounds[name], shape, dtype) for name in ("low", "high"))
                return spaces.Box(low, high, dtype=np.dtype(dtype).type)
    raise ValueError("none that is known")


def _count(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError("not a count")
    return value


def _integer_dtype(name: Any) -> type[np.integer[Any]]:
    if name not in _DTYPES or np.dtype(name).kind not in "iu":
        raise ValueError("not an integer dtype")
    return np.dtype(name).type


def _integer(value: Any) -> int:
    if type(value) is not int or abs(value) > 2**64:
        raise ValueError("not an integer")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("not a truth value")
    return value


def _number(value: Any) -> float:
    if np.isnan(number := float(value)):
        raise ValueError("NaN")
    return number


def _integers(values: Any) -> np.ndarray:
    found = np.array(values)
    if found.dtype != np.int64 or not found.size:
        raise ValueError("not integers")
    return found


def _bound_from_json(values: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    kind = np.dtype(dtype).kind
    read = {"b": _flag, "i": _integer, "u": _integer}.get(kind, _number)
    found = [read(value) for value in values]
    if kind in "iu" and not np.iinfo(dtype).min <= min(found) <= max(found) <= np.iinfo(dtype).max:
        raise ValueError("out of range")
    bound = np.array(found, dtype)
    return bound.reshape(shape) if bound.size == math.prod(shape) else np.broadcast_to(bound, shape)
