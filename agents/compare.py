"""Compare finished runs, or train ours and stable-baselines3 alike, and report who is better, and how surely."""

from __future__ import annotations

import dataclasses
import sys
from glob import glob
from pathlib import Path

from agents.lab.comparison.options import Options
from agents.run.cli import print_json, run_command
from agents.run.flags import parse_flags
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.compare --quick
  python -m agents.compare runs/*
  python -m agents.compare runs/CartPole-v1__ppo__* ppo_cartpole.zip --trust
  python -m agents.compare --env CartPole-v1 LunarLander-v3 --algos ppo dqn --against sb3 --seeds 5
  python -m agents.compare --env CartPole-v1 --hyper same --seeds 10 --workers 2 --out runs/same-settings
"""


def main(argv: list[str] | None = None) -> int:
    """Parse, train, report; return the exit code: 1 where a run failed."""
    return run_command(_compare, argv)


def _compare(argv: list[str]) -> int:
    given = argv or ["--help"]
    options = parse_flags(Options, given, command="python -m agents.compare", about=__doc__, examples=EXAMPLES)
    options = options.completed()
    assert options.out is not None
    if options.runs:
        return _compare_existing(options, argv, options.out)

    from agents.lab.comparison.curves import read_curves
    from agents.lab.comparison.plan import plan_tasks
    from agents.lab.comparison.report import report
    from agents.lab.comparison.runner import plan_lines, run_comparison
    from agents.lab.processes import terminated_as_interrupted
    from agents.run.summary import curves_command
    from agents.run.terminal import console, typed
    from envs.processes import cores

    screen = console()
    say = screen.print

    for file in options.files:
        read_curves(file)  # a mistake is reported now, not after the trainings
    tasks, impossible = plan_tasks(options)
    for line in [*impossible, *plan_lines(tasks, options.out)]:
        say(line)
    if options.list:
        return 0
    workers, command = options.workers or cores(), typed("python", "-m", "agents.compare", *argv)
    with terminated_as_interrupted():
        found = run_comparison(tasks, options.out, workers=workers, trust=options.trust, command=command, say=say)
        reported = report(options.out, options.out / "report", options.files, screen)
    say(f"curves: {curves_command(options.out / 'runs')}")
    if options.json:
        print_json(reported | found)
    return int(found["failed"] > 0)


def _compare_existing(options: Options, argv: list[str], out: Path) -> int:
    """Compare what is trained already; what is no finished run is left out, and said."""
    from agents.lab.comparison.analysis import analyse
    from agents.lab.comparison.existing import as_results, command_line, read_all, side_by_side
    from agents.lab.comparison.report import write_report
    from agents.lab.comparison.verdict import print_verdict
    from agents.run.folder import RunFolder
    from agents.run.terminal import console

    if len(options.env) > 1:
        raise UserError(f"--env: {' '.join(options.env)} given, but finished runs are compared on one at a time.")
    screen = console()
    given = [sorted(glob(str(path))) if "*" in str(path) else [path] for path in options.runs]  # as shells do
    paths = [Path(path) for found in given for path in found]
    if "*" in str(options.runs) or len(paths) > 1:
        for path in list(paths):
            run = RunFolder(path)
            left_out = "no run" if not run.config_file.is_file() else "not finished" if run.concluded() is None else ""
            if left_out and path.suffix != ".zip":
                screen.print(f"left out: {path} ({left_out})")
                paths.remove(path)
    if not paths:
        raise UserError("there is nothing to compare: none of these is a finished run")
    env = options.env[0] if options.env else None
    statistics = options.vec_normalize
    runs = read_all(paths, env, options.final_eval_episodes, trust=options.trust, vec_normalize=statistics)
    results, sides = as_results(runs, command_line(argv))
    page, verdict = write_report(analyse(results), out)
    print_verdict(screen, verdict, page)
    video = side_by_side(sides, out / "side-by-side.mp4")
    if video is not None:
        screen.print(f"best of each side, side by side: {video}")
    if options.json:
        found = {"report": str(page), **dataclasses.asdict(verdict), "video": None if video is None else str(video)}
        print_json({**found, "sides": {name: [str(run.path) for run in group] for name, group in sides.items()}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
