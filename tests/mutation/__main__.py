"""Plant each bug of the list in a copy of the project, run the tests that should notice, and say which one did.

python -m tests.mutation            all of them: up to an hour
python -m tests.mutation replay     those whose file or description holds the word
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutation.bugs import BUGS
from tests.mutation.planting import caught_by, copy_project, first_failure


def main(words: list[str]) -> int:
    """Return how many bugs no test noticed."""
    chosen = [bug for bug in BUGS if all(word.lower() in f"{bug.file} {bug.what}".lower() for word in words)]
    if not chosen:
        raise SystemExit(f"of {len(BUGS)} planted bugs, none has {' and '.join(words)} in its file or description")
    if hasattr(os, "nice"):
        os.nice(10)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy"
        copy_project(folder)
        tests = sorted({file for bug in chosen for file in bug.tests.split()})
        if failure := first_failure(folder, tests):
            raise SystemExit(f"nothing is planted yet, and {failure} fails")
        survived = 0
        for bug in chosen:
            try:
                found = caught_by(bug, folder)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                found, said = "", f"not counted: {error}"
            else:
                said = found or "NOT NOTICED"
            survived += not found
            print(f"{bug.file}: {bug.what}\n    {said}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} planted bugs were noticed")
    return survived


if __name__ == "__main__":
    raise SystemExit(min(main(sys.argv[1:]), 1))
