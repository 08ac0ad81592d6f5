"""What a comparison shows, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agents.lab.comparison.analysis import LEVEL, Comparison, Findings, Outcome, typical_ratio
from agents.lab.words import interval, number, plural, probability, sentence, shown, task_name
from envs.errors import listed

if TYPE_CHECKING:
    from rich.console import Console

FEW = 5  # fewer seeds than this mislead easily (Agarwal et al. 2021; Henderson et al. 2018)
CLAIMS = {
    Outcome.BETTER: "{ours} is better than {theirs}",
    Outcome.WORSE: "{theirs} is better than {ours}",
    Outcome.SAME: "no difference between {ours} and {theirs} is shown",
    Outcome.UNKNOWN: "too few seeds to tell {ours} from {theirs}",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Sentences for a reader in a hurry.

    Attributes:
        headlines: one about each other label.
        details: one about each comparison.
        together: about all tasks at once: who tends to win, learning as a whole, speed, time and memory.
        caveats: what to keep in mind before quoting any of it.
    """

    headlines: Sequence[str]
    details: Sequence[str]
    together: Sequence[str]
    caveats: Sequence[str]


def make_verdict(findings: Findings) -> Verdict:
    """Put findings into words."""
    others = [label for label in findings.labels[1:] if findings.against(label)]
    why = "on no task have two sides finished a run"
    if len(findings.labels) == 1:
        why = f"{shown(findings.reference)} is the only side, as runs that differ in their seed alone are one"
    return Verdict(
        headlines=[_headline(findings, other) for other in others] or [f"Nothing can be compared yet: {why}."],
        details=[_detail(findings, one) for one in findings.scores],
        together=[sentence(line) for other in others for line in _together(findings, other)],
        caveats=[sentence(line) for line in _caveats(findings)],
    )


def print_verdict(console: Console, verdict: Verdict, page: Path) -> None:
    """Print a verdict, and where the report lies."""
    for line in verdict.headlines:
        console.print(line, style="bold")
    for line in (*verdict.details, *verdict.together):
        console.print(f"- {line}")
    for line in verdict.caveats:
        console.print(f"- {line}", style="dim")
    console.print(f"report: {page}")


def _claim(findings: Findings, outcome: Outcome, other: str) -> str:
    return CLAIMS[outcome].format(ours=shown(findings.reference), theirs=shown(other))


def _headline(findings: Findings, other: str) -> str:
    """Say on how many tasks which side is better, and what could not have been seen."""
    comparisons = findings.against(other)
    played = "over episodes, " if any(one.unit == "episode" for one in comparisons) else ""
    text = sentence(played + _claims(findings, other, comparisons))
    return " ".join([text, *_not_visible(comparisons)])


def _claims(findings: Findings, other: str, comparisons: Sequence[Comparison]) -> str:
    """Count what may be claimed; name the task where there is only one."""
    outcomes = [one.outcome for one in comparisons]
    if len(comparisons) == 1:
        return f"{_claim(findings, outcomes[0], other)} on {comparisons[0].task.name}"
    first, *rest = [
        f"{_claim(findings, outcome, other)} on {outcomes.count(outcome)}" for outcome in Outcome if outcome in outcomes
    ]
    return "; ".join([f"{first} of {len(comparisons)}", *rest])


