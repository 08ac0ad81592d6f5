"""The runs in a folder as a list: which there are, which of them are meant, and a line about each."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agents.lab.stored import bytes_in, read_stored, run_folders
from agents.lab.words import age, number, plural, printable, size
from agents.run.folder import begun
from agents.run.lock import trainer_of
from agents.run.registry import label
from envs.errors import UserError, did_you_mean

HEADER = ("run", "environment", "algo", "seed", "steps", "best", "final", "state", "size", "age")
NUMBERS = ("seed", "steps", "best", "final", "size", "age")


@dataclass(frozen=True)
class Listed:
    """A row of the list.

    Attributes:
        name: what it was given with `--name`, or "".
        env, algo, seed, steps: None where the run is damaged.
        best, final: the highest mean return of its evaluations, and that of the final one; None without.
        state: "training", "finished", "stopped", "unfinished" or "damaged".
        fault: what is damaged, or "".
        bytes: of all its files.
        begun: local time.
    """

    path: Path
    name: str | None
    env: str | None
    algo: str | None
    seed: int | None
    steps: int | None
    best: float | None
    final: float | None
    state: str
    fault: str
    bytes: int
    begun: datetime

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        values = asdict(self) | {"begun": self.begun.isoformat()}
        del values["path"]
        return {"run": str(self.path), **values}


def list_runs(runs_dir: Path) -> list[Listed]:
    """Return the runs in `runs_dir`, the one begun last first; a damaged one is among them.

    Raises:
        UserError: the folder cannot be read.
    """
    return [_listed(path) for path in run_folders(runs_dir)]


def _listed(path: Path) -> Listed:
    size = 0 if path.is_symlink() else bytes_in(path)
    training = trainer_of(path) is not None
    try:
        if not (path / "config.yaml").is_file():
            raise UserError("config.yaml is missing")
        run = read_stored(path)
    except UserError as error:
        fault = printable(str(error).removeprefix(f"{path}/"))
        unknown = (None,) * 7
        return Listed(path, *unknown, "training" if training else "damaged", fault, size, begun(path))
    known = (run.name, run.env, run.algo, run.seed, run.steps, run.best, run.final)
    return Listed(path, *known, "training" if training else run.state, "", size, run.begun)


def chosen(
    runs: Sequence[Listed],
    runs_dir: Path,
    names: Sequence[Path] = (),
    *,
    env: str | None = None,
    algo: str | None = None,
    name: str | None = None,
    finished: bool | None = None,
) -> list[Listed]:
    """Return those that fit all that is asked: None, and no `names`, ask for nothing.

    Args:
        names: names in `runs_dir`, or paths of runs that lie there.
        env, algo, name: in these * stands for any text; of a path its last part is enough.

    Raises:
        UserError: one of `names` is no run in `runs_dir`.
    """
    known, wanted = {one.path.name: one for one in runs}, set[str]()
    for given in names:
        if given.name not in known or (len(given.parts) > 1 and given.parent.resolve() != runs_dir.resolve()):
            raise UserError(f"{given} is no run in {runs_dir}.{did_you_mean(given.name, known)}")
        wanted.add(given.name)
    return [
        one
        for one in runs
        if (not names or one.path.name in wanted)
        and all(map(_like, (one.env, one.algo, one.name), (env, algo, name)))
        and finished in (None, one.state == "finished")
    ]


def _like(value: str | None, pattern: str | None) -> bool:
    """Whether a pattern, where there is one, fits a value, or where that is a path its last part."""
    if pattern is None or value is None:
        return pattern is None
    return any(fnmatch.fnmatchcase(text, pattern) for text in (value, re.split(r"[/\\]", value)[-1]))


def table(runs: Sequence[Listed], now: datetime) -> Iterator[str]:
    """Yield a line for each run, beneath a header and above their sum; nothing for no runs."""
    if not runs:
        return
    rows = [HEADER, *(_row(one, now) for one in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(HEADER, row, widths, strict=True)
        yield "  ".join(cell.rjust(n) if name in NUMBERS else cell.ljust(n) for name, cell, n in cells).rstrip()
    for one in runs:
        if one.fault:
            yield f"damaged: {printable(one.path.name)}: {one.fault}"
    yield f"{plural(len(runs), 'run')}, {size(sum(one.bytes for one in runs))}"


def _row(one: Listed, now: datetime) -> tuple[str, ...]:
    shown = [one.env or "", label(one.algo) if one.algo else ""]
    counts = ["" if value is None else text.format(value) for value, text in ((one.seed, "{}"), (one.steps, "{:,}"))]
    scores = ["" if value is None else number(value) for value in (one.best, one.final)]
    return (printable(one.path.name), *shown, *counts, *scores, one.state, size(one.bytes), age(now - one.begun))
