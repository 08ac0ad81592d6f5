"""How often Python looks for cycles among its objects."""

from __future__ import annotations

import gc

USUAL, SELDOM = gc.get_threshold(), (50_000, 20, 100)  # after so many new objects, and so on


def seldom() -> None:
    """Look for them after many new objects, until `as_usual`.

    A command imports some 300,000, nearly all of which stay: to look through them again and again takes a tenth of its
    start.
    """
    gc.set_threshold(*SELDOM)


def as_usual() -> None:
    """Undo `seldom`; what there is by now stays, and is not looked through again."""
    if gc.get_threshold() == SELDOM:
        gc.freeze()
        gc.set_threshold(*USUAL)
