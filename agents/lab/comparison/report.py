"""A comparison's report for reading: one HTML page, the same as Markdown, its pictures and its numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.lab.comparison import figures, tables
from agents.lab.comparison.analysis import Findings, analyse
from agents.lab.comparison.curves import SCHEMA
from agents.lab.comparison.results import import_files, load_results
from agents.lab.comparison.verdict import Verdict, make_verdict, print_verdict
from agents.lab.document import Document, Picture, Table
from agents.lab.words import number, plural, printable, shown, task_name
from agents.run.registry import title_of
from agents.run.storage import disk, write_text
from agents.run.terminal import typed
from envs.errors import listed

if TYPE_CHECKING:
    from rich.console import Console

Part = Callable[[Document, Findings], None]
LISTED = 40  # unfinished runs, and diagnoses, that are named
EXAMPLE = """\
env,algo,library,seed,step,return,time
CartPole-v1,ppo,mine,0,10000,312.5,4.2
CartPole-v1,ppo,mine,0,20000,487.0,8.1"""


def report(folder: Path, out: Path, files: Sequence[Path], console: Console) -> dict[str, Any]:
    """Write the report of the comparison in `folder`, with further results from CSV `files`, and print its verdict.

    Returns:
        The path of the `report`, the verdict, and how many runs are `finished`, `unfinished` and have `failed`.

    Raises:
        UserError: there is no comparison, a file in it is spoilt, or nothing can be written.
    """
    import_files(folder, files)
    results = load_results(folder)
    page, verdict = write_report(analyse(results), out)
    print_verdict(console, verdict, page)
    counts = {"finished": results.runs, "unfinished": results.unfinished, "failed": results.failures}
    return {"report": str(page), **asdict(verdict), **{name: len(runs) for name, runs in counts.items()}}


def write_report(findings: Findings, out: Path, origin: Part | None = None) -> tuple[Path, Verdict]:
    """Write the report of findings into `out`; return its `index.html`, which needs nothing else, and its verdict.

    `origin` adds how the runs came about: without it, they were trained by this comparison.

    Raises:
        UserError: something cannot be written. Other files in `out` are left alone.
    """
    verdict, (reference, *others) = make_verdict(findings), map(shown, findings.labels)
    document = Document(f"Comparison: {reference} and {listed(others)}" if others else f"Comparison: {reference}")
    _verdict(document, verdict)
    _scores(document, findings)
    _curves(document, findings)
    if findings.sections:
        _aggregates(document, findings)
    _goals(document, findings)
    _costs(document, findings)
    _doctor(document, findings)
    _missing(document, findings)
    for part in (_method, _settings, _repeat) if origin is None else (origin,):
        part(document, findings)
    with disk("write", out):
        out.mkdir(parents=True, exist_ok=True)
        for picture in document.pictures:
            (out / picture.name).write_bytes(picture.png)
        names = {picture.name for picture in document.pictures}
        for old in out.glob("curve-[0-9][0-9]*.png"):  # of a task that is no longer there
            if old.name not in names:
                old.unlink()
    files = {**tables.csv_files(findings), "report.md": document.markdown(), "index.html": document.html()}
    for name, text in files.items():
        write_text(out / name, text)
    return out / "index.html", verdict


def _verdict(document: Document, verdict: Verdict) -> None:
    document.heading("Verdict", "verdict")
    document.lead(verdict.headlines)
    if verdict.together:
        document.bullets(verdict.together)
    if len(verdict.details) == 1:
        document.bullets(verdict.details)
    if verdict.caveats:
        document.text("Keep in mind:")
        document.bullets(verdict.caveats)
    if len(verdict.details) > 1:
        with document.folded(f"Task by task ({len(verdict.details)})"):
            document.bullets(verdict.details)


def _scores(document: Document, findings: Findings) -> None:
    text = """
A score is the mean return of a run's final greedy evaluation; mean ± standard deviation over seeds.
"""
    compared = """
