"""The energy that the processor takes, where Linux lets us read it (RAPL)."""

from __future__ import annotations

import threading
import time
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
EVERY = 60.0  # seconds between readings: the counter wraps after some hundred thousand joules


class EnergyMeter:
    """Adds up what all processor packages take from its making on, everything else on the machine included."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        """`powercap` is where Linux shows the counters: of packages `intel-rapl:N`, of their parts `intel-rapl:N:M`."""
        packages = [domain for domain in powercap.glob("intel-rapl:*") if domain.name.count(":") == 1]
        self._before = {domain: _read(domain, "energy_uj") for domain in packages}
        self._microjoules: int | None = 0 if packages and None not in self._before.values() else None
        self._lock = threading.Lock()
        if self._microjoules is not None:
            threading.Thread(target=self._watch, daemon=True).start()

    def joules(self) -> float | None:
        """Return the energy so far; None where it cannot be read. A counter begins again at 0 after its range."""
        with self._lock:
            for domain, before in self._before.items():
                now = _read(domain, "energy_uj")
                if self._microjoules is None or before is None or now is None:
                    self._microjoules = None
                    return None
                self._microjoules += now - before + (_read(domain, "max_energy_range_uj") or 0 if now < before else 0)
                self._before[domain] = now
        return None if self._microjoules is None else self._microjoules / 1e6

    def _watch(self) -> None:
        while True:
            time.sleep(EVERY)
            self.joules()


def _read(domain: Path, name: str) -> int | None:
    try:
        return int((domain / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
