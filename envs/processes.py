"""What starting other processes takes, whatever the system."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

# Arguments of `Popen` for a child that Ctrl-C in the terminal does not reach: that is for the main process, which ends
# things in order. Windows ignores the first, and only Windows has the other.
APART: dict[str, Any] = {
    "start_new_session": True,
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
