"""Programs that print what a test wants, and results that were never measured."""

from __future__ import annotations

import json
import sys
from typing import Any

from agents.lab.benchmark.case import SPEED, Case, Measure, Program
from agents.lab.benchmark.rounds import Result


def program(name: str, code: str, **options: Any) -> Program:
    return Program(name, (sys.executable, "-S", "-c", code), **options)


def printing(name: str, figures: dict[str, Any], **options: Any) -> Program:
    return program(name, f"print('begin'); print({json.dumps(figures)!r})", **options)


def case(*programs: Program, repeats: int = 1, measure: Measure = SPEED, target: float | None = None) -> Case:
    return Case("ppo-same", "a title", measure, programs, repeats, target)


def result(of: Case, program: Program, *values: float, **figures: Any) -> Result:
    return Result(of, program, [{of.measure.key: value, "peak_mb": 100.0, **figures} for value in values])
