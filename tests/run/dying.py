"""A process that takes a seed and dies: `python -m tests.run.dying FOLDER FIRST COUNT`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agents.run.shared import SharedSeeds

if __name__ == "__main__":
    first, count = map(int, sys.argv[2:])
    SharedSeeds(Path(sys.argv[1]), range(first, first + count)).take()
    os._exit(9)
