"""Where a measurement was made: processor, memory, load."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Return `cpu`, `cores` (of them we may use `usable`), `memory_gb` and `load`, the mean of the last minute."""
    usable = len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "usable": usable,
        "memory_gb": round(memory / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    """Return the processor's name where Linux writes it, elsewhere what Python knows."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
