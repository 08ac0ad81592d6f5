"""What a run reached, as `summary.json` holds it and as the last screen says it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.run.registry import title_of
from agents.run.terminal import typed
from agents.run.yaml_files import parse_value


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run reached; `solved` is None where the environment has no threshold and no target was set.

    `wall_s` counts evaluations and checkpoints until the end of training, `train_s` does not. `total_s` counts all
    until the summary is written; of it all evaluations took `eval_s`, and recordings `record_s`. `eval_cut` counts the
    episodes of the final evaluation that were cut, None where it had no limit. `first_step` is the step that the run
    began at: later than 0 where it went on with a model that had learnt before.
    """

    run: str
    env: str
    algo: str
    seed: int
    steps: int
    wall_s: float
    train_s: float
    steps_per_s: float
    eval_mean: float | None
    eval_std: float | None
    eval_episodes: int
    eval_cut: int | None
    solved: bool | None
    interrupted: bool
    eval_s: float
    record_s: float
    total_s: float
    first_step: int = 0


def resume_command(run: Path | str) -> str:
    """Return the command that goes on with a run."""
    return typed("python", "-m", "agents.train", "--resume", run)


def env_flags(env: str, env_kwargs: Mapping[str, Any], wrappers: Sequence[Any]) -> list[str]:
    """Return the words of a command that say which environment is meant."""
    words = ["--env", env]
    if env_kwargs:
        words += ["--env-kwargs", *(f"{key}={_as_word(value)}" for key, value in env_kwargs.items())]
    return [*words, "--wrappers", *map(_as_word, wrappers)] if wrappers else words


def _as_word(value: Any) -> str:
    """Write a value so that `parse_value` reads the same."""
    return value if isinstance(value, str) and parse_value(value) == value else json.dumps(value)


def curves_command(folder: Path) -> str:
    """Return the command that shows the curves of the runs in a folder; it works outside a venv's shell too."""
    program = ("tensorboard",) if shutil.which("tensorboard") else ("python", "-m", "tensorboard.main")
    return typed(*program, "--logdir", folder)


def last_screen(
    summary: Summary,
    best: tuple[float, int] | None,
    recorded: Path | None,
    watchable: bool,
    begin_in: Sequence[str] = (),
) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return the last screen's title, its rows, and the commands to type next.

    Args:
        begin_in: `env_flags` of the environment, where there is no policy and another training begins with the run.
    """
    path = summary.run
    trained = summary.steps - summary.first_step
    rows: dict[str, str] = {}
    if trained or summary.interrupted:
        rows["steps"] = f"{trained:,} in {summary.wall_s:.1f} s ({summary.steps_per_s:,.0f} steps/s)"
    if summary.eval_mean is not None:
        rows["final policy"] = (
            f"{summary.eval_mean:.1f} +- {summary.eval_std:.1f} over {summary.eval_episodes} fresh greedy episodes"
        )
        if summary.eval_cut:
            rows["final policy"] += f", {summary.eval_cut} of them cut (--eval-max-steps)"
    if best is not None:
        rows["best evaluation"] = f"{best[0]:.1f} at step {best[1]:,}"
    if summary.solved is not None:
        rows["solved"] = "yes" if summary.solved else "no"
    spent = {"training": summary.train_s, "evaluation": summary.eval_s, "recording": summary.record_s}
    parts = ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in spent.items() if seconds)
    rows["time"] = f"{summary.total_s:.1f} s: {parts}"
    rows["run folder"] = path
    if recorded is not None:
        rows["recorded episode"] = str(recorded)
    commands: dict[str, str] = {}
    if watchable and not begin_in:
        commands["watch it play"] = typed("python", "-m", "agents.watch", path)
    if begin_in:
        commands["begin with it"] = typed("python", "-m", "agents.train", *begin_in, "--from", path)
    else:
        commands["measure it"] = typed("python", "-m", "agents.evaluate", path)
    commands["see its curves"] = curves_command(Path(path).parent)
    title = f"{title_of(summary.algo)} on {summary.env}"
    if summary.interrupted:
        title += ", stopped early"
        commands = {"go on": resume_command(path), **commands}
    return title, rows, commands
