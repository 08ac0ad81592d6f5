"""Carry out one run of a comparison: `python -m agents.lab.comparison.child FOLDER`, with `job.json` in it.

Ours goes on from its newest checkpoint. SB3's begins anew: without pickle it has no way to go on bit for bit.
What a run does not need is not imported, as its memory is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from agents.lab.comparison.job import ERRORS_FILE, JOB_FILE, RESULT_FILE, Job
from agents.lab.processes import own_peak_mb
from agents.run.cli import leave, tell_failure
from agents.run.folder import RunFolder, versions
from agents.run.storage import parse_json, read_bytes, write_text
from agents.run.terminal import typed
from envs.errors import UserError

PARTS_FILE = "parts.json"
INTERRUPTED = 130
Part = tuple[float, float, float | None]


def main(argv: list[str] | None = None) -> int:
    """Carry out the run and write its `result.json`; what went wrong is the last line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trust", action="store_true", help="code that comes with a model of SB3's may be run")
    parser.add_argument("--began", type=float, default=time.time(), help="when this process was started")
    options = parser.parse_args(argv)
    try:
        return _carry_out(options.folder, options.began, options.trust)
    except Exception as error:
        tell_failure(error)
        return 1


def _carry_out(folder: Path, began: float, trust: bool) -> int:
    job = Job.load(folder)
    saved = any((path / "state.json").exists() for _, path in RunFolder(folder).checkpoints())
    resume = job.kind == "ours" and saved and job.trained_in(folder)
    _begin_part(folder, began, anew=not resume)
    from agents.lab.comparison import training  # and with it PyTorch

    if job.kind == "ours":
        found = training.train_ours(job, folder, resume=resume)
    else:
        found = training.train_sb3(job, folder) if job.kind == "sb3" else training.evaluate_model(job, trust)
    parts = _end_part(folder)
    if found is None:
        return INTERRUPTED
    result = {
        **{name: getattr(job, name) for name in ("env", "algo", "label", "library", "seed")},
        "steps_per_s": found["steps"] / found["train_seconds"] if found["train_seconds"] else 0.0,
        "total_seconds": sum(end - start for start, end, _ in parts),
        "peak_mb": max((peak for *_, peak in parts if peak is not None), default=None),
        "command": typed("python", "-m", "agents.lab.comparison.child", folder),
        "versions": versions(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **found,
    }
    write_text(folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    return 0


def _begin_part(folder: Path, began: float, *, anew: bool) -> None:
    """Note that a process begins; one before it that was killed ended when it last wrote something.

    With `anew`, the folder is emptied, but for what the run is and what its process says.
    """
    others = [path for path in folder.iterdir() if path.name not in (JOB_FILE, ERRORS_FILE)]
    parts = [] if anew else _parts(folder)
    if parts:
        parts[-1] = (parts[-1][0], max(path.stat().st_mtime for path in others), parts[-1][2])
    for path in others if anew else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_text(folder / PARTS_FILE, json.dumps([*parts, (began, began, None)]) + "\n")


def _end_part(folder: Path) -> list[Part]:
    """Note that this process ends, and what memory it took; return all."""
    *before, (began, _, _) = _parts(folder)
    parts = [*before, (began, time.time(), own_peak_mb())]
    write_text(folder / PARTS_FILE, json.dumps(parts) + "\n")
    return parts


def _parts(folder: Path) -> list[Part]:
    """Return when each process that worked on the run began and ended, and the most memory it took in MB, if known.

    That of one that was killed is not, nor of those of an earlier version.
    """
    try:
        parts = parse_json(read_bytes(folder / PARTS_FILE))
        return [
            (float(began), float(ended), float(peak[0]) if peak and peak[0] is not None else None)
            for began, ended, *peak in parts
        ]
    except (UserError, ValueError, TypeError, OverflowError):
        return []


if __name__ == "__main__":
    code = main()
    leave(code)
    sys.exit(code)
