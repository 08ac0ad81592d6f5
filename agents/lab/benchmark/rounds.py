"""Rounds in which each program of each case runs once, in a process of its own; and what its runs come to."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.lab.benchmark.case import Case, Figures, Program
from agents.lab.processes import last_json, run_process
from envs.errors import UserError


@dataclass(slots=True)
class Result:
    """What a program reached in a case so far: of each run its figures, or what went wrong."""

    case: Case
    program: Program
    outcomes: list[Figures | str] = field(default_factory=list)

    @property
    def runs(self) -> list[Figures]:
        """The figures of the runs that went well."""
        return [outcome for outcome in self.outcomes if not isinstance(outcome, str)]

    @property
    def errors(self) -> list[str]:
        """What went wrong in the others."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, str)]

    @property
    def values(self) -> list[float]:
        """The measured figure of each run."""
        return [run[self.case.measure.key] for run in self.runs]

    @property
    def solved(self) -> int:
        """How many runs reached the target, all of them where there is none."""
        target = self.case.target
        return len(self.runs) if target is None else sum(run["eval_mean"] >= target for run in self.runs)

    def median(self, key: str = "") -> float | None:
        """Return the median of the measured figure or of another one, of those runs that have it."""
        key = key or self.case.measure.key
        found = [run[key] for run in self.runs if run.get(key) is not None]
        return statistics.median(found) if found else None


def run_rounds(cases: Sequence[Case]) -> Iterator[Result]:
    """Run round after round; yield a program's result each time it grew."""
    results = [Result(case, program) for case in cases for program in case.programs]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for seed in range(max((case.repeats for case in cases), default=0)):
            for result in results:
                if seed < result.case.repeats:
                    try:
                        result.outcomes.append(run(result.case, result.program, seed, Path(folder)))
                    except UserError as error:
                        result.outcomes.append(str(error))
                    yield result


def run(case: Case, program: Program, seed: int, folder: Path) -> Figures:
    """Run a program once and return its figures, with `total_s` and `peak_mb` of its process.

    Raises:
        UserError: it failed, printed no JSON, or not the figure that the case measures.
    """

    def filled(word: str) -> str:
        return word.replace("{seed}", str(seed)).replace("{folder}", str(folder))

    variables = {name: filled(value) for name, value in program.variables.items()}
    finished = run_process([filled(word) for word in program.command], variables)
    printed = last_json(finished.output)
    try:
        figures = program.read(printed)
    except (LookupError, TypeError, ValueError, OSError) as error:
        raise UserError(f"what it left cannot be read: {type(error).__name__}: {error}") from error
    figures |= {"seed": seed, "total_s": finished.seconds, "peak_mb": finished.peak_mb}
    for key in (case.measure.key, *(("eval_mean",) if case.target is not None else ())):
        if not is_number(figures.get(key)):
            raise UserError(f"its JSON has no number as {key!r}")
    if figures[case.measure.key] <= 0:
        raise UserError(f"its {case.measure.key} is {figures[case.measure.key]}")
    return figures


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def baseline_of(results: Sequence[Result]) -> Result | None:
    """Return the baseline that a case's results are compared with: solved most often, then best."""

    def quality(result: Result) -> tuple[int, float]:
        median = result.median() or 0.0
        return result.solved, median if result.case.measure.higher_is_better else -median

    return max((result for result in results if result.program.baseline and result.runs), key=quality, default=None)


def ratio(result: Result, baseline: Result | None) -> float | None:
    """Return how many times better than the baseline a result is; None where it solved less often, or lacks."""
    if baseline is None or not result.runs:
        return None
    if result.case.target is not None and result.solved / len(result.runs) < baseline.solved / len(baseline.runs):
        return None
    better = (result.median() or 0.0) / (baseline.median() or 1.0)
    return better if result.case.measure.higher_is_better else 1 / better


def by_case(results: Iterable[Result]) -> list[tuple[Case, list[Result]]]:
    """Put the results of each case together."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.case.name, []).append(result)
    return [(group[0].case, group) for group in found.values()]
