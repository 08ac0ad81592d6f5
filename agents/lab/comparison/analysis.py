"""What a comparison shows: scores, differences, aggregates and costs, as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.lab.comparison.curves import RunResult
from agents.lab.comparison.results import Reference, Results, StoredTask
from agents.lab.statistics import (
    METRICS,
    Difference,
    Estimate,
    difference,
    estimate,
    first_reaching,
    holm,
    mean_between,
    performance_profile,
    probability_of_improvement,
)
from agents.lab.words import task_name
from agents.run.registry import title_of

OURS = "ours"
LEVEL = 0.05  # of all claims about one other side together
NEARLY = 0.9  # where no threshold is registered: this part of the way from random play to the best


class Outcome(Enum):
    """What a comparison says about the reference (ours) and the other side."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference shown"
    UNKNOWN = "too few seeds"


def outcome_of(difference: float, p: float) -> Outcome:
    """Return what may be claimed of a difference with such a p-value."""
    if math.isnan(p):
        return Outcome.UNKNOWN
    if p >= LEVEL:
        return Outcome.SAME
    return Outcome.BETTER if difference > 0 else Outcome.WORSE


class Sides(NamedTuple):
    """What is compared of the reference and the other label: a number for each "seed" or "episode" of theirs."""

    ours: NDArray[np.float64]
    theirs: NDArray[np.float64]
    unit: str = "seed"


@dataclass(frozen=True)
class TaskRuns:
    """An environment with an algorithm, and every label's runs on it.

    Attributes:
        stored: as it was asked for; None where all results are imported.
        random: mean return of random actions; None if unknown.
        threshold: the registered one; None without.
        best: the highest mean score of any label in the environment.
    """

    env: str
    algo: str
    stored: StoredTask | None
    runs: Mapping[str, Sequence[RunResult]]
    random: float | None
    threshold: float | None
    best: float

    @property
    def name(self) -> str:
        return task_name(self.env, self.algo)

    @cached_property
    def scores(self) -> dict[str, NDArray[np.float64]]:
        """Scores of each label's runs, of shape [seeds]."""
        return {label: np.array([run.score for run in runs]) for label, runs in self.runs.items()}

    @cached_property
    def scale(self) -> tuple[float, float] | None:
        """The returns that are 0 and 1 when normalised; None where there are no two such, the upper one above."""
        top = self.best if self.threshold is None else self.threshold
        return None if self.random is None or top <= self.random else (self.random, top)

    @cached_property
    def normalised(self) -> dict[str, NDArray[np.float64]]:
        """Normalised scores; empty without a scale."""
        if self.scale is None:
            return {}
        zero, one = self.scale
        return {label: (scores - zero) / (one - zero) for label, scores in self.scores.items()}

    @property
    def goal(self) -> float | None:
        """The return whose reaching is timed: the registered threshold, or most of the way to the best."""
        if self.threshold is not None or self.scale is None:
            return self.threshold
        zero, one = self.scale
        return zero + NEARLY * (one - zero)

    def reached(self, label: str, seconds: bool = False, goal: float | None = None) -> NDArray[np.float64]:
        """Return the steps (or seconds) to the goal, or to another one, of each run.

        It is inf where never, nan where the curve says nothing.
        """
        found, goal = [], self.goal if goal is None else goal
        for run in self.runs[label]:
            at = run.seconds if seconds else run.steps
            known = goal is not None and at.size and not np.isnan(at).any()
            found.append(first_reaching(at, run.returns, goal or 0.0) if known else math.nan)
        return np.array(found)

    def scores_or_episodes(self, ours: str, theirs: str) -> Sides:
        """Return the scores of two labels' runs; where one has a single run, the returns of all final episodes."""
        first, second = (np.concatenate([run.final for run in self.runs[label]]) for label in (ours, theirs))
        if min(len(self.runs[ours]), len(self.runs[theirs])) > 1 or not (first.size and second.size):
            return Sides(self.scores[ours], self.scores[theirs])
        return Sides(first, second, "episode")

    def over_training(self, ours: str, theirs: str) -> Sides | None:
        """Return the mean return over training of two labels' runs, over the steps that all their curves cover.

        None where a run has no curve, or they share no step.
        """
        runs = [run for label in (ours, theirs) for run in self.runs[label]]
        if not all(run.steps.size for run in runs):
            return None
        first, last = float(max(run.steps[0] for run in runs)), float(min(run.steps[-1] for run in runs))
        if first > last:
            return None
        means = np.array([mean_between(run.steps, run.returns, first, last) for run in runs])
        return Sides(means[: len(self.runs[ours])], means[len(self.runs[ours]) :])

    def figure(self, label: str, name: str) -> NDArray[np.float64]:
        """Return one of `RunResult.figures` for the runs that have it."""
        return np.array([run.figures[name] for run in self.runs.get(label, ()) if name in run.figures])


