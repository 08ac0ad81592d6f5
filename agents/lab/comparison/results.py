"""What a comparison folder holds, read with suspicion."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from agents.run.storage import disk, read_json
from envs.errors import UserError

FORMAT, VERSION, FILE = "deep-rl-suite comparison", 1, "comparison.json"
WHAT = (
    "A comparison folder holds comparison.json and runs/ (python -m agents.compare --env CartPole-v1 --out FOLDER "
    "makes one), or imported results (python -m agents.report FOLDER --import FILE.csv)."
)
COLUMNS = ("step", "eval/mean_reward", "time/time_elapsed")  # those that are read of evaluations.csv


def _name(text: str) -> str:
    """Refuse what would not stay on its line, or would turn the text around it."""
    if not text.strip() or not text.isprintable():
        raise ValueError("printable text expected")
    return text


def _tame(text: str) -> str:
    """Put a space where a character could not be printed."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


Name = Annotated[str, Field(max_length=200), AfterValidator(_name)]
Text = Annotated[str, AfterValidator(_tame)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Positive = Annotated[FiniteFloat, Field(ge=0)]


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


Stored = TypeVar("Stored", bound=_Stored)


class Pair(_Stored):
    """An environment and an algorithm as they were compared."""

    env: Name
    algo: Name
    hyper: Name
    labels: list[Name]
    budget: Count
    eval_freq: Count
    eval_episodes: Count
    final_eval_episodes: Count
    seeds: list[Count]
    left_out: list[Text] = []
    settings: dict[Text, Any] = {}


class Reference(_Stored):
    """What scores are measured by in an environment."""

    random: FiniteFloat | None = None
    threshold: FiniteFloat | None = None


class Failure(_Stored):
    """A run that crashed."""

    env: Name
    algo: Name
    label: Name
    seed: Count
    error: Text


class _Document(_Stored):
    """comparison.json."""

    pairs: list[Pair] = []
    references: dict[Name, Reference] = {}
    failures: list[Failure] = []
    commands: list[Text] = []
    machine: dict[Text, Any] = {}
    versions: dict[Text, Any] = {}


class _Result(_Stored):
    """result.json."""

    env: Name
    algo: Name
    label: Name
    library: Name
    seed: Count
    steps: Count
    train_seconds: Positive
    steps_per_s: Positive
    total_seconds: Positive
    peak_mb: Positive | None = None
    energy_j: Positive | None = None
    returns: Annotated[list[FiniteFloat], Field(min_length=1)]
    command: Text = ""


@dataclass(frozen=True, slots=True)
class RunResult:
    """One finished run: its learning curve and its final score.

    Attributes:
        env, algo, label, seed: which run; no two have all of them alike.
        steps: environment steps at each evaluation, rising, of shape [evaluations]; empty for a model not trained here.
        returns: mean return of each evaluation.
        seconds: of training alone until then; nan where unknown.
        final: returns of the final evaluation's episodes, of shape [episodes]; empty where only a curve is known.
        figures: `steps`, `train_seconds`, `steps_per_s`, `total_seconds`, and `peak_mb` and `energy_j` where measured.
        command: what was typed, or "".
    """

    env: str
    algo: str
    label: str
    seed: int
    steps: NDArray[np.float64]
    returns: NDArray[np.float64]
    seconds: NDArray[np.float64]
    final: NDArray[np.float64]
    figures: dict[str, float] = field(default_factory=dict)
    command: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Return what tells it from all others."""
        return self.env, self.algo, self.label, self.seed

    @property
    def score(self) -> float:
        """The mean return of the final evaluation; without one, of the curve's last point."""
        return float(self.final.mean() if self.final.size else self.returns[-1])


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of a comparison folder.

    Attributes:
        folder: where it lies.
        pairs: what was asked for.
        runs: what is finished, or was imported.
        unfinished: (env, algo, label, seed) of the runs that were asked for and are not finished, for whatever reason.
        failures: runs that crashed and were not finished since.
        imported: labels whose results came from elsewhere.
    """

    folder: Path
    pairs: Sequence[Pair]
    runs: Sequence[RunResult]
    references: dict[str, Reference]
    unfinished: Sequence[tuple[str, str, str, int]]
    failures: Sequence[Failure]
    imported: Sequence[str]
    commands: Sequence[str]
    machine: dict[str, Any]
    versions: dict[str, Any]


def load_comparison(folder: Path) -> Comparison:
    """Read a comparison folder, however far it has come.

    Raises:
        UserError: there is none, or a file in it is torn or malformed; the message says which, and how.
    """
    from agents.lab.comparison.imported import read_curves

    check_folder(folder)
    file = folder / FILE
    document = _read_document(file) if file.exists() else _Document()
    runs = [_read_run(path.parent) for path in sorted(folder.glob("runs/*/*/result.json"))]
    curves = [run for path in sorted(folder.glob("imported/*.csv")) for run in read_curves(path)]
    if not runs and not curves and not document.pairs:
        raise UserError(f"{folder}: nothing was compared there yet. {WHAT}")
    seen = set()
    for run in (*runs, *curves):
        if run.key in seen:
            env, algo, label, seed = run.key
            raise UserError(f"{folder}: two runs of {label} on {env} with {algo} have seed {seed}; remove one.")
        seen.add(run.key)
    asked = [
        (pair.env, pair.algo, label, seed) for pair in document.pairs for label in pair.labels for seed in pair.seeds
    ]
    failed = {(failure.env, failure.algo, failure.label, failure.seed): failure for failure in document.failures}
    return Comparison(
        folder=folder,
        pairs=document.pairs,
        runs=[*runs, *curves],
        references=document.references,
        unfinished=[key for key in asked if key not in seen],
        failures=[failure for key, failure in failed.items() if key not in seen],
        imported=list(dict.fromkeys(run.label for run in curves)),
        commands=document.commands,
        machine=document.machine,
        versions=document.versions,
    )


def check_folder(folder: Path) -> None:
    """Refuse what is no comparison folder.

    Raises:
        UserError: it is missing, a file, or holds nothing of a comparison.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} {'is a file' if folder.exists() else 'does not exist'}. {WHAT}")
    if not (folder / FILE).exists() and not (folder / "imported").is_dir():
        raise UserError(f"{folder} is no comparison folder: there is no comparison.json. {WHAT}")


