"""Runs of a comparison in processes of their own, several at a time; none outlives this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from agents.lab.comparison.curves import RunResult
from agents.lab.comparison.job import ERRORS_FILE, Job, finished_run
from agents.lab.processes import failure
from agents.run.storage import disk
from envs.errors import UserError
from envs.processes import APART, cores, kill, parent_word

PATIENCE = 15.0  # seconds that children have to save what they learnt
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
        UserError: another comparison is writing there.
    """
    with disk("write", out):
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    try:
        for _ in range(50):
            with suppress(OSError):  # another one has it
                _take(lock)
                break
            time.sleep(0.1)
        else:
            raise UserError(f"another comparison is writing in {out}: wait for it, or choose another --out")
        yield lock
    finally:
        os.close(lock)


def _take(lock: int) -> None:
    """Lock a file, or raise an OSError. On Windows children do not inherit the lock."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def run_jobs(
    jobs: Sequence[Job], out: Path, workers: int, lock: int, *, trust: bool = False
) -> Generator[JobResult, None, None]:
    """Yield each run as it ends, `workers` of them at a time; `trust` lets models of SB3's be loaded.

    Every process has as many threads as there are cores for each. When the caller stops, those that still run are
    ended: ours saves a checkpoint first.
    """
    waiting, running = deque(jobs), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_start(waiting.popleft(), out, workers, lock, trust))
            for run in [run for run in running if run.child.poll() is not None]:
                running.remove(run)
                result, code = finished_run(run.job.folder(out)), run.child.returncode
                failed = failure(code, run.errors) if code else "it ended without a result that can be read"
                run.close()
                yield JobResult(run.job, result, failed if result is None else None)
            time.sleep(POLL)
    finally:
        for run in running:
            run.child.send_signal(signal.SIGTERM)
        limit = time.monotonic() + PATIENCE
        for run in running:
            with suppress(subprocess.TimeoutExpired):
                run.child.wait(max(limit - time.monotonic(), 0.1))
            kill(run.child)
            run.child.wait()
            run.close()


class _Running(NamedTuple):
    """A run whose process is at work, and the file that takes its stderr."""

    job: Job
    child: subprocess.Popen[bytes]
    errors: IO[bytes]

    def close(self) -> None:
        """Close what the ended process had open."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        self.errors.close()


def _start(job: Job, out: Path, workers: int, lock: int, trust: bool) -> _Running:
    folder, threads = job.folder(out), str(max(cores() // workers, 1))
    job.save(folder)
    words = [sys.executable, "-m", "agents.lab.comparison.child", str(folder), "--tied", parent_word()]
    words += ["--began", str(time.time())]
    words += ["--trust"] if trust else []
    errors = (folder / ERRORS_FILE).open("w+b")
    child = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        **APART,
        pass_fds=[lock] if os.name == "posix" else (),
    )
    return _Running(job, child, errors)
