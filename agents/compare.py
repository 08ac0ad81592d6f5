"""Compare finished runs, or train ours and stable-baselines3 alike, and report who is better, and how surely."""

from __future__ import annotations

import sys

from agents.lab.comparison.options import Options
from agents.run.cli import print_json, run_command
from agents.run.flags import parse_flags

EXAMPLES = """\
examples:
  python -m agents.compare --quick
  python -m agents.compare runs/*
  python -m agents.compare runs/CartPole-v1__ppo__s0__20260101-120000 ppo_cartpole.zip --trust
  python -m agents.compare --env CartPole-v1 LunarLander-v3 --algos ppo dqn --against sb3 --seeds 5
  python -m agents.compare --env CartPole-v1 --hyper same --seeds 10 --workers 2 --out runs/same-settings
"""


def main(argv: list[str] | None = None) -> int:
    """Parse, train, report; return the exit code: 1 where a run failed."""
    return run_command(_compare, argv)


def _compare(argv: list[str]) -> int:
    given = argv or ["--help"]
    options = parse_flags(Options, given, command="python -m agents.compare", about=__doc__, examples=EXAMPLES)
    from agents.run.terminal import console, typed

    command = typed("python", "-m", "agents.compare", *argv)
    if options.runs:
        return _compare_trained(options, command)
    options = options.completed()
    assert options.out is not None
    from agents.core.signals import terminated_as_interrupted
    from agents.lab.comparison.curves import read_results
    from agents.lab.comparison.plan import plan_tasks
    from agents.lab.comparison.report import report
    from agents.lab.comparison.runner import plan_lines, run_comparison
    from agents.run.summary import curves_command
    from envs.processes import cores

    screen = console()
    say = screen.print

    for file in options.files:
        read_results(file)  # a mistake is reported now, not after the trainings
    tasks, impossible = plan_tasks(options)
    for line in [*impossible, *plan_lines(tasks, options.out)]:
        say(line)
    if options.list:
        return 0
    workers = options.workers or cores()
    with terminated_as_interrupted():
        found = run_comparison(tasks, options.out, workers=workers, trust=options.trust, command=command, say=say)
        reported = report(options.out, options.out / "report", options.files, screen)
    say(f"curves: {curves_command(options.out / 'runs')}")
    if options.json:
        print_json(reported | found)
    return int(found["failed"] > 0)


def _compare_trained(options: Options, command: str) -> int:
    options.refuse_training()
    from agents.lab.comparison.trained import compare_trained
    from agents.run.terminal import console

    found = compare_trained(options, command, console())
    if options.json:
        print_json(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
