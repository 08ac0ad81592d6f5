"""What a list of runs says of each, read quickly and from damaged runs too."""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from agents.run.config import load_config_file
from agents.run.folder import RunFolder
from envs.errors import UserError

LARGEST = 2**24  # bytes of a file that is read for a list


@dataclass(frozen=True, slots=True)
class Listed:
    """A run as a list shows it.

    Attributes:
        run: its folder.
        steps: that it has learnt from, as far as was written down.
        final, best: mean returns of the final and of the best evaluation; None where there was none.
        state: "finished", "stopped", "unfinished" or "damaged".
        bytes: that its files take.
    """

    run: str
    env: str
    algo: str
    name: str | None
    seed: int | None
    steps: int
    final: float | None
    best: float | None
    state: str
    bytes: int

    @property
    def finished(self) -> bool:
        return self.state == "finished"


def listed(path: Path) -> Listed:
    """Return what a list shows of the run at `path`, whatever became of it."""
    folder = RunFolder(path)
    damaged = False
    try:
        config = load_config_file(folder.config_file) if _small(folder.config_file) else {}
    except UserError:
        config = {}
    if not isinstance(config.get("env"), str):
        config, damaged = {}, True
    best, steps = _evaluations(path / "evaluations.csv")
    summary = _summary(path / "summary.json")
    steps = max([steps, *(step for step, _ in folder.checkpoints())])
    final, state = None, "unfinished"
    if summary is not None:
        final, state = _number(summary.get("eval_mean")), "stopped" if summary.get("interrupted") else "finished"
        steps = max(steps, int(_number(summary.get("steps")) or 0))
    name, seed = config.get("name"), config.get("seed")
    return Listed(
        run=str(path),
        env=config.get("env", ""),
        algo=str(config.get("algo", "")),
        name=name if isinstance(name, str) else None,
        seed=seed if isinstance(seed, int) else None,
        steps=steps,
        final=final,
        best=best,
        state="damaged" if damaged else state,
        bytes=_bytes(path),
    )


def _small(file: Path) -> bool:
    try:
        return file.is_file() and file.stat().st_size <= LARGEST
    except OSError:
        return False


def _number(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if known and math.isfinite(value) else None  # type: ignore[arg-type]


def _summary(file: Path) -> dict[str, object] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if _small(file) else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _evaluations(file: Path) -> tuple[float | None, int]:
    """Return the best mean return of a run's evaluations, and the step of the last one."""
    best, last = None, 0
    try:
        with file.open(newline="", encoding="utf-8", errors="replace") as stream:
            for row in csv.DictReader(stream) if _small(file) else ():
                mean, step = float(row["eval/mean_reward"]), float(row["step"])
                if math.isfinite(mean) and 0 <= step < 1e15:
                    best, last = mean if best is None else max(best, mean), int(step)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        pass
    return best, last


def _bytes(path: Path) -> int:
    """Add up the files of a folder; links are not followed."""
    total = 0
    for place, _, files in os.walk(path):
        for file in files:
            try:
                total += os.lstat(os.path.join(place, file)).st_size
            except OSError:
                continue
    return total