def _not_visible(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Say which differences so many seeds could not have shown, where none was shown."""
    same = [one for one in comparisons if one.outcome is Outcome.SAME]
    if not same:
        return
    seeds = [size for one in same for size in (one.ours.size, one.theirs.size)]
    unit = same[0].unit
    few = plural(max(seeds), unit) if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)} {unit}s"
    if len(same) == 1:
        least = same[0].found.detectable
        if not math.isnan(least):
            where = " there" if len(comparisons) > 1 else ""
            yield f"{few} cannot show differences under {number(least)} points{where}."
        return
    scaled = [(one.found.detectable, one.task.scale) for one in same if one.task.scale]
    parts = [detectable / (top - zero) for detectable, (zero, top) in scaled]
    if parts and not np.isnan(parts).all():
        low, high = f"{np.nanmin(parts):.0%}", f"{np.nanmax(parts):.0%}"
        span = low if low == high else f"{low} to {high}"
        yield f"{few} cannot show differences under {span} of the way from random play to the goal there."


def _detail(findings: Findings, comparison: Comparison) -> str:
    """Say what one comparison shows, with its numbers."""
    found, ours, theirs = comparison.found, comparison.ours, comparison.theirs
    value, low, high = found.value, found.low, found.high
    claim = _claim(findings, comparison.outcome, comparison.against)
    if comparison.outcome is Outcome.WORSE:  # then the claim begins with theirs
        ours, theirs, value, low, high = theirs, ours, -value, -high, -low
    text = f"{comparison.task.name}: {claim}, {number(ours.mean())} against {number(theirs.mean())}"
    if comparison.outcome is Outcome.UNKNOWN:
        return f"{text} ({plural(ours.size, comparison.unit)} and {plural(theirs.size, comparison.unit)})."
    if found.low == found.high:
        return f"{text} (no {comparison.unit} differs from another)."
    text += f" (difference {number(value)}, 95% interval {interval(low, high)}"
    if comparison.outcome is not Outcome.SAME:
        return f"{text})."
    if found.p < LEVEL:
        text += f", but too little among so many comparisons: Holm's p {probability(comparison.adjusted)}"
    return f"{text}). Differences under {number(found.detectable)} points could not have been seen."


def _together(findings: Findings, other: str) -> Iterator[str]:
    """Say who tends to win, and how learning as a whole, speed, memory and the time to the goal compare."""
    ours, theirs = shown(findings.reference), shown(other)
    section = next((one for one in findings.sections if other in one.improvement), None)
    if section and len(section.tasks) > 1:
        chance, low, high = section.improvement[other]
        span = "" if math.isnan(low) else f" (95% interval {low:.0%} to {high:.0%}; 50% is a tie)"
        yield f"over {section.title}, a run of {ours} beats a run of {theirs} in {chance:.0%} of cases{span}"
    if learning := [one for one in findings.learning if one.against == other]:
        yield f"over the whole of training, by the mean return of the curve, {_claims(findings, other, learning)}"
    for figure, words in (
        ("steps_per_s", "in steps per second without evaluations, {more} trains {times} as fast as {less}"),
        ("total_seconds", "a whole run of {more}, from process start to end, takes {times} as long as one of {less}"),
        ("peak_mb", "at its peak {more} takes {times} as much memory as {less}"),
    ):
        if ratio := typical_ratio(findings, other, figure):
            (typical, low, high), more, less = ratio, ours, theirs
            if typical < 1:
                typical, low, high, more, less = 1 / typical, 1 / high, 1 / low, theirs, ours
            span = f" ({number(low)} to {number(high)} times)" if number(low) != number(high) else ""
            yield words.format(times=f"{number(typical)} times{span}", more=more, less=less)
    medians = [
        [float(np.median(one.task.reached(label, seconds=True))) for label in (findings.reference, other)]
        for one in findings.against(other)
    ]
    known = [pair for pair in medians if not np.isnan(pair).any()]
    won, lost = (sum(sign * (a - b) < 0 for a, b in known if a != b) for sign in (1, -1))
    if won or lost:
        where = plural(len(known), "task")
        yield f"in less training time {ours} reaches the goal on {won} of {where}, {theirs} on {lost}"


def _caveats(findings: Findings) -> Iterator[str]:
    """Say what limits the claims."""
    results, models = findings.results, findings.models
    sizes = [len(runs) for task in findings.tasks for label, runs in task.runs.items() if label not in models]
    if min(sizes, default=FEW) < FEW:
        seeds = plural(min(sizes), "seed")
        seeds = f"{seeds} a side" if min(sizes) == max(sizes) and not models else f"as few as {seeds} on a side"
        yield f"{seeds}: results of fewer than {FEW} often turn over when repeated"
    if results.unfinished:
        yield f"{plural(len(results.unfinished), 'run')} of those asked for not finished: what is said may change"
    if results.failures:
        yield f"{plural(len(results.failures), 'run')} crashed; scores are those of the runs that did not"
    if results.imported:
        labels = listed([shown(label) for label in results.imported])
        yield f"{labels}: measured elsewhere, maybe otherwise, so a difference need not be the algorithm's"
    for label in models:
        yield (
            f"{shown(label)} is one trained model, played once for each seed: its spread is that of episodes, not of "
            "trainings"
        )
    if without := [task for task in results.comparison.pairs if task.left_out]:
        first = f"{without[0].left_out[0]} on {task_name(without[0].env, without[0].algo)}"
        tasks = f"{len(without)} of {len(results.comparison.pairs)} tasks"
        many = f"something on {tasks} (How it was measured lists it), such as "
        yield f"SB3 went without {many if len(without) > 1 else ''}{first}"
    if findings.sections and (unscaled := [task.name for task in findings.tasks if task.scale is None]):
        yield f"not in the aggregates, for want of a scale from random play to a goal: {'; '.join(unscaled)}"
    if same := [one.unit for one in findings.scores if one.outcome is Outcome.SAME]:
        yield f"no difference shown does not mean equal: it means that so many {same[0]}s cannot tell"
    if single := [shown(one.against) for one in findings.scores if one.unit == "episode"]:
        yield (
            f"one run on a side ({listed(single)} against {shown(findings.reference)}), so episodes are compared: that "
            "says which of these policies plays better, not which settings learn better; another seed may turn it over"
        )
    yield from results.notes
