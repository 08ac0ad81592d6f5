"""Planting a bug in a copy of the project, and finding out whether its tests notice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PARTS = ("agents", "envs", "configs", "tests", "docs", "pyproject.toml", "README.md")  # that tests need
SECONDS = 600  # for each file of tests, after which they count as hanging, which is no failure of a test


class Bug(NamedTuple):
    """A mistake in one place.

    Attributes:
        file: where, from the project's root.
        tests: files of tests, separated by spaces, of which one should fail.
        old: what stands there, exactly once in the file.
        new: what the mistake makes of it.
        what: the mistake in words.
        source: where the field has met it; "" where it is of our own invention.
    """

    file: str
    tests: str
    old: str
    new: str
    what: str
    source: str = ""

    def planted(self, text: str) -> str:
        """Return the file's text with the mistake in it.

        Raises:
            ValueError: what should stand there does not, or more than once: the list of bugs has to follow the code.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {self.old!r} {text.count(self.old)} times, not once")
        return text.replace(self.old, self.new)


def copy_project(folder: Path) -> None:
    """Copy what tests need into a folder that is not there yet."""
    for part in PARTS:
        source, target = ROOT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def first_failure(folder: Path, tests: Collection[str]) -> str:
    """Run tests in a copy until one fails, and return which; "" where all pass.

    Raises:
        RuntimeError, subprocess.TimeoutExpired: they did not run to an end.
    """
    # no bytecode: a file planted twice within a second could have the size and the time of the one compiled before
    own = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=SECONDS * len(tests)
    )
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", done.stdout, re.MULTILINE)
    if done.returncode == 0:
        return ""
    if done.returncode == 1 and failed is not None:
        return failed[1]
    raise RuntimeError(f"the tests could not be run (exit code {done.returncode}):\n{done.stdout}{done.stderr}")


def caught_by(bug: Bug, folder: Path) -> str:
    """Plant a bug in a copy, and take it out again; return the test that failed, or "".

    Raises:
        RuntimeError, subprocess.TimeoutExpired: the tests did not run to an end.
    """
    file = folder / bug.file
    right = file.read_text(encoding="utf-8")
    file.write_text(bug.planted(right), encoding="utf-8", newline="\n")
    try:
        return first_failure(folder, bug.tests.split())
    finally:
        file.write_text(right, encoding="utf-8", newline="\n")
