"""What a comparison folder holds, read with suspicion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from agents.core.settings import Seed
from agents.lab.comparison.curves import (
    Count,
    Name,
    Positive,
    Return,
    RunKey,
    RunResult,
    read_evaluations,
    read_results,
)
from agents.lab.words import printable
from agents.run.doctor.sink import read_diagnoses
from agents.run.storage import disk, read_bytes, read_json, refuse_foreign, refuse_links, write_text
from envs.errors import UserError

FORMAT, VERSION, FILE = "deep-rl-suite comparison", 1, "comparison.json"
MOST_RUNS = 100_000  # that a comparison asks for
WHAT = (
    "A comparison folder holds comparison.json and runs/ (python -m agents.compare --env CartPole-v1 --out FOLDER "
    "makes one), or imported results (python -m agents.report FOLDER --import FILE.csv)."
)


Text = Annotated[str, AfterValidator(printable)]


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


Stored = TypeVar("Stored", bound=BaseModel)


class StoredTask(_Stored):
    """An environment and an algorithm as they were compared."""

    env: Name
    algo: Name
    hyper: Name
    labels: list[Name]
    budget: Count
    eval_freq: Count
    eval_episodes: Count
    final_eval_episodes: Count
    seeds: list[Seed]
    left_out: list[Text] = []
    settings: dict[Text, Any] = {}


class Reference(_Stored):
    """What scores are measured by in an environment."""

    random: Return | None = None
    threshold: Return | None = None


class _Run(_Stored):
    env: Name
    algo: Name
    label: Name
    seed: Seed

    @property
    def key(self) -> RunKey:
        return RunKey(self.env, self.algo, self.label, self.seed)


class Failure(_Run):
    """A run that crashed."""

    error: Text


class StoredComparison(_Stored):
    """comparison.json."""

    pairs: list[StoredTask] = []
    references: dict[Name, Reference] = {}
    failures: list[Failure] = []
    commands: list[Text] = []
    machine: dict[Text, Any] = {}
    versions: dict[Text, Any] = {}


class _Result(_Run):
    """result.json."""

    library: Name
    steps: Count
    train_seconds: Positive
    steps_per_s: Positive
    total_seconds: Positive
    peak_mb: Positive | None = None
    returns: Annotated[list[Return], Field(min_length=1)]
    command: Text = ""


@dataclass(frozen=True, slots=True)
class Results:
    """All of a comparison folder.

    Attributes:
        folder: where it lies.
        comparison: what was asked for, where it ran, and what went wrong.
        runs: what is finished, or was imported.
        unfinished: the runs that were asked for and are not finished, for whatever reason.
        failures: runs that crashed and were not finished since.
        imported: labels whose results came from elsewhere.
        notes: what else limits what is said.
    """

    folder: Path
    comparison: StoredComparison
    runs: Sequence[RunResult]
    unfinished: Sequence[RunKey]
    failures: Sequence[Failure]
    imported: Sequence[str]
    notes: Sequence[str] = ()


def load_results(folder: Path) -> Results:
    """Read a comparison folder, however far it has come.

    Raises:
        UserError: there is none, or a file in it is torn or malformed; the message says which, and how.
    """
    check_folder(folder)
    comparison = read_comparison(folder / FILE) if (folder / FILE).exists() else StoredComparison()
    runs, curves = _runs(folder)
    if not runs and not curves and not comparison.pairs:
        raise UserError(f"{folder}: nothing was compared there yet. {WHAT}")
    seen = keys_of([*runs, *curves], folder)
    if (count := sum(len(task.labels) * len(task.seeds) for task in comparison.pairs)) > MOST_RUNS:
        raise UserError(f"{folder / FILE} is malformed: it asks for {count:,} runs, {MOST_RUNS:,} at most expected")
    asked = [
        RunKey(task.env, task.algo, label, seed)
        for task in comparison.pairs
        for label in task.labels
        for seed in task.seeds
    ]
    failed = {failure.key: failure for failure in comparison.failures}
    return Results(
        folder,
        comparison,
        [*runs, *curves],
        unfinished=[key for key in asked if key not in seen],
        failures=[failure for key, failure in failed.items() if key not in seen],
        imported=list(dict.fromkeys(run.key.label for run in curves)),
    )


def _runs(folder: Path) -> tuple[list[RunResult], list[RunResult]]:
    """Return the finished runs of a folder, and those imported."""
    runs = [read_run(path.parent) for path in sorted(folder.glob("runs/*/*/result.json"))]
    return runs, [run for path in sorted(folder.glob("imported/*.csv")) for run in read_results(path)]


def keys_of(runs: Iterable[RunResult], place: Path | str) -> set[RunKey]:
    """Return which runs these are, of a folder or of what else they were read from.

    Raises:
        UserError: two are the same.
    """
    seen: set[RunKey] = set()
    for run in runs:
        if run.key in seen:
            env, algo, label, seed = run.key
            raise UserError(f"{place}: two runs of {label} on {env} with {algo} have seed {seed}; remove one.")
        seen.add(run.key)
    return seen


def check_folder(folder: Path) -> None:
    """Refuse what is no comparison folder.

    Raises:
        UserError: it is missing, a file, or holds nothing of a comparison, or what leads elsewhere.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} {'is a file' if folder.exists() else 'does not exist'}. {WHAT}")
    if not (folder / FILE).exists() and not (folder / "imported").is_dir():
        raise UserError(f"{folder} is no comparison folder: there is no comparison.json. {WHAT}")
    refuse_links(folder)


