"""An explanation as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.lab.document import Document, Table
from agents.lab.words import interval, number, plural
from agents.run.play import Moment
from agents.run.registry import title_of
from agents.run.storage import disk, write_text
from agents.run.terminal import typed
from agents.view.bars import action_bars
from agents.view.explanation import figures
from agents.view.explanation.decisions import counts_changes
from agents.view.explanation.effects import Effect
from agents.view.explanation.explain import Explanation, Reason
from agents.view.observation import readings

LISTED = 500  # decisions that are listed
MOST_PARTS = 4  # features that are named for one decision
MEANING = {
    "regret": "less came of it than was expected (or, of sampled actions that have values, another was worth more)",
    "surprise": "reward and next value were not what the value had promised (temporal difference error)",
    "indecision": "the actions were closest to one another",
}
METHOD = (
    """Actions changed: a feature is replaced by that of another state that the policy came to, three times over; how
    many of the most likely actions become others (of numbers: by how many of their deviations they move).""",
    """Return: the policy sees such a value instead of its own at every step of whole episodes, which begin as those it
    is compared with do; what it remembers comes from what it sees.""",
    """Gradient: mean size of the slope of what decides (the preference for the action taken over the mean of the
    others, or a number of the action), times the deviation of the feature, in deviations of what decides.""",
    """Integrated gradients: what each number adds to what decides, on the straight way from the mean observation
    (Sundararajan et al. 2017). Occlusion: by how much it falls where a patch of a picture is that of the mean (Zeiler
    & Fergus 2014). Both by Captum.""",
    """Features that belong together stand in for one another: of two that say the same, either may count little.""",
)


def write_page(found: Explanation, folder: Path) -> Path:
    """Write `index.html` into a folder and return its path.

    Raises:
        UserError: it cannot be written.
    """
    loaded = found.loaded
    document = Document(f"Why {title_of(loaded.algo)} acts as it does: {loaded.env}")
    document.text(f"{loaded.path}, after {loaded.step:,} steps of training.", note=True)
    document.heading("In short", "short")
    document.lead(sentences(found))
    for note in found.notes:
        document.text(note, note=True)
    _importances(document, found)
    _episode(document, found)
    for kind, reasons in found.reasons.items():
        _moments(document, found, kind, reasons)
    _decisions(document, found)
    _method(document, found)
    with disk("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "index.html", document.html())
    return folder / "index.html"


def sentences(found: Explanation) -> list[str]:
    """Say what counts most and least, and what it does to the return to be without."""
    first, *last = found.effects
    if not first.importance.changed:
        return ["Nothing counts: with other states' values in the place of any feature, every action stays as it is."]
    lines = [f"What counts most is {first.name}: {_effect(found, first)}"]
    lines += [f"What counts least is {one.name}: {_effect(found, one)}" for one in last]
    return lines


def changes(found: Explanation, value: float) -> str:
    """Write how far actions change."""
    return f"{value:.0%}" if counts_changes(found.loaded.action_space) else number(value)


def _effect(found: Explanation, effect: Effect) -> str:
    changed = changes(found, effect.importance.changed)
    others = counts_changes(found.loaded.action_space)
    acts = f"{changed} of the actions become others" if others else f"the actions move by {changed} deviations"
    loss = found.loss(effect)
    within = interval(loss.low, loss.high)  # of one episode there is none
    between = f" (difference {number(loss.value)}, 95% interval {within})" if within else ""
    return (
        f"with other states' values in its place {acts}, and the mean return over "
        f"{plural(len(found.returns), 'episode')} is {number(float(effect.returns.mean()))} instead of "
        f"{number(float(found.returns.mean()))}{between}."
    )


def _importances(document: Document, found: Explanation) -> None:
    document.heading("What counts", "counts")
    document.show_pictures([figures.draw_importances(found.importances)])
    changed = "actions changed" if counts_changes(found.loaded.action_space) else "actions moved"
    rows = [
        [one.feature.name, changes(found, one.changed), _figure(one.gradient), _figure(one.integrated)]
        for one in found.importances
    ]
    document.table(Table(["feature", changed, "gradient", "integrated gradients"], rows))
    document.text(
        f"Measured in {plural(found.states, 'state')} that the policy comes to. The three measures may differ: the "
        "first one says what happens to the decisions, the others what the network's numbers are made of.",
        note=True,
    )


def _figure(value: float | None) -> str:
    return "none" if value is None else number(value)


def _episode(document: Document, found: Explanation) -> None:
    timeline, last = found.timeline, found.timeline.moments[-1]
    document.heading("One episode", "episode")
    end = "it terminated" if last.terminated else "it reached its time limit" if last.truncated else "it is cut there"
    document.text(f"{plural(len(timeline), 'step')}, return {number(last.ret)}; {end}.")
    document.show_pictures(list(figures.draw_timeline(timeline)))


def _moments(document: Document, found: Explanation, kind: str, reasons: Sequence[Reason]) -> None:
    if not reasons:
        return
    document.heading(f"Moments of {kind}", kind)
    colours = " Red speaks for the action that was taken, blue against it." if reasons[0].heat else ""
    document.text(f"Where {MEANING[kind]}.{colours}", note=True)
    for reason in reasons:
        document.text(f"Step {reason.at + 1}: {kind} {number(getattr(found.timeline, kind)[reason.at])}")
        document.show_pictures(list(figures.draw_moment(found, reason, f"{kind}-{reason.at + 1}")))
        document.bullets(list(_lines(found, reason)))


def _lines(found: Explanation, reason: Reason) -> Iterator[str]:
    moment, timeline = found.timeline.moments[reason.at], found.timeline
    if seen := saw(found, moment):
        yield f"saw {seen}"
    yield f"thought {thoughts(found, moment)}"
    value, came = timeline.value[reason.at], timeline.to_come[reason.at]
    expected = "" if np.isnan(value) else f"; expected {number(value)} to come, {number(came)} came"
    yield f"did {did(found, moment)}, got {number(moment.reward)}{expected}"
    if reason.parts:
        parts = ", ".join(f"{name} {part:+.3g}" for name, part in reason.parts[:MOST_PARTS])
        yield f"it came from {parts} (integrated gradients, against the mean observation)"
    (most, effect), (least, other) = reason.most, reason.least
    yield (
        f"with other states' {most} the action changes: {changes(found, effect)}; with their {least}: "
        f"{changes(found, other)}"
    )


def saw(found: Explanation, moment: Moment) -> str:
    """Write the numbers that were seen."""
    axes = found.loaded.config.params.network.picture_axes
    seen = readings(moment.obs, found.loaded.observation_space, found.names, axes=axes)
    shown = ", ".join(f"{name} {value}" for name, value, _ in seen[:24])
    return shown + (f" and {len(seen) - 24} more" if len(seen) > 24 else "")


def thoughts(found: Explanation, moment: Moment) -> str:
    """Write what the policy made of each action."""
    title, bars, hidden = action_bars(moment, found.loaded.action_space, found.names.actions)
    rest = f" and {hidden} more" if hidden else ""
    return f"{', '.join(f'{bar.label} {bar.text}' for bar in bars)}{rest} ({title})"


def did(found: Explanation, moment: Moment) -> str:
    """Write the action."""
    bare = replace(moment, outputs={})
    _, bars, hidden = action_bars(bare, found.loaded.action_space, found.names.actions)
    taken = [f"{bar.label} {bar.text}".strip() for bar in bars if bar.chosen or bar.mark is not None]
    return ", ".join(taken or ["nothing"]) + (f" and {hidden} more" if hidden and not taken else "")


def _decisions(document: Document, found: Explanation) -> None:
    timeline = found.timeline
    header = ["step", "saw", "thought", "did", "reward", "value", "came", "surprise", "regret", "indecision"]
    rows = []
    for at, moment in enumerate(timeline.moments[:LISTED]):
        numbers = [getattr(timeline, name)[at] for name in ("value", "to_come", "surprise", "regret", "indecision")]
        words = [str(at + 1), saw(found, moment), thoughts(found, moment), did(found, moment)]
        rows.append([*words, number(moment.reward), *map(number, numbers)])
    document.heading("Every decision", "decisions")
    more = f", the first {LISTED} of {len(timeline)}" if len(timeline) > LISTED else ""
    with document.folded(f"{plural(len(rows), 'decision')}{more}"):
        document.table(Table(header, rows, texts=4, wrapped=True))


def _method(document: Document, found: Explanation) -> None:
    loaded = found.loaded
    document.heading("How it was measured", "method")
    document.bullets(METHOD)
    document.code(typed("python", "-m", "agents.explain", loaded.path))
