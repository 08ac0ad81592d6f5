"""Seeds that several processes train, each by the one that takes it first: a folder of small files."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.run.storage import write_text
from agents.run.summary import Summary


class SharedSeeds:
    """What became of each seed, as all processes that share the folder know it.

    A file `3.taken` holds the number of the process that trains seed 3, `3.json` what came of it.

    Args:
        place: a folder of our own, empty at first.
        seeds: all seeds, in the order in which they are taken.
    """

    def __init__(self, place: Path, seeds: range) -> None:
        self.place, self._seeds = place, seeds

    def take(self) -> int | None:
        """Return the first seed that nobody has taken, which is this process's from now on; None if none is left."""
        for seed in self._seeds:
            try:
                with self._taken(seed).open("x") as file:
                    file.write(str(os.getpid()))
                return seed
            except FileExistsError:
                continue
        return None

    def left(self) -> list[int]:
        """Return the seeds that nobody has taken."""
        return [seed for seed in self._seeds if not self._taken(seed).exists()]

    def done(self) -> list[Summary]:
        """Return what the trainings that ended reached, by seed."""
        return [Summary(**found["summary"]) for found in self._ended().values() if "summary" in found]

    def failed(self) -> dict[int, list[str]]:
        """Return seed -> what was said of its failure: the error, then its notes."""
        return {seed: found["failure"] for seed, found in self._ended().items() if "failure" in found}

    def all_ended(self) -> bool:
        """Whether the trainings of all seeds have ended or failed."""
        return len(self._ended()) == len(self._seeds)

    def end(self, summary: Summary) -> None:
        """Note that a training ended."""
        self._write(summary.seed, summary=asdict(summary))

    def fail(self, seed: int, error: BaseException) -> None:
        """Note that a training failed."""
        self._write(seed, failure=[str(error), *getattr(error, "__notes__", ())])

    def release(self, seed: int) -> None:
        """Let a seed be as if nobody had taken it."""
        self._taken(seed).unlink()

    def abandoned(self, process: int) -> int | None:
        """Return the seed that a process which has ended took and said nothing of, if there is one."""
        for seed in self._seeds:
            taken = self._taken(seed)
            if taken.exists() and taken.read_text() == str(process) and not self._file(seed).exists():
                return seed
        return None

    def _ended(self) -> dict[int, dict[str, Any]]:
        return {seed: json.loads(file.read_text()) for seed in self._seeds if (file := self._file(seed)).exists()}

    def _write(self, seed: int, **found: object) -> None:
        write_text(self._file(seed), json.dumps(found))

    def _taken(self, seed: int) -> Path:
        return self.place / f"{seed}.taken"

    def _file(self, seed: int) -> Path:
        return self.place / f"{seed}.json"
