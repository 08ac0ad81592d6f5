"""Named random streams: one seed gives every part of a run its own, and no two share one."""

from __future__ import annotations

import zlib

import numpy as np


def derive_seed(seed: int, *path: str | int) -> int:
    """Return a 31-bit seed for the stream that `path` names, e.g. `derive_seed(0, "env", 3)`.

    The mapping is a hash (NumPy's `SeedSequence`), so neighbouring seeds and paths are unrelated.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0] >> 1)
