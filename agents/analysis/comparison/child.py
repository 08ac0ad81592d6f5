"""Carry out one run of a comparison: `python -m agents.analysis.comparison.child FOLDER`, with `job.json` in it.

Ours goes on from its newest checkpoint. SB3's begins anew: without pickle it has no way to go on bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents.analysis.comparison.energy import EnergyMeter
from agents.analysis.comparison.job import JOB_FILE, RESULT_FILE, Job, read_json
from agents.analysis.processes import own_peak_mb
from agents.experiment.config import RunConfig
from agents.experiment.folder import RunFolder, versions
from agents.experiment.storage import write_text
from envs.errors import UserError

PARTS_FILE, ERRORS_FILE = "parts.json", "errors.txt"
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Carry out the run and write its `result.json`; what went wrong is the last line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--began", type=float, default=time.time(), help="when this process was started")
    parser.add_argument("--alone", action="store_true", help="nothing else runs: the processor's energy is this run's")
    parser.add_argument("--tied", action="store_true", help="end when standard input is closed")
    options = parser.parse_args(argv)
    if options.tied:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        return _carry_out(options.folder, options.began, EnergyMeter() if options.alone else None)
    except UserError as error:
        said = " ".join(str(error).split())
    except Exception as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    print(said, file=sys.stderr)
    return 1


def _end_with_parent() -> None:
    os.read(0, 1)  # returns once nobody can write to it any more
    os._exit(1)


def _carry_out(folder: Path, began: float, meter: EnergyMeter | None) -> int:
    job = Job.load(folder)
    if job.kind == "ours":
        found = _ours(job, folder, began)
        if found is None:
            return INTERRUPTED
    else:
        found = _sb3(job, folder, began)
    parts = _parts(folder)
    parts[-1][1] = time.time()
    result = {
        "env": job.env,
        "algo": job.algo,
        "label": job.label,
        "library": job.library,
        "seed": job.seed,
        **found,
        "steps_per_s": found["steps"] / max(found["train_seconds"], 1e-9),
        "total_seconds": sum(end - start for start, end in parts),
        "peak_mb": own_peak_mb(),
        "energy_j": meter.joules() if meter is not None and len(parts) == 1 else None,
        "fingerprint": job.fingerprint,
        "versions": versions(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    return 0


def _ours(job: Job, folder: Path, began: float) -> dict[str, Any] | None:
    """Train ours, or what is left of it; return what it leaves, or None if it was stopped before its end."""
    run = RunFolder(folder)
    if run.concluded() is None:
        from agents.experiment.runner import train

        resumes = any((path / "state.json").exists() for _, path in run.checkpoints())
        if not resumes:
            clear(folder)
        _begin_part(folder, began)
        config = RunConfig.from_dict({**job.settings, "seed": job.seed}, str(folder / JOB_FILE))
        new, old = (None, folder) if resumes else (folder.name, None)
        done = train(config, runs_dir=folder.parent, replays_dir=folder, name=new, resume=old, quiet=True, record=False)
        if done.interrupted:
            return None
    reached = read_json(folder / "summary.json")
    command = ["python", "-m", "agents.train", "--config", str(run.config_file), "--no-record"]
    return {
        "steps": reached["steps"],
        "train_seconds": reached["train_s"],
        **read_json(folder / "final_episodes.json"),
        "command": shlex.join(command),
    }


def _sb3(job: Job, folder: Path, began: float) -> dict[str, Any]:
    from agents.analysis.comparison.sb3 import train

    clear(folder)
    _begin_part(folder, began)
    steps, seconds, final = train(job, folder)
    return {
        "steps": steps,
        "train_seconds": seconds,
        "returns": final.returns.tolist(),
        "lengths": final.lengths.tolist(),
        "command": shlex.join(["python", "-m", "agents.analysis.comparison.child", str(folder)]),
    }


def clear(folder: Path) -> None:
    """Remove all that a run left in its folder, but not what it is and what it said."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (JOB_FILE, ERRORS_FILE):
            path.unlink()


def _parts(folder: Path) -> list[list[float]]:
    """Return when each process that worked on the run began and ended."""
    try:
        parts: list[list[float]] = json.loads((folder / PARTS_FILE).read_text(encoding="utf-8"))
        return parts
    except (OSError, ValueError):
        return []


def _begin_part(folder: Path, began: float) -> None:
    """Note that a process begins; one before it that was killed ended when it last wrote something."""
    parts = _parts(folder)
    if parts:
        parts[-1][1] = max(path.stat().st_mtime for path in folder.iterdir() if path.name != ERRORS_FILE)
    write_text(folder / PARTS_FILE, json.dumps([*parts, [began, began]]) + "\n")


if __name__ == "__main__":
    sys.exit(main())
