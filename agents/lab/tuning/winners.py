"""The best trials once more, on seeds that they were not chosen by, beside what there was before."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from agents.core.settings import idle
from agents.lab.comparison.analysis import OURS, Outcome, TaskRuns, analyse, outcome_of
from agents.lab.comparison.options import Options
from agents.lab.comparison.plan import PlannedTask, plan_tasks
from agents.lab.comparison.report import write_report
from agents.lab.comparison.results import load_results
from agents.lab.comparison.runner import plan_lines, run_comparison
from agents.lab.sb3_settings import COUNTERPARTS, tuned_settings
from agents.lab.statistics import Difference, difference, estimate, holm, mean, rank_difference
from agents.lab.tuning.plan import FIRST_SEED, Plan
from agents.lab.tuning.search import worth
from agents.lab.tuning.space import parameters, settings
from agents.lab.tuning.study import SETTINGS, Study
from agents.lab.words import interval, number, plural
from agents.run import registry
from agents.run.config import FLAGS, Layer, RunConfig, resolve
from agents.run.storage import disk, write_text
from agents.run.yaml_files import dump_yaml
from envs.errors import UserError

FOUND_BY = {"tpe": "search", "random": "random search", "pbt": "population-based training, at its end"}
FRESH, SETTINGS_FILES, BASE = "fresh", "settings", "base"
NOT_WRITTEN = ("seed", "preset", "env_kwargs", "target_reward", "eval_freq")  # in files of settings as such
NAMES = {OURS: "the packaged settings", BASE: "the settings that the search began with"}


@dataclass(frozen=True)
class Fresh:
    """One side on fresh seeds.

    Attributes:
        label: "ours" (the packaged settings), "base" (those that trials changed, if others), "sb3", or the name of a
            trial's settings file.
        searched: what its trial came to in the search, in words; "" for a side that was not searched for.
        scores: mean returns of the final policies, of shape [seeds].
        seconds: of training until the goal was reached, of shape [seeds]; inf where never.
        page: of the comparison that it was trained in.
        threshold: the goal, where the seconds decide which side is best; None where the scores do.
    """

    label: str
    searched: str
    scores: NDArray[np.float64]
    seconds: NDArray[np.float64]
    page: Path
    threshold: float | None = None

    @property
    def judged(self) -> NDArray[np.float64]:
        """What decides: scores, or seconds."""
        return self.scores if self.threshold is None else self.seconds

    @property
    def goal(self) -> str:
        """What decides, in words."""
        return "return" if self.threshold is None else f"seconds to {self.threshold:g}"

    @property
    def worth(self) -> tuple[float, float]:
        """What is largest for the best: how many seeds reached the goal, if it is one of seconds; and the mean."""
        known = self.judged[np.isfinite(self.judged)]
        if self.threshold is None:
            return 0.0, float(known.mean())
        return float(known.size), -float(known.mean()) if known.size else 0.0

    def less(self, other: Fresh) -> Difference:
        """Return how much better it is than another side; seconds are compared by their ranks."""
        if self.threshold is None:
            return difference(self.scores, other.scores)
        return rank_difference(other.seconds, self.seconds)

    def said(self) -> str:
        """Say the mean with its 95% interval, by bootstrap."""
        known = self.judged[np.isfinite(self.judged)]
        goal = "" if self.threshold is None else f" s to {self.threshold:g}"
        if not known.size:
            return f"never{goal.removeprefix(' s')}"
        value, low, high = estimate(mean, [known])
        between = f" ({interval(low, high)})" if low == low else ""
        never = self.judged.size - known.size
        return f"{number(value)}{between}{goal}{f', which {never} of {self.judged.size} never reached' * bool(never)}"


def settings_of(trial: FrozenTrial, plan: Plan) -> dict[str, Any]:
    """Return the settings of a trial that change something and are not those of the base."""
    values = dict(trial.user_attrs.get(SETTINGS) or {})
    kind = registry.find(plan.algo).config
    unused = idle(kind, {**plan.base, **values})
    base = {**plan.base, **settings(plan.space, parameters(plan.space, plan.base))}  # spelt as a trial's are
    return {name: value for name, value in values.items() if name not in unused and base.get(name) != value}


def beyond_packaged(plan: Plan, values: dict[str, Any]) -> dict[str, Any]:
    """Return all that a trial with `values` has otherwise than the packaged settings, those of its base among it."""
    packaged = _flat(resolve([Layer(FLAGS, {"env": plan.env, "algo": plan.algo, "total_timesteps": plan.budget})]))
    whole = _flat(plan.config(values, 0))
    unused = (*NOT_WRITTEN, *idle(registry.find(plan.algo).config, whole))
    return {name: value for name, value in whole.items() if name not in unused and packaged[name] != value}


def _flat(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


def write_settings(file: Path, plan: Plan, values: dict[str, Any], about: Sequence[str]) -> None:
    """Write a trial's settings as `--config` takes them, with lines about where they are from.

    Raises:
        UserError: the file cannot be written.
    """
    text = "".join(f"# {' '.join(line.split())}\n" for line in about)
    document = {"env": plan.env, "algo": plan.algo, "total_timesteps": plan.budget}
    document |= {"env_kwargs": plan.base["env_kwargs"]} if plan.base["env_kwargs"] else {}
    document |= beyond_packaged(plan, values)
    with disk("write", file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text + dump_yaml(document))


def about(study: Study, trial: FrozenTrial) -> list[str]:
    """Say where a trial's settings are from."""
    plan = study.plan
    seeds = f"seeds {FIRST_SEED:,} to {FIRST_SEED + plan.seeds - 1:,}" if plan.seeds > 1 else f"seed {FIRST_SEED:,}"
    return [
        f"Found by {FOUND_BY[plan.sampling]} with {plan.algo} on {plan.env}, {plural(len(study.done()), 'trial')} of "
        f"{plan.budget:,} steps: number {trial.number}.",
        f"In the search: {worth(study, trial)}, among the best there and so flattered; {seeds}.",
    ]


