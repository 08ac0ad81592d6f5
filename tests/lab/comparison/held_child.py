"""A run of a comparison that stays where it is at a step until it is asked to end, or killed.

Only that whose folder the variable HELD names; others are as they are.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from agents.acting.collector import TickCollector
from agents.lab.comparison import child
from tests.waiting import wait_for

HELD = 8_192


def main() -> int:
    """Carry out the run, as `agents.lab.comparison.child` does."""
    if Path(sys.argv[1]) != Path(os.environ["HELD"]):
        return child.main()
    write, told = TickCollector._write, list[int]()

    def writing(self: TickCollector, t: int, *tick: Any) -> None:
        write(self, t, *tick)
        if not told and self.state.step + (t + 1) * self._env.num_envs >= HELD:
            before: Any = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, lambda *given: (told.append(1), before(*given)))
            wait_for(lambda: told)
            signal.signal(signal.SIGTERM, before)

    with mock.patch.object(TickCollector, "_write", writing):
        return child.main()


if __name__ == "__main__":
    sys.exit(main())
