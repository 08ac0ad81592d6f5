"""What every command does around its work: errors in one line, exit codes, JSON as the last line."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from agents.run.storage import to_json
from agents.run.terminal import as_one, lasting_output, visible
from envs.errors import UserError

LONGEST = 4_000  # characters of an error: what it quotes may be longer


def run_command(command: Callable[[list[str]], int], argv: list[str] | None) -> int:
    """Call `command` with the arguments (the process's own for None) and return the exit code.

    A UserError becomes one message on stderr and 2 (`--debug` shows the traceback too); Ctrl-C becomes 130. A reader
    that hangs up, such as `| head`, ends no command: it does its work, and then the code is 141 as for other programs.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # until here Ctrl-C ended the process (`agents/__init__.py`)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with lasting_output() as (output, _):
        code = _exit_code(command, arguments)
        output.flush()
        code = code or 141 * output.gone
        if argv is None:
            leave(code)
    return code


def tell_failure(error: Exception) -> None:
    """Print why a process of ours failed as its last line on stderr, where `agents.run.children.failure` reads it."""
    said = " ".join(str(error).split())
    if not isinstance(error, UserError):
        traceback.print_exc()
        said = f"{type(error).__name__}: {said}"
    print(said, file=sys.stderr)


def leave(code: int) -> None:
    """End this process with `code` at once where a thread that somebody else left would keep it from ending.

    All work is done by then; Python would wait for the thread, perhaps for ever.
    """
    left = [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    if not left:
        return
    names = ", ".join(repr(one.name) for one in left)
    print(visible(f"ended without waiting for threads that were left: {names}"), file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    try:
        return command(arguments)
    except UserError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        _say(f"error: {error}", error)
        return 2
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        if "--debug" in arguments:
            traceback.print_exc()
        _say(f"error: {error.filename}: {error.strerror.lower()}", error)  # a name too long, a disk taken out
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _memory_ran_out(error):
            raise
        if "--debug" in arguments:
            traceback.print_exc()
        tried = re.search(r"tried to allocate [\d.]+ \w+", str(error), re.IGNORECASE)
        what = f" ({tried[0].lower()})" if tried else ""
        _say(f"error: memory ran out{what}; lower n_envs, n_steps, batch_size, buffer_size or net_arch", error)
        return 2
    except SystemExit as stop:  # how argument parsers end: 0 after --help, 2 after a mistake
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt as error:
        _say("interrupted", error)
        return 130


def _memory_ran_out(error: BaseException) -> bool:
    """Whether an error is NumPy's or PyTorch's way to say so, on any device and system."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _say(message: str, error: BaseException) -> None:
    """Print a message on stderr, and beneath it what was noted on the way up."""
    for line in (message, *getattr(error, "__notes__", ())):
        print(as_one(line if len(line) <= LONGEST else f"{line[:LONGEST]}..."), file=sys.stderr)


def print_json(values: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print a JSON object, or a list of them, on one line; inf and nan, which JSON lacks, become null."""
    print(to_json(values), flush=True)
