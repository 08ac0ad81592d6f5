"""The same training with several seeds, in one process or several that share them, and what they reached together."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Sequence
from itertools import count as numbers
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.core.signals import handling
from agents.learning.results import Diverged
from agents.run import runner
from agents.run.breaking import stop_signals
from agents.run.children import Child, ended_at_last, start_child
from agents.run.config import RunConfig
from agents.run.flags import without
from agents.run.memory import free_bytes
from agents.run.registry import title_of
from agents.run.shared import SharedSeeds
from agents.run.sinks import ConsoleSink
from agents.run.storage import within
from agents.run.summary import Summary, resume_command
from agents.run.terminal import typed
from agents.run.training import Training
from envs.errors import UserError
from envs.processes import cores

POLL = 0.05  # seconds between two looks at the processes
ROOM = 2  # times the memory that all trainings together store data in, which must be free for them


def train_seeds(
    config: RunConfig,
    count: int,
    argv: Sequence[str],
    *,
    workers: int | None = None,
    beside: Path | None = None,
    quiet: bool,
    **how: Any,
) -> tuple[list[Summary], UserError | None]:
    """Train `count` runs, the first with the configuration's own seed and each later one with one more.

    A process trains one run after the other, so that what it imports and prepares serves all of them. Each run is the
    one that it would be alone, bit for bit. One that diverges, or fails when others have ended well, leaves the others
    be, and is said at the end. A stop ends the runs that it comes to, as `train` does, and begins no other.

    Args:
        argv: the flags of it all; those of the processes, and those that train the seeds that are left, follow from
            them.
        workers: runs at a time, each in a process of its own, of which this is one; None for as many as there are
            cores if a run takes no more than one.
        beside: the folder in which another process, which has begun this one, shares its seeds.
        quiet, how: as `train` takes them.

    Returns:
        The summaries of those that came to their end, and an error that says which failed, if some did.

    Raises:
        UserError: as `train`. A note says which seeds are left, and how to train them.
    """
    every = range(config.seed, config.seed + count)
    if beside is not None:
        _take_and_train(config, SharedSeeds(beside, every), quiet=quiet, **how)
        return [], None
    console = ConsoleSink(config.params.total_timesteps, quiet=quiet)
    with tempfile.TemporaryDirectory() as place:
        seeds, helpers = SharedSeeds(Path(place), every), Helpers(Path(place), argv, console)
        with ended_at_last(helpers.running):
            try:
                if workers is None:
                    how["on_start"] = lambda run: helpers.start(*useful(run.training, count))
                else:
                    torch.set_num_threads(min(torch.get_num_threads(), max(cores() // workers, 1)))  # as in the others
                    helpers.start(min(workers, count))
                _take_and_train(config, seeds, quiet=quiet, **how)
                helpers.wait(seeds)
            except BaseException as error:
                if seeds.done() or isinstance(error, KeyboardInterrupt):
                    for command in rest_commands(argv, seeds.left()):
                        error.add_note(f"The seeds that were not begun: {command}")
                raise
        done, failed = seeds.done(), seeds.failed()
        if done:
            console.final_table(*seeds_screen(config, count, argv, done, failed, seeds.left()))
    return done, _failure(failed, count) if failed else None


def _take_and_train(config: RunConfig, seeds: SharedSeeds, **how: Any) -> None:
    """Train seeds that nobody has taken, one after the other, until none is left or a stop comes."""
    with handling(signal.default_int_handler, signal.SIGTERM):  # between two runs; in a run it has its own
        while (seed := seeds.take()) is not None:
            try:
                summary = runner.train(config.model_copy(update={"seed": seed}), **how)
            except UserError as error:
                if not isinstance(error, Diverged) and not seeds.done():
                    raise  # the settings are wrong for all
                seeds.fail(seed, error)
                continue
            seeds.end(summary)
            if summary.interrupted:
                return


def useful(training: Training, count: int) -> tuple[int, str]:
    """Return how many runs like this one it pays to train at a time, of `count`, and why no more; "" for no reason."""
    most, free = min(cores(), count), free_bytes(torch.device("cpu"))
    obstacles = {
        "it computes on a GPU": training.policy.device.type != "cpu",
        "its updates take several threads": torch.get_num_threads() > 1,
        "its environments take other cores": training.env.overlaps,
        "memory is short": free is not None and ROOM * most * training.data_bytes > free,
    }
    why = next((why for why, is_so in obstacles.items() if is_so), "")
    return (1, why) if why else (most, "")


class Helpers:
    """Processes beside this one that take seeds, too.

    Args:
        place: the folder in which seeds are shared.
        argv: the command's flags.
        console: where what happens is said.

    Attributes:
        running: those that have not ended.
    """

    def __init__(self, place: Path, argv: Sequence[str], console: ConsoleSink) -> None:
        self.running: dict[int, Child] = {}
        self._words = [word for word in without(argv, "--workers") if word not in ("--json", "--quiet")]
        self._place, self._console, self._started = place, console, False
        self._here = Path.cwd()

    def start(self, workers: int, why: str = "") -> None:
        """The first time, start as many as make `workers` with this process, and say so, or why there are no more."""
        if self._started:
            return
        self._started = True
        module = ["agents.train", *self._words, "--quiet", "--beside", str(self._place)]
        with within(self._here):  # where the command began, and not where an environment has led this process since
            for index in range(workers - 1):
                self.running[index] = start_child(module, self._place / f"errors-{index}.txt", workers)
        if workers > 1:
            self._console.say(f"{workers} seeds at a time, a process each (--workers 1: one after the other)")
        elif why:
            self._console.say(f"one seed after the other, as {why} (--workers N: N at a time)")

    def wait(self, seeds: SharedSeeds) -> None:
        """Wait until they or all seeds have ended, and note the seeds of those that died; a stop goes on to them."""
        with stop_signals() as stop:
            told = False
            if any(one.interrupted for one in seeds.done()):
                stop.set()
            while self.running:
                if stop.is_set() and not told:
                    told = True
                    for child in self.running.values():
                        child.process.send_signal(signal.SIGTERM)
                for index in [index for index, child in self.running.items() if child.ended]:
                    self._end(self.running.pop(index), seeds, told)
                if seeds.all_ended():
                    return
                time.sleep(POLL)

    def _end(self, child: Child, seeds: SharedSeeds, stopped: bool) -> None:
        failure, seed = child.failure(), seeds.abandoned(child.process.pid)
        child.close()
        if stopped and seed is not None:
            seeds.release(seed)
        elif failure and seed is not None:
            seeds.fail(seed, UserError(f"its process {failure}"))
        elif failure and not stopped:
            self._console.say(f"a process that had no seed {failure}")


def _failure(failed: dict[int, list[str]], count: int) -> UserError:
    """Return an error that says what failed first."""
    (seed, (said, *notes)) = next(iter(failed.items()))
    which = f"seed {seed} failed" if len(failed) == 1 else f"{len(failed)} of {count} seeds failed; the first, {seed}"
    error = UserError(f"{which}: {said}")
    for note in notes:
        error.add_note(note)
    return error


def rest_command(argv: Sequence[str], seed: int, count: int) -> str:
    """Return the command that trains `count` seeds from `seed` on, and is otherwise that of `argv`."""
    kept = without(argv, "--seed", "--seeds")
    return typed("python", "-m", "agents.train", *kept, "--seed", seed, "--seeds", count)


def rest_commands(argv: Sequence[str], left: Sequence[int]) -> list[str]:
    """Return the commands that train these seeds, one for all that follow one another."""
    firsts = [seed for seed in left if seed - 1 not in left]
    return [rest_command(argv, seed, next(n for n in numbers(1) if seed + n not in left)) for seed in firsts]


def _row(one: Summary) -> str:
    without = "stopped early" if one.interrupted else "not evaluated"
    score = without if one.eval_mean is None else f"{one.eval_mean:.1f} +- {one.eval_std:.1f}"
    return f"{score}, {one.steps:,} steps: {one.run}"


def seeds_screen(
    config: RunConfig,
    count: int,
    argv: Sequence[str],
    done: Sequence[Summary],
    failed: dict[int, list[str]],
    left: Sequence[int],
) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return a title, a row for each run and for all together, and the commands to type next."""
    rows = {f"seed {one.seed}": _row(one) for one in done}
    rows |= {f"seed {seed}": f"failed: {said}" for seed, (said, *_) in failed.items()}
    scores = np.array([one.eval_mean for one in done if one.eval_mean is not None], np.float64)
    if scores.size:
        rows["mean"] = f"{scores.mean():.1f} over {scores.size} seed{'s' if scores.size > 1 else ''}"
    if scores.size > 1:
        rows["spread"] = f"standard deviation {scores.std(ddof=1):.1f}, {scores.min():.1f} to {scores.max():.1f}"
    title, commands = f"{title_of(config.algo)} on {config.env}, {count} seed{'s' if count > 1 else ''}", {}
    if stopped := [one for one in done if one.interrupted]:
        title += ", stopped early"
        for one in stopped:
            name = "go on" if len(stopped) == 1 else f"go on, seed {one.seed}"
            commands[name] = resume_command(one.run)
    rest = rest_commands(argv, left)
    commands |= {"the seeds left" + (f", {index + 1}" if len(rest) > 1 else ""): one for index, one in enumerate(rest)}
    commands["list runs"] = typed("python", "-m", "agents.runs", "--runs-dir", Path(done[0].run).parent)
    return title, rows, commands
