"""Push a run to the Hugging Face hub, or pull one from there."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from agents.run.cli import run_command
from agents.run.flags import Debug, Flag, Trust, parse_flags
from agents.run.terminal import say, typed
from agents.run.yaml_files import load_config_file
from envs.errors import UserError, did_you_mean

EXAMPLES = """\
examples:
  python -m agents.hub push runs/CartPole-v1__ppo__s0__20260101-120000 --repo user/ppo-CartPole-v1
  python -m agents.hub pull user/ppo-CartPole-v1
  python -m agents.hub pull user/ppo-CartPole-v1 --revision main --name theirs
"""


@dataclasses.dataclass(frozen=True)
class Push:
    """Flags of `push`."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN", help="run folder")]
    repo: Annotated[str, tyro.conf.arg(metavar="USER/NAME", help="repository; made if it is not there")]
    private: Annotated[Flag, tyro.conf.arg(help="hide a repository that is made from others")] = False
    trust: Trust = False
    replays_dir: Annotated[Path, tyro.conf.arg(help="where the recorded episode is")] = Path("replays")
    debug: Debug = False


@dataclasses.dataclass(frozen=True)
class Pull:
    """Flags of `pull`."""

    repo: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="USER/NAME", help="repository")]
    name: Annotated[
        str | None,
        tyro.conf.arg(metavar="TEXT", help_behavior_hint="", help="of the run's folder, if not the repository's"),
    ] = None
    revision: Annotated[
        str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="", help="branch, tag or commit")
    ] = None
    runs_dir: Annotated[Path, tyro.conf.arg(help="where the run's folder is made")] = Path("runs")
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, push or pull, print; return the exit code."""
    return run_command(_hub, argv)


def _hub(argv: list[str]) -> int:
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("-h", "--help"):
        print(f"usage: python -m agents.hub push|pull [flags]\n\n{__doc__}\n")
        print(f"Help on one:  python -m agents.hub push --help\n\n{EXAMPLES}")
        return 0
    if name not in ("push", "pull"):
        raise UserError(f"{name!r} given, push or pull expected.{did_you_mean(name, ('push', 'pull'))}")
    command = f"python -m agents.hub {name}"
    if name == "push":
        push = parse_flags(Push, rest, command=command, about="Upload a run.", examples=EXAMPLES)
        from agents.run import hub

        how: dict[str, Any] = {"replays_dir": push.replays_dir, "private": push.private, "trust": push.trust}
        say(*hub.push(push.run, push.repo, **how))
        return 0
    pull = parse_flags(Pull, rest, command=command, about="Download a run.", examples=EXAMPLES)
    from agents.run import hub

    run, notes = hub.pull(pull.repo, pull.runs_dir, name=pull.name, revision=pull.revision)
    say(*notes, f"run folder: {run}")
    settings = load_config_file(run / "config.yaml")
    if hub.plays(settings):
        say(
            f"  watch it play   {typed('python', '-m', 'agents.watch', run)}",
            f"  measure it      {typed('python', '-m', 'agents.evaluate', run)}",
        )
    else:
        say(f"  begin with it   {hub.begin_command(settings, run)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
