"""The same training with several seeds, one after the other or side by side, and what they reached together."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.core.signals import handling
from agents.run import runner
from agents.run.breaking import stop_signals
from agents.run.children import Child, ended_at_last, start_child
from agents.run.config import RunConfig
from agents.run.registry import title_of
from agents.run.sinks import ConsoleSink
from agents.run.summary import Summary, resume_command
from agents.run.terminal import typed
from envs.errors import UserError

INTERRUPTED = 130  # the exit code of a run that was stopped
POLL = 0.05  # seconds between two looks at the processes


def train_seeds(
    config: RunConfig, count: int, argv: Sequence[str], *, workers: int = 1, quiet: bool, **how: Any
) -> list[Summary]:
    """Train `count` runs, the first with the configuration's own seed and each later one with one more.

    A stop ends the runs that it comes to, as `train` does, and begins no other.

    Args:
        argv: the flags of it all; those that train the seeds that are left follow from them.
        workers: runs at a time; several are each in a process of its own.
        quiet, how: as `train` takes them.

    Raises:
        UserError: as `train`; a note says which seeds are left, and how to train them.
    """
    console = ConsoleSink(config.params.total_timesteps, quiet=quiet)
    if workers > 1:
        done = _side_by_side(config.seed, count, argv, min(workers, count), console)
    else:
        done = _one_by_one(config, count, argv, quiet=quiet, **how)
    console.final_table(*seeds_screen(config, count, argv, done))
    return done


def _one_by_one(config: RunConfig, count: int, argv: Sequence[str], *, quiet: bool, **how: Any) -> list[Summary]:
    done: list[Summary] = []
    with handling(signal.default_int_handler, signal.SIGTERM):  # between two runs; in a run it has its own
        for seed in range(config.seed, config.seed + count):
            left = config.seed + count - seed - 1
            try:
                done.append(runner.train(config.model_copy(update={"seed": seed}), quiet=quiet, **how))
            except BaseException as error:
                if left and (done or isinstance(error, KeyboardInterrupt)):
                    error.add_note(f"The seeds that were not begun: {rest_command(argv, seed + 1, left)}")
                raise
            if done[-1].interrupted:
                break
    return done


def _side_by_side(first: int, count: int, argv: Sequence[str], workers: int, console: ConsoleSink) -> list[Summary]:
    """Train the runs in processes, `workers` at a time; return what they reached, in the order of their seeds."""
    waiting, running, done = deque(range(first, first + count)), dict[int, Child](), dict[int, Summary]()
    words = [word for word in _without(argv, "--seed", "--seeds", "--workers") if word not in ("--json", "--quiet")]
    with tempfile.TemporaryDirectory() as place, stop_signals() as stop, ended_at_last(running):
        told = False
        while running or (waiting and not stop.is_set()):
            while waiting and len(running) < workers and not stop.is_set():
                seed = waiting.popleft()
                module = ["agents.train", *words, "--seed", str(seed), "--quiet", "--json"]
                with Path(place, f"{seed}.json").open("wb") as output:
                    running[seed] = start_child(module, Path(place, f"{seed}.txt"), workers, output=output)
            if stop.is_set() and not told:
                told = True
                for child in running.values():
                    child.process.send_signal(signal.SIGTERM)
            for seed in [seed for seed, child in running.items() if child.ended]:
                child = running.pop(seed)
                failed = "" if child.process.returncode == INTERRUPTED else child.failure()
                child.close()
                if failed:
                    raise UserError(f"seed {seed} {failed}")
                lines = Path(place, f"{seed}.json").read_text(encoding="utf-8").splitlines()
                if lines:  # none: it was stopped before it began
                    done[seed] = Summary(**json.loads(lines[-1]))
                    console.say(f"seed {seed}: {_row(done[seed])}")
            time.sleep(POLL)
    if not done:
        raise KeyboardInterrupt
    return [done[seed] for seed in sorted(done)]


def _without(argv: Sequence[str], *flags: str) -> list[str]:
    """Return words without some flags and their values."""
    kept: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        if before not in flags and word.partition("=")[0] not in flags:
            kept.append(word)
    return kept


def rest_command(argv: Sequence[str], seed: int, count: int) -> str:
    """Return the command that trains `count` seeds from `seed` on, and is otherwise that of `argv`."""
    kept = _without(argv, "--seed", "--seeds")
    return typed("python", "-m", "agents.train", *kept, "--seed", seed, "--seeds", count)


def _row(one: Summary) -> str:
    without = "stopped early" if one.interrupted else "not evaluated"
    score = without if one.eval_mean is None else f"{one.eval_mean:.1f} +- {one.eval_std:.1f}"
    return f"{score}, {one.steps:,} steps: {one.run}"


def seeds_screen(
    config: RunConfig, count: int, argv: Sequence[str], done: Sequence[Summary]
) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return a title, a row for each run and for all together, and the commands to type next."""
    rows = {f"seed {one.seed}": _row(one) for one in done}
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
        if left := config.seed + count - done[-1].seed - 1:
            commands["the seeds left"] = rest_command(argv, done[-1].seed + 1, left)
    commands["list runs"] = typed("python", "-m", "agents.runs", "--runs-dir", Path(done[0].run).parent)
    commands["compare them"] = typed("python", "-m", "agents.compare", *(one.run for one in done))
    return title, rows, commands
