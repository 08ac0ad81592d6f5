"""Make the learning film of a run: the same episode from its first weights to its last, beside its curve."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Debug, Flag, Json, RunsDir, Trust, parse_flags, refuse_outside
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.film
  python -m agents.film runs/CartPole-v1__ppo__s0__20260101-120000 --parts 5 --seconds 4
  python -m agents.film runs/CartPole-v1__ppo__s0__20260101-120000 --seed 7 --out film --no-gif
"""
MOST_PARTS, MOST_SECONDS = 101, 600


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Annotated[
        tyro.conf.Positional[Path | None],
        tyro.conf.arg(metavar="[RUN]", help_behavior_hint="", help="run folder; without it, the run begun last"),
    ] = None
    parts: Annotated[int, tyro.conf.arg(help="points of the training, its begin and end among them")] = 11
    seed: Annotated[int, tyro.conf.arg(help="of the episode")] = 0
    seconds: Annotated[float, tyro.conf.arg(help="of an episode that are shown at most")] = 6.0
    stochastic: Annotated[Flag, tyro.conf.arg(help="sample actions instead of taking the most likely")] = False
    fps: Annotated[
        float | None,
        tyro.conf.arg(
            metavar="NUMBER", help_behavior_hint="", help="steps per second; if not given, the environment's own"
        ),
    ] = None
    no_gif: Annotated[Flag, tyro.conf.arg(help="write no GIF, which takes as long again")] = False
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="", help="for the film (default: RUN/film)")
    ] = None
    trust: Trust = False
    runs_dir: RunsDir = Path("runs")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, record, print; return the exit code."""
    return run_command(_film, argv)


def _film(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.film", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, parts=(2, MOST_PARTS), seed=(0, 2**32 - 1), seconds=(0.1, MOST_SECONDS), fps=(0.1, 1_000))

    from agents.run.folder import RunFolder, find_latest_run
    from agents.run.models import load_policy
    from agents.run.play import frames_per_second, watch_fault
    from agents.run.terminal import say
    from agents.view.film import Film, curve_of, policies, write_film

    folder = RunFolder.open(options.run or find_latest_run(options.runs_dir))
    run = folder.path
    load: Any = partial(load_policy, run, trust=options.trust)
    chosen = policies(run, load, options.parts)
    say(*chosen[-1].notes)
    if fault := watch_fault(chosen[-1].env):
        raise UserError(fault)
    if len(chosen) < options.parts:
        steps = max(chosen[-1].step // (options.parts - 1), 1)
        more = "" if folder.kept_for_film() else f"; to save more, train with --film, or with --save-freq {steps}"
        say(f"{len(chosen)} of {options.parts} parts, as no other policies were saved{more}")
    fps = options.fps or frames_per_second(chosen[-1].env)
    film = Film(
        chosen,
        curve_of(run, chosen[0]),
        seed=options.seed,
        steps=max(round(options.seconds * fps), 1),
        fps=fps,
        deterministic=not options.stochastic,
    )
    page = write_film(film, options.out or run / "film", gif=not options.no_gif)
    for part in film.parts:
        say(f"{part.share:4.0%}  {part.step:>11,} steps  return {part.ret:.2f} in {part.steps:,} steps, {part.ended}")
    say(f"film: {page.with_name('film.mp4')}", f"page: {page}")
    if options.json:
        parts = [
            {"step": part.step, "return": part.ret, "length": part.steps, "end": part.ended} for part in film.parts
        ]
        print_json({"run": str(run), "film": str(page.with_name("film.mp4")), "page": str(page), "parts": parts})
    return 0


if __name__ == "__main__":
    sys.exit(main())
