"""Write one page of all runs, to be sorted, filtered and compared in a browser."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Debug, Json, parse_flags

EXAMPLES = """\
examples:
  python -m agents.gallery
  python -m agents.gallery --out all-runs.html
  python -m agents.gallery --runs-dir runs --replays-dir replays --json
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help_behavior_hint="", help="the page (default: gallery.html where runs are)"),
    ] = None
    runs_dir: Annotated[Path, tyro.conf.arg(help="where runs are")] = Path("runs")
    replays_dir: Annotated[Path, tyro.conf.arg(help="where recorded episodes are")] = Path("replays")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, write, print; return the exit code."""
    return run_command(_gallery, argv)


def _gallery(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.gallery", about=__doc__, examples=EXAMPLES)

    from agents.lab.gallery import write_gallery
    from agents.lab.words import plural
    from agents.run.terminal import say

    page = options.out or options.runs_dir / "gallery.html"
    count = write_gallery(page, options.runs_dir, options.replays_dir)
    say(f"gallery: {page} ({plural(count, 'run')})")
    if options.json:
        print_json({"gallery": str(page), "runs": count})
    return 0


if __name__ == "__main__":
    sys.exit(main())
