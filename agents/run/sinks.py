"""Where scalars go: CSV files and the console. A sink knows tags and numbers, and no algorithm."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column, Table
from rich.text import Text

from agents.run.storage import disk, read_bytes, write_text
from agents.run.terminal import console as new_console
from envs.errors import UserError

Scalars = Mapping[str, float]
PERCENT = 4  # characters of 100%


class Sink(Protocol):
    """Takes `tag -> value` at a step (environment steps since the run began)."""

    def write(self, step: int, scalars: Scalars) -> None:
        """Take one row of scalars."""
        ...

    def close(self) -> None:
        """Flush, and free what is held."""
        ...


class CsvSink:
    """Writes one row per call, "step" first; a tag seen for the first time adds a column."""

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        """Begin a new file, or with `resume_step` go on with the one there, without its rows beyond that step."""
        self._path = path
        self._columns = ["step"]
        rows = self._read(resume_step) if resume_step is not None and path.exists() else []
        self._rewrite(rows)

    def write(self, step: int, scalars: Scalars) -> None:
        """Append a row; a tag that is missing leaves its cell empty."""
        row = {tag: repr(float(value)) for tag, value in scalars.items()} | {"step": str(step)}
        new = [tag for tag in scalars if tag not in self._columns]
        if new:
            self._stream.close()
            rows = self._read(None)
            self._columns += new
            self._rewrite(rows)
        with disk("write", self._path):
            self._writer.writerow(row)
            self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # every row was flushed, or its error was raised
            self._stream.close()

    def _read(self, last_step: int | None) -> list[dict[str, str]]:
        """Return the whole rows up to `last_step`; a torn last row is left out."""
        columns, rows = read_table(self._path)
        self._columns = columns or self._columns
        return [row for row in rows if last_step is None or int(row["step"]) <= last_step]

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        """Replace the file and open it for appending."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self._path, text.getvalue())
        with disk("write", self._path):
            self._stream = self._path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._stream, self._columns, lineterminator="\n")


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns of a `CsvSink`'s file and its whole rows; a torn last row is left out.

    Raises:
        UserError: it cannot be read, or is malformed.
    """
    text = read_bytes(path).decode(errors="replace")
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    try:
        if "step" not in (reader.fieldnames or ()):
            return [], []
        columns = list(dict.fromkeys(reader.fieldnames or ()))
        return columns, [row for row in reader if re.fullmatch("[0-9]{1,15}", row["step"] or "") and None not in row]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}. Take it away to go on without it") from error


def read_scalars(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the rows of a `CsvSink`'s file, if there is one: the step, and the numbers by tag.

    Raises:
        UserError: as `read_table`.
    """
    for row in read_table(path)[1] if path.exists() else ():
        scalars: dict[str, float] = {}
        for tag, cell in row.items():
            with suppress(ValueError, TypeError):
                scalars |= {tag: float(cell)} if cell and tag != "step" else {}
        yield int(row["step"]), scalars


class Working:
    """Shows how far a piece of work is, if it takes more than two seconds: a bar on a terminal, elsewhere plain lines.

    It is drawn only from within calls. Use it in a `with` statement, which takes the bar away at the end.
    """

    AFTER = 2.0  # seconds before it is shown

    def __init__(self, what: str, unit: str, console: Console, bar: Progress | None = None) -> None:
        """Say `what` is done and what it is counted in; `bar` is the one that the console shows already, if it does."""
        self._what, self._unit, self._console, self._bar = what, unit, console, bar
        self._began = self._shown = time.perf_counter()
        self._done: int | None = None  # when it was shown last
        self._own: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Working:
        return self

    def __call__(self, done: int, total: int) -> None:
        """Note that `done` of `total` are done, or of at most `total`."""
        now = time.perf_counter()
        if now - self._began < self.AFTER or self._console.quiet:
            return
        text, waited = f"{self._what}: {done:,} of {total:,} {self._unit}", now - self._shown
        if self._bar is not None or self._console.is_interactive:
            if self._bar is None:
                self._bar = self._own = _bar(self._console)
            if self._task is None:
                self._task = self._bar.add_task(text)
            elif waited < ConsoleSink.DRAW_EVERY:
                return
            self._bar.update(self._task, total=total, completed=done, description=text, refresh=True)
        else:
            long_ago = waited >= ConsoleSink.LINE_EVERY
            if self._done is not None and not (long_ago and done - self._done >= ConsoleSink.LINE_SHARE * total):
                return
            self._console.print(text)
        self._shown, self._done = now, done

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.stop()
        elif self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)


