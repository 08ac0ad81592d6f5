"""A run folder read for those who compare and list: what it says of itself, with suspicion, and no model loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat

from agents.core.settings import Seed
from agents.lab.comparison.curves import Count, Name, Positive, Return, read_evaluations
from agents.lab.comparison.results import validated
from agents.run.folder import RunFolder, begun
from agents.run.storage import disk, read_json
from agents.run.yaml_files import load_config_file
from envs.errors import UserError

TRACES = ("config.yaml", "versions.json", "progress.csv", "model.json")  # each tells of a run, torn as it may be


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Settings(_Read):
    """What `config.yaml` has in every run."""

    env: Name
    env_kwargs: dict[str, Any] = {}
    algo: Name
    seed: Seed
    name: Name | None = None


class _Summary(_Read):
    """What is read of `summary.json`."""

    steps: Count
    train_s: Positive
    eval_mean: FiniteFloat | None = None
    interrupted: bool
    first_step: Count = 0


class _Meta(_Read):
    step: Count


class _Model(_Read):
    """What is read of `model.json`."""

    meta: _Meta


class _Final(_Read):
    """What is read of `final_episodes.json`."""

    returns: list[Return]


@dataclass(frozen=True)
class StoredRun:
    """A run as its files tell it.

    Attributes:
        settings: all that `config.yaml` holds, with the code it names where that is now.
        name: what it was given with `--name`, or "".
        begun: local time.
        curve: steps, mean returns and seconds of training of its evaluations, each of shape [evaluations].
        top: which of its evaluations is the best: that of the model which it kept as such, else the highest; None
            without any.
        steps: environment steps that it is known to have taken.
        first_step: the step that it began at, later than 0 where it went on with a model that had learnt before; its
            seconds count from there.
        state: "finished", "stopped" (by a signal) or "unfinished" (it still runs, or was killed).
        final: mean return of its final evaluation; None where it is not finished, or had none.
        train_seconds: nan where it is not finished.
    """

    path: Path
    settings: dict[str, Any]
    env: str
    env_kwargs: dict[str, Any]
    algo: str
    seed: int
    name: str
    begun: datetime
    curve: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    top: int | None
    steps: int
    first_step: int
    state: str
    final: float | None
    train_seconds: float

    @property
    def best(self) -> float | None:
        """The mean return of its best evaluation; None without any."""
        return None if self.top is None else float(self.curve[1][self.top])

    def final_returns(self) -> NDArray[np.float64]:
        """Return the returns of the final evaluation's episodes; none where the run is not finished.

        Raises:
            UserError: their file is malformed.
        """
        file = self.path / "final_episodes.json"
        if self.final is None or not file.exists():
            return np.empty(0)
        return np.array(validated(_Final, file, read_json(file)).returns, np.float64)


def read_stored(path: Path) -> StoredRun:
    """Read a run folder.

    Raises:
        UserError: there is none, or a file in it is torn or malformed; the message says which.
    """
    run = RunFolder.open(path)
    settings = load_config_file(run.config_file)
    known = validated(_Settings, run.config_file, settings)
    curve = read_evaluations(path / "evaluations.csv")
    saved = [step for step, _ in run.checkpoints()]
    summary, steps = None, max([0, *saved[-1:], *map(int, curve[0][-1:])])
    if (path / "summary.json").exists():
        found = validated(_Summary, path / "summary.json", read_json(path / "summary.json"))
        summary = found if found.steps >= steps else None  # it went on after that
    finished = summary is not None and not summary.interrupted
    return StoredRun(
        path=path,
        settings=settings,
        env=known.env,
        env_kwargs=known.env_kwargs,
        algo=known.algo,
        seed=known.seed,
        name=known.name or "",
        begun=begun(path),
        curve=curve,
        top=_top(path, *curve[:2]),
        steps=summary.steps if summary else steps,
        first_step=min(summary.first_step, summary.steps) if summary else 0,
        state="finished" if finished else "stopped" if summary else "unfinished",
        final=summary.eval_mean if summary and finished else None,
        train_seconds=summary.train_s if summary and finished else float("nan"),
    )


def _top(path: Path, steps: NDArray[np.float64], returns: NDArray[np.float64]) -> int | None:
    kept, model = np.empty(0, np.int64), path / "best" / "model.json"
    with suppress(UserError):  # a torn one is said where it is loaded; what was evaluated still tells
        if model.exists():
            kept = np.flatnonzero(steps == validated(_Model, model, read_json(model)).meta.step)
    return int(kept[0]) if kept.size else int(returns.argmax()) if returns.size else None


def run_folders(runs_dir: Path) -> list[Path]:
    """Return the folders in `runs_dir` that hold a run, or what is left of one, the one begun last first.

    Raises:
        UserError: `runs_dir` is there, but cannot be read.
    """
    if not runs_dir.exists():
        return []
    with disk("read", runs_dir):
        there = [path for path in runs_dir.iterdir() if not path.name.startswith(".")]  # what is hidden is half written
        found = [path for path in there if any((path / trace).is_file() for trace in TRACES)]
    return sorted(found, key=lambda path: (begun(path), path.name), reverse=True)


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in a folder; no link is followed, and what cannot be read counts nothing."""
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                yield os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
