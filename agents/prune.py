"""Take weights out of a trained network, and train what is left."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

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

EXAMPLES = """\
examples:
  python -m agents.prune --sparsity 0.5
  python -m agents.prune runs/CartPole-v1__ppo__s0__20260101-120000 --sparsity 0.9 --finetune 20000
  python -m agents.prune runs/CartPole-v1__ppo__s0__20260101-120000 --method structured --finetune 20000
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Run = None
    sparsity: Annotated[float, tyro.conf.arg(help="part of the layers' weights that goes, between 0 and 1")] = 0.9
    method: Annotated[
        Literal["magnitude", "structured"],
        tyro.conf.arg(help="magnitude: single weights are 0; structured: whole units go, and the network is smaller"),
    ] = "magnitude"
    finetune: Annotated[
        int, tyro.conf.arg(metavar="STEPS", help="train it on; in the first half weights go little by little")
    ] = 0
    set: Settings = ()
    seed: OwnSeed = None
    checkpoint: Checkpoint = "best"
    episodes: Annotated[int, tyro.conf.arg(help="that both are measured on at the end; 0 for none")] = 100
    trust: Trust = False
    runs_dir: RunsDir = Path("runs")
    quiet: Quiet = False
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, prune, train, measure, print; return the exit code."""
    return run_command(_prune, argv)


def _prune(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.prune", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, finetune=0, episodes=0)

    from agents.lab.smaller import side_by_side
    from agents.run.config import FLAGS, Layer
    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy
    from agents.run.prune import prune
    from agents.run.setting_flags import parse_settings
    from agents.run.terminal import say

    run = options.run or find_latest_run(options.runs_dir)
    before = load_policy(run, options.checkpoint, trust=options.trust)
    say(*before.notes)
    summary = prune(
        before,
        options.sparsity,
        method=options.method,
        finetune=options.finetune,
        settings=[
            Layer("default", {"seed": 0}),
            Layer("--set", parse_settings(options.set, before.algo, "learning_rate=1e-4")),
            Layer(FLAGS, {} if options.seed is None else {"seed": options.seed}),
        ],
        runs_dir=options.runs_dir,
        quiet=options.quiet,
    )
    found: dict[str, Any] = dataclasses.asdict(summary)
    if options.episodes and not summary.interrupted:
        after = load_policy(Path(summary.run), trust=True)
        found |= side_by_side({"before": before, "after": after}, options.episodes, summary.seed, options.quiet)
    if options.json:
        print_json(found)
    return 130 if summary.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
