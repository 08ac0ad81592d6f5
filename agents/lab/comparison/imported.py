"""Results from anywhere: learning curves as CSV files that join a comparison."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from agents.lab.comparison.results import RunResult, check_folder, number
from agents.run.storage import disk, write_text
from envs.errors import UserError, did_you_mean

COLUMNS = ("env", "algo", "library", "seed", "step", "return", "time")
SCHEMA = f"The columns are {', '.join(COLUMNS)}; time (seconds of training) may be empty."
Key = tuple[str, str, str, int]


def read_curves(file: Path) -> list[RunResult]:
    """Read learning curves: one row for each evaluation of each run, in any order.

    `env` is an environment id, `algo` an algorithm, `library` where the result comes from (its label in the report is
    "<library> (imported)", since it was not measured as the others were), `seed` and `step` whole numbers, `return` the
    mean return at that step, `time` the seconds of training until then, or empty.

    Raises:
        UserError: the file cannot be read, or a row is malformed; the message says which line, and how.
    """
    with disk("read", file):
        content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: it is no UTF-8 text: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    points: dict[Key, dict[int, tuple[float, float]]] = {}
    try:
        header = _header(file, next(reader, []))
        for cells in reader:
            if cells:  # a blank line says nothing
                _take(dict(zip(header, cells, strict=True)), points)
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}. {SCHEMA}") from error
    except ValueError as error:
        wrong = f"{len(cells)} cells, {len(header)} expected" if len(cells) != len(header) else error
        raise UserError(f"{file}, line {reader.line_num}: {wrong}. {SCHEMA}") from error
    if not points:
        raise UserError(f"{file} has no rows. {SCHEMA}")
    return [_curve(file, key, points[key]) for key in points]


def _header(file: Path, header: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    for name in names:
        if name not in COLUMNS:
            raise UserError(f"{file}, line 1: there is no column {name!r}.{did_you_mean(name, COLUMNS)} {SCHEMA}")
    for name in COLUMNS:
        if names.count(name) != 1 and (name != "time" or name in names):
            raise UserError(f"{file}, line 1: column {name!r} is there {names.count(name)} times, not once. {SCHEMA}")
    return names


def _take(row: dict[str, str], points: dict[Key, dict[int, tuple[float, float]]]) -> None:
    """Add a row; ValueError says what is wrong with it."""
    row = {name: cell.strip() for name, cell in row.items()}
    for name in ("env", "algo", "library"):
        if not row[name] or not row[name].isprintable() or len(row[name]) > 200:
            raise ValueError(f"{name}: {row[name][:40]!r} given, up to 200 printable characters expected")
    for name in ("seed", "step"):
        if not (row[name].isascii() and row[name].isdecimal() and len(row[name]) <= 15):
            raise ValueError(f"{name}: {row[name][:40]!r} given, a whole number from 0 to 10^15 expected")
    value, seconds = number(row["return"]), number(row.get("time") or "nan")
    if not math.isfinite(value):
        raise ValueError(f"return: {row['return'][:40]!r} given, a finite number expected")
    if row.get("time") and not 0 <= seconds < math.inf:
        raise ValueError(f"time: {row['time'][:40]!r} given, seconds from 0 or nothing expected")
    key = row["env"], row["algo"].lower(), f"{row['library']} (imported)", int(row["seed"])
    curve = points.setdefault(key, {})
    if int(row["step"]) in curve:
        raise ValueError(f"step: this run has a row for step {row['step']} already")
    curve[int(row["step"])] = value, seconds


def _curve(file: Path, key: Key, curve: dict[int, tuple[float, float]]) -> RunResult:
    steps = np.array(sorted(curve), np.float64)
    returns, seconds = np.array([curve[step] for step in sorted(curve)], np.float64).T
    env, algo, label, seed = key
    if np.any(np.diff(seconds) < 0):
        raise UserError(f"{file}: {env}, {algo}, {label}, seed {seed}: time falls where steps rise")
    figures = {"steps": float(steps[-1])}
    if seconds[-1] > 0:
        figures |= {"train_seconds": float(seconds[-1]), "steps_per_s": float(steps[-1] / seconds[-1])}
    return RunResult(env, algo, label, seed, steps, returns, seconds, np.empty(0), figures)


def import_files(folder: Path, files: Iterable[Path]) -> None:
    """Copy CSV files into a comparison folder, which is made if it is not there; all of them or, if one is bad, none.

    Raises:
        UserError: as `read_curves`, a name is taken by another file, or the folder holds other things.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        check_folder(folder)
    texts: dict[Path, str] = {}
    for file in files:
        read_curves(file)
        with disk("read", file):
            text = file.read_text(encoding="utf-8-sig")
        place = folder / "imported" / f"{file.stem}.csv"
        if (place.exists() and place.read_text(encoding="utf-8") != text) or texts.get(place, text) != text:
            raise UserError(f"{file}: {place} is there already and differs; rename one of them.")
        texts[place] = text
    for place, text in texts.items():
        with disk("create", place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, text)
