"""The energy that the processor takes, where Linux lets us read it (RAPL)."""

from __future__ import annotations

import threading
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
EVERY = 60.0  # seconds between readings: the counter wraps after some hundred thousand joules


class EnergyMeter:
    """Adds up what all processor packages take from its making on, everything else on the machine included."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        """`powercap` is where Linux shows the counters: of packages `intel-rapl:N`, of their parts `intel-rapl:N:M`."""
        self._counters = [(domain, _read(domain, "energy_uj")) for domain in powercap.glob("intel-rapl:*")]
        self._counters = [(domain, now) for domain, now in self._counters if domain.name.count(":") == 1]
        self._readable = bool(self._counters) and all(now is not None for _, now in self._counters)
        self._total = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        if self._readable:
            threading.Thread(target=self._watch, daemon=True).start()

    def joules(self) -> float | None:
        """Return the energy so far; None where it cannot be read."""
        self.read()
        return self._total / 1e6 if self._readable else None

    def read(self) -> None:
        """Take in the counters, which begin again at 0 after their range."""
        with self._lock:
            for index, (domain, before) in enumerate(self._counters):
                now = _read(domain, "energy_uj")
                if now is None or before is None:
                    self._readable = False
                    return
                if now < before:
                    self._total += _read(domain, "max_energy_range_uj") or 0
                self._total += now - before
                self._counters[index] = (domain, now)

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            self.read()


def _read(domain: Path, name: str) -> int | None:
    try:
        return int((domain / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