def _bar_width(console: Console) -> int:
    return 24 if console.width >= 80 else 8


def _bar(console: Console) -> Progress:
    """Return a bar that is drawn when it is told to, already on the screen."""
    width = _bar_width(console)
    columns = (
        BarColumn(bar_width=width, table_column=Column(min_width=width, no_wrap=True)),
        TaskProgressColumn(table_column=Column(min_width=PERCENT, no_wrap=True)),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
    )
    bar = Progress(*columns, console=console, auto_refresh=False)
    bar.start()
    return bar


class ConsoleSink:
    """A progress bar on a terminal; elsewhere a plain line now and then; with `quiet` nothing at all.

    The bar is drawn only from within `write`, a few times a second: a drawing thread would take time from training.
    """

    DRAW_EVERY = 0.2  # seconds between two drawings of the bar
    LINE_EVERY = 5.0  # seconds between two plain lines ...
    LINE_SHARE = 0.1  # ... or this part of the budget, whichever takes longer

    def __init__(
        self,
        total: int,
        *,
        quiet: bool = False,
        initial: int = 0,
        best: float | None = None,
        console: Console | None = None,
    ) -> None:
        """`total` is the budget in environment steps; a resumed run begins at step `initial` with evaluation `best`."""
        self.total, self.initial = total, initial
        self._console = console or new_console(quiet=quiet)
        self._began = self._drawn = time.perf_counter()
        self._step = self._line_step = initial
        self._last_return: float | None = None
        self._best = best
        self._bar: Progress | None = None
        in_notebook = self._console.is_jupyter and find_spec("ipywidgets") is not None
        if (self._console.is_interactive or in_notebook) and not quiet:
            self._bar = _bar(self._console)
            self._task = self._bar.add_task(self._status(initial), total=total, completed=initial)

    def write(self, step: int, scalars: Scalars) -> None:
        """Show how far the run is; `rollout/ep_rew_mean` and `eval/mean_reward` are the tags shown."""
        self._step = step
        self._last_return = scalars.get("rollout/ep_rew_mean", self._last_return)
        if "eval/mean_reward" in scalars:
            mean = scalars["eval/mean_reward"]
            self._best = mean if self._best is None else max(self._best, mean)
        now = time.perf_counter()
        if self._bar is not None:
            if now - self._drawn >= self.DRAW_EVERY:
                self._drawn = now
                self._draw(self._bar)
        elif now - self._drawn >= self.LINE_EVERY and step - self._line_step >= self.LINE_SHARE * self.total:
            self._drawn, self._line_step = now, step
            self.say(self._status(step))

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        self._console.print(line)

    def working(self, what: str, unit: str) -> Working:
        """Return what shows how far something else than the training is."""
        return Working(what, unit, self._console, self._bar)

    def close(self) -> None:
        """Draw the bar for the last time."""
        if self._bar is not None:
            self._draw(self._bar)
            self._bar.stop()
            self._bar = None

    def final_table(self, title: str, rows: Mapping[str, str], commands: Mapping[str, str]) -> None:
        """Print the last screen: what was reached, and the commands to type next (what for -> command)."""
        self.close()
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column()
        table.add_column(overflow="fold")  # a path must stay whole
        for name, value in rows.items():
            table.add_row(name, value)
        self._console.print(table)
        width = max(map(len, commands), default=0)
        for purpose, command in commands.items():
            self._console.print(Text.assemble(f"  {purpose:{width}}  ", (command, "bold")))

    def _draw(self, bar: Progress) -> None:
        bar.update(self._task, completed=self._step, description=self._status(self._step), refresh=True)

    def _status(self, step: int) -> str:
        """Return what is said of a step; where the bar leaves no room for all of it, the least of it is left out."""
        speed = (step - self.initial) / max(time.perf_counter() - self._began, 1e-9)
        parts = {"steps": f"{step:,}/{self.total:,} steps"}
        if step > self.initial:
            left = duration(max(self.total - step, 0) / speed)
            parts |= {"speed": f"{speed:,.0f} steps/s", "left": f"{left} left"}
        if self._last_return is not None:
            parts["return"] = f"return {self._last_return:.1f}"
        if self._best is not None:
            parts["best"] = f"best evaluation {self._best:.1f}"
        room = self._console.width - _bar_width(self._console) - PERCENT - 2  # with a space after each
        for least in ("speed", "best", "left", "return") if self._bar is not None else ():
            if len(" · ".join(parts.values())) > room:
                parts.pop(least, None)
        return " · ".join(parts.values())


def duration(seconds: float) -> str:
    """Write a time as `h:mm:ss`, or `m:ss` below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