def retrain(
    studies: Sequence[Study],
    most: int,
    seeds: int,
    workers: int,
    command: str,
    trust: bool,
    say: Callable[[str], None],
) -> list[Fresh]:
    """Train the best trials, the packaged settings and SB3's tuned ones on seeds 0, 1, ...; return these sides.

    What trials changed takes part too, if it is not what is packaged.

    Args:
        studies: the search, and perhaps one at random in the same folder, whose best trial alone takes part.
        most: best trials of the first.

    Raises:
        UserError: something cannot be trained or written.
    """
    plan, folder = studies[0].plan, studies[0].folder
    files: dict[str, str] = {}
    for study in studies:
        random = study is not studies[0]
        for trial in study.best(1 if random else most):
            values = settings_of(trial, plan)
            if values:  # none: it is the base
                file = folder / SETTINGS_FILES / f"{'random' if random else 'trial'}-{trial.number}.yaml"
                write_settings(file, plan, values, about(study, trial))
                files[str(file)] = worth(study, trial)
    if beyond_packaged(plan, {}):
        file = folder / SETTINGS_FILES / f"{BASE}.yaml"
        write_settings(file, plan, {}, ["What trials changed."])
        files[str(file)] = ""
    has_sb3 = plan.algo in COUNTERPARTS and tuned_settings(plan.algo, plan.env) is not None
    against = (*files, *(["sb3"] if has_sb3 else []))
    if not against:
        return []
    options = Options(
        env=(plan.env,),
        algos=(plan.algo,),
        against=against,
        seeds=seeds,
        workers=workers,
        total_timesteps=plan.budget,
        env_kwargs=tuple(f"{name}={json.dumps(value)}" for name, value in plan.base["env_kwargs"].items()),
        trust=trust,
    ).completed()
    tasks, _ = plan_tasks(options)
    places = (folder / (FRESH if count == 1 else f"{FRESH}-{count}") for count in itertools.count(1))
    out = next(place for place in places if _fits(tasks, place))
    run_comparison(tasks, out, workers=workers, trust=trust, command=command, say=say)
    findings = analyse(load_results(out))
    page, _ = write_report(findings, out / "report")
    task: TaskRuns = findings.tasks[0]
    searched = {Path(file).stem: came for file, came in files.items()}
    goal = plan.threshold if plan.objective == "time" else None

    def side_of(label: str) -> Fresh:
        seconds = task.reached(label, seconds=True, goal=goal)
        return Fresh(label, searched.get(label, ""), task.scores[label], seconds, page, goal)

    return [side_of(side.label) for side in tasks[0].sides if side.label in task.runs]


