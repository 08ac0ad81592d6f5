"""The best trials once more, on seeds that they were not chosen by, beside what there was before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from agents.core.settings import idle
from agents.lab.comparison.analysis import OURS, Outcome, TaskRuns, analyse
from agents.lab.comparison.options import Options
from agents.lab.comparison.plan import plan_tasks
from agents.lab.comparison.report import write_report
from agents.lab.comparison.results import load_results
from agents.lab.comparison.runner import run_comparison
from agents.lab.sb3_settings import COUNTERPARTS, tuned_settings
from agents.lab.statistics import estimate, mean
from agents.lab.tuning.plan import FIRST_SEED, Plan
from agents.lab.tuning.search import worth
from agents.lab.tuning.space import parameters, settings
from agents.lab.tuning.study import SETTINGS, Study
from agents.lab.words import interval, number, plural
from agents.run import registry
from agents.run.config import RUN_FIELDS
from agents.run.storage import disk, write_text
from agents.run.yaml_files import dump_yaml

FOUND_BY = {"tpe": "search", "random": "random search", "pbt": "population-based training, at its end"}
FRESH, SETTINGS_FILES = "fresh", "settings"
TURNED = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}


@dataclass(frozen=True)
class Fresh:
    """One side on fresh seeds.

    Attributes:
        label: "ours" (the packaged settings), "sb3", or the name of a settings file.
        searched: what its trial came to in the search, in words; "" for a side that was not searched for.
        scores: mean returns of the final policies, of shape [seeds].
        seconds: of training until the goal was reached, of shape [seeds]; inf where never.
        against: whether it is better or worse than the packaged settings.
    """

    label: str
    searched: str
    scores: NDArray[np.float64]
    seconds: NDArray[np.float64]
    against: Outcome | None

    @property
    def mean(self) -> float:
        return float(self.scores.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the mean, by bootstrap."""
        return estimate(mean, [self.scores])[1:]

    def said(self) -> str:
        low, high = self.interval
        between = f" ({interval(low, high)})" if low == low else ""
        return f"{number(self.mean)}{between}"


def settings_of(trial: FrozenTrial, plan: Plan) -> dict[str, Any]:
    """Return the settings of a trial that change something and are not those of the base."""
    values = dict(trial.user_attrs.get(SETTINGS) or {})
    kind = registry.find(plan.algo).config
    unused = idle(kind, {**plan.base, **values})
    base = {**plan.base, **settings(plan.space, parameters(plan.space, plan.base))}  # spelt as a trial's are
    return {name: value for name, value in values.items() if name not in unused and base.get(name) != value}


def write_settings(file: Path, plan: Plan, values: dict[str, Any], about: Sequence[str]) -> None:
    """Write settings as `--config` takes them, with lines about where they are from.

    Raises:
        UserError: the file cannot be written.
    """
    text = "".join(f"# {' '.join(line.split())}\n" for line in about)
    document = {"env": plan.env, "algo": plan.algo, "total_timesteps": plan.budget, **values}
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
        f"In the search: {worth(study, trial)}, the best of all and so flattered; {seeds}.",
    ]


def retrain(
    studies: Sequence[Study],
    most: int,
    seeds: int,
    workers: int,
    env_kwargs: tuple[str, ...],
    command: str,
    trust: bool,
    is_packaged: bool,
    say: Callable[[str], None],
) -> list[Fresh]:
    """Train the best trials, the packaged settings and SB3's tuned ones on seeds 0, 1, ...; return all sides.

    Args:
        studies: the search, and perhaps one at random in the same folder, whose best trial alone takes part.
        most: best trials of the first.
        is_packaged: whether the base is what is packaged; if not, it takes part too.

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
    if not is_packaged:
        file = folder / SETTINGS_FILES / "base.yaml"
        write_settings(
            file, plan, {k: v for k, v in plan.base.items() if k not in RUN_FIELDS}, ["What trials changed."]
        )
        files[str(file)] = ""
    has_sb3 = plan.algo in COUNTERPARTS and tuned_settings(plan.algo, plan.env) is not None
    against = (*files, *(["sb3"] if has_sb3 else []))
    if not against:
        return []
    out = folder / FRESH
    options = Options(
        env=(plan.env,),
        algos=(plan.algo,),
        against=against,
        seeds=seeds,
        workers=workers,
        total_timesteps=plan.budget,
        env_kwargs=env_kwargs,
        trust=trust,
        out=out,
    ).completed()
    tasks, _ = plan_tasks(options)
    run_comparison(tasks, out, workers=workers, trust=trust, command=command, say=say)
    findings = analyse(load_results(out))
    write_report(findings, out / "report")
    task: TaskRuns = findings.tasks[0]
    searched = {Path(file).stem: came for file, came in files.items()}
    outcomes = {one.against: one.outcome for one in findings.scores}
    found = []
    for label, scores in task.scores.items():
        outcome = outcomes.get(label)  # of ours against it
        outcome = None if outcome is None else TURNED.get(outcome, outcome)
        found.append(Fresh(label, searched.get(label, ""), scores, task.reached(label, seconds=True), outcome))
    return found


def choose(fresh: Sequence[Fresh]) -> Fresh | None:
    """Return the side of the search that did best on fresh seeds; None where there is none."""
    ours = [side for side in fresh if side.label.startswith("trial-")]
    return max(ours, key=lambda side: side.mean, default=None)


def verdict(fresh: Sequence[Fresh]) -> list[str]:
    """Say what the search was good for."""
    best, packaged = choose(fresh), next((side for side in fresh if side.label == OURS), None)
    if best is None or packaged is None:
        return ["No trial did better than the settings that the search began with."]
    seeds = plural(len(best.scores), "fresh seed")
    lines = [f"{best.label}: {best.said()} on {seeds}, and in the search {best.searched}."]
    how = {
        Outcome.BETTER: "That is better than the packaged settings",
        Outcome.WORSE: "That is worse than the packaged settings, which stay the ones to use",
        Outcome.SAME: "No difference from the packaged settings is shown",
    }.get(best.against or Outcome.UNKNOWN, "Whether that is better than the packaged settings so few seeds cannot say")
    lines.append(f"{how}: {packaged.said()}.")
    lines += [
        f"{'SB3, tuned' if side.label == 'sb3' else 'The best of random search'}: {side.said()}."
        for side in fresh
        if side.label == "sb3" or side.label.startswith("random-")
    ]
    return lines


def write_best(study: Study, fresh: Sequence[Fresh]) -> Path | None:
    """Write the settings that did best on fresh seeds, with their scores, as `best.yaml`; return it, or None.

    Raises:
        UserError: it cannot be written.
    """
    best = choose(fresh)
    if best is None:
        return None
    trial = next(trial for trial in study.best(len(study.trials)) if best.label == f"trial-{trial.number}")
    lines = about(study, trial)
    for side in fresh:
        if side is best or side.label in (OURS, "sb3"):
            name = {OURS: "The packaged settings", "sb3": "SB3, tuned"}.get(side.label, "These")
            scores = ", ".join(map(number, side.scores))
            lines.append(f"{name} on fresh seeds: {side.said()}; each seed: {scores}.")
    file = study.folder / "best.yaml"
    write_settings(file, study.plan, settings_of(trial, study.plan), lines)
    return file
