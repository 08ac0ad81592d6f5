"""The machine that something was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from envs.processes import cores


def describe_machine() -> dict[str, Any]:
    """Return `cpu`, `cores` (of them we may use `usable`), `memory_gb` and `load`, the mean of the last minute.

    Windows does not tell the last two, which are None there.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "usable": cores(),
        "memory_gb": None if memory is None else round(memory, 1),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    """Return the processor's name where Linux writes it, elsewhere what Python knows."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
