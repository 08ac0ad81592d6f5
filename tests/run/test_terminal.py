"""Printing raises no error, whatever becomes of the streams."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from agents.run.terminal import console, lasting_output, typed


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", r"+- 3 - \xfc\u20ac -> ..."), ("cp1252", "± 3 · ü€ -> …"), ("utf-8", "± 3 · ü€ → …")],
)
def test_what_an_encoding_lacks_is_written_otherwise(
    encoding: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding))
    with lasting_output():
        print("± 3 · ü€ → …", end="")
    assert bytes_.getvalue().decode(encoding) == written


@pytest.mark.skipif(os.name != "posix", reason="elsewhere the names of files are text")
def test_a_file_whose_name_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, "utf-8"))
    with lasting_output():
        print(os.fsdecode(b"\xfcber"), end="")
    assert bytes_.getvalue() == b"\xfcber"


def test_commands_are_quoted_as_the_shell_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("python", Path("my runs"), "a")
    assert typed(*words) == "python 'my runs' a"
    monkeypatch.setattr(os, "name", "nt")
    assert typed("python", r"my runs\a", r"runs\a") == r'python "my runs\a" runs\a'


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "the terminal is gone")


def test_a_stream_that_takes_nothing_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", Broken())
    with lasting_output() as (output, errors):
        assert not output.gone
        print("hello")
        console().print("hello")
        assert (output.gone, errors.gone) == (True, False)
        print("hello", file=sys.stderr)
        assert errors.gone
    assert isinstance(sys.stdout, Broken)


def test_what_is_held_back_is_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    os.close(read)
    with lasting_output() as (output, _):
        print("hello")
        output.flush()
        assert output.gone
        print("hello again")
    stream.close()  # which writes what is held back


def test_names_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    names = "robot.py:Pick: [red]a[/] :smile: 1.5 'x'"
    console().print(names)
    assert capsys.readouterr().out == f"{names}\n"
