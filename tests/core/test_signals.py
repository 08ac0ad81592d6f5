"""Signals are taken by another handler within a block, and by the earlier one after it."""

from __future__ import annotations

import signal
import threading

import pytest

from agents.core.signals import handling

BOTH = (signal.SIGINT, signal.SIGTERM)


def test_a_block_has_its_own_handler_and_the_earlier_ones_come_back():
    before = [signal.getsignal(number) for number in BOTH]
    came = []
    with handling(lambda number, _: came.append(number), *BOTH):
        for number in BOTH:
            signal.raise_signal(number)
    assert came == list(BOTH)
    with pytest.raises(ZeroDivisionError), handling(lambda *_: None, *BOTH):
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in BOTH] == before


def test_other_threads_get_no_signals_and_change_no_handlers():
    before, found = [signal.getsignal(number) for number in BOTH], []

    def work() -> None:
        with handling(lambda *_: None, *BOTH):
            found.extend(signal.getsignal(number) for number in BOTH)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == before
