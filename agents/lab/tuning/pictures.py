"""What a search looks like: its history, what mattered, where the good settings lie, and how trials learnt."""

from __future__ import annotations

import importlib.util
import json
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from agents.lab.drawing import GREY, Picture, make_picture, shorten
from agents.lab.tuning.space import FALLING, Choices, Range, Space
from agents.lab.tuning.study import Study
from agents.lab.tuning.trial import points
from agents.lab.words import thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GOOD = "#0072B2"
LIKELY = 0.1  # of the trials that ended well are drawn as good ones
MOST_AXES, MOST_CURVES = 10, 60
LEAST_TRIALS = 10  # that importances are reckoned from


def pictures(study: Study) -> list[Picture]:
    """Return all pictures that there is something to draw for."""
    done = [trial for trial in study.done() if trial.state is TrialState.COMPLETE]
    found = [history(study, done)] if done else []
    if len(study.plan.goals) > 1 and done:
        found.append(front(study, done))
    if shares := importances(study):
        found.append(importance(shares))
    if len(done) > 2:
        found.append(parallel(study, done, shares))
    if curves := [trial for trial in study.done() if any(points(trial))]:
        found.append(learning(study, curves))
    return found


def history(study: Study, done: Sequence[FrozenTrial]) -> Picture:
    """Trials in order, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    goal, values = study.plan.goals[0], [trial.values[0] for trial in done]
    best = np.maximum.accumulate(values) if goal == "return" else np.minimum.accumulate(values)

    def paint(axes: Axes) -> None:
        numbers = [trial.number for trial in done]
        axes.scatter(numbers, values, s=14, color=GREY, label="a trial")
        axes.step(numbers, best, where="post", color=GOOD, label="the best so far")
        axes.set(title="History", xlabel="trial", ylabel=goal, xlim=(-0.5, max(t.number for t in study.done()) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return make_picture("history", f"{goal} of each finished trial, and the best so far", 2.6, paint)


def front(study: Study, done: Sequence[FrozenTrial]) -> Picture:
    """Return against seconds; the trials that no other beats in both."""
    best = {trial.number for trial in study.optuna.best_trials}

    def paint(axes: Axes) -> None:
        for good, label in ((False, "a trial"), (True, "beaten by none in both")):
            some = [trial for trial in done if (trial.number in best) == good]
            axes.scatter(
                [t.values[1] for t in some],
                [t.values[0] for t in some],
                s=22 if good else 12,
                color=GOOD if good else GREY,
                label=label,
            )
        axes.set(title="Front", xlabel="seconds of training", ylabel="return")

    return make_picture("front", "return of each trial against the seconds that it trained", 2.8, paint)


def importances(study: Study) -> tuple[str, dict[str, float]] | None:
    """Return how much of the differences each setting explains, and by what method; None for too few trials.

    fANOVA (Hutter et al. 2014) where scikit-learn is installed, else PED-ANOVA (Watanabe et al. 2023).
    """
    import optuna

    done = [trial for trial in study.done() if trial.state is TrialState.COMPLETE]
    if len(done) < LEAST_TRIALS or len({trial.values[0] for trial in done}) < 2:
        return None
    evaluator: Any = optuna.importance.PedAnovaImportanceEvaluator()
    name = "PED-ANOVA"
    if importlib.util.find_spec("sklearn") is not None:
        name, evaluator = "fANOVA", optuna.importance.FanovaImportanceEvaluator(seed=0)
    target = (lambda trial: trial.values[0]) if len(study.plan.goals) > 1 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(study.optuna, evaluator=evaluator, target=target)
        except (ValueError, RuntimeError, ZeroDivisionError):
            return None  # such as that no setting is in all trials
    shares = {name: share for name, share in found.items() if math.isfinite(share)}
    return (name, shares) if any(shares.values()) else None


def importance(found: tuple[str, dict[str, float]]) -> Picture:
    """Bars of importances."""
    method, shares = found
    names = sorted(shares, key=lambda name: -shares[name])[:MOST_AXES]

    def paint(axes: Axes) -> None:
        axes.barh([shorten(said(name)) for name in names], [shares[name] for name in names], color=GOOD)
        axes.invert_yaxis()
        axes.set(title=f"What mattered ({method})", xlabel="share of the differences between trials")
        axes.grid(False, axis="y")

    return make_picture(
        "importance", "how much of the differences each setting explains", 0.9 + 0.24 * len(names), paint
    )


def said(name: str) -> str:
    """Return what pictures call one of Optuna's parameters."""
    return f"{name.removesuffix(FALLING)} falls" if name.endswith(FALLING) else name


