"""Comparisons that take seconds, in processes of their own or in this one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from agents.lab.comparison import child
from agents.lab.comparison.job import Job, finished_run
from agents.lab.comparison.options import Options
from agents.lab.comparison.plan import PlannedTask, all_jobs, plan_tasks
from agents.lab.comparison.pool import JobResult

SHORT = {"max_episode_steps": 20}
KWARGS = ("max_episode_steps=20",)


def tasks_of(against: Sequence[str] = ("sb3",), algo: str = "ppo", **asked: Any) -> list[PlannedTask]:
    """Return a small comparison on CartPole."""
    small: dict[str, Any] = {"env": ["CartPole-v1"], "algos": [algo], "seeds": 1, "env_kwargs": KWARGS}
    small |= {"total_timesteps": 2_048, "eval_freq": 1_024, "eval_episodes": 3, "final_eval_episodes": 5}
    tasks, _ = plan_tasks(Options(against=tuple(against), **(small | asked)))
    return tasks


def carry_out_here(tasks: Sequence[PlannedTask], out: Path, *flags: str) -> dict[str, Path]:
    """Carry out every run in this process; return the folder of each label's last seed."""
    folders = {}
    for job in all_jobs(tasks):
        folders[job.label] = here(job, out, *flags)
    return folders


def here(job: Job, out: Path, *flags: str) -> Path:
    folder = job.folder(out)
    job.save(folder)
    assert child.main([str(folder), *flags]) == 0
    assert job.is_done(folder)
    return folder


def run_jobs_here(
    jobs: Sequence[Job], out: Path, workers: int, lock: int, *, trust: bool, around: Callable[[Job], Any] | None = None
) -> Iterator[JobResult]:
    """Stand in for `pool.run_jobs`, which starts a process for each run; `around` returns a context for a run."""
    for job in jobs:
        with nullcontext() if around is None else around(job):
            folder = here(job, out)
        yield JobResult(job, finished_run(folder), None)


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found
