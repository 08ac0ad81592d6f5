"""How often Python's garbage collector looks for objects that refer to one another in a circle."""

from __future__ import annotations

import gc

USUAL, SELDOM = gc.get_threshold(), (50_000, 20, 100)  # as `gc.set_threshold` takes them


def seldom() -> None:
    """Look for them only after many new objects, until `as_usual`.

    A command imports some 300,000, nearly all of which stay: to look through them again and again takes a tenth of its
    start.
    """
    gc.set_threshold(*SELDOM)


def as_usual() -> None:
    """Undo `seldom`; what there is by now stays, and is not looked through again."""
    if gc.get_threshold() == SELDOM:
        gc.freeze()
        gc.set_threshold(*USUAL)
