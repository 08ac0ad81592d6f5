"""Runs of a comparison in processes of their own, several at a time; none outlives this process."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agents.lab.comparison.curves import RunResult
from agents.lab.comparison.job import ERRORS_FILE, Job, finished_run
from agents.run.children import Child, ended_at_last, start_child
from agents.run.lock import taken
from agents.run.storage import disk, refuse_links
from envs.errors import UserError

POLL = 0.05  # seconds between two looks at the children


class JobResult(NamedTuple):
    """A run that ended: its result, or why there is none."""

    job: Job
    result: RunResult | None
    error: str | None


@contextmanager
def exclusive(out: Path) -> Iterator[int]:
    """Be the only comparison that writes in `out`; yield a lock's descriptor that children inherit.

    So a comparison that is started again after its process was killed waits for the last child's end.

    Raises:
        UserError: another comparison is writing there, or something in it leads elsewhere.
    """
    with disk("write", out):
        out.mkdir(parents=True, exist_ok=True)
    refuse_links(out)  # runs that begin anew empty their folders
    with disk("write", out):
        lock = os.open(out / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    try:
        for _ in range(50):
            if taken(lock, alone=True):
                break
            time.sleep(0.1)
        else:
            raise UserError(f"another comparison is writing in {out}: wait for it, or choose another --out")
        yield lock
    finally:
        os.close(lock)


def run_jobs(
    jobs: Sequence[Job], out: Path, workers: int, lock: int, *, trust: bool = False
) -> Generator[JobResult, None, None]:
    """Yield each run as it ends, `workers` of them at a time; `trust` lets models of SB3's be loaded.

    Every process has as many threads as there are cores for each. When the caller stops, those that still run are
    ended: ours saves a checkpoint first.
    """
    waiting, running = deque(enumerate(jobs)), dict[int, Child]()
    with ended_at_last(running):
        while waiting or running:
            while waiting and len(running) < workers:
                place, job = waiting.popleft()
                running[place] = _start(job, out, workers, lock, trust)
            for place in [place for place, child in running.items() if child.ended]:
                job, child = jobs[place], running.pop(place)
                result = finished_run(job.folder(out))
                failed = child.failure() or "it ended without a result that can be read"
                child.close()
                yield JobResult(job, result, failed if result is None else None)
            time.sleep(POLL)


def _start(job: Job, out: Path, workers: int, lock: int, trust: bool) -> Child:
    folder = job.folder(out)
    job.save(folder)
    words = ["agents.lab.comparison.child", str(folder), "--began", str(time.time())]
    words += ["--trust"] if trust else []
    return start_child(words, folder / ERRORS_FILE, workers, inherited=lock)
