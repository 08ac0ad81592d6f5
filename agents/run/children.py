"""Other processes of ours: several at a time, each tied to this one, and ended in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from envs.processes import APART, cores, kill, parent_word

SECONDS_TO_SAVE = 15.0  # that a child has to save what it learnt


class Child(NamedTuple):
    """A process of ours at work, and the file that takes its stderr."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def failure(self) -> str:
        """Say how it failed, once it has ended; "" where it did not."""
        return failure(self.process.returncode, self.errors) if self.process.returncode else ""

    def close(self) -> None:
        """Close what the ended process had open."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.errors.close()


def start_child(module: Sequence[str], errors: Path, beside: int, *, inherited: int | None = None) -> Child:
    """Start `python -m MODULE ...`, which ends with us, with as many threads as there are cores for each.

    Where the environment's OMP_NUM_THREADS is less, it has as many as that.

    Args:
        module: its name and arguments.
        errors: the file that takes its stderr.
        beside: how many such processes there are at a time.
        inherited: a descriptor of a lock that it keeps open, where there are such things.
    """
    most, given = max(cores() // beside, 1), os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    threads = str(min(most, int(given)) if given.isdecimal() and int(given) else most)
    stream = errors.open("w+b")
    process = subprocess.Popen(
        [sys.executable, "-m", "envs.processes", parent_word(), *module],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=stream,
        env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        **APART,
        pass_fds=[inherited] if os.name == "posix" and inherited is not None else (),
    )
    return Child(process, stream)


@contextmanager
def ended_at_last(children: Mapping[Any, Child]) -> Iterator[None]:
    """See to it that those among `children` when the block ends end too: a training saves a checkpoint first."""
    try:
        yield
    finally:
        for child in children.values():
            child.process.send_signal(signal.SIGTERM)
        limit = time.monotonic() + SECONDS_TO_SAVE
        for child in children.values():
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(limit - time.monotonic(), 0.1))
            kill(child.process)
            child.process.wait()
            child.close()


def failure(code: int, errors: IO[bytes], late: bool = False) -> str:
    """Say how a process failed, with the last line of `errors`, its stderr, which is read from the start.

    Args:
        code: its exit code, or minus the signal that ended it.
        late: it was killed because it took too long.
    """
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    ended = f"failed with exit code {code}" if code > 0 else f"died of signal {-code}"
    return f"{'was given up as too slow' if late else ended}: {said[-1].strip()[:300]}"
