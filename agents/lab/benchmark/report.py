"""A benchmark's results: a JSON document, kept in a file, and tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.lab.benchmark.case import Case, Plan
from agents.lab.benchmark.rounds import Result, baseline_of, by_case, ratio
from agents.lab.words import number, plural
from agents.run.folder import versions
from agents.run.storage import disk, write_text
from agents.run.terminal import typed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

METHOD = (
    "Each run is a process of its own; a round runs each program of a case once. Medians; min to max over the runs.",
    "steps/s: training alone, over the last nine tenths of its steps. Ours writes its curves meanwhile, SB3 nothing.",
    "Threads: ours chooses by itself. SB3 runs as --threads says; the better of its rows is the baseline.",
)


class Report:
    """Gathers results, keeps them on disk as they come, and shows them.

    Attributes:
        interrupted: whether the rounds were broken off.
    """

    def __init__(self, plan: Plan, machine: dict[str, Any], left_out: Sequence[str], folder: Path) -> None:
        """Make `folder`.

        Raises:
            UserError: it cannot be made.
        """
        self.plan, self.machine, self.left_out, self.folder = plan, machine, list(left_out), folder
        self.interrupted = False
        self.versions = versions()
        self.date = datetime.now().astimezone().isoformat(timespec="seconds")
        self.results: dict[tuple[str, str], Result] = {}
        with disk("create", folder):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def failed(self) -> bool:
        """Whether any program failed."""
        return any(result.errors for result in self.results.values())

    def add(self, result: Result) -> str:
        """Take in a result that grew, write `bench.json` anew, and say in one line what the latest run reached."""
        case, latest = result.case, result.outcomes[-1]
        self.results[case.name, result.program.name] = result
        self.save_document()
        if not isinstance(latest, str):
            latest = f"{number(latest[case.measure.key], short=True)} {case.measure.unit}"
        return f"{case.name} {len(result.outcomes)}/{case.repeats}, {result.program.name}: {latest}"

    def to_json(self) -> dict[str, Any]:
        """Return everything: what was asked, where it was measured, and case by case what was reached, run by run."""
        cases = {case.name: _case(case, group) for case, group in by_case(self.results.values())}
        plan = {name: getattr(self.plan, name) for name in ("quick", "rounds", "seeds", "threads")}
        facts = {"machine": self.machine, "versions": self.versions, "method": METHOD, "left_out": self.left_out}
        return {"date": self.date, "interrupted": self.interrupted, **plan, **facts, "cases": cases}

    def save_document(self) -> None:
        """Write `bench.json`."""
        write_text(self.folder / "bench.json", json.dumps(self.to_json(), indent=1) + "\n")

    def _where(self) -> str:
        machine = self.machine
        gpu = machine.get("gpu") or "no GPU"
        memory = "" if machine["memory_gb"] is None else f"{machine['memory_gb']:.0f} GB, "
        return f"{machine['cpu']}, {machine['usable']} cores, {memory}{gpu}"

    def show(self, console: Console) -> None:
        """Print the tables and where they were measured."""
        for case, group in by_case(self.results.values()):
            _print_case(console, case, group)
        _print_phases(console, self.results.values())
        packages = ("torch", "gymnasium", "stable-baselines3", "numpy")
        named = ", ".join(f"{package} {self.versions[package]}" for package in packages)
        load = "" if self.machine["load"] is None else f", load {self.machine['load']} at the start"
        console.print(f"\n{self._where()}{load}")
        console.print(f"Python {self.versions['python']}, {named}; {self.date}")
        console.print("\n".join(METHOD), style="dim")
        if self.left_out:
            console.print(f"left out: {', '.join(self.left_out)}")
        if self.interrupted:
            console.print("interrupted: what was measured until then is above", style="bold")
        console.print(f"results: {self.folder}")


def _case(case: Case, group: Sequence[Result]) -> dict[str, Any]:
    baseline = baseline_of(group)
    return {
        "title": case.title,
        "measure": case.measure.key,
        "higher_is_better": case.measure.higher_is_better,
        "target": case.target,
        "baseline": None if baseline is None else baseline.program.name,
        "results": [
            {
                "name": result.program.name,
                "command": typed(*result.program.command),
                "variables": result.program.variables,
                "median": result.median(),
                "min": min(result.values, default=None),
                "max": max(result.values, default=None),
                "ratio": ratio(result, baseline),
                "solved": None if case.target is None else result.solved,
                "peak_mb": result.median("peak_mb"),
                "threads": result.median("threads"),
                "runs": result.runs,
                "errors": result.errors,
            }
            for result in group
        ],
    }


def _table(first_width: int, headings: dict[str, int]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", width=first_width)
    for heading, least in headings.items():
        table.add_column(heading, justify="right", min_width=least)
    return table


def _headed(name: str, rest: str) -> Text:
    """Return a line that begins a part."""
    from rich.text import Text

    return Text.assemble("\n", (name, "bold"), rest)


def _print_case(console: Console, case: Case, group: Sequence[Result]) -> None:
    """Print a line for each program, and beneath them what else there is to say."""
    table = _table(21, {case.measure.unit: 9, "min to max": 18, "better": 8, "peak MB": 7, "threads": 7})
    notes, baseline = [], baseline_of(group)
    for result in group:
        name = result.program.name
        table.add_row(name, *_cells(result, baseline))
        if case.target is not None and result.runs:
            scores = ", ".join(f"{run['eval_mean']:.0f}" for run in result.runs)
            notes.append(f"{name}: {result.solved} of {len(result.runs)} solved ({scores})")
        notes += [f"{name}: {error}" for error in dict.fromkeys(result.errors)]
    console.print(_headed(case.name, f": {case.title}"))
    console.print(table)
    for note in notes:
        console.print(f"  {note}")


def _cells(result: Result, baseline: Result | None) -> list[str]:
    values, median, better = result.values, result.median(), ratio(result, baseline)
    if median is None:
        return ["failed"]
    times = "baseline" if result is baseline else "" if better is None else f"{number(better, short=True)}x"
    spread = " to ".join(number(of(values), short=True) for of in (min, max)) if len(values) > 1 else ""
    others = (result.median("peak_mb"), result.median("threads"))
    return [number(median, short=True), spread, times, *("" if one is None else f"{one:,.0f}" for one in others)]


def _print_phases(console: Console, results: Iterable[Result]) -> None:
    """Print the share of each phase in the part of a training that steps/s is measured over.

    Runs whose shares are not true are told apart.
    """
    results = list(results)
    timed = [(result, [run["phases"] for run in result.runs if "phases" in run]) for result in results]
    names = list(dict.fromkeys(phase for _, runs in timed for shares in runs for phase in shares))
    names = sorted(names, key=lambda phase: phase == "rest")
    table = _table(28, dict.fromkeys(names, 5))
    for result, runs in timed:
        if runs:
            means = [sum(shares.get(phase, 0.0) for shares in runs) / len(runs) for phase in names]
            table.add_row(f"{result.case.name}, {result.program.name}", *(f"{100 * mean:.0f}" for mean in means))
    if table.row_count:
        console.print(_headed("where our time goes", ", in percent, over the same part of the steps as steps/s"))
        console.print(table)
    for result in results:
        for fault in dict.fromkeys(run["refused"] for run in result.runs if "refused" in run):
            console.print(f"  {result.case.name}, {result.program.name}: not shown where its time goes: {fault}")


def print_cases(console: Console, cases: Sequence[Case], left_out: Sequence[str]) -> None:
    """Print what would be measured, and the command line of each program."""
    for case in cases:
        lacks = "" if case.missing is None else f"; it {case.missing}"
        console.print(_headed(case.name, f"  {case.title}, {case.measure.unit}, {plural(case.repeats, 'time')}{lacks}"))
        for program in case.programs:
            variables = " ".join(f"{name}={value}" for name, value in program.variables.items())
            line = f"{variables} {typed(*program.command)}".strip()
            console.print(f"  {program.name}: {line}")
    if left_out:
        console.print(f"\nleft out: {', '.join(left_out)}")