def _checked(model: type[Stored], body: dict[str, Any], file: Path) -> Stored:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{file} is malformed: {_tame(place)[:200]}: {first['msg']}") from error


def _read_document(file: Path) -> _Document:
    body = read_json(file)
    refuse_foreign(body, file)
    return _checked(_Document, body, file)


def refuse_foreign(body: dict[str, Any], file: Path) -> None:
    """Raise UserError if `body` is no comparison.json of this version."""
    if body.get("format") != FORMAT:
        raise UserError(f"{file} is foreign: this program did not write it")
    if body.get("version") != VERSION:
        raise UserError(f"{file} has format version {body.get('version')!r}; this program reads version {VERSION}")


def _read_run(folder: Path) -> RunResult:
    """Read a finished run."""
    file = folder / "result.json"
    result = _checked(_Result, read_json(file), file)
    steps, returns, seconds = _read_curve(folder / "evaluations.csv")
    costs = ("train_seconds", "steps_per_s", "total_seconds", "peak_mb", "energy_j")
    trained = costs if result.train_seconds else ()  # a model that was only evaluated here has no costs to compare
    figures = {name: float(value) for name in ("steps", *trained) if (value := getattr(result, name)) is not None}
    final = np.array(result.returns, np.float64)
    return RunResult(
        result.env, result.algo, result.label, result.seed, steps, returns, seconds, final, figures, result.command
    )


def _read_curve(file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return steps, mean returns and seconds of an `evaluations.csv`; all empty where there is none."""
    found: list[tuple[float, float, float]] = []
    if file.exists():
        with disk("read", file):
            text = file.read_text(encoding="utf-8", errors="replace")
        reader = csv.DictReader(io.StringIO(text))
        if missing := [column for column in COLUMNS[:2] if column not in (reader.fieldnames or ())]:
            raise UserError(f"{file} is malformed: there is no column {missing[0]!r}")
        for row in reader:
            step, value, seconds = (number(row.get(column) or "0") for column in COLUMNS)
            if not math.isfinite(step + value + seconds) or (found and step <= found[-1][0]):
                raise UserError(f"{file}, line {reader.line_num}: rising steps and finite numbers expected")
            found.append((step, value, seconds if row.get(COLUMNS[2]) else math.nan))
    columns = np.array(found, np.float64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def number(text: str) -> float:
    """Return the number that `text` is, nan if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
