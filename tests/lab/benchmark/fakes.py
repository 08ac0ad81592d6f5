"""Programs that print what a test wants, and results that were never measured."""

from __future__ import annotations

import json
import sys
from typing import Any

from agents.lab.benchmark.case import SPEED, Case, Contender, Measure
from agents.lab.benchmark.rounds import Result


def program(name: str, code: str, **options: Any) -> Contender:
    return Contender(name, (sys.executable, "-S", "-c", code), **options)


def printing(name: str, figures: dict[str, Any], **options: Any) -> Contender:
    return program(name, f"print('begin'); print({json.dumps(figures)!r})", **options)


def case(*contenders: Contender, repeats: int = 1, measure: Measure = SPEED, target: float | None = None) -> Case:
    return Case("ppo-same", "a title", measure, contenders, repeats, target)


def result(of: Case, contender: Contender, *values: float, **figures: Any) -> Result:
    return Result(of, contender, [{of.measure.key: value, "peak_mb": 100.0, **figures} for value in values])
