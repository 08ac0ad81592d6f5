"""Reading saved environment positions, which come from files and are not trusted."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.errors import UserError


def entry(state: Any, name: str, kind: type) -> Any:
    """Return `state[name]`, which must be a `kind`.

    Raises:
        UserError: it is missing, or is something else.
    """
    value = state.get(name) if isinstance(state, dict) else None
    if type(value) is not kind:
        found = "missing" if value is None else f"a {type(value).__name__}"
        raise UserError(f"the saved environment position is damaged: {name!r} is {found}, not a {kind.__name__}")
    return value


def array(value: Any, name: str, shape: tuple[int | None, ...], dtype: Any) -> np.ndarray:
    """Return `value` as an array of its own, which must have this dtype and this shape (None: any length).

    Raises:
        UserError: it has not; most often because the number of environments was changed.
    """
    found = np.array(value)
    fits = found.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, found.shape, strict=True))
    if not fits or found.dtype != np.dtype(dtype):
        raise UserError(
            f"the saved environment position does not fit these environments: {name!r} is {found.dtype} "
            f"{list(found.shape)}, expected {np.dtype(dtype)} {['any' if side is None else side for side in shape]}"
        )
    return found
