"""Search for hyperparameters, networks and preprocessing, and check what was found on fresh seeds."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import time
from typing import Any

from agents.lab.tuning.options import Options
from agents.run.cli import print_json, run_command
from agents.run.flags import parse_flags
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.tune --env CartPole-v1 --algo ppo --trials 40 --timeout 1800
  python -m agents.tune --env LunarLander-v3 --algo dqn -n 100000 --trials 60 --workers 2
  python -m agents.tune --env MountainCar-v0 --algo ppo --space wide --objective time
  python -m agents.tune --env CartPole-v1 --space my_space.yaml --retrain 0
"""
MISSING = 'a search takes the package optuna: pip install -e ".[tune]"'


def main(argv: list[str] | None = None) -> int:
    """Parse, search, train the best anew, write; return the exit code."""
    return run_command(_tune, argv)


def _tune(argv: list[str]) -> int:
    options = parse_flags(
        Options, argv or ["--help"], command="python -m agents.tune", about=__doc__, examples=EXAMPLES
    )
    options.refuse_nonsense()
    if importlib.util.find_spec("optuna") is None:
        raise UserError(MISSING)

    from agents.core.signals import terminated_as_interrupted
    from agents.run.terminal import console, typed

    with terminated_as_interrupted():
        found = _search(options, typed("python", "-m", "agents.tune", *argv), console().print)
    if options.json:
        print_json(found)
    return 0


def _search(options: Options, command: str, say: Any) -> dict[str, Any]:
    from agents.lab.tuning.page import write_page
    from agents.lab.tuning.planning import make_plan, warm_start
    from agents.lab.tuning.population import state_of
    from agents.lab.tuning.search import run_search, worth
    from agents.lab.tuning.space import to_plain
    from agents.lab.tuning.study import Study
    from agents.lab.tuning.tensorboard import FOLDER
    from agents.lab.tuning.winners import retrain, verdict, write_best
    from agents.run.summary import curves_command
    from agents.run.terminal import typed
    from envs.processes import cores

    plan, out = make_plan(options)
    workers = options.workers or (1 if plan.base["one_instance"] else cores())
    say(f"{plan.algo} on {plan.env}: {plan.what(options.trials)}, {out}")
    for name, dimension in plan.space.items():
        here = "" if dimension.holds(name, plan.base[name]) else ", which lies in no such range: no trial has it"
        say(f"  {name}: {dimension}, {plan.base[name]} now{here}")
    if options.dry_run:
        return {"out": str(out), "space": to_plain(plan.space)}
    studies = []
    for sampling in dict.fromkeys([plan.sampling, *(["random"] if options.random else [])]):
        own = plan if sampling == plan.sampling else dataclasses.replace(plan, sampling=sampling, population=0)
        study = Study(out, options.storage, own)
        study.want(own.trials(plan.population or options.trials))
        if sampling == "tpe":
            warm_start(study, options.warm_start)
        studies.append(study)
        say(f"{sampling}: {len(study.done())} of {study.plan_trials} trials are done")
        deadline = float("inf") if options.timeout is None else time.time() + options.timeout
        try:
            run_search(study, options.storage, workers, deadline, say)
        except KeyboardInterrupt:
            say(f"stopped; {study.progress()}")
            raise
        if len(study.done()) < study.plan_trials:
            say(study.progress() if study.exhausted else f"the time is over; {study.progress()}")
    study = studies[0]
    best = study.best(1)
    found: dict[str, Any] = {"out": str(out), "trials": len(study.done())}
    if best:
        say(f"best in the search: trial {best[0].number}, {worth(study, best[0])}")
        found |= {"best": best[0].number, "values": best[0].values}
    if best and plan.population:
        network = state_of(out, best[0].number)
        say(f"its network: {network} ({typed('python', '-m', 'agents.watch', network)})")
        found["network"] = str(network)
    fresh = []
    if options.retrain and best:
        fresh = retrain(studies, options.best, options.retrain, workers, command, options.trust, say)
        say(*verdict(fresh), sep="\n")
        found["fresh"] = {side.label: side.scores.tolist() for side in fresh}
        if file := write_best(study, fresh):
            say(f"settings: {file} (python -m agents.train --config {file})")
            found["settings"] = str(file)
    page = write_page(studies, fresh, command)
    say(f"curves: {curves_command(out / FOLDER)}")
    say(f"page: {page}")
    return found | {"page": str(page)}


if __name__ == "__main__":
    sys.exit(main())