@dataclass(frozen=True, slots=True)
class Comparison:
    """The reference and another label on one task.

    Attributes:
        against: the other label.
        ours, theirs: one number for each run of the reference and of the other, of shape [seeds]; or for each episode.
        found: reference less the other.
        adjusted: Holm's p-value over all tasks against this label.
        unit: what the numbers are of, "seed" or "episode".
    """

    task: TaskRuns
    against: str
    ours: NDArray[np.float64]
    theirs: NDArray[np.float64]
    found: Difference
    adjusted: float
    unit: str = "seed"

    @property
    def outcome(self) -> Outcome:
        """What may be claimed."""
        return outcome_of(self.found.value, self.adjusted)


@dataclass(frozen=True)
class Section:
    """Tasks that some labels share, taken together.

    Attributes:
        title: such as "all 12 comparisons".
        labels: the reference first.
        metrics: label -> metric -> estimate.
        improvement: other label -> how probable it is that the reference beats it.
        levels: normalised scores, of shape [levels].
        profiles: label -> part of the runs above each level, and its bounds.
    """

    title: str
    tasks: Sequence[TaskRuns]
    labels: Sequence[str]
    metrics: dict[str, dict[str, Estimate]]
    improvement: dict[str, Estimate]
    levels: NDArray[np.float64]
    profiles: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Findings:
    """Everything that a report says.

    Attributes:
        reference: the label that all others are held against.
        labels: all of them, the reference first, imported ones last.
        scores: comparisons of the scores, task by task.
        learning: the same of the mean return over training.
    """

    results: Results
    reference: str
    labels: Sequence[str]
    tasks: Sequence[TaskRuns]
    scores: Sequence[Comparison]
    learning: Sequence[Comparison]
    sections: Sequence[Section]

    def against(self, label: str) -> list[Comparison]:
        """Return the comparisons of scores with one other label."""
        return [one for one in self.scores if one.against == label]

    @property
    def models(self) -> list[str]:
        """The labels of models that were trained before, each of which is played once for every seed."""
        asked = {label: runs for task in self.tasks if task.stored for label, runs in task.runs.items()}
        own = asked.keys() - self.results.imported
        return [label for label in self.labels if label in own and "train_seconds" not in asked[label][0].figures]


def analyse(results: Results, *, episodes: bool = False) -> Findings:
    """Compute all that a comparison shows; with `episodes`, sides of a single run are compared over its episodes."""
    asked = [label for task in results.comparison.pairs for label in task.labels]
    found = dict.fromkeys([*asked, *(run.key.label for run in results.runs)])
    labels = sorted(found, key=lambda label: (label != OURS, label in results.imported))
    reference, tasks = labels[0], _tasks(results, labels)

    def scored(task: TaskRuns, label: str) -> Sides:
        if episodes:
            return task.scores_or_episodes(reference, label)
        return Sides(task.scores[reference], task.scores[label])

    scores = _compare(tasks, labels, scored)
    learning = _compare(tasks, labels, lambda task, label: task.over_training(reference, label))
    return Findings(results, reference, labels, tasks, scores, learning, list(_sections(tasks, labels)))


