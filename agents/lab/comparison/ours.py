"""Our training as a run of a comparison."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from agents.lab.comparison.job import JOB_FILE, Job
from agents.run.config import RunConfig
from agents.run.folder import RunFolder
from agents.run.runner import train
from agents.run.storage import read_json


def has_begun(folder: Path) -> bool:
    """Whether `folder` holds a training that can go on."""
    return any((path / "state.json").exists() for _, path in RunFolder(folder).checkpoints())


def train_ours(job: Job, folder: Path) -> dict[str, Any] | None:
    """Train in `folder`, or what is left to train there; return what it leaves, or None if it was stopped before."""
    run, peak = RunFolder(folder), {}
    if run.concluded() is None:
        config = RunConfig.from_dict({**job.settings, "seed": job.seed}, str(folder / JOB_FILE))
        new, old = (None, folder) if has_begun(folder) else (folder.name, None)
        done = train(config, runs_dir=folder.parent, replays_dir=folder, name=new, resume=old, quiet=True, record=False)
        if done.interrupted:
            return None
    else:
        peak = {"peak_mb": None}  # only its result was left to write, by a process that does not train
    reached = read_json(folder / "summary.json")
    return {
        "steps": reached["steps"],
        "train_seconds": reached["train_s"],
        **read_json(folder / "final_episodes.json"),
        **peak,
        "command": shlex.join(["python", "-m", "agents.train", "--config", str(run.config_file), "--no-record"]),
    }
