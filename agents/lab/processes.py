"""Other processes: run to their end and measured, none outlives this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from agents.core.signals import ENDING, handling
from agents.run.children import failure
from envs.errors import UserError
from envs.processes import APART, kill, parent_word

PATIENCE = 1_800.0  # seconds after which a child is killed
UNIT = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss, in a MB


@contextmanager
def _interrupted_after() -> Iterator[None]:
    """Let what would end us wait for the end of the block: they would part us from a child that just starts.

    Masking them would not do, as the child inherits the mask.
    """
    came: list[int] = []
    try:
        with handling(lambda number, _: came.append(number), signal.SIGINT, *ENDING):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


class Finished(NamedTuple):
    """A process that ended: what it printed, its seconds from start to end, its memory at most (None: unknown)."""

    output: str
    seconds: float
    peak_mb: float | None


def run_process(words: Sequence[str], variables: Mapping[str, str], patience: float = PATIENCE) -> Finished:
    """Run a command to its end; it dies with us.

    Raises:
        UserError: it cannot be started, fails, or takes longer than `patience` seconds.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child: subprocess.Popen[bytes] | None = None
        late: threading.Timer | None = None
        began = perf_counter()
        try:
            with _interrupted_after():
                child = subprocess.Popen(
                    _tied(words),
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=errors,
                    env=os.environ | variables,
                    **APART,
                )
            late = threading.Timer(patience, kill, (child,))
            late.start()
            peak = _wait(child)
        except BaseException as error:
            if child is not None:
                kill(child)
                child.wait()
            elif isinstance(error, OSError):
                reason = os.strerror(error.errno or 0).lower()
                raise UserError(f"cannot start {words[0]}: {reason}") from error
            raise
        finally:
            if late is not None:
                late.cancel()
            if child is not None and child.stdin is not None:
                child.stdin.close()
        seconds = perf_counter() - began
        if child.returncode:
            raise UserError(failure(child.returncode, errors, late=seconds >= patience))
        output.seek(0)
        return Finished(output.read().decode(errors="replace"), seconds, peak)


def _tied(words: Sequence[str]) -> list[str]:
    """Return a command that runs a module (`python -m MODULE ...`) as one that ends with us; others as they are."""
    program, *rest = words
    if program != sys.executable or rest[:1] != ["-m"]:
        return [*words]
    return [program, "-m", "envs.processes", parent_word(), *rest[1:]]


def _wait(child: subprocess.Popen[bytes]) -> float | None:
    """Wait for a child's end; return the most memory in MB that it took, None where that is unknown."""
    if not hasattr(os, "wait4"):
        child.wait()
        return None
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)  # Popen cannot know
    peak: float = usage.ru_maxrss / UNIT
    # On Linux a child counts from its parent's peak, so that of one that stayed below is unknown. That is why the
    # benchmark itself imports nothing large before its last child has ended.
    return peak if sys.platform != "linux" or peak > (own_peak_mb() or 0) else None


def own_peak_mb() -> float | None:
    """Return the most memory in MB that this process has taken so far, whatever its parent took; None on Windows."""
    if sys.platform != "linux":
        try:
            import resource
        except ImportError:
            return None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) / UNIT


def last_json(output: str) -> dict[str, Any]:
    """Return the JSON object on the last line.

    Raises:
        UserError: there is none.
    """
    line = (output.strip().splitlines() or [""])[-1]
    try:
        found = json.loads(line, parse_constant=lambda _: None)  # NaN and the like are no JSON
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"its last line is no JSON object: {line[:120]!r}")
    return found
