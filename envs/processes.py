"""What starting other processes takes, whatever the system, and what it takes that none outlives its parent.

`python -m envs.processes PARENT MODULE ...` runs a module as `python -m MODULE ...` does, tied to its parent.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

# Arguments of `Popen` for a child that Ctrl-C in the terminal does not reach: that is for the main process, which ends
# things in order. Windows ignores the first, and only Windows has the other.
APART: dict[str, Any] = {
    "start_new_session": True,
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
}
SECONDS_TO_CLOSE = 5.0  # seconds that a process has to close its environments
_SECONDS_TO_NOTICE = 1.0  # seconds in which a process that waits for its parent notices that it is gone
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a child started with `APART` at once; where there are process groups, with all that it has started."""
    with suppress(ProcessLookupError):  # it had just ended
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


def parent_word() -> str:
    """Return what a child is told of us for `tie`: our process number, or 0 where a thread that may end starts it."""
    return str(os.getpid() if threading.current_thread() is threading.main_thread() else 0)


def tie(parent: str, ending: threading.Event | None = None) -> None:
    """Let this process end, and what it has started with it, once its parent has ended, whatever it does just then.

    Its standard input must be a pipe whose other end the parent alone has: that closes however the parent ends. From
    now on it reads nothing there. A step that never lets Python's lock go hinders the thread that notices it; on Linux
    the kernel ends such a process too, where the parent's main thread started it.

    Args:
        parent: `parent_word` of the parent.
        ending: set where this process has noticed by itself, and is given a while to close its environments; None
            where it is never given any.
    """
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_with_parent, args=(pipe, ending), daemon=True).start()
    if sys.platform == "linux" and int(parent):
        _end_as_linux_tells()
        if os.getppid() != int(parent):  # it ended before
            os._exit(1)


def _end_with_parent(pipe: int, ending: threading.Event | None) -> None:
    while os.read(pipe, 64):
        pass
    if ending is not None and ending.wait(_SECONDS_TO_NOTICE):
        threading.Event().wait(SECONDS_TO_CLOSE)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _end_as_linux_tells() -> None:
    """Let the parent's end raise SIGTRAP here, number 5, and that call `alarm(5)`, whose signal ends this process.

    So it takes no Python, and leaves as many seconds to close environments.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.signal.restype = ctypes.c_void_p
        libc.signal(int(signal.SIGTRAP), ctypes.cast(libc.alarm, ctypes.c_void_p))
        libc.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTRAP), 0, 0, 0)


if __name__ == "__main__":
    tie(sys.argv[1])
    sys.argv[:] = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
