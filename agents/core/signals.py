"""Signals, handled otherwise for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# What asks a program to end, apart from Ctrl-C: `kill`, and a terminal that is closed. Windows has no SIGHUP, and only
# Windows has SIGBREAK.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))


@contextmanager
def handling(handler: Callable[[int, Any], object], *numbers: signal.Signals) -> Iterator[None]:
    """Let `handler` take these signals until the block ends. Only the main thread gets any: in others, do nothing.

    A terminal's end stays ignored where `nohup` has it ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = [number for number in ENDING if signal.getsignal(number) is signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers if number not in ignored}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
