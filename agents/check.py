"""Check an environment before it is trained in, or recorded data before they are learnt from."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Debug, EnvKwargs, Json, Trust, parse_env_kwargs, parse_flags, refuse_outside
from agents.run.terminal import say

if TYPE_CHECKING:
    from agents.lab.checkup.environment import CheckResult
    from envs.locate import Wrappers

EXAMPLES = """\
examples:
  python -m agents.check --env CartPole-v1
  python -m agents.check --env Corridor-v0 --env-kwargs length=20 --json
  python -m agents.check --env docs/examples/slippery.py
  python -m agents.check --data datasets/cartpole
"""


DEFAULT = "CartPole-v1"


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    env: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="ID",
            help_behavior_hint="",
            help="a registered environment, or file.py:Class; without it CartPole-v1, or what the data name",
        ),
    ] = None
    env_kwargs: EnvKwargs = ()
    wrappers: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="", help="around it, innermost first")
    ] = ()
    seed: Annotated[int, tyro.conf.arg(help="of the first episode")] = 0
    steps: Annotated[int, tyro.conf.arg(help="that are played at random")] = 3_000
    data: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FOLDER|FILE",
            help_behavior_hint="",
            help="recorded episodes, to be looked at instead: a Minari folder, .npz, .csv, or of replays/",
        ),
    ] = None
    trust: Trust = False
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, probe, print; return the exit code: 1 where there is a fault."""
    return run_command(_check, argv)


def _check(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.check", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, steps=1, seed=0)
    from agents.lab.words import plural

    found = []
    for verdict in _verdicts(options):
        found.append(verdict)
        say(f"{verdict.level:8} {verdict.name}: {verdict.evidence}")
        say(*([f"         -> {verdict.fix}"] if verdict.fix else []))
    what = str(options.data or options.env or DEFAULT)
    levels = [verdict.level for verdict in found]
    faults, warnings = levels.count("fault"), levels.count("warning")
    say(f"{what}: {plural(faults, 'fault')}, {plural(warnings, 'warning')}")
    if options.json:
        print_json({"data" if options.data else "env": what, "verdicts": [dataclasses.asdict(one) for one in found]})
    return int(faults > 0)


def _verdicts(options: Options) -> Iterator[CheckResult]:
    kwargs = parse_env_kwargs(options.env_kwargs)
    if options.data is None:
        from agents.lab.checkup.environment import CheckUp

        return CheckUp(
            DEFAULT if options.env is None else options.env, kwargs, options.wrappers, options.seed, options.steps
        ).verdicts()
    from agents.lab.checkup.dataset import check_dataset, recorded_in
    from agents.run import code
    from agents.run.datasets.reading import load_dataset

    env, spaces = options.env, None
    wrappers: Wrappers = options.wrappers
    if env is not None:
        made = recorded_in(env, kwargs, wrappers)
        spaces = made.observation_space, made.action_space
        made.close()
    data = load_dataset(options.data, spaces, trust=options.trust)
    if env is None and data.env is not None:
        named = {"env": data.env, "wrappers": () if wrappers else data.wrappers}
        code.refuse(named, str(options.data), trust=options.trust)
        env, kwargs, wrappers = data.env, data.env_kwargs | kwargs, wrappers or data.wrappers
    return check_dataset(data, env, kwargs, wrappers)


if __name__ == "__main__":
    sys.exit(main())