def place(space: Space, name: str, value: Any) -> float:
    """Return where a value lies among those that it may have, from 0 to 1."""
    dimension = space[name]
    if isinstance(dimension, Choices):
        return dimension.texts.index(value) / max(len(dimension.texts) - 1, 1)
    low, high, x = dimension.low, dimension.high, float(value)
    if dimension.log:
        low, high, x = math.log(low), math.log(high), math.log(x)
    return (x - low) / (high - low)


def parallel(study: Study, done: Sequence[FrozenTrial], shares: tuple[str, dict[str, float]] | None) -> Picture:
    """A line for each trial through its settings, in the order of their `importances`; the best ones stand out."""
    space = study.plan.space
    order = list(space) if shares is None else sorted(space, key=lambda name: -shares[1].get(name, 0.0))
    names = [name for name in order if sum(name in trial.params for trial in done) > 1][:MOST_AXES]
    good = {trial.number for trial in study.best(max(round(LIKELY * len(done)), 1))}

    def paint(axes: Axes) -> None:
        for trial in sorted(done, key=lambda trial: trial.number in good):
            line = [place(space, name, trial.params[name]) if name in trial.params else math.nan for name in names]
            best = trial.number in good
            axes.plot(
                line,
                range(len(names)),
                color=GOOD if best else GREY,
                alpha=0.9 if best else 0.18,
                linewidth=1.4 if best else 0.8,
            )
        axes.set_yticks(range(len(names)), [shorten(name, 24) for name in names])
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks([])
        axes.invert_yaxis()
        for row, name in enumerate(names):
            low, high = ends(space[name])
            axes.annotate(low, (0, row), (2, 3), textcoords="offset points", fontsize=6.5, color="#333333")
            axes.annotate(
                high, (1, row), (-2, 3), textcoords="offset points", fontsize=6.5, color="#333333", ha="right"
            )
        axes.set_title(f"Settings; blue: the best {len(good)} of {len(done)}")

    return make_picture("settings", "a line through the settings of each trial", 0.9 + 0.34 * len(names), paint)


def ends(dimension: Range | Choices) -> tuple[str, str]:
    """Return what stands at the ends of a setting's axis."""
    if isinstance(dimension, Choices):
        texts = [
            shorten(text if isinstance(json.loads(text), list) else str(json.loads(text)), 16)
            for text in dimension.texts
        ]
        return texts[0], texts[-1] if len(texts) > 1 else ""
    return f"{dimension.low:.3g}", f"{dimension.high:.3g}"


def learning(study: Study, trials: Sequence[FrozenTrial]) -> Picture:
    """Learning curves of trials, means over their seeds; the best ones stand out."""
    good = {trial.number for trial in study.best(3)}
    shown = [t for t in trials if t.number not in good][-MOST_CURVES:] + [t for t in trials if t.number in good]

    def paint(axes: Axes) -> None:
        for trial in shown:
            curves = [curve for curve in points(trial) if curve]
            depth = min(map(len, curves))
            means = [float(np.mean([curve[i].mean for curve in curves])) for i in range(depth)]
            best = trial.number in good
            steps = [point.step for point in curves[0][:depth]]
            axes.plot(
                steps,
                means,
                color=GOOD if best else GREY,
                alpha=1 if best else 0.3,
                linewidth=1.6 if best else 0.8,
                marker="." if depth == 1 else "",
            )
        axes.xaxis.set_major_formatter(lambda x, _: thousands(x))
        axes.set(
            title=f"Learning curves; blue: the best {len(good)} of {len(trials)}",
            xlabel="environment steps",
            ylabel="return",
        )

    return make_picture("curves", "learning curves of the trials", 2.8, paint)
