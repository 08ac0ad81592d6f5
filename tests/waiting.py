"""Waiting for what happens in another process."""

from __future__ import annotations

import time
from collections.abc import Callable

HANGS = 600  # seconds after which something hangs; how long it takes is not what is tested


def wait_for(condition: Callable[[], object]) -> None:
    """Return once `condition` holds."""
    limit = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < limit, "it hangs"
        time.sleep(0.01)
