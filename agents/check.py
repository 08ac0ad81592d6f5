"""Check an environment before it is trained in: spaces, seeds, ends of episodes, rewards, speed, rendering."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import EnvKwargs, Flag, parse_env_kwargs, parse_flags
from agents.run.terminal import say
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.check --env CartPole-v1
  python -m agents.check --env Corridor-v0 --env-kwargs length=20 --json
  python -m agents.check --env docs/examples/slippery.py
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    env: Annotated[str, tyro.conf.arg(metavar="ID", help="a registered environment, or file.py:Class")] = "CartPole-v1"
    env_kwargs: EnvKwargs = ()
    wrappers: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="", help="around it, innermost first")
    ] = ()
    seed: Annotated[int, tyro.conf.arg(help="of the first episode")] = 0
    steps: Annotated[int, tyro.conf.arg(help="that are played at random")] = 3_000
    json: Annotated[Flag, tyro.conf.arg(help="print the result as a last line")] = False
    debug: Annotated[Flag, tyro.conf.arg(help="show tracebacks")] = False


def main(argv: list[str] | None = None) -> int:
    """Parse, probe, print; return the exit code: 1 where there is a fault."""
    return run_command(_check, argv)


def _check(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.check", about=__doc__, examples=EXAMPLES)
    if options.steps < 1 or options.seed < 0:
        raise UserError(f"--steps {options.steps} --seed {options.seed} given: at least 1 and 0 expected")
    from agents.lab.checkup.environment import CheckUp

    kwargs, found = parse_env_kwargs(options.env_kwargs), []
    for verdict in CheckUp(options.env, kwargs, options.wrappers, options.seed, options.steps).verdicts():
        found.append(verdict)
        say(f"{verdict.level:8} {verdict.name}: {verdict.evidence}")
        say(*([f"         -> {verdict.fix}"] if verdict.fix else []))
    levels = [verdict.level for verdict in found]
    faults, warnings = levels.count("fault"), levels.count("warning")
    say(f"{options.env}: {faults} fault{'' if faults == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}")
    if options.json:
        print_json({"env": options.env, "verdicts": [dataclasses.asdict(one) for one in found]})
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
