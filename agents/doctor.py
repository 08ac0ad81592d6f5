"""Say what keeps a training from learning, by the numbers that it has written."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Debug, Json, parse_flags
from agents.run.terminal import say

EXAMPLES = """\
examples:
  python -m agents.doctor
  python -m agents.doctor runs/CartPole-v1__ppo__s0__20260101-120000
  python -m agents.doctor logs/PPO_1 --json
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    folder: Annotated[
        tyro.conf.Positional[Path | None],
        tyro.conf.arg(
            metavar="[DIR]",
            help_behavior_hint="",
            help="run folder, or folder with TensorBoard event files of SB3 or CleanRL; without it, the run begun last",
        ),
    ] = None
    runs_dir: Annotated[Path, tyro.conf.arg(help="where runs are, if DIR is not given")] = Path("runs")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, look, print; return the exit code."""
    return run_command(_doctor, argv)


def _doctor(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.doctor", about=__doc__, examples=EXAMPLES)
    from agents.lab.checkup.logs import read_history
    from agents.run.doctor.illnesses import diagnose_all
    from agents.run.folder import find_latest_run

    folder = options.folder or find_latest_run(options.runs_dir)
    history = read_history(folder)
    found = diagnose_all(history)
    say(f"{folder}: {len(history.tags()):,} curves, {history.step:,} steps")
    say(*(f"- {one}" for one in found) if found else ["No illness was found."])
    if options.json:
        print_json({"steps": history.step, "curves": history.tags(), "illnesses": [one._asdict() for one in found]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
