"""List the runs there are, what they reached and what they take on the disk, and delete some."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Debug, Flag, Json, parse_flags
from agents.run.terminal import say
from envs.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from agents.lab.listing import Listed

EXAMPLES = """\
examples:
  python -m agents.runs
  python -m agents.runs --env CartPole-v1 --algo ppo --name 'lr-*' --json
  python -m agents.runs --unfinished --delete
  python -m agents.runs CartPole-v1__ppo__s0__20260101-120000 --delete --yes
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="[RUN ...]", help_behavior_hint="", help="only these, by name or path"),
    ] = ()
    env: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="ID", help_behavior_hint="", help="only those on this environment; * stands for any text"
        ),
    ] = None
    algo: Annotated[
        str | None,
        tyro.conf.arg(metavar="NAME", help_behavior_hint="", help="only those of this algorithm; * as above"),
    ] = None
    name: Annotated[
        str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="", help="only those of this --name; * as above")
    ] = None
    finished: Annotated[Flag, tyro.conf.arg(help="only those that came to their end")] = False
    unfinished: Annotated[
        Flag, tyro.conf.arg(help="only those that did not, or not yet: training, stopped, killed, damaged")
    ] = False
    delete: Annotated[Flag, tyro.conf.arg(help="delete those that are listed, after asking")] = False
    yes: Annotated[Flag, tyro.conf.arg(help="delete without asking")] = False
    runs_dir: Annotated[Path, tyro.conf.arg(help="where runs are")] = Path("runs")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, list, delete, print; return the exit code."""
    return run_command(_runs, argv)


def _runs(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.runs", about=__doc__, examples=EXAMPLES)
    if options.finished and options.unfinished:
        raise UserError("--finished and --unfinished exclude one another: without both, all runs are listed")
    if options.yes and not options.delete:
        raise UserError("--yes: it answers what --delete asks, which is not given")
    wanted = (options.runs, options.env, options.algo, options.name, options.finished, options.unfinished)
    if options.delete and not any(wanted):
        raise UserError("--delete: which runs? Name some, or filter them, for example: --unfinished --delete")

    from agents.lab.listing import chosen, list_runs, table

    every = list_runs(options.runs_dir)
    found = chosen(
        every,
        options.runs_dir,
        options.runs,
        env=options.env,
        algo=options.algo,
        name=options.name,
        finished=True if options.finished else False if options.unfinished else None,
    )
    say(*table(found, datetime.now()))
    if not found:
        say(_nothing(options, every))
    agreed = options.delete and bool(found) and (options.yes or _agreed_to_delete(found))
    deleted = _delete(found) if agreed else []
    if options.json:
        listed: dict[str, Any] = {"runs": [one.to_json() for one in found], "bytes": sum(one.bytes for one in found)}
        print_json(listed | ({"deleted": [str(one.path) for one in deleted]} if options.delete else {}))
    return 1 if agreed and len(deleted) < len(found) else 0


def _nothing(options: Options, every: Sequence[Listed]) -> str:
    """Say why the list is empty."""
    if not every:
        return f"{options.runs_dir} holds no run. Train one: python -m agents.train --env CartPole-v1"
    near = "".join(
        did_you_mean(given, dict.fromkeys(value for one in every if (value := getattr(one, flag))))
        for flag, given in (("env", options.env), ("algo", options.algo))
        if given is not None and given not in [getattr(one, flag) for one in every]
    )
    return f"None of the {len(every):,} runs in {options.runs_dir} is such a one.{near}"


def _delete(runs: Sequence[Listed]) -> list[Listed]:
    """Delete runs; return those that are gone. Of a link the link alone goes, never what it leads to.

    Raises:
        UserError: a run cannot be deleted; a note says how many are gone.
    """
    from agents.lab.words import plural
    from agents.run.lock import trainer_of
    from agents.run.storage import disk

    gone: list[Listed] = []
    for one in runs:
        if not one.path.is_symlink() and (trainer := trainer_of(one.path)) is not None:
            say(f"Not deleted: {one.path} is being trained by {trainer}.")
            continue
        try:
            with disk("delete", one.path):
                if one.path.is_symlink():
                    one.path.unlink()
                else:
                    shutil.rmtree(one.path)
        except UserError as error:
            error.add_note(f"{len(gone):,} of {len(runs):,} runs were deleted before.")
            raise
        gone.append(one)
    print(f"Deleted {plural(len(gone), 'run')}.")
    return gone


def _agreed_to_delete(runs: Sequence[Listed]) -> bool:
    """Ask whether to delete them.

    Raises:
        UserError: there is nobody to ask.
    """
    what = f"these {len(runs):,} runs" if len(runs) > 1 else "this 1 run"
    print(f"Delete {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print(file=sys.stderr)
        raise UserError("nothing was deleted: there is nobody to ask. To delete without asking, add --yes")
    agreed = answer.strip().lower() in ("y", "yes")
    if not agreed:
        print("Nothing was deleted.")
    return agreed


if __name__ == "__main__":
    sys.exit(main())
