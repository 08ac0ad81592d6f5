"""The page of a search: one file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from agents.lab.comparison.analysis import OURS
from agents.lab.comparison.report import settings_table
from agents.lab.document import Document, Table
from agents.lab.tuning.pictures import pictures
from agents.lab.tuning.population import MEMBER, lineage
from agents.lab.tuning.search import outcome
from agents.lab.tuning.study import SETTINGS, UNFIT, WHY, Study
from agents.lab.tuning.winners import BASE, Fresh, outcomes, settings_of, verdict
from agents.lab.words import duration, number, plural
from agents.run.registry import title_of
from agents.run.storage import write_text

PAGE = "index.html"
SIDES = {OURS: "packaged settings", BASE: "what the search began with", "sb3": "SB3, tuned"}


def write_page(studies: Sequence[Study], fresh: Sequence[Fresh], command: str) -> Path:
    """Write the page into the folder of the first study, the search; others are beside it.

    Raises:
        UserError: it cannot be written.
    """
    study = studies[0]
    plan, document = study.plan, Document(f"Search: {title_of(study.plan.algo)} on {study.plan.env}")
    document.lead([*verdict(fresh)] if fresh else [_counted(study), "Nothing was trained on fresh seeds yet."])
    if fresh:
        _fresh(document, fresh, study.folder)
    document.heading("The search", "search")
    each = f"Each trial trains {plural(plan.seeds, 'time')} for {plan.budget:,} steps"
    if plan.population:
        each = f"Each trial is one of {plan.evaluations} intervals of a network that trains for {plan.budget:,} steps"
    judged = f"{' and '.join(plan.goals)}, {plural(plan.eval_episodes, 'episode')} an evaluation"
    document.text(f"{_counted(study)} {each}, and is judged by {judged}.")
    document.show_pictures(pictures(study))
    for other in studies[1:]:
        document.text(f"Random search beside it: {_counted(other)}")
    _settings(document, study)
    if plan.population:
        _lineage(document, study)
    _trials(document, study)
    document.heading("Repeat it", "repeat")
    document.text("What is finished is kept; another --out begins anew:")
    document.code(command)
    page = study.folder / PAGE
    write_text(page, document.html())
    return page


def _counted(study: Study) -> str:
    done = study.done()
    states = {state: sum(trial.state is state for trial in done) for state in TrialState}
    unfit = sum(trial.user_attrs.get(WHY) == UNFIT for trial in study.trials)
    seconds = sum(float(trial.user_attrs.get("seconds", 0.0)) for trial in done)
    found = (
        f"{plural(len(done), 'trial')}: {states[TrialState.COMPLETE]} finished, {states[TrialState.PRUNED]} given up"
    )
    found += f", {states[TrialState.FAIL]} failed" if states[TrialState.FAIL] else ""
    found += f"; {unfit} more drawn whose settings exclude one another" if unfit else ""
    return f"{found}; {duration(seconds)} of training."


def _fresh(document: Document, fresh: Sequence[Fresh], folder: Path) -> None:
    document.heading("On fresh seeds", "fresh")
    document.text(
        "The best of many trials owes a part of its score to luck, so it is trained again on seeds that it was not "
        f"chosen by. What decides is the {fresh[0].goal}; intervals are of 95%, by bootstrap over seeds. The best of "
        "the trials is chosen here, so what is claimed of one has Holm's p-value over all of them."
    )
    rows, packaged = [], next((side for side in fresh if side.label == OURS), None)
    against = {} if packaged is None else outcomes(fresh, packaged)
    for side in fresh:
        reached = [
            f"{seconds:.1f}" if seconds < float("inf") else "never" for seconds in side.seconds if seconds == seconds
        ]
        name = SIDES.get(side.label, side.label)
        outcome = against[side.label].value if side.label in against else ""
        scores = ", ".join(map(number, side.scores))
        rows.append([name, side.searched, side.said(), scores, ", ".join(reached), outcome])
    seconds = "seconds to the goal" if fresh[0].threshold is None else fresh[0].goal
    header = ["", "in the search", "fresh seeds", "return of each", seconds, "against the packaged"]
    document.table(Table(header, rows, texts=len(header)))
    report = fresh[0].page.relative_to(folder).as_posix()
    document.text(f"All of that comparison: {report} beside this page.", note=True)


def _settings(document: Document, study: Study) -> None:
    document.heading("The best settings", "settings")
    best = study.best(5)
    if not best:
        document.text("No trial has finished.")
        return
    sides: dict[str, dict[str, Any]] = {}
    found = {f"trial {trial.number}": settings_of(trial, study.plan) for trial in best}
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    sides["base"] = {name: study.plan.base.get(name) for name in names}
    for trial, (label, _) in zip(best, found.items(), strict=True):
        values = trial.user_attrs.get(SETTINGS) or {}
        sides[label] = {name: values[name] for name in names if name in values}
    rounded = {
        side: {name: _short(value) if isinstance(value, float | str) else value for name, value in values.items()}
        for side, values in sides.items()
    }
    document.table(settings_table(rounded))


def _lineage(document: Document, study: Study) -> None:
    """Show how the settings of the best network changed."""
    if not (best := study.best(1)):
        return
    document.text("What the best network was trained with, interval by interval:")
    names, rows = list(study.plan.space), []
    for trial in lineage(study.trials, best[0]):
        values = trial.user_attrs.get(SETTINGS) or {}
        row = [str(trial.number), str(trial.user_attrs[MEMBER]), outcome(study, trial)]
        rows.append([*row, *(_short(values.get(name, "")) for name in names)])
    document.table(Table(["trial", "member", "came to", *names], rows, texts=3, wrapped=True))


def _trials(document: Document, study: Study) -> None:
    done = study.done()
    with document.folded(f"All trials ({len(done)})"):
        rows = [
            [
                str(t.number),
                outcome(study, t),
                ", ".join(f"{k}={_short(v)}" for k, v in (t.user_attrs.get(SETTINGS) or {}).items()),
            ]
            for t in done
        ]
        document.table(Table(["trial", "came to", "settings"], rows, texts=3, wrapped=True))


def _short(value: Any) -> str:
    if isinstance(value, str) and value.startswith("lin_"):
        return f"lin_{_short(float(value.removeprefix('lin_')))}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