def validated(model: type[Stored], file: Path, body: dict[str, Any]) -> Stored:
    """Return what a file holds as `model` takes it.

    Raises:
        UserError: it does not fit; the message says where.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{file} is malformed: {printable(place)[:200]}: {first['msg']}") from error


def read_comparison(file: Path) -> StoredComparison:
    """Read `comparison.json`.

    Raises:
        UserError: it is not there, torn or malformed, or no comparison.json of this version.
    """
    body = read_json(file)
    refuse_foreign(file, body, FORMAT, VERSION)
    return validated(StoredComparison, file, body)


def read_run(folder: Path) -> RunResult:
    """Read a finished run.

    Raises:
        UserError: it is not there, or a file of it is torn or malformed.
    """
    file = folder / "result.json"
    result = validated(_Result, file, read_json(file))
    costs = ("train_seconds", "steps_per_s", "total_seconds", "peak_mb")
    trained = costs if result.train_seconds else ()  # a model that was only evaluated here has no costs to compare
    figures = {name: float(value) for name in ("steps", *trained) if (value := getattr(result, name)) is not None}
    curve = read_evaluations(folder / "evaluations.csv")
    returns, said = np.array(result.returns), read_diagnoses(folder)
    return RunResult(result.key, *curve, returns, figures, result.command, said)


def import_files(folder: Path, files: Iterable[Path]) -> None:
    """Copy CSV files into a comparison folder, which is made if it is not there; all of them or, if one is bad, none.

    Raises:
        UserError: as `read_results`, a name is taken by another file, a run is there already, or the folder holds
            other things.
    """
    found: list[RunResult] = []
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        check_folder(folder)
        found += [run for runs in _runs(folder) for run in runs]
    texts: dict[Path, str] = {}
    for file in files:
        runs = read_results(file)
        text = read_bytes(file, follow=True).decode("utf-8-sig")
        place = folder / "imported" / f"{file.stem}.csv"
        if (place.exists() and read_bytes(place).decode(errors="replace") != text) or texts.get(place, text) != text:
            raise UserError(f"{file}: {place} is there already and differs; rename one of them.")
        if place not in texts and not place.exists():
            found += runs
        texts[place] = text
    keys_of(found, folder)
    for place, text in texts.items():
        with disk("create", place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, text)
