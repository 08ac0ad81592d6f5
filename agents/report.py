"""Write the report of a run, or anew that of a comparison from its stored results, with results from elsewhere."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import CurveFiles, Debug, Flag, Trust, parse_flags
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.report
  python -m agents.report runs/CartPole-v1__ppo__s0__20260101-120000
  python -m agents.report runs/comparison --out report --json
  python -m agents.report runs/comparison --import results.csv
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    folder: Annotated[
        tyro.conf.Positional[Path | None],
        tyro.conf.arg(
            metavar="[DIR]", help_behavior_hint="", help="a run, or a comparison; without it, runs/comparison"
        ),
    ] = None
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="", help="for the report (default: DIR/report)"),
    ] = None
    files: CurveFiles = ()
    replays_dir: Annotated[Path, tyro.conf.arg(help="where a run's recorded episodes are")] = Path("replays")
    trust: Trust = False
    json: Annotated[Flag, tyro.conf.arg(help="print the verdict as a last line")] = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, write, print; return the exit code."""
    return run_command(_report, argv)


def _report(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.report", about=__doc__, examples=EXAMPLES)

    from agents.lab.comparison.report import report
    from agents.lab.run_page import write_page
    from agents.run.terminal import console, say

    folder = options.folder or Path("runs", "comparison")
    out = options.out or folder / "report"
    if (folder / "config.yaml").is_file():
        if options.files:
            raise UserError(f"--import: {folder} is a run; results from elsewhere join a comparison.")
        page, found = write_page(folder, out, options.replays_dir, options.trust)
        say(f"report: {page}")
        found["report"] = str(page)
    elif not (folder / "comparison.json").exists() and (folder / "versions.json").is_file():
        raise UserError(f"damaged: {folder}: config.yaml is missing")  # as `agents.runs` says it
    else:
        found = report(folder, out, options.files, console())
    if options.json:
        print_json(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
