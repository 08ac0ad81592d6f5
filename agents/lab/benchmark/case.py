"""What the parts of the benchmark hand one another: measures, programs, cases, and the plan they follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Figures = dict[str, Any]
SHORT = 0.2  # the part of the steps that a quick benchmark makes


class Measure(NamedTuple):
    """A figure that programs are compared by; `key` names it among their figures."""

    key: str
    unit: str
    higher_is_better: bool


SPEED = Measure("steps_per_s", "steps/s", True)
SECONDS = Measure("total_s", "seconds", False)
BATCHES = Measure("batches_per_s", "batches/s", True)
BYTES = Measure("bytes_per_transition", "bytes", False)


@dataclass(frozen=True, slots=True)
class Program:
    """What runs in a process of its own and prints one JSON object as its last line.

    Attributes:
        name: unique in its case.
        command: words; `{seed}` and `{folder}` in them are replaced.
        baseline: whether the others are compared with it (with the best of several).
        variables: added to its environment; the same is replaced in them.
        read: makes its figures of the JSON object.
    """

    name: str
    command: tuple[str, ...]
    baseline: bool = False
    variables: dict[str, str] = field(default_factory=dict)
    read: Callable[[Figures], Figures] = dict


@dataclass(frozen=True, slots=True)
class Case:
    """Something measured in one way, by several programs one after the other.

    Attributes:
        repeats: how often each program runs; the first time with seed 0, then 1, ...
        target: mean return from which on a run has solved its environment, or None.
        missing: what it takes to measure it, if that is not here; such a case is only listed.
    """

    name: str
    title: str
    measure: Measure
    programs: tuple[Program, ...]
    repeats: int
    target: float | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of the benchmark.

    Attributes:
        names: the cases; empty for all.
        quick: fewer cases, programs and steps.
        rounds: repeats of each case but those that solve.
        seeds: repeats of the cases that solve.
        threads: SB3's: one, its own choice, or one after the other both.
        cuda: whether there is a GPU to measure on.
    """

    names: tuple[str, ...] = ()
    quick: bool = False
    rounds: int = 3
    seeds: int = 3
    threads: Literal["1", "own", "both"] = "both"
    cuda: bool = False

    def scaled(self, steps: int) -> int:
        """Return how many steps to make where a whole benchmark makes `steps`."""
        return int(steps * SHORT) if self.quick else steps
