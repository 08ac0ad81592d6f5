"""What an environment keeps that neither a seeded reset nor a replay brings back, as far as it can be seen.

Seen are the attributes of the environment and its wrappers that hold plain data: numbers, text, arrays, random
generators, and lists, tuples, sets and dicts of these. What lies in other objects, such as a simulator's, is not.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

_MOST_BYTES = 2**20  # of one attribute; larger ones are not looked at
_MOST_ITEMS = 1_000  # of a list or dict
_DEEPEST = 4  # lists in lists
GLOBAL_STREAMS = ("random", "numpy.random")


def checksums(env: gymnasium.Env) -> dict[str, int]:
    """Return a checksum of each attribute that is plain data, by class and name, and of the global random streams.

    Gymnasium's wrappers are left out: some count episodes, or note the time.
    """
    found = {}
    layer: Any = env
    while True:
        if not type(layer).__module__.startswith("gymnasium.wrappers"):
            for name, value in list(getattr(layer, "__dict__", {}).items()):
                try:
                    found[f"{type(layer).__name__}.{name}"] = zlib.crc32(_bytes(value))
                except (TypeError, ValueError):
                    continue  # no plain data
        if not isinstance(layer, gymnasium.Wrapper):
            break
        layer = layer.env
    states = (random.getstate(), np.random.get_state(legacy=False))  # noqa: NPY002 (what users' environments draw from)
    streams = {name: zlib.crc32(_bytes(state)) for name, state in zip(GLOBAL_STREAMS, states, strict=True)}
    return found | streams


def streams_used(before: Mapping[str, int], now: Mapping[str, int], saved: Mapping[str, int]) -> list[str]:
    """Return the global random streams that were drawn from since `before` and are not where they were when `saved`."""
    return [name for name in GLOBAL_STREAMS if now[name] != before[name] and now[name] != saved.get(name, now[name])]


def attributes_changed(now: Mapping[str, int], saved: Mapping[str, int]) -> list[str]:
    """Return the attributes, by class and name, that are not what they were when `saved`."""
    return [name for name in now if name not in GLOBAL_STREAMS and now[name] != saved.get(name, now[name])]


def _bytes(value: Any, depth: int = 0) -> bytes:
    """Write plain data so that only equal values are written alike; TypeError or ValueError for anything else."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value).encode()
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject or value.nbytes > _MOST_BYTES:
            raise ValueError
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    if isinstance(value, np.random.Generator):
        return _bytes(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return _bytes(value.get_state(legacy=False))
    if isinstance(value, random.Random):
        return _bytes(value.getstate())
    if not isinstance(value, dict | list | tuple | deque | set | frozenset):
        raise TypeError
    if len(value) > _MOST_ITEMS or depth > _DEEPEST:
        raise ValueError
    items: Any = value.items() if isinstance(value, dict) else value
    parts = [_bytes(item, depth + 1) for item in items]
    if sum(map(len, parts)) > _MOST_BYTES:
        raise ValueError
    if isinstance(value, set | frozenset):
        parts.sort()
    return b"".join([type(value).__name__.encode(), *(f"({len(part)})".encode() + part for part in parts)])
