"""What every command does around its work: errors in one line, exit codes, JSON as the last line."""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from envs.errors import UserError


def run_command(command: Callable[[list[str]], int], argv: list[str] | None) -> int:
    """Call `command` with the arguments (the process's own for None) and return the exit code.

    A UserError becomes one message on stderr and 2 (`--debug` shows the traceback too); Ctrl-C becomes 130; a reader
    that hangs up, such as `| head`, a quiet 141, as for other programs.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = _exit_code(command, arguments)
    except BrokenPipeError:
        if not _reader_hung_up("\n"):  # what could not be written is forgotten, so it takes something new to find out
            raise
        return 141
    return 141 if _reader_hung_up() else code


def _exit_code(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    try:
        return command(arguments)
    except UserError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        _say(f"error: {error}", error)
        return 2
    except SystemExit as stop:  # how argument parsers end: 0 after --help, 2 after a mistake
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt as error:
        _say("interrupted", error)
        return 130


def _reader_hung_up(rest: str = "") -> bool:
    """Write out what is still held back; where nobody reads it, let Python's own end not complain either."""
    try:
        sys.stdout.write(rest)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _say(message: str, error: BaseException) -> None:
    """Print a message on stderr, and beneath it what was noted on the way up."""
    print(message, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)


def print_json(values: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print a JSON object, or a list of them, on one line; inf and nan, which JSON lacks, become null."""
    print(json.dumps([_sayable(one) for one in values] if isinstance(values, list) else _sayable(values)), flush=True)


def _sayable(values: dict[str, Any]) -> dict[str, Any]:
    unsayable = [key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    return values | dict.fromkeys(unsayable)
