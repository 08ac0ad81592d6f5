"""A comparison's report for reading: one HTML page, the same as Markdown, its pictures and its numbers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from agents.lab.comparison import figures, prose, tables
from agents.lab.comparison.document import (
    Block,
    Bullets,
    Code,
    Folded,
    Heading,
    Lead,
    Pictures,
    Table,
    Text,
    to_html,
    to_markdown,
)
from agents.lab.comparison.exports import spreadsheets
from agents.lab.comparison.figures import Picture
from agents.lab.comparison.findings import Findings, find
from agents.lab.comparison.imported import SCHEMA
from agents.lab.comparison.results import Pair, load_comparison
from agents.lab.comparison.verdict import Verdict, judge
from agents.lab.comparison.words import listed, plural, points, shown, task_name
from agents.run.storage import disk, write_text

TITLE = "Comparison"
LISTED = 40  # unfinished runs that are named


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Read a comparison and write its report.

    Args:
        folder: the comparison.
        out: for `index.html`, `report.md`, CSV and PNG files, other files there left alone; `folder/report` if None.

    Returns:
        `index.html`, one file that needs none of the others.

    Raises:
        UserError: there is no comparison, a file in it is spoilt, or nothing can be written.
    """
    return write_findings(find(load_comparison(folder)), out or folder / "report")


def write_findings(findings: Findings, out: Path) -> Path:
    """Write the report of findings into `out`, and return its `index.html`."""
    blocks = list(_blocks(findings, judge(findings)))
    pictures = [picture for block in blocks if isinstance(block, Pictures) for picture in block.pictures]
    title = _title(findings)
    with disk("write", out):
        out.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            (out / picture.name).write_bytes(picture.png)
        drawn = {picture.name for picture in pictures}
        for old in out.glob("curve-[0-9][0-9]*.png"):  # of a task that is no longer there
            if old.name not in drawn:
                old.unlink()
    for name, text in spreadsheets(findings).items():
        write_text(out / name, text)
    write_text(out / "report.md", to_markdown(title, blocks))
    write_text(out / "index.html", to_html(title, blocks))
    return out / "index.html"


def _title(findings: Findings) -> str:
    reference, *others = map(shown, findings.labels)
    return f"{TITLE}: {reference} and {listed(others)}" if others else f"{TITLE}: {reference}"


def _blocks(findings: Findings, verdict: Verdict) -> Iterator[Block]:
    yield Heading("Verdict", "verdict")
    yield from _verdict(verdict)
    yield Heading("Scores", "scores")
    yield from _scores(findings)
    yield from _curves(findings)
    yield from _aggregates(findings)
    yield from _goals(findings)
    yield from _costs(findings)
    yield from _missing(findings)
    yield Heading("How it was measured", "method")
    yield from _method(findings)
    yield Heading("Settings", "settings")
    yield from _settings(findings)
    yield Heading("Repeat it", "repeat")
    yield from _repeat(findings)


def _verdict(verdict: Verdict) -> Iterator[Block]:
    yield Lead(verdict.headlines)
    if verdict.together:
        yield Bullets(verdict.together)
    if verdict.caveats:
        yield Text("Keep in mind:")
        yield Bullets(verdict.caveats)
    if len(verdict.details) > 1:
        yield Folded(f"Task by task ({len(verdict.details)})", [Bullets(verdict.details)])
    elif verdict.details:
        yield Bullets(verdict.details)


def _scores(findings: Findings) -> Iterator[Block]:
    yield tables.pair_table(findings)
    yield Text(prose.SCORES + prose.CONTESTS if len(findings.labels) > 1 else prose.SCORES, note=True)
    if drawn := list(figures.draw_differences(findings)):
        yield Pictures(drawn)


def _curves(findings: Findings) -> Iterator[Block]:
    pictures: list[Picture] = []
    for number, task in enumerate(findings.tasks, 1):
        name = f"curve-{number:02}-{re.sub(r'[^A-Za-z0-9]+', '-', f'{task.env}-{task.algo}')[:60].strip('-')}"
        pictures += figures.draw_curve(findings, task, f"{name}-steps", seconds=False)
        pictures += figures.draw_curve(findings, task, f"{name}-seconds", seconds=True)
    if pictures:
        yield Heading("Learning curves", "curves")
        yield Text(prose.CURVES)
        yield Pictures(pictures)
        table = tables.learning_table(findings)
        if table.rows:
            yield Text(prose.LEARNING)
            yield table


def _aggregates(findings: Findings) -> Iterator[Block]:
    if not findings.sections:
        return
    yield Heading("All tasks together", "aggregates")
    yield Text(prose.AGGREGATES)
    yield tables.aggregate_table(findings)
    numbered = list(enumerate(findings.sections, 1))
    yield Pictures([one for n, part in numbered for one in figures.draw_aggregates(findings, part, f"aggregate-{n}")])
    yield Heading("Probability of improvement", "improvement")
    yield Text(prose.IMPROVEMENT)
    yield Pictures(list(figures.draw_improvement(findings)))
    yield Heading("Performance profiles", "profiles")
    yield Text(prose.PROFILES)
    yield Pictures([one for n, part in numbered for one in figures.draw_profiles(findings, part, f"profile-{n}")])


