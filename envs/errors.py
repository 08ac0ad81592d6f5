"""The one exception a user is meant to read, and the search for the name they meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot be used; the message alone must be enough to mend it.

    Commands print the message without a traceback and exit with code 2.
    """


class EnvError(UserError):
    """An environment broke its contract (raised, or returned NaN, a wrong shape or a wrong dtype)."""


def nearest(name: str, options: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` of `options` that resemble `name`, best first, ignoring case."""
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)
    return [by_lower[lower] for lower in found]


def did_you_mean(name: str, options: Iterable[str], count: int = 3) -> str:
    """Return " Did you mean A, B or C?" (with its leading space), or "" when nothing resembles `name`."""
    found = nearest(name, options, count)
    if not found:
        return ""
    head = ", ".join(found[:-1])
    return f" Did you mean {head + ' or ' if head else ''}{found[-1]}?"
