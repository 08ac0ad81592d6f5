"""The same training with several seeds, one after the other, and what they reached together."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.core.signals import handling
from agents.run import runner
from agents.run.config import RunConfig
from agents.run.registry import title_of
from agents.run.sinks import ConsoleSink
from agents.run.summary import Summary, resume_command
from agents.run.terminal import typed


def train_seeds(config: RunConfig, count: int, argv: Sequence[str], *, quiet: bool, **how: Any) -> list[Summary]:
    """Train `count` runs, the first with the configuration's own seed and each later one with one more.

    A stop ends the run that it comes to, as `train` does, and begins no other.

    Args:
        argv: the flags of it all; those that train the seeds that are left follow from them.
        quiet, how: as `train` takes them.

    Raises:
        UserError: as `train`; a note says which seeds are left, and how to train them.
    """
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
    console = ConsoleSink(config.params.total_timesteps, quiet=quiet)
    console.final_table(*seeds_screen(config, count, argv, done))
    return done


def rest_command(argv: Sequence[str], seed: int, count: int) -> str:
    """Return the command that trains `count` seeds from `seed` on, and is otherwise that of `argv`."""
    kept: list[str] = []
    flags = ("--seed", "--seeds")
    for before, word in zip(["", *argv], argv, strict=False):
        if before not in flags and word.partition("=")[0] not in flags:
            kept.append(word)
    return typed("python", "-m", "agents.train", *kept, "--seed", seed, "--seeds", count)


def seeds_screen(
    config: RunConfig, count: int, argv: Sequence[str], done: Sequence[Summary]
) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return a title, a row for each run and for all together, and the commands to type next."""
    rows = {}
    for one in done:
        score = "stopped early" if one.eval_mean is None else f"{one.eval_mean:.1f} +- {one.eval_std:.1f}"
        rows[f"seed {one.seed}"] = f"{score}, {one.steps:,} steps: {one.run}"
    scores = np.array([one.eval_mean for one in done if one.eval_mean is not None], np.float64)
    if scores.size:
        rows["mean"] = f"{scores.mean():.1f} over {scores.size} seed{'s' if scores.size > 1 else ''}"
    if scores.size > 1:
        rows["spread"] = f"standard deviation {scores.std(ddof=1):.1f}, {scores.min():.1f} to {scores.max():.1f}"
    title, commands = f"{title_of(config.algo)} on {config.env}, {count} seed{'s' if count > 1 else ''}", {}
    if done[-1].interrupted:
        title += ", stopped early"
        commands["go on"] = resume_command(done[-1].run)
        if left := count - len(done):
            commands["the seeds left"] = rest_command(argv, done[-1].seed + 1, left)
    commands["list runs"] = typed("python", "-m", "agents.runs", "--runs-dir", Path(done[0].run).parent)
    commands["compare them"] = typed("python", "-m", "agents.compare", *(one.run for one in done))
    return title, rows, commands