def _goals(findings: Findings) -> Iterator[Block]:
    table = tables.goal_table(findings)
    if not table.rows:
        return
    yield Heading("Sample efficiency and time to the goal", "goal")
    yield table
    yield Text(prose.GOALS, note=True)


def _costs(findings: Findings) -> Iterator[Block]:
    table = tables.cost_table(findings)
    if not table.rows:
        return
    yield Heading("Speed, time, memory, energy", "costs")
    pictures = [
        *figures.draw_costs(findings, "steps_per_s", "steps per second", "speed"),
        *figures.draw_costs(findings, "total_seconds", "seconds of a whole run", "time"),
    ]
    if pictures:
        yield Pictures(pictures)
    yield table
    yield Text(prose.COSTS + ("" if "energy J" in table.header else prose.NO_ENERGY), note=True)


def _missing(findings: Findings) -> Iterator[Block]:
    comparison = findings.comparison
    if not comparison.unfinished and not comparison.failures:
        return
    yield Heading("Failed and unfinished runs", "missing")
    if comparison.failures:
        rows = [[f.env, f.algo.upper(), shown(f.label), str(f.seed), f.error[:500]] for f in comparison.failures]
        yield Table(["environment", "algorithm", "side", "seed", "error"], rows, texts=5, wrapped=True)
    failed = {(failure.env, failure.algo, failure.label, failure.seed) for failure in comparison.failures}
    waiting = [key for key in comparison.unfinished if key not in failed]
    if waiting:
        count = f"{plural(len(waiting), 'run')} not finished."
        yield Text(f"{count} The command that began the comparison goes on where it stopped.")
        names = [f"{task_name(env, algo)}, {shown(label)}, seed {seed}" for env, algo, label, seed in waiting[:LISTED]]
        yield Bullets([*names, *([f"and {len(waiting) - LISTED} more"] if len(waiting) > LISTED else [])])


def _method(findings: Findings) -> Iterator[Block]:
    pairs = findings.comparison.pairs
    if pairs:
        yield Text(prose.METHOD)
        header = ["task", "settings", "steps", "seeds", "evaluated every", "episodes", "final episodes"]
        yield Table(header, [_protocol(pair) for pair in pairs], texts=2)
        yield Text(prose.HYPER, note=True)
    scales = {task.env: (task.scale, task.threshold) for task in findings.tasks if task.scale}
    if scales:
        rows = [
            [env, points(zero), points(one), "best side's mean" if threshold is None else "registered threshold"]
            for env, ((zero, one), threshold) in scales.items()
        ]
        yield Table(["environment", "0: random actions", "1: goal", "which is"], rows)
    if left := [pair for pair in pairs if pair.left_out]:
        yield Text("What SB3 went without, for want of an equivalent or of steps:")
        yield Bullets([f"{task_name(pair.env, pair.algo)}: {', '.join(pair.left_out)}" for pair in left])
    if findings.comparison.imported:
        yield Text(prose.IMPORTED)


def _protocol(pair: Pair) -> list[str]:
    counts = (pair.budget, len(pair.seeds), pair.eval_freq, pair.eval_episodes, pair.final_eval_episodes)
    return [task_name(pair.env, pair.algo), pair.hyper, *(f"{count:,}" for count in counts)]


def _settings(findings: Findings) -> Iterator[Block]:
    told = [pair for pair in findings.comparison.pairs if pair.settings]
    for pair in told:
        yield Folded(task_name(pair.env, pair.algo), [_compared(pair)])
    if not told:
        yield Text("Not known: these results were imported.")


def _compared(pair: Pair) -> Table:
    """Return the settings of all sides beside one another."""
    sides = {label: values if isinstance(values, dict) else {"": values} for label, values in pair.settings.items()}
    names = list(dict.fromkeys(str(name) for values in sides.values() for name in values))
    rows = [[name, *(_value(values[name]) if name in values else "" for values in sides.values())] for name in names]
    return Table(["setting", *map(shown, sides)], rows, texts=1 + len(sides), wrapped=True)


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _repeat(findings: Findings) -> Iterator[Block]:
    comparison = findings.comparison
    if comparison.commands:
        yield Text("The whole comparison (finished runs are kept; give another --out to train them again):")
        yield Code("\n".join(comparison.commands))
    if commands := [run.command for run in comparison.runs if run.command]:
        yield Folded(f"Run by run ({len(commands)})", [Code("\n".join(commands))])
    yield Text("This report, from the stored results:")
    yield Code(f"python -m agents.report {shlex.quote(str(comparison.folder))}")
    facts = {**comparison.machine, **comparison.versions}
    if facts:
        yield Text("Machine and versions:")
        rows = [[name, "-" if value is None else _value(value)] for name, value in facts.items()]
        yield Table(["what", "which"], rows, texts=2, wrapped=True)
    yield Text(f"Results from elsewhere join as a CSV file: python -m agents.report FOLDER --import FILE.csv. {SCHEMA}")
    yield Code(prose.EXAMPLE)
