"""Measure what a network's encoder has learnt, by linear probes on recorded episodes."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Checkpoint, Debug, Json, Run, RunsDir, Trust, parse_flags
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.probe runs/CartPole-v1__ppo__s0__20260101-120000 --data datasets/cartpole
  python -m agents.probe runs/CartPole-v1__ppo__s0__20260101-120000 --data datasets/cartpole --json
  python -m agents.probe runs/CartPole-v1__ppo__s0__20260101-120000 --data datasets/cartpole --held-out 0.4
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Run = None
    data: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FOLDER|FILE",
            help_behavior_hint="",
            help="recorded episodes: a Minari folder, .npz, .csv, or of replays/",
        ),
    ] = None
    held_out: Annotated[float, tyro.conf.arg(help="share of the episodes that probes are judged on")] = 0.2
    checkpoint: Checkpoint = "best"
    trust: Trust = False
    runs_dir: RunsDir = Path("runs")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, print; return the exit code."""
    return run_command(_probe, argv)


def _probe(argv: list[str]) -> int:
    words = argv or ["--help"]
    options = parse_flags(Options, words, command="python -m agents.probe", about=__doc__, examples=EXAMPLES)
    if options.data is None:
        raise UserError("which recorded episodes? Give a folder or file, for example: --data datasets/cartpole")
    if not 0 < options.held_out < 1:
        raise UserError(f"--held-out: {options.held_out} given, a share between 0 and 1 expected.")

    from agents.core.recorded_config import RecordedConfig
    from agents.run.folder import find_latest_run
    from agents.run.imitation import as_seen
    from agents.run.models import load_policy, untrained
    from agents.run.probes import lines, probe
    from agents.run.terminal import say
    from envs.seeding import derive_seed

    run = options.run or find_latest_run(options.runs_dir)
    loaded = load_policy(run, options.checkpoint, trust=options.trust, acting=False)
    params = loaded.config.params
    data, said = as_seen(options.data, RecordedConfig().rules, loaded.own_spaces, params)
    say(*loaded.notes, *said)
    learnt, held = data.split(options.held_out, derive_seed(loaded.seed, "held out"))
    first = untrained(loaded).policy
    found = probe(loaded.policy.model, first.model, learnt, held, params.gamma, loaded.seed)
    say(*lines(found))
    if options.json:
        print_json({"run": str(run), "data": str(options.data), "r2": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
