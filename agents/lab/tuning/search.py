"""A search from here to its end: worker processes, and what is said of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from agents.lab.tuning.study import RETRY, WORKERS, Study
from agents.lab.tuning.tensorboard import record
from agents.lab.tuning.trial import points, why
from agents.lab.words import duration, number, plural
from agents.run.children import Child, ended_at_last, start_child
from envs.errors import UserError

POLL = 0.25  # seconds between two looks at the study
MOST_FAILED = 5  # trials that fail before any has ended well
MOST_DEATHS = 5  # workers in a row that die of themselves before any trial has ended


def run_search(study: Study, url: str | None, workers: int, deadline: float, say: Callable[[str], None]) -> None:
    """Carry out what is left of a study's trials, `workers` at a time, until it is done or the time is over.

    A worker that dies leaves its trial to another that takes its place. One that ends in order has found nothing to
    claim: others are started once the study has changed.

    Raises:
        UserError: all trials fail, or workers cannot work; the message has the reason.
        KeyboardInterrupt: it was stopped; what was found is in the study, and trials under way will come again.
    """
    told, began, deaths, running, count = {t.number for t in study.done()}, time.time(), 0, dict[int, Child](), 0
    first, now, nothing, waits = len(told), study.standing(), None, False
    with ended_at_last(running):
        while time.time() < deadline:
            before, now = now, study.standing()
            for place in [place for place, child in running.items() if child.ended]:
                child = running.pop(place)
                failed = child.failure()
                child.close()
                deaths = deaths + 1 if failed else 0
                if failed:
                    say(f"a worker {failed}")
                else:
                    nothing = before  # of what the study was like when it looked, or earlier
                if deaths >= MOST_DEATHS:
                    raise UserError(f"workers end at once: the last {failed}")
            if (useful := study.workers(workers)) <= 0:
                break
            if study.exhausted and not running:
                said = f"{study.unfit:,} proposals had settings that exclude one another: look at the space (--space)"
                if not study.done():
                    raise UserError(said)
                say(said)
                break
            useful = 0 if study.exhausted or now == nothing else useful
            if now == nothing and not running and not waits:
                waits = True
                say("all that is left is under way elsewhere; a trial that ends there, or is given up, goes on here")
            while len(running) < useful:
                count += 1
                running[count] = _start(study, url, workers, count, deadline)
            for trial in _ended(study, told):
                told.add(trial.number)
                deaths = 0
                record(study, trial)
                say(_line(study, trial, first, len(told) - first, began))
            _refuse_failing(study)
            time.sleep(POLL)
    for trial in _ended(study, told):
        told.add(trial.number)
        record(study, trial)
        say(_line(study, trial, first, len(told) - first, began))


def _start(study: Study, url: str | None, workers: int, count: int, deadline: float) -> Child:
    words = ["agents.lab.tuning.worker", str(study.folder), "--name", study.plan.name]
    words += [] if url is None else ["--storage", url]
    words += [] if deadline == float("inf") else ["--deadline", str(deadline)]
    return start_child(words, Path(study.folder) / WORKERS / f"errors-{count % workers}.txt", workers)


def _ended(study: Study, told: set[int]) -> list[FrozenTrial]:
    return [trial for trial in study.done() if trial.number not in told]


def _refuse_failing(study: Study) -> None:
    done = study.done()
    failed = [trial for trial in done if trial.state is TrialState.FAIL]
    if len(failed) >= MOST_FAILED and len(failed) == len(done):
        raise UserError(f"the first {len(failed)} trials all failed; the last: {why(failed[-1])}")


def _line(study: Study, trial: FrozenTrial, before: int, ended: int, began: float) -> str:
    """Say how a trial ended, which is the best, and how much time is left."""
    done = study.done()
    parts = [f"trial {trial.number}: {outcome(study, trial)}"]
    if RETRY in trial.user_attrs:
        parts[0] += f" (trial {trial.user_attrs[RETRY]} again)"
    if best := study.best(1):
        parts.append(f"best {worth(study, best[0])} (trial {best[0].number})")
    left = (time.time() - began) / max(ended, 1) * (study.plan_trials - len(done))
    if left > 0:
        parts.append(f"about {duration(left)} left")
    return f"[{before + ended}/{study.plan_trials}] {' · '.join(parts)}"


def outcome(study: Study, trial: FrozenTrial) -> str:
    """Say how an ended trial ended."""
    if trial.state is TrialState.COMPLETE:
        return worth(study, trial)
    last = [curve[-1].mean for curve in points(trial) if curve]
    reached = f" at a return of {number(last[-1])}" if last else ""
    return f"{'FAILED, ' if trial.state is TrialState.FAIL else ''}{why(trial)}{reached}"


def worth(study: Study, trial: FrozenTrial) -> str:
    """Say what a finished trial came to."""
    values: Any = zip(study.plan.goals, trial.values or (), strict=False)
    seeds = f" ({plural(study.plan.seeds, 'seed')})" if study.plan.seeds > 1 else ""
    return ", ".join(f"return {number(v)}" if goal == "return" else duration(v) for goal, v in values) + seeds
