"""One trial: trainings with drawn settings, seed after seed, given up as soon as others are clearly better."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from statistics import fmean
from time import perf_counter
from typing import Any, NamedTuple

from optuna.trial import Trial, TrialState

from agents.core.schedules import crossings
from agents.lab.tuning.plan import Plan
from agents.lab.tuning.population import MEMBER, PARENT, state_of
from agents.lab.tuning.space import suggest
from agents.lab.tuning.study import SETTINGS, UNFIT, WHY, Study
from agents.learning.results import Diverged
from agents.run import registry
from agents.run.build import build
from agents.run.config import RunConfig
from agents.run.evaluator import evaluator_of, settled
from agents.run.models import save_model
from agents.run.storage import atomic_folder
from agents.run.training import Training, restore
from agents.run.transfer import begin
from agents.run.trees import read_tree, write_tree
from envs.errors import UserError

CURVES, SECONDS = "curves", "seconds"
OFTEN = 64  # iterations between two looks at the clock


class EvalPoint(NamedTuple):
    """An evaluation: environment steps, seconds of training until then, and the mean return."""

    step: int
    seconds: float
    mean: float


class OutOfTime(Exception):
    """The time of the whole search is over."""


def carry_out(trial: Trial, study: Study, deadline: float) -> None:
    """Train, evaluate and end a trial, whatever comes; what it found is in the study.

    Args:
        deadline: `time.time()` at which the search is over.

    Raises:
        OutOfTime: it was over before the trial was; the trial is to come again.
        UserError: the study cannot be written.
    """
    plan = study.plan
    values = suggest(trial, plan.space, plan.base, registry.find(plan.algo).config)
    trial.set_user_attr(SETTINGS, values)
    try:
        member = trial.user_attrs.get(MEMBER, 0)
        configs = [plan.config(values, seed) for seed in range(member, member + plan.seeds)]
    except UserError:
        study.close(trial, TrialState.PRUNED, UNFIT)
        return
    try:
        if plan.population:
            curves, why = [_interval(trial, study, configs[0], deadline)], ""
        else:
            curves, why = _curves(trial, plan, configs, deadline)
    except Diverged as error:
        study.close(trial, TrialState.PRUNED, f"diverged: {error}")
        return
    except (UserError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        study.close(trial, TrialState.FAIL, f"{kind}{' '.join(str(error).split())}")
        return
    trial.set_user_attr(CURVES, [[list(point) for point in curve] for curve in curves])
    trial.set_user_attr(SECONDS, sum(curve[-1].seconds for curve in curves if curve))
    found = None if why else result(plan, curves)
    if found is None:
        study.close(trial, TrialState.PRUNED, why or f"did not reach {plan.threshold:g}")
    else:
        study.optuna.tell(trial.number, found)


def result(plan: Plan, curves: list[list[EvalPoint]]) -> list[float] | None:
    """Return what trainings that were not given up are judged by, means over seeds; None where one did not reach it."""
    last = [curve[-1] for curve in curves]
    if plan.objective == "time":
        reached = all(point.mean >= (plan.threshold or 0.0) for point in last)
        return [fmean(point.seconds for point in last)] if reached else None
    mean, seconds = fmean(point.mean for point in last), fmean(point.seconds for point in last)
    return [mean] if plan.objective == "return" else [mean, seconds]


def _curves(trial: Trial, plan: Plan, configs: list[RunConfig], deadline: float) -> tuple[list[list[EvalPoint]], str]:
    """Train one seed after the other; return their curves, and why the trial was given up, if it was."""
    curves: list[list[EvalPoint]] = []
    for config in configs:
        curve: list[EvalPoint] = []
        curves.append(curve)
        for point in learning_curve(config, plan, deadline):
            curve.append(point)
            if len(plan.goals) > 1:
                continue
            # at the same evaluation of the seeds before too, so that trials are held against one another at a step
            mean = fmean(one[min(len(curve), len(one)) - 1].mean for one in curves)
            part = min(point.step * plan.evaluations // plan.budget, plan.evaluations)
            trial.report(mean if plan.objective == "return" else -mean, (len(curves) - 1) * plan.evaluations + part)
            if plan.may_give_up and trial.should_prune():
                return curves, f"given up at step {point.step:,} of seed {len(curves)}"
    return curves, ""


def _interval(trial: Trial, study: Study, config: RunConfig, deadline: float) -> list[EvalPoint]:
    """Go on from the state that the parent ended in to the next evaluation; keep the state; return the whole curve."""
    parent = trial.user_attrs.get(PARENT)
    with closing((training := build(config)).env):
        before: list[EvalPoint] = []
        if parent is None:
            begin(training)
        else:
            restore(training, read_tree(state_of(study.folder, parent), "state")[0])
            before = points(study.trials[parent])[0]
        more = next(_evaluated(training, study.plan, deadline, before[-1].seconds if before else 0.0), None)
        with atomic_folder(state_of(study.folder, trial.number)) as folder:
            save_model(folder, training.algorithm.model, training.config, training.env.own_spaces, training.step)
            write_tree(folder, "state", {"training": training.state_dict()}, {"step": training.step})
    return before if more is None else [*before, more]  # none: a long rollout had come to the end before


def learning_curve(config: RunConfig, plan: Plan, deadline: float) -> Iterator[EvalPoint]:
    """Train, and yield `plan.evaluations` evaluations, the last at the end; with a threshold, up to what reaches it."""
    with closing((training := build(config)).env):
        begin(training)
        yield from _evaluated(training, plan, deadline)


def _evaluated(training: Training, plan: Plan, deadline: float, spent: float = 0.0) -> Iterator[EvalPoint]:
    """Train on, and yield the evaluations that fall due; `spent` is how many seconds were trained before."""
    config = training.config = settled(training.config)
    with closing(evaluator_of(config, training.env.backend, plan.eval_episodes)) as evaluator:
        if config.one_instance:
            evaluator.share(training.env)
        every, before, looks = max(plan.budget // plan.evaluations, 1), training.step, 0
        began = perf_counter()
        for iteration in training.iterations():
            looks += 1
            if looks % OFTEN == 0 and time.time() > deadline:
                raise OutOfTime
            before, due = iteration.step, crossings(before, iteration.step, every)
            if not due and iteration.step < plan.budget:
                continue
            spent += perf_counter() - began
            found = evaluator.evaluate(training.policy, plan.eval_episodes, "evaluation", iteration.step)
            if evaluator.shared:
                training.begin_episodes()
            yield (point := EvalPoint(iteration.step, round(spent, 3), float(found.returns.mean())))
            if plan.threshold is not None and point.mean >= plan.threshold:
                return
            if time.time() > deadline:
                raise OutOfTime
            began = perf_counter()


def points(trial: Any) -> list[list[EvalPoint]]:
    """Return the curves that an ended trial left; [] where it left none, or they are not of that form."""
    try:
        return [[EvalPoint(int(s), float(t), float(m)) for s, t, m in curve] for curve in trial.user_attrs[CURVES]]
    except (KeyError, TypeError, ValueError):
        return []


def why(trial: Any) -> str:
    return str(trial.user_attrs.get(WHY, ""))
