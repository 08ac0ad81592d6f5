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
def handling(handler: Callable[[int, Any], object], *numbers: signal.Signals) -> Iterator[Callable[[], None]]:
    """Let `handler` take these signals until the block ends. Only the main thread gets any: in others, do nothing.

    A terminal's end stays ignored where `nohup` has it ignored. What is yielded takes the signals again, from code
    within the block that has put handlers of its own in their place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    ignored = [number for number in ENDING if signal.getsignal(number) is signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers if number not in ignored}

    def take_again() -> None:
        for number in before:
            signal.signal(number, handler)

    try:
        yield take_again
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let `kill` and a closed terminal raise KeyboardInterrupt as Ctrl-C does, so that no child is left behind."""
    with handling(signal.default_int_handler, *ENDING):
        yield
