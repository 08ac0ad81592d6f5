"""What a rule says of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from agents.run.doctor.history import History


class Diagnosis(NamedTuple):
    """What is wrong.

    Attributes:
        illness: its name.
        badness: > 0; five times as much is worse, and is said again.
        evidence: the numbers it is seen by, in words.
        fix: what to change.
        step: at which it was seen.
    """

    illness: str
    badness: float
    evidence: str
    fix: str
    step: int

    def __str__(self) -> str:
        return f"{self.illness} at step {self.step:,}: {self.evidence}. Try: {self.fix}"


Rule = Callable[[History], Iterator[Diagnosis]]