Difference: the first side less the other, with Welch's t interval. The verdict goes by Holm's p, which allows for the
number of tasks, so an interval that just leaves out 0 may not be enough. Detectable: the smallest true difference
that so many seeds with this spread would show in four tries of five. Filled marks: differences that may be claimed.
"""
    document.heading("Scores", "scores")
    document.table(tables.score_table(findings))
    document.text(text + compared if len(findings.labels) > 1 else text, note=True)
    if pictures := list(figures.draw_differences(findings)):
        document.show_pictures(pictures)


def _curves(document: Document, findings: Findings) -> None:
    pictures: list[Picture] = []
    for count, task in enumerate(findings.tasks, 1):
        name = f"curve-{count:02}-{re.sub(r'[^A-Za-z0-9]+', '-', f'{task.env}-{task.algo}')[:60].strip('-')}"
        pictures += figures.draw_curve(findings, task, f"{name}-steps", seconds=False)
        pictures += figures.draw_curve(findings, task, f"{name}-seconds", seconds=True)
    if not pictures:
        return
    document.heading("Learning curves", "curves")
    document.text("""
Mean return of the evaluations during training; the band reaches from the worst seed to the best. Seconds are those of
training alone, without evaluations.
""")
    document.show_pictures(pictures)
    if (table := tables.learning_table(findings)).rows:
        document.text("""
The same over the whole of training: each number is the mean height of a run's curve, over the steps that both sides'
curves cover. It is higher for who learns sooner, and tells two curves apart that end at the same score.
""")
        document.table(table)


def _aggregates(document: Document, findings: Findings) -> None:
    numbered = list(enumerate(findings.sections, 1))
    document.heading("All tasks together", "aggregates")
    document.text("""
Scores are normalised first: 0 is what random actions reach, 1 the environment's registered threshold, or the best
side's mean where none is registered. The interquartile mean (IQM) is the mean of the middle half of all runs; the
optimality gap is by how much runs miss 1 on average. Intervals are 95% stratified bootstrap intervals over seeds
(Agarwal et al. 2021); with few seeds they are rather too narrow.
""")
    document.table(tables.aggregate_table(findings))
    document.show_pictures([figures.draw_aggregates(findings, one, f"aggregate-{n}") for n, one in numbered])
    document.heading("Probability of improvement", "improvement")
    document.text("""
How probable it is that a run of one side, drawn blindly, beats a run of the other on the same task; 50% is a tie.
""")
    document.show_pictures([figures.draw_improvement(findings)])
    document.heading("Performance profiles", "profiles")
    document.text("""
Which part of the runs scores above each level: the higher curve is better, where the two do not cross.
""")
    document.show_pictures([figures.draw_profiles(findings, one, f"profile-{n}") for n, one in numbered])


def _goals(document: Document, findings: Findings) -> None:
    if not (table := tables.goal_table(findings)).rows:
        return
    document.heading("Sample efficiency and time to the goal", "goal")
    document.table(table)
    document.text(
        """
The goal is the registered threshold. Reached: at the first evaluation during training at or above it. Steps and
seconds are medians over all seeds, those that never reached it counted as later than any; training alone, without
evaluations.
* None is registered: 90% of the way from random play to the best side's mean.
""",
        note=True,
    )


def _costs(document: Document, findings: Findings) -> None:
    if not (table := tables.cost_table(findings)).rows:
        return
    document.heading("Speed, time, memory", "costs")
    pictures = [
        *figures.draw_costs(findings, "steps_per_s", "steps per second", "speed"),
        *figures.draw_costs(findings, "total_seconds", "seconds of a whole run", "time"),
    ]
    if pictures:
        document.show_pictures(pictures)
    document.table(table)
    text = """
Medians over seeds; in the pictures a line reaches from the lowest seed to the highest. Training: without evaluations.
A whole run: from process start to end, evaluations too.
"""
    document.text(text, note=True)


def _doctor(document: Document, findings: Findings) -> None:
    told = [(run.key, found) for run in findings.results.runs for found in run.diagnoses]
    if not told:
        return
    document.heading("What the doctor said", "doctor")
    rows = [
        [task_name(key.env, key.algo), shown(key.label), str(key.seed), f"{found.step:,}"]
        + [printable(text) for text in (found.illness, found.evidence, found.fix)]
        for key, found in told[:LISTED]
    ]
    names = ["task", "side", "seed", "step", "illness", "seen by", "to try"]
    document.table(Table(names, rows, texts=7, wrapped=True))
    if len(told) > LISTED:
        document.text(f"And {len(told) - LISTED:,} more, in the runs' doctor.jsonl.")


def _missing(document: Document, findings: Findings) -> None:
    failures, unfinished = findings.results.failures, findings.results.unfinished
    if not unfinished and not failures:
        return
    document.heading("Failed and unfinished runs", "missing")
    if failures:
        rows = [[f.env, title_of(f.algo), shown(f.label), str(f.seed), f.error[:500]] for f in failures]
        document.table(Table(["environment", "algorithm", "side", "seed", "error"], rows, texts=5, wrapped=True))
    failed = {failure.key for failure in failures}
    if waiting := [key for key in unfinished if key not in failed]:
        count = f"{plural(len(waiting), 'run')} not finished."
        document.text(f"{count} The command that began the comparison goes on where it stopped.")
        names = [f"{task_name(env, algo)}, {shown(label)}, seed {seed}" for env, algo, label, seed in waiting[:LISTED]]
        document.bullets([*names, *([f"and {len(waiting) - LISTED} more"] if len(waiting) > LISTED else [])])


def _method(document: Document, findings: Findings) -> None:
    document.heading("How it was measured", "method")
    if stored := findings.results.comparison.pairs:
        but = f"but {listed([*map(shown, findings.models)])} " if findings.models else ""
        document.text(f"""
