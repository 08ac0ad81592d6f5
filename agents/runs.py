"""List the runs that there are: what was trained, how well it did, and what it takes on the disk; delete some."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Flag, parse_flags
from envs.errors import UserError

if TYPE_CHECKING:
    from agents.run.listing import Listed

EXAMPLES = """\
examples:
  python -m agents.runs
  python -m agents.runs --env CartPole-v1 --algo ppo --finished
  python -m agents.runs --name 'lr-*' --unfinished --delete
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="[RUN ...]", help_behavior_hint="", help="these alone; without any, all in --runs-dir"),
    ] = ()
    env: Annotated[
        str | None,
        tyro.conf.arg(metavar="ID", help_behavior_hint="", help="of this environment; * stands for any text"),
    ] = None
    algo: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="", help="of this algorithm; * as above")
    ] = None
    name: Annotated[
        str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="", help="of this --name; * as above")
    ] = None
    finished: Annotated[Flag, tyro.conf.arg(help="those alone that came to their end")] = False
    unfinished: Annotated[Flag, tyro.conf.arg(help="those alone that did not")] = False
    delete: Annotated[Flag, tyro.conf.arg(help="delete the runs listed, after asking")] = False
    yes: Annotated[Flag, tyro.conf.arg(help="delete without asking")] = False
    runs_dir: Annotated[Path, tyro.conf.arg(help="where runs are")] = Path("runs")
    json: Annotated[Flag, tyro.conf.arg(help="print the list as a last line")] = False
    debug: Annotated[Flag, tyro.conf.arg(help="show tracebacks")] = False


def main(argv: list[str] | None = None) -> int:
    """Parse, list, delete; return the exit code: 1 where a deletion was refused."""
    return run_command(_runs, argv)


def _runs(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.runs", about=__doc__, examples=EXAMPLES)
    if options.finished and options.unfinished:
        raise UserError("--finished and --unfinished exclude one another")
    from agents.run.folder import RunFolder, runs_in
    from agents.run.listing import listed

    paths = [RunFolder.open(path).path for path in options.runs] or runs_in(options.runs_dir)
    found = [run for path in reversed(paths) if _wanted(run := listed(path), options)]
    if not found:
        print(f"no run{' like that' if paths else ''} in {options.runs_dir}")
    else:
        _print(found)
    if options.json:
        print_json({"runs": [dataclasses.asdict(run) for run in found]})
    return _delete(found, options) if options.delete and found else 0


def _wanted(run: Listed, options: Options) -> bool:
    patterns = ((run.env, options.env), (run.algo, options.algo), (run.name or "", options.name))
    if not all(pattern is None or _like(value, pattern) for value, pattern in patterns):
        return False
    return not (options.finished and not run.finished) and not (options.unfinished and run.finished)


def _like(value: str, pattern: str) -> bool:
    """Whether a pattern fits a value, or, where that is a path, its last part."""
    return any(fnmatch.fnmatchcase(text, pattern) for text in (value, re.split(r"[/\\]", value)[-1]))


def _print(runs: Sequence[Listed]) -> None:
    from rich.table import Table
    from rich.text import Text

    from agents.run.terminal import console

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("run", "steps", "final", "best", "state", "MB"):
        table.add_column(heading, justify="left" if heading in ("run", "state") else "right", overflow="fold")
    for run in runs:
        final, best = ("" if score is None else f"{score:.1f}" for score in (run.final, run.best))
        cells = (Path(run.run).name, f"{run.steps:,}", final, best, run.state, f"{run.bytes / 1e6:.1f}")
        table.add_row(*map(Text, cells))
    screen = console()
    screen.print(table)
    screen.print(f"{len(runs)} run{'' if len(runs) == 1 else 's'}, {sum(run.bytes for run in runs) / 1e6:,.1f} MB")


def _delete(runs: Sequence[Listed], options: Options) -> int:
    """Delete folders of runs, and nothing that a link leads to."""
    if not options.yes:
        if not sys.stdin.isatty():
            raise UserError("nobody is there to be asked: add --yes to delete the runs listed")
        if (
            input(f"Delete {'this run' if len(runs) == 1 else f'these {len(runs)} runs'}? [y/N] ").strip().lower()
            != "y"
        ):
            print("nothing was deleted")
            return 1
    for run in runs:
        path = Path(run.run)
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)
    print(f"deleted {len(runs)} run{'' if len(runs) == 1 else 's'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
