"""What the default run leaves out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from typing import Any

import pytest

LONG = "LONG_TESTS" in os.environ
long_test = pytest.mark.skipif(not LONG, reason="takes long: set LONG_TESTS=1")


def pairs(*choices: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return some of all combinations, so that any two values of different lists are together in one at least."""
    combinations = list(itertools.product(*choices))
    together = [frozenset(itertools.combinations(enumerate(map(repr, one)), 2)) for one in combinations]
    left, chosen = frozenset[Any]().union(*together), []
    while left:
        best = max(range(len(combinations)), key=lambda index: len(together[index] & left))
        left -= together[best]
        chosen.append(combinations[best])
    return chosen
