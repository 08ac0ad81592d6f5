"""Reading saved states of a training, which come from files and are not trusted: their types fit, or it is said."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from gymnasium.spaces import Space

from agents.core.tree import to_numpy

MOST = 10**15  # of anything that is counted


def count(value: Any, name: str) -> int:
    """Return a number of steps, updates or the like.

    Raises:
        ValueError: it is none.
    """
    if type(value) is not int or not 0 <= value <= MOST:
        raise ValueError(f"{name} is {value!r:.60}, a whole number from 0 on expected")
    return value


def part(state: Any, name: str) -> Any:
    """Return `state[name]`.

    Raises:
        ValueError: it is missing, or `state` is no mapping.
    """
    if not isinstance(state, dict) or name not in state:
        raise ValueError(f"{name} is missing")
    return state[name]


def like(value: Any, mine: Any, name: str, rows: int | None = None) -> Any:
    """Return `value`, which must be of the same dtype and shape as `mine`: an array or tensor, or a tree of them.

    Args:
        rows: how many of such arrays lie on one another in `value`; None for one alone.

    Raises:
        ValueError: it is not; the message says where.
    """
    if isinstance(mine, dict | tuple):
        same = type(value) is type(mine) and len(value) == len(mine)
        if not same or (isinstance(mine, dict) and value.keys() != mine.keys()):
            raise ValueError(f"{name} has other parts than it should")
        for key in mine if isinstance(mine, dict) else range(len(mine)):
            like(value[key], mine[key], f"{name}/{key}", rows)
        return value
    found, wanted = _form(value), (_form(mine)[0], [*([] if rows is None else [rows]), *mine.shape])
    if found != wanted:
        raise ValueError(f"{name} is {_words(found)}, {_words(wanted)} expected")
    return value


def _form(value: Any) -> tuple[str, list[int]]:
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return type(value).__name__, []
    return str(value.dtype).removeprefix("torch."), list(value.shape)


def _words(form: tuple[str, list[int]]) -> str:
    return f"{form[0]} {form[1]}"


def within(value: Any, space: Space, name: str, rows: Any = ...) -> None:
    """Refuse whole numbers that are no choices of a canonical space, of whatever leading shape.

    Args:
        rows: an index of those that count.

    Raises:
        ValueError: there is one.
    """
    if isinstance(space, spaces.Dict):
        for key, leaf in space.items():
            within(value[key], leaf, f"{name}/{key}", rows)
        return
    match space:
        case spaces.Discrete():
            most: Any = space.n
        case spaces.MultiDiscrete():
            most = space.nvec
        case _:
            return
    value = to_numpy(value)[rows]
    if (value < 0).any() or (value >= most).any():
        raise ValueError(f"{name} holds numbers that {space} does not have")
