"""Measure speed, memory and time to solve, beside stable-baselines3 in the same run."""

from __future__ import annotations

import dataclasses
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Count, Debug, Flag, Json, parse_flags, refuse_outside

EXAMPLES = """\
examples:
  python -m agents.bench --quick
  python -m agents.bench --cases ppo-same dqn-same --rounds 5
  python -m agents.bench --cases solve-ppo --seeds 5 --threads 1 --json
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    quick: Annotated[Flag, tyro.conf.arg(help="under two minutes on two cores; says what it leaves out")] = False
    cases: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="", help="which; --list shows them")
    ] = ()
    list: Annotated[Flag, tyro.conf.arg(help="show the cases and what they run, and measure nothing")] = False
    rounds: Annotated[Count, tyro.conf.arg(help="repeats of each case: 3, or 2 with --quick")] = None
    seeds: Annotated[Count, tyro.conf.arg(help="repeats of the cases that solve: 3, or 1 with --quick")] = None
    threads: Annotated[
        Literal["1", "own", "both"],
        tyro.conf.arg(help="PyTorch's threads for stable-baselines3: one, its own choice, or both: the better counts"),
    ] = "both"
    device: Annotated[
        Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="whether to measure on a GPU too; auto: where there is one")
    ] = "auto"
    peers: Annotated[
        tuple[Path, ...],
        tyro.conf.arg(
            metavar="FILE ...", help_behavior_hint="", help="other programs: YAML or JSON with name, task and command"
        ),
    ] = ()
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="", help="for bench.json (default: runs/bench/<time>)"),
    ] = None
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, print; return the exit code: 1 where a program failed."""
    return run_command(_bench, argv)


def _bench(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.bench", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, rounds=1, seeds=1)

    from agents.core.signals import terminated_as_interrupted
    from agents.lab.benchmark.case import Plan
    from agents.lab.benchmark.catalogue import build_cases, find_gpu
    from agents.lab.benchmark.peers import add_peers
    from agents.lab.benchmark.report import Report, print_cases
    from agents.lab.benchmark.rounds import run_rounds
    from agents.lab.machine import describe_machine
    from agents.run.terminal import console

    rounds, seeds = options.rounds or (2 if options.quick else 3), options.seeds or (1 if options.quick else 3)
    plan = Plan(options.cases, options.quick, rounds, seeds, options.threads, cuda=options.device == "cuda")
    screen = console()
    cases, left_out = add_peers(
        *build_cases(plan, options.list), options.peers
    )  # mistakes are reported before anything is measured
    if options.list:
        print_cases(screen, cases, left_out)
        return 0
    machine = describe_machine()
    folder = options.out or Path("runs", "bench", f"{datetime.now():%Y%m%d-%H%M%S}")
    with terminated_as_interrupted():
        screen.print("importing everything once ...", style="dim")
        machine["gpu"] = find_gpu(required=options.device == "cuda")
        if machine["gpu"] and options.device == "auto":
            cases, left_out = add_peers(*build_cases(dataclasses.replace(plan, cuda=True)), options.peers)
        report = Report(plan, machine, left_out, folder)
        try:
            for result in run_rounds(cases):
                screen.print(report.add(result), style="dim")
        except KeyboardInterrupt:
            report.interrupted = True
    report.save_document()
    report.show(screen)
    if options.json:
        print_json(report.to_json())
    return 130 if report.interrupted else int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
