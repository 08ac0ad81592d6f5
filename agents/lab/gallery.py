"""All runs on one page, to be sorted, filtered and compared, which needs no server."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agents.lab.listing import Listed, list_runs
from agents.run.curves import Curve, read_curves
from agents.run.recording import videos_of
from agents.run.registry import label
from agents.run.storage import write_text
from envs.errors import UserError

POINTS = 200  # of a curve


def write_gallery(page: Path, runs_dir: Path, replays: Path) -> int:
    """Write the page of all runs in a folder, the damaged ones too; return how many there are.

    Videos stay where they are: the page names them by their place relative to its own.

    Raises:
        UserError: there is no run, or the page cannot be written.
    """
    runs = [_row(one, page, replays) for one in list_runs(runs_dir)]
    if not runs:
        raise UserError(f"{runs_dir} holds no run. Train one: python -m agents.train --env CartPole-v1")
    place = files("agents.lab")
    script = place.joinpath("gallery.js").read_text("utf-8")
    parts = {
        "HASH": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "SCRIPT": script,
        "RUNS": json.dumps(runs).replace("<", "\\u003c"),  # last: nothing is replaced in what runs say
    }
    html = place.joinpath("gallery.html").read_text("utf-8")
    for name, text in parts.items():
        html = html.replace(name, text, 1)
    write_text(page, html)
    return len(runs)


def _row(one: Listed, page: Path, replays: Path) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(one, name) for name in ("env", "seed", "steps", "best", "final", "state")}
    found |= {"run": one.path.name, "algo": label(one.algo) if one.algo else None, "video": None}
    found["begun"] = one.begun.isoformat(sep=" ", timespec="seconds")
    curve = Curve([], [])
    if one.env is not None:
        curve = read_curves(one.path / "evaluations.csv").get("eval/mean_reward", curve).thinned(POINTS)
        if videos := videos_of(one.path, one.env, replays):
            found["video"] = _address(videos[0], page)
    return found | {"curve": curve._asdict()}


def _address(file: Path, page: Path) -> str:
    """Return where a file is, seen from a page."""
    try:
        return quote(Path(os.path.relpath(file.resolve(), page.resolve().parent)).as_posix())
    except ValueError:  # on another drive of Windows
        return file.resolve().as_uri()
