"""Write the report of a comparison anew from its stored results, and add results from elsewhere."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import CurveFiles, Flag, parse_flags
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.report
  python -m agents.report runs/comparison --out report --json
  python -m agents.report runs/comparison --import results.csv
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    folder: Annotated[
        tyro.conf.Positional[Path | None],
        tyro.conf.arg(metavar="[DIR]", help_behavior_hint="", help="the comparison; without it, runs/comparison"),
    ] = None
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="", help="for the report (default: DIR/report)"),
    ] = None
    files: CurveFiles = ()
    json: Annotated[Flag, tyro.conf.arg(help="print the verdict as a last line")] = False
    debug: Annotated[Flag, tyro.conf.arg(help="show tracebacks")] = False


def main(argv: list[str] | None = None) -> int:
    """Parse, write, print; return the exit code."""
    return run_command(_report, argv)


def _report(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.report", about=__doc__, examples=EXAMPLES)
    if "--import" in argv and not options.files:
        raise UserError("--import: nothing given; it takes CSV files.")

    from agents.lab.comparison.report import report
    from agents.run.terminal import console

    folder = options.folder or Path("runs", "comparison")
    found = report(folder, options.out or folder / "report", options.files, console())
    if options.json:
        print_json(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