def _fits(tasks: Sequence[PlannedTask], out: Path) -> bool:
    """Whether a folder is new, or the runs that it holds are those of the tasks."""
    try:
        plan_lines(tasks, out)
    except UserError:
        return False
    return True


def _trials(fresh: Sequence[Fresh]) -> list[Fresh]:
    return [side for side in fresh if side.label.startswith("trial-")]


def choose(fresh: Sequence[Fresh]) -> Fresh | None:
    """Return the side of the search that did best on fresh seeds; None where there is none."""
    return max(_trials(fresh), key=lambda side: side.worth, default=None)


def outcomes(fresh: Sequence[Fresh], other: Fresh) -> dict[str, Outcome]:
    """Return the label of each other side -> whether it is better or worse than `other`.

    The best trial is chosen by the same numbers that it is compared by, so what is claimed of any of them has Holm's
    p-value over all trials.
    """
    found = {side.label: side.less(other) for side in fresh if side is not other}
    trials = [side.label for side in _trials(fresh) if side is not other]
    p = {label: one.p for label, one in found.items()}
    p |= dict(zip(trials, holm([p[label] for label in trials]), strict=True))
    return {label: outcome_of(one.value, p[label]) for label, one in found.items()}


def verdict(fresh: Sequence[Fresh]) -> list[str]:
    """Say what the search was good for."""
    if (best := choose(fresh)) is None:
        return ["No trial did better than the settings that the search began with."]
    seeds, count = plural(len(best.scores), "fresh seed"), len(_trials(fresh))
    of = f", the best of {count} there by {best.goal}" if count > 1 else ""
    lines = [f"{best.label}: {best.said()} on {seeds}{of}, and in the search {best.searched}."]
    for side in fresh:
        if side.label in NAMES:
            how = {
                Outcome.BETTER: "That is better than {}",
                Outcome.WORSE: "That is worse than {}, which stay the ones to use",
                Outcome.SAME: "No difference from {} is shown",
                Outcome.UNKNOWN: "Whether that is better than {} so few seeds cannot say",
            }[outcomes(fresh, side)[best.label]]
            lines.append(f"{how.format(NAMES[side.label])}: {side.said()}.")
        elif side.label == "sb3" or side.label.startswith("random-"):
            name = "SB3, tuned" if side.label == "sb3" else "The best of random search"
            lines.append(f"{name}: {side.said()}.")
    return lines


def write_best(study: Study, fresh: Sequence[Fresh]) -> Path | None:
    """Write the settings that did best on fresh seeds, with their scores, as `best.yaml`; return it, or None.

    Raises:
        UserError: it cannot be written.
    """
    best = choose(fresh)
    if best is None:
        return None
    trial = next(trial for trial in study.trials if best.label == f"trial-{trial.number}")
    lines = about(study, trial)
    for side in fresh:
        if side is best or side.label in (*NAMES, "sb3"):
            name = {**NAMES, "sb3": "SB3, tuned"}.get(side.label, "these")
            scores = ", ".join(map(number, side.judged))
            lines.append(f"{name[0].upper()}{name[1:]} on fresh seeds: {side.said()}; each seed: {scores}.")
    file = study.folder / "best.yaml"
    write_settings(file, study.plan, settings_of(trial, study.plan), lines)
    return file
