"""The one exception a user is meant to read, and the search for the name they meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class UserError(Exception):
    """Something the user gave cannot be used; the message alone must be enough to mend it.

    Commands print the message without a traceback and exit with code 2.
    """


class EnvError(UserError):
    """An environment broke its contract (raised, or returned NaN, a wrong shape or a wrong dtype)."""


def words_of(error: BaseException) -> str:
    """Return an error's text, also where the class that raised it is foreign and cannot make it."""
    try:
        return str(error)
    except Exception as second:
        return f"(its text cannot be read: {type(second).__name__})"


def nearest(name: str, options: Iterable[str]) -> list[str]:
    """Return up to three of `options` that resemble `name`, best first, ignoring case."""
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    likeness = [difflib.SequenceMatcher(None, lower, name.lower()).ratio() for lower in found]
    return [by_lower[lower] for lower, like in zip(found, likeness, strict=True) if like > likeness[0] - 0.3]


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return " Did you mean A, B or C?" (with its leading space), or "" when nothing resembles `name`."""
    found = nearest(name, options)
    return f" Did you mean {listed(found, 'or')}?" if found else ""


def not_one_of(given: Any, options: Iterable[str], hint: str = "") -> str:
    """Say that `given` is none of `options`, and which is meant perhaps, unless a `hint` says so."""
    options = list(options)
    return f"{given!r} given, {'|'.join(options)} expected.{hint or did_you_mean(str(given), options)}"


def no_attribute(owner: Any, name: str, instead: Mapping[str, str]) -> AttributeError:
    """Return the error that `owner` has no such attribute; `instead` says of some what there is in their place."""
    who = (owner if isinstance(owner, type) else type(owner)).__name__
    if name in instead:
        hint = f": {instead[name]}"
    else:
        hint = "" if name.startswith("_") else f".{did_you_mean(name, dir(owner))}"
    return AttributeError(f"{who} has no {name!r}{hint}", name=name, obj=None)  # None: Python adds no guess of its own


def listed(names: Sequence[str], word: str = "and") -> str:
    """Return "A", "A and B", "A, B and C", with `word` before the last of several; `names` has at least one."""
    head = ", ".join(names[:-1])
    return f"{head} {word} {names[-1]}" if head else names[-1]
