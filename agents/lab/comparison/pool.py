"""Runs of a comparison in processes of their own, several at a time; none outlives this process."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agents.lab.comparison.job import ERRORS_FILE, Job, read_result
from agents.lab.processes import how_it_ended
from agents.run.storage import disk
from envs.adapters.workers import cores
from envs.errors import UserError

PATIENCE = 15.0  # seconds that children have to save what they learnt
POLL = 0.05  # seconds between two looks at the children


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that ended: what its `result.json` says, or why there is none."""

    job: Job
    result: dict[str, Any] | None
    error: str | None


@contextmanager
def writing(out: Path) -> Iterator[int]:
    """Be the only comparison that writes in `out`; yield a lock's descriptor that children inherit.

    So a comparison that is started again after its process was killed waits for the last child's end.

    Raises:
        UserError: another comparison is writing there.
    """
    with disk("write", out):
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        for _ in range(50):
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        else:
            raise UserError(f"another comparison is writing in {out}: wait for it, or choose another --out")
        yield lock
    finally:
        os.close(lock)


def carry_out(
    jobs: Sequence[Job], out: Path, workers: int, lock: int, *, trust: bool = False
) -> Generator[Outcome, None, None]:
    """Yield each run as it ends, `workers` of them at a time; `trust` lets models of SB3's be loaded.

    Every process has as many threads as there are cores for each. When the caller stops, those that still run are
    ended: ours saves a checkpoint first.
    """
    waiting, running = deque(jobs), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_Running(waiting.popleft(), out, workers, lock, trust))
            for run in [run for run in running if run.child.poll() is not None]:
                running.remove(run)
                yield run.outcome()
            time.sleep(POLL)
    finally:
        _end(running)


class _Running:
    """A run whose process is at work."""

    def __init__(self, job: Job, out: Path, workers: int, lock: int, trust: bool) -> None:
        self.job, self.folder = job, job.folder(out)
        job.save(self.folder)
        self._errors: IO[bytes] = (self.folder / ERRORS_FILE).open("w+b")
        words = [sys.executable, "-m", "agents.lab.comparison.child", str(self.folder), "--tied"]
        words += ["--began", str(time.time()), *(["--alone"] if workers == 1 else []), *(["--trust"] if trust else [])]
        threads = str(max(cores() // workers, 1))
        self.child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            start_new_session=True,
            pass_fds=[lock],
        )

    def outcome(self) -> Outcome:
        """Return how it ended, now that it has."""
        result, code = read_result(self.folder), self.child.returncode
        failed = how_it_ended(code, self._errors) if code else "it ended without a result that can be read"
        self.close()
        return Outcome(self.job, result, failed if result is None else None)

    def close(self) -> None:
        """Let go of the ended process."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        self._errors.close()


def _end(running: Sequence[_Running]) -> None:
    for run in running:
        run.child.send_signal(signal.SIGTERM)
    limit = time.monotonic() + PATIENCE
    for run in running:
        try:
            run.child.wait(max(limit - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            run.child.kill()
            run.child.wait()
        run.close()
