"""What the commands print on: terminals that know ASCII alone, narrow ones, pipes and terminals that go away."""

from __future__ import annotations

import codecs
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# Of ASCII and Latin-1, but for the tab and the new line; and those that turn the direction of writing around.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")
_ASCII = {"·": "-", "±": "+-", "…": "...", "→": "->"}


def typed(*words: object) -> str:
    """Return a command as it is typed into the shell of this machine."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


def console(**options: Any) -> Console:
    """Return Rich's console that prints text as it is: names may hold what it would take for markup or emoji.

    Texts, which may come from files, reach the terminal without control characters; its own pass.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text), style, control)

    return Plain(soft_wrap=True, highlight=False, markup=False, emoji=False, **options)


def say(*lines: object) -> None:
    """Print lines on standard output, without control characters; what follows in one is indented."""
    for line in lines:
        print(as_one(str(line)))


def visible(text: str) -> str:
    """Write control characters, which would tell the terminal what to do, as Python writes them: "\\x1b"."""
    return text if text.isprintable() else _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def as_one(text: str) -> str:
    """Return what is `visible` of a line; where it has several, those after the first are indented.

    A name that holds a new line makes no line of its own so, which could pass for another message.
    """
    return re.sub(r"\n(?=[^ \n])", "\n  ", visible(text))


@contextmanager
def lasting_output() -> Iterator[list[_Lasting]]:
    """Until the block ends, let printing raise no error, whatever becomes of stdout and stderr; yield the two.

    Characters that they cannot encode are written otherwise, and what they no longer take is dropped.
    """
    codecs.register_error("plain", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape", "backslashreplace"):
            stream.reconfigure(errors="plain")
    before, lasting = (sys.stdout, sys.stderr), [_Lasting(sys.stdout), _Lasting(sys.stderr)]
    sys.stdout, sys.stderr = lasting
    try:
        yield lasting
    finally:
        for stream in lasting:
            stream.flush()
        sys.stdout, sys.stderr = before


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle an encoding error: bytes of a file's name are kept, signs of ours written otherwise, all else escaped."""
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    if all(sign in _ASCII for sign in signs):
        return "".join(map(_ASCII.__getitem__, signs)), error.end
    with suppress(UnicodeError):
        return codecs.lookup_error("surrogateescape")(error)
    return codecs.backslashreplace_errors(error)


class _Lasting:
    """A stream whose reader may hang up, terminal vanish or disk fill: what runs is worth more than what it says.

    Attributes:
        gone: whether that came about.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.gone = False

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError:
            self._silence()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._silence()

    def _silence(self) -> None:
        """Lead to nowhere what is written from now on, what Python still holds back included."""
        self.gone = True
        with suppress(OSError):  # of a stream without a descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
