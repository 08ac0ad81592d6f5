"""A browser without a window, where there is one: what it makes of a page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.marks import long_test
from tests.waiting import HANGS

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def in_a_browser(test):
    """Mark a test that needs one."""
    return long_test(pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")(test))


def browse(url: str, *options: str, seconds: int = 5) -> subprocess.CompletedProcess[str]:
    """Open a page for so many of its own seconds, which do not pass while it waits for an answer."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--virtual-time-budget={1000 * seconds}"]
    return subprocess.run([*command, *options, url], capture_output=True, text=True, timeout=HANGS)


def dom(url: str) -> str:
    """Return what a page has become."""
    return browse(url, "--dump-dom").stdout


def pixels(url: str, file: Path, *options: str, seconds: int = 5) -> NDArray[np.int_]:
    """Return how a page looks, `[height, width, 3]`; the picture is in `file`, too."""
    browse(url, f"--screenshot={file}", *options, seconds=seconds)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def near(picture: NDArray[np.int_], colour: tuple[int, int, int]) -> int:
    """Return how many pixels have nearly this colour."""
    return int((np.abs(picture - colour).sum(axis=2) < 60).sum())
