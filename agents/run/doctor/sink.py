"""Watches over a training: keeps its numbers, says what is wrong, once, and keeps the last good model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from agents.core.config import AlgoConfig
from agents.run.doctor.diagnosis import Diagnosis
from agents.run.doctor.history import History
from agents.run.doctor.illnesses import diagnose
from agents.run.sinks import CsvSink, read_scalars
from agents.run.storage import disk, read_bytes, write_text
from agents.run.tensorboard import TensorBoardSink

FILE = "doctor.jsonl"
TABLES = ("progress.csv", "evaluations.csv", "doctor.csv")  # of a run, whose numbers are looked at
MOST_BYTES = 2**20
KEEP = 0.02  # of the run, between two models that are kept
WORSE = 5.0  # times as bad as when it was said last


def facts_of(params: AlgoConfig, time_limit: bool, replay_bytes: int = 0) -> dict[str, Any]:
    """Return what diagnoses need to know of a run's settings."""
    return params.model_dump(mode="json") | {
        "schedule_total": params.schedule_steps,
        "time_limit": time_limit,
        "replay_bytes": replay_bytes,
    }


class Doctor:
    """A sink of scalars that looks at what it was given: `examine` says what is wrong with the training.

    What it says goes to `doctor.jsonl` and to TensorBoard's texts too, and the vitals that it is given to `doctor.csv`.

    Args:
        folder: of the run.
        facts: see `facts_of`.
        tensorboard: takes texts.
        since: step from which on a resumed run goes on; what was said later is forgotten. None for a new run.
    """

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], tensorboard: TensorBoardSink, since: int | None = None
    ) -> None:
        self._file, self._tensorboard = folder / FILE, tensorboard
        self._table = CsvSink(folder / TABLES[-1], resume_step=since)
        self.history = History(facts)
        if since is not None:
            fill(self.history, folder)
        self._told: dict[str, float] = {}
        self._good: tuple[int, dict[str, torch.Tensor]] | None = None
        kept = [] if since is None else [found for found in read_diagnoses(folder) if found.step <= since]
        if self._file.exists():
            write_text(self._file, "".join(map(_line, kept)))
        for found in kept:
            self._told[found.illness] = max(found.badness, self._told.get(found.illness, 0.0))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Take in a row of scalars."""
        self.history.write(step, scalars)

    def close(self) -> None:
        """Let go of the model that was kept."""
        self._good = None
        self._table.close()

    def examine(self, step: int, vitals: Mapping[str, float]) -> Iterator[str]:
        """Take in a training's vitals; yield what is wrong and has not been said, or has become worse since.

        Raises:
            UserError: it cannot be written into the run folder.
        """
        self.history.step = max(self.history.step, step)
        if vitals:
            for sink in (self.history, self._table, self._tensorboard):
                sink.write(step, vitals)
        for found in diagnose(self.history):
            if found.badness >= WORSE * self._told.get(found.illness, 0.0):
                yield self.tell(found)

    def tell(self, found: Diagnosis) -> str:
        """Write a diagnosis down; return it as it is said."""
        again = "" if found.illness not in self._told else ", worse than before"
        self._told[found.illness] = found.badness
        with disk("write", self._file), self._file.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(_line(found))
        self._tensorboard.text(f"doctor/{found.illness.replace(' ', '_')}", str(found), found.step)
        return f"doctor{again}: {found}"

    def keep(self, step: int, model: torch.nn.Module) -> None:
        """Keep a copy of a model that is finite, but for one that was kept a little before."""
        if self._good is not None and step - self._good[0] < KEEP * self.history.total:
            return
        self._good = step, {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def bring_back(self, model: torch.nn.Module) -> int | None:
        """Put the model that was kept last into `model`; return its step, None where there is none that fits."""
        if self._good is None:
            return None
        step, good = self._good
        with suppress(RuntimeError):  # its layers were replaced since
            model.load_state_dict(good)
            return step
        return None


def fill(history: History, run: Path) -> None:
    """Put the numbers of a run folder into a history.

    Raises:
        UserError: a table cannot be read, or is malformed.
    """
    for name in TABLES:
        for step, scalars in read_scalars(run / name):
            history.write(step, scalars)


def _line(found: Diagnosis) -> str:
    return json.dumps(found._asdict()) + "\n"


def read_diagnoses(folder: Path) -> list[Diagnosis]:
    """Return what was said of a run, oldest first; lines that are torn or foreign are left out.

    Raises:
        UserError: the file cannot be read, or is far too large.
    """
    file = folder / FILE
    if not file.exists():
        return []
    return list(_diagnoses(read_bytes(file, MOST_BYTES).decode(errors="replace")))


def _diagnoses(text: str) -> Iterator[Diagnosis]:
    for line in text.splitlines():
        with suppress(ValueError, TypeError, KeyError, RecursionError, OverflowError):
            row = json.loads(line)
            texts = [row[name] for name in ("illness", "evidence", "fix")]
            if all(isinstance(each, str) and len(each) <= 500 for each in texts):
                step, badness = int(row["step"]), float(row["badness"])
                yield Diagnosis(texts[0], badness, texts[1], texts[2], step)
