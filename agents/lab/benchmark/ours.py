"""Our own training as a user starts it: its command line, and its figures from what it leaves behind."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.lab.baselines import steady_part, steady_rate

TOLERANCE = 0.05  # of the whole, that its parts may miss it by
MOST_PREPARING = 0.01  # of the whole, that may go into what happens once


def train_command(algo: str, env: str, values: Mapping[str, Any], *flags: str) -> tuple[str, ...]:
    """Return the words of a training; {seed} and {folder} in them are still to be replaced.

    Args:
        algo, env: what is trained on what.
        values: settings over those packaged for `env`.
        flags: further words.
    """
    words = [sys.executable, "-m", "agents.train", "--env", env, "--algo", algo, "--seed", "{seed}"]
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            items = value if isinstance(value, list) else [value]
            words += [f"--{flag}", *("none" if item is None else str(item) for item in items)]
    return (*words, *flags, "--no-record", "--json", "--runs-dir", "{folder}")


def read_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a whole run: its score, its steps, the seconds of its training, its threads."""
    versions = json.loads((Path(summary["run"]) / "versions.json").read_text(encoding="utf-8"))
    found = {name: summary[name] for name in ("steps", "steps_per_s", "eval_mean")}
    return {**found, "seconds": summary["wall_s"], "threads": versions["threads"]}


def read_training(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a run with its steady speed, and the share of each phase in the same part of the run.

    Where the shares would not be true there are none, and `refused` says why.
    """
    with (Path(summary["run"]) / "progress.csv").open(newline="", encoding="utf-8") as stream:
        rows = [{tag: float(value) for tag, value in row.items() if value} for row in csv.DictReader(stream)]
    points = [(0, 0.0), *((int(row["step"]), row["step"] / row["time/fps"]) for row in rows)]
    first = steady_part(points)
    seconds = max(points[-1][1] - points[first][1], 1e-9)
    phases: dict[str, float] = {}
    for row in rows[first:]:  # row i ends at points[i + 1]
        for tag, value in row.items():
            if tag.startswith("time/") and tag != "time/fps":
                phase = tag.removeprefix("time/")
                phases[phase] = phases.get(phase, 0.0) + value / seconds
    found: dict[str, Any] = {"whole_steps_per_s": summary["steps_per_s"], "steps_per_s": steady_rate(points)}
    preparing = phases.pop("compile", 0.0)  # which is part of the others
    fault = untrue(phases, preparing)
    return read_summary(summary) | found | ({"phases": phases} if fault is None else {"refused": fault})


def untrue(phases: Mapping[str, float], preparing: float) -> str | None:
    """Return why the shares of a training's phases do not tell where its time went, in words; None where they do.

    Args:
        preparing: the share of first calls, in which programs are made.
    """
    if preparing > MOST_PREPARING:
        return f"{preparing:.0%} of the time measured went into compiling and first calls; measure more steps"
    told = sum(phases.values())
    if abs(told - 1) > TOLERANCE:
        return f"the parts that were timed come to {told:.0%} of the time in which they lie"
    return None
