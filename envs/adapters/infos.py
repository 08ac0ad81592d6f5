"""What an environment's `info` held when an episode ended, as far as it is numbers and text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

LARGEST = 1_000  # entries of an array: pictures and maps stay behind, so that little is kept of many episodes


def infos_at(infos: Any, rows: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return number of environment -> info, of those rows whose info has something that `plain` keeps.

    Args:
        infos: one for each environment, or all in one dict of arrays, as Gymnasium's vector environments have them.
        rows: whose episode ended.
    """
    batched = isinstance(infos, dict)
    found = {int(row): plain(_row_of(infos, int(row)) if batched else infos[row]) for row in rows}
    return {row: info for row, info in found.items() if info}


def plain(info: Any) -> dict[str, Any]:
    """Return what is a number, text, a short list or array of these, or a dict of all that, in an info."""
    if not isinstance(info, dict):
        return {}
    found: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
            value = value.item()
        if isinstance(value, dict):
            value = plain(value) or None
        array = isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.size <= LARGEST
        listed = isinstance(value, list | tuple) and len(value) <= LARGEST and all(map(_is_plain, value))
        if isinstance(key, str) and (array or listed or _is_plain(value) or isinstance(value, dict)):
            found[str.__str__(key)] = value.copy() if array else value  # of a class of the user's own, plain text
    return found


def _is_plain(value: Any) -> bool:
    return type(value) in (bool, int, float, str)  # a class of the user's own may not be known to another process


def _row_of(batch: dict[str, Any], row: int) -> dict[str, Any]:
    """Return one environment's part of a dict of arrays; `_key` says which environments have `key`."""
    found = {}
    for key, values in batch.items():
        has = batch.get(f"_{key}")
        if has is not None and not has[row]:
            continue
        if isinstance(values, dict):
            found[key] = _row_of(values, row)
        elif isinstance(values, np.ndarray) and values.ndim and not (key.startswith("_") and key[1:] in batch):
            found[key] = values[row]
    return found
