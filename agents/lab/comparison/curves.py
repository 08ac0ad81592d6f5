"""Finished runs as a comparison reads them, and learning curves in CSV files: our own, and from elsewhere."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, ValidationError

from agents.core.settings import Seed
from agents.run.curves import LARGEST
from agents.run.doctor.diagnosis import Diagnosis
from agents.run.storage import read_bytes
from envs.errors import UserError, did_you_mean

COLUMNS = ("env", "algo", "library", "seed", "step", "return", "time")
SCHEMA = f"The columns are {', '.join(COLUMNS)}; time (seconds of training) may be empty."
EVALUATIONS = ("step", "eval/mean_reward", "time/time_elapsed")  # columns that are read of evaluations.csv


class RunKey(NamedTuple):
    """Which run it is."""

    env: str
    algo: str
    label: str
    seed: int


def _line(text: str) -> str:
    """Refuse what would not stay on its line, or would turn the text around it."""
    if not text.strip() or not text.isprintable():
        raise ValueError("printable text expected")
    return text


def _moderate(value: float) -> float:
    if abs(value) > LARGEST:
        raise ValueError(f"at most {LARGEST:g} expected")
    return value


Name = Annotated[str, Field(max_length=200), AfterValidator(_line)]
MOST_STEPS = 10**15
Count = Annotated[int, Field(ge=0, le=MOST_STEPS)]
LEAST_SECONDS = 1e-9  # that a training took
Return = Annotated[FiniteFloat, AfterValidator(_moderate)]
Positive = Annotated[Return, Field(ge=0)]


class _Row(BaseModel):
    """A row of a CSV file from elsewhere."""

    env: Name
    algo: Name
    library: Name
    seed: Seed
    step: Count
    mean_return: Return = Field(alias="return")
    time: Positive | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """One finished run: its learning curve and its final score.

    Attributes:
        key: which run; no two are alike.
        steps: environment steps at each evaluation, rising, of shape [evaluations]; empty for a model not trained here.
        returns: mean return of each evaluation.
        seconds: of training alone until then; nan where unknown.
        final: returns of the final evaluation's episodes, of shape [episodes]; empty where only a curve is known.
        figures: `steps`, `train_seconds`, `steps_per_s`, `total_seconds`, and `peak_mb` where measured.
        command: what was typed, or "".
        diagnoses: what the doctor said of the training.
    """

    key: RunKey
    steps: NDArray[np.float64]
    returns: NDArray[np.float64]
    seconds: NDArray[np.float64]
    final: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    figures: dict[str, float] = field(default_factory=dict)
    command: str = ""
    diagnoses: Sequence[Diagnosis] = ()

    @property
    def score(self) -> float:
        """The mean return of the final evaluation; without one, of the curve's last point."""
        return float(self.final.mean() if self.final.size else self.returns[-1])


def read_evaluations(file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return steps, mean returns and seconds of an `evaluations.csv`, each of shape [evaluations].

    Raises:
        UserError: it cannot be read, or is malformed; the message says which line.
    """
    found: list[tuple[float, float, float]] = []
    if file.exists():
        text = read_bytes(file).decode(errors="replace")
        whole = text[: text.rfind("\n") + 1]  # a process that was killed may leave half a row
        reader = csv.DictReader(io.StringIO(whole or text))
        try:
            missing = [column for column in EVALUATIONS[:2] if column not in (reader.fieldnames or ())]
        except csv.Error as error:
            raise UserError(f"{file} is malformed: {error}") from error
        if missing and reader.fieldnames != ["step"]:  # which is all there is before the first evaluation
            raise UserError(f"{file} is malformed: there is no column {missing[0]!r}")
        try:
            for row in reader:
                step, value, time = (float(row.get(column) or "nan") for column in EVALUATIONS)
                fits = (
                    abs(value) <= LARGEST and not abs(time) > LARGEST and step.is_integer() and 0 <= step <= MOST_STEPS
                )
                if not fits or (found and step <= found[-1][0]):
                    raise ValueError
                found.append((step, value, time))
        except (csv.Error, ValueError) as error:
            raise UserError(f"{file}, line {reader.line_num}: rising steps and finite numbers expected") from error
    steps, returns, seconds = np.array(found, np.float64).reshape(-1, 3).T
    return steps, returns, seconds


def read_results(file: Path) -> list[RunResult]:
    """Read learning curves from elsewhere: one row for each evaluation of each run, in any order.

    `env` is an environment id, `algo` an algorithm, `library` where the result comes from (its label in the report is
    "<library> (imported)", since it was not measured as the others were), `seed` and `step` whole numbers, `return` the
    mean return at that step, `time` the seconds of training until then, or empty.

    Raises:
        UserError: the file cannot be read, or a row is malformed; the message says which line, and how.
    """
    content = read_bytes(file, follow=True)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: it is no UTF-8 text: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    points: dict[RunKey, dict[int, tuple[float, float]]] = {}
    try:
        header = _header(file, next(reader, []))
        for cells in reader:
            if cells and len(cells) != len(header):
                raise ValueError(f"{len(cells)} cells, {len(header)} expected")
            if cells:  # a blank line says nothing
                _add_point(dict(zip(header, map(str.strip, cells), strict=True)), points)
    except (csv.Error, ValueError) as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}. {SCHEMA}") from error
    if not points:
        raise UserError(f"{file} has no rows. {SCHEMA}")
    return [_curve(file, key, curve) for key, curve in points.items()]


def _header(file: Path, header: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    for name in names:
        if name not in COLUMNS:
            raise UserError(f"{file}, line 1: there is no column {name!r}.{did_you_mean(name, COLUMNS)} {SCHEMA}")
    for name in COLUMNS:
        if names.count(name) != 1 and (name != "time" or name in names):
            raise UserError(f"{file}, line 1: column {name!r} is there {names.count(name)} times, not once. {SCHEMA}")
    return names


def _add_point(row: dict[str, str], points: dict[RunKey, dict[int, tuple[float, float]]]) -> None:
    """Add a row; ValueError says what is wrong with it."""
    try:
        found = _Row.model_validate({name: cell for name, cell in row.items() if cell or name != "time"})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{first['loc'][0]}: {str(first['input'])[:40]!r} given: {first['msg']}") from error
    algo = found.algo if ":" in found.algo else found.algo.lower()
    curve = points.setdefault(RunKey(found.env, algo, f"{found.library} (imported)", found.seed), {})
    if found.step in curve:
        raise ValueError(f"step: this run has a row for step {found.step} already")
    curve[found.step] = found.mean_return, math.nan if found.time is None else found.time


def _curve(file: Path, key: RunKey, curve: dict[int, tuple[float, float]]) -> RunResult:
    steps = np.array(sorted(curve), np.float64)
    returns, seconds = np.array([curve[step] for step in sorted(curve)], np.float64).T
    if np.any(np.diff(seconds) < 0):
        raise UserError(f"{file}: {', '.join(key[:3])}, seed {key.seed}: time falls where steps rise")
    figures = {"steps": float(steps[-1])}
    if seconds[-1] >= LEAST_SECONDS:
        figures |= {"train_seconds": float(seconds[-1]), "steps_per_s": float(steps[-1] / seconds[-1])}
    return RunResult(key, steps, returns, seconds, figures=figures)