All sides {but}train on the same environments for the same number of steps. Evaluations are played in environments of
their own, whose seeds are the same for all sides, with the most likely action, and count raw rewards. Every comparison
is over seeds: a run is one number, however many its episodes.
""")
        header = ["task", "settings", "steps", "seeds", "evaluated every", "episodes", "final episodes"]
        rows = []
        for task in stored:
            counts = (task.budget, len(task.seeds), task.eval_freq, task.eval_episodes, task.final_eval_episodes)
            rows.append([task_name(task.env, task.algo), task.hyper, *(f"{count:,}" for count in counts)])
        document.table(Table(header, rows, texts=2))
        document.text(
            """
Settings "tuned": each side with the best that are published for it; "same": ours, translated into the other side's
arguments.
""",
            note=True,
        )
    if scales := {task.env: (task.scale, task.threshold) for task in findings.tasks if task.scale}:
        rows = [
            [env, number(zero), number(one), "best side's mean" if threshold is None else "registered threshold"]
            for env, ((zero, one), threshold) in scales.items()
        ]
        document.table(Table(["environment", "0: random actions", "1: goal", "which is"], rows))
    if left := [task for task in stored if task.left_out]:
        document.text("What SB3 went without, for want of an equivalent or of steps:")
        document.bullets([f"{task_name(task.env, task.algo)}: {', '.join(task.left_out)}" for task in left])
    if findings.results.imported:
        document.text("""
Imported curves come from elsewhere: how they were measured is not known here, and their score is the last point of
the curve.
""")


def _settings(document: Document, findings: Findings) -> None:
    document.heading("Settings", "settings")
    stored = [task for task in findings.results.comparison.pairs if task.settings]
    for task in stored:
        with document.folded(task_name(task.env, task.algo)):
            sides = {
                label: values if isinstance(values, dict) else {"": values} for label, values in task.settings.items()
            }
            document.table(settings_table(sides))
    if not stored:
        document.text("Not known: these results were imported.")


def settings_table(sides: Mapping[str, Mapping[str, Any]], differing: bool = False) -> Table:
    """Return the settings of all sides beside one another; with `differing`, only where two have other values."""
    names = list(dict.fromkeys(str(name) for values in sides.values() for name in values))
    rows = [[name, *(_value(values[name]) if name in values else "" for values in sides.values())] for name in names]
    rows = [row for row in rows if not differing or len(set(row[1:]) - {""}) > 1]
    return Table(["setting", *map(shown, sides)], rows, texts=1 + len(sides), wrapped=True)


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _repeat(document: Document, findings: Findings) -> None:
    results = findings.results
    document.heading("Repeat it", "repeat")
    if results.comparison.commands:
        document.text("The whole comparison (finished runs are kept; give another --out to train them again):")
        document.code("\n".join(results.comparison.commands))
    if commands := [run.command for run in results.runs if run.command]:
        with document.folded(f"Run by run ({len(commands)})"):
            document.code("\n".join(commands))
    document.text("This report, from the stored results:")
    document.code(typed("python", "-m", "agents.report", results.folder))
    if facts := {**results.comparison.machine, **results.comparison.versions}:
        document.text("Machine and versions:")
        rows = [[name, "-" if value is None else _value(value)] for name, value in facts.items()]
        document.table(Table(["what", "which"], rows, texts=2, wrapped=True))
    document.text(
        f"Results from elsewhere join as a CSV file: python -m agents.report FOLDER --import FILE.csv. {SCHEMA}"
    )
    document.code(EXAMPLE)
