"""Train a smaller policy to act as a trained one does."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import (
    Checkpoint,
    Debug,
    Json,
    OwnSeed,
    Quiet,
    Run,
    RunsDir,
    Settings,
    Trust,
    parse_flags,
    refuse_outside,
)
from agents.run.yaml_files import parse_value
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.distil --net-arch 16
  python -m agents.distil runs/CartPole-v1__ppo__s0__20260101-120000 --net-arch 32 32 --steps 20000
  python -m agents.distil runs/CartPole-v1__ppo__s0__20260101-120000 --net-arch 8 --set activation=relu
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Run = None
    net_arch: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="INTEGER ...|pi=INTEGER,... vf=INTEGER,...",
            help_behavior_hint="(default: 16)",
            help="widths of the student's layers",
        ),
    ] = ()
    set: Settings = ()
    steps: Annotated[int, tyro.conf.arg(help="environment steps to learn for, half of them the teacher's")] = 100_000
    learning_rate: Annotated[float, tyro.conf.arg(help="at the beginning; it falls linearly to 0")] = 1e-3
    seed: OwnSeed = None
    checkpoint: Checkpoint = "best"
    episodes: Annotated[int, tyro.conf.arg(help="that both are measured on at the end; 0 for none")] = 100
    trust: Trust = False
    runs_dir: RunsDir = Path("runs")
    quiet: Quiet = False
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, train, measure, print; return the exit code."""
    return run_command(_distil, argv)


def _distil(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.distil", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, steps=1, episodes=0)
    if not 0 < options.learning_rate < math.inf:
        raise UserError(f"--learning-rate: {options.learning_rate} given, a finite number above 0 expected.")

    from agents.lab.smaller import side_by_side
    from agents.run.config import FLAGS, Layer
    from agents.run.distil import distil
    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy
    from agents.run.setting_flags import parse_settings
    from agents.run.terminal import say

    run = options.run or find_latest_run(options.runs_dir)
    teacher = load_policy(run, options.checkpoint, trust=options.trust)
    say(*teacher.notes)
    flags: dict[str, Any] = {} if options.seed is None else {"seed": options.seed}
    if options.net_arch:
        flags["net_arch"] = [parse_value(word) for word in options.net_arch]
    summary = distil(
        teacher,
        [
            Layer("default", {"net_arch": [16], "seed": 0}),
            Layer("--set", parse_settings(options.set, teacher.algo, "layer_norm=true")),
            Layer(FLAGS, flags),
        ],
        steps=options.steps,
        learning_rate=options.learning_rate,
        runs_dir=options.runs_dir,
        quiet=options.quiet,
    )
    found: dict[str, Any] = dataclasses.asdict(summary)
    if options.episodes and not summary.interrupted:
        student = load_policy(Path(summary.run), trust=True)
        found |= side_by_side({"teacher": teacher, "student": student}, options.episodes, summary.seed, options.quiet)
    if options.json:
        print_json(found)
    return 130 if summary.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
