"""Explain why a trained policy acts as it does: what counts for it, and the decisions of one episode."""

from __future__ import annotations

import dataclasses
import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from agents.core.config import MOST_EPISODES
from agents.run.cli import print_json, run_command
from agents.run.flags import (
    Checkpoint,
    Debug,
    EnvId,
    EnvKwargs,
    Flag,
    Json,
    Run,
    RunsDir,
    Trust,
    parse_env_kwargs,
    parse_flags,
    refuse_outside,
)

if TYPE_CHECKING:
    from agents.view.explanation.effects import Effect
    from agents.view.explanation.explain import Explanation, Reason

EXAMPLES = """\
examples:
  python -m agents.explain
  python -m agents.explain runs/CartPole-v1__ppo__s0__20260101-120000 --episodes 50
  python -m agents.explain runs/CartPole-v1__ppo__s0__20260101-120000 --checkpoint latest --out why --json
"""
MOST_STATES = 1_000_000
PRINTED = 8  # features


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Run = None
    checkpoint: Checkpoint = "best"
    episodes: Annotated[int, tyro.conf.arg(help="how many to play for each mean return")] = 20
    states: Annotated[int, tyro.conf.arg(help="how many of the states in them to look at, at most")] = 1_000
    seed: Annotated[int, tyro.conf.arg(help="the same seed explains the same episodes")] = 0
    stochastic: Annotated[
        Flag, tyro.conf.arg(help="sample the actions of the one episode instead of taking the most likely")
    ] = False
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="", help="for the page (default: RUN/explanation)"),
    ] = None
    env: EnvId = None
    env_kwargs: EnvKwargs = ()
    trust: Trust = False
    runs_dir: RunsDir = Path("runs")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, explain, print; return the exit code."""
    return run_command(_explain, argv)


def _explain(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.explain", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, episodes=(1, MOST_EPISODES), states=(2, MOST_STATES), seed=(0, 2**32 - 1))
    env_kwargs = parse_env_kwargs(options.env_kwargs)

    from agents.run.folder import find_latest_run, run_of
    from agents.run.models import load_policy
    from agents.run.sinks import Working
    from agents.run.terminal import console, say
    from agents.view.explanation.explain import explain
    from agents.view.explanation.page import write_page

    run = options.run or find_latest_run(options.runs_dir)
    loaded = load_policy(run, options.checkpoint, trust=options.trust, env=options.env, env_kwargs=env_kwargs)
    say(*loaded.notes)
    found = explain(
        loaded,
        episodes=options.episodes,
        states=options.states,
        seed=options.seed,
        deterministic=not options.stochastic,
        working=partial(Working, console=console(stderr=True)),
    )
    page = write_page(found, options.out or run_of(loaded.path) / "explanation")
    _print(found, page)
    if options.json:
        print_json(summary(found, page))
    return 0


def _print(found: Explanation, page: Path) -> None:
    from rich.table import Table

    from agents.lab.words import number
    from agents.run.registry import title_of
    from agents.run.terminal import console, say
    from agents.view.explanation.page import changes, sentences

    loaded = found.loaded
    say(f"{loaded.env} · {title_of(loaded.algo)} · {loaded.name} · {loaded.step:,} steps", *found.notes, "")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("feature", "actions changed", "gradient", "integrated gradients"):
        table.add_column(title, justify="left" if title == "feature" else "right")
    for one in found.importances[:PRINTED]:
        slopes = ["none" if value is None else number(value) for value in (one.gradient, one.integrated)]
        table.add_row(one.feature.name, changes(found, one.changed), *slopes)
    console().print(table)
    if len(found.importances) > PRINTED:
        say(f"and {len(found.importances) - PRINTED} more")
    say("", *sentences(found))
    for kind, reasons in found.reasons.items():
        if reasons:
            say(f"{kind}: step {', '.join(str(reason.at + 1) for reason in reasons)}")
    say(f"page: {page}")


def summary(found: Explanation, page: Path) -> dict[str, Any]:
    """Return an explanation as JSON holds it."""
    loaded = found.loaded
    return {
        "run": str(loaded.path),
        "checkpoint": loaded.name,
        "step": loaded.step,
        "env": loaded.env,
        "algo": loaded.algo,
        "states": found.states,
        "episodes": len(found.returns),
        "return": float(found.returns.mean()),
        "features": [
            {
                "name": one.feature.name,
                "changed": one.changed,
                "gradient": one.gradient,
                "integrated_gradients": one.integrated,
            }
            for one in found.importances
        ],
        "effects": [_effect(found, effect) for effect in found.effects],
        "moments": {kind: [_moment(found, kind, one) for one in reasons] for kind, reasons in found.reasons.items()},
        "notes": list(found.notes),
        "page": str(page),
    }


def _effect(found: Explanation, effect: Effect) -> dict[str, Any]:
    loss = found.loss(effect)
    return {
        "name": effect.name,
        "changed": effect.importance.changed,
        "return": float(effect.returns.mean()),
        "difference": loss.value,
        "interval": [None if math.isnan(bound) else bound for bound in (loss.low, loss.high)],
    }


def _moment(found: Explanation, kind: str, reason: Reason) -> dict[str, Any]:
    return {
        "step": reason.at + 1,
        kind: float(getattr(found.timeline, kind)[reason.at]),
        "parts": dict(reason.parts),
        "changed": dict([reason.least, reason.most]),
    }


if __name__ == "__main__":
    sys.exit(main())