def _compare(
    tasks: Sequence[TaskRuns], labels: Sequence[str], measure: Callable[[TaskRuns, str], Sides | None]
) -> list[Comparison]:
    """Compare the first label with each other one wherever `measure` has numbers for the two."""
    found = []
    for label in labels[1:]:
        shared = [(task, measure(task, label)) for task in tasks if {labels[0], label} <= task.runs.keys()]
        known = [(task, sides, difference(sides.ours, sides.theirs)) for task, sides in shared if sides is not None]
        for (task, sides, one), adjusted in zip(known, holm([one.p for *_, one in known]), strict=True):
            found.append(Comparison(task, label, sides.ours, sides.theirs, one, adjusted, sides.unit))
    return [one for task in tasks for one in found if one.task is task]


def _tasks(results: Results, labels: Sequence[str]) -> list[TaskRuns]:
    """Return the tasks that have any finished run: environments as first asked for, and of each its algorithms."""
    stored = {(task.env, task.algo): task for task in results.comparison.pairs}
    runs: dict[tuple[str, str], dict[str, list[RunResult]]] = {key: {} for key in stored}
    for run in sorted(results.runs, key=lambda run: (labels.index(run.key.label), run.key.seed)):
        runs.setdefault(run.key[:2], {}).setdefault(run.key.label, []).append(run)
    best: dict[str, float] = {}
    for (env, _), here in runs.items():
        means = [float(np.mean([run.score for run in group])) for group in here.values()]
        best[env] = max([best.get(env, -math.inf), *means])
    tasks, envs = [], list(dict.fromkeys(env for env, _ in runs))
    for (env, algo), here in sorted(runs.items(), key=lambda item: envs.index(item[0][0])):
        known = results.comparison.references.get(env) or Reference()
        if here:
            tasks.append(TaskRuns(env, algo, stored.get((env, algo)), here, known.random, known.threshold, best[env]))
    return tasks


def _sections(tasks: Sequence[TaskRuns], labels: Sequence[str]) -> Iterable[Section]:
    """Yield a section for each set of tasks that others share with the reference, and within it for each algorithm."""
    shared: dict[tuple[int, ...], list[str]] = {}
    for label in labels[1:]:
        both = tuple(i for i, task in enumerate(tasks) if {labels[0], label} <= task.normalised.keys())
        if both:
            shared.setdefault(both, []).append(label)
    for both, others in shared.items():
        group = [tasks[i] for i in both]
        named = [labels[0], *others]
        yield _section(group, named, "")
        algos = list(dict.fromkeys(task.algo for task in group))
        for algo in algos if len(algos) > 1 else ():
            yield _section([task for task in group if task.algo == algo], named, title_of(algo))


def _section(tasks: Sequence[TaskRuns], labels: Sequence[str], algo: str) -> Section:
    reference, *others = labels
    scores = {label: [task.normalised[label] for task in tasks] for label in labels}
    every = np.concatenate([runs for group in scores.values() for runs in group])
    levels = np.linspace(min(0.0, float(every.min())), max(1.0, float(every.max())), 101)
    count = f"{len(tasks)} {'environment' if algo else 'comparison'}{'s' if len(tasks) > 1 else ''}"
    return Section(
        title=f"{algo}, {count}" if algo else f"all {count}" if len(tasks) > 1 else tasks[0].name,
        tasks=tasks,
        labels=labels,
        metrics={
            label: {name: estimate(metric, scores[label]) for name, metric in METRICS.items()} for label in labels
        },
        improvement={other: probability_of_improvement(scores[reference], scores[other]) for other in others},
        levels=levels,
        profiles={label: performance_profile(scores[label], levels) for label in labels},
    )


def typical_ratio(findings: Findings, other: str, name: str) -> Estimate | None:
    """Return how many times the reference's figure is the other's: geometric mean over tasks, lowest and highest.

    Each task counts with the ratio of its medians over seeds; None where none has both.
    """
    ratios = []
    for task in (one.task for one in findings.against(other)):
        ours, theirs = task.figure(findings.reference, name), task.figure(other, name)
        if ours.size and theirs.size and np.median(ours) > 0 and np.median(theirs) > 0:
            ratios.append(float(np.median(ours) / np.median(theirs)))
    return Estimate(float(np.exp(np.mean(np.log(ratios)))), min(ratios), max(ratios)) if ratios else None
