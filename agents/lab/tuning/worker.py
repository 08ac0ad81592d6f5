"""Carry out trials of a study, one after the other: `python -m agents.lab.tuning.worker FOLDER`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from agents.core.signals import terminated_as_interrupted
from agents.run.cli import leave, tell_failure


def main(argv: list[str] | None = None) -> int:
    """Work until the trials or the time are over; what went wrong is the last line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", help="of the study")
    parser.add_argument("--storage", help="a database's URL; without it, the folder's journal")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="time.time() at which it is over")
    options = parser.parse_args(argv)
    try:
        with terminated_as_interrupted():
            _work(options.folder, options.storage, options.name, options.deadline)
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        tell_failure(error)
        return 1


def _work(folder: Path, url: str | None, name: str | None, deadline: float) -> None:
    from agents.lab.tuning.study import Study, at_work
    from agents.lab.tuning.trial import OutOfTime, carry_out

    with at_work(folder) as worker:
        study = Study(folder, url, name=name)
        while time.time() < deadline and (trial := study.claim(worker)) is not None:
            try:
                carry_out(trial, study, deadline)
            except (OutOfTime, KeyboardInterrupt) as stop:
                study.abandon(trial)
                if isinstance(stop, KeyboardInterrupt):
                    raise
                return


if __name__ == "__main__":
    code = main()
    leave(code)
    sys.exit(code)
