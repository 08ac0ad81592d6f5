"""Watch a trained policy play in a window, or record it as a video."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Flag, parse_flags
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.watch
  python -m agents.watch runs/CartPole-v1__ppo__s0__20260101-120000 --checkpoint latest --seed 7
  python -m agents.watch runs/CartPole-v1__ppo__s0__20260101-120000 --record cartpole.gif

keys in the window:
  space         pause                        n     next episode
  right or .    one step                     [ ]   checkpoint before, after
  + -           faster, slower               q     quit (or Esc)
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Annotated[
        tyro.conf.Positional[Path | None],
        tyro.conf.arg(
            metavar="[RUN]",
            help_behavior_hint="",
            help="run folder, or folder with a model; without it, the run begun last",
        ),
    ] = None
    checkpoint: Annotated[str, tyro.conf.arg(metavar="best|latest|STEP", help="which of the run's policies")] = "best"
    seed: Annotated[int, tyro.conf.arg(help="of the first episode; each later one's is one more")] = 0
    stochastic: Annotated[Flag, tyro.conf.arg(help="sample actions instead of taking the most likely")] = False
    episodes: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="N", help_behavior_hint="", help="how many; if not given, one is recorded, and a window stays open"
        ),
    ] = None
    record: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help_behavior_hint="", help="write a video, .mp4 or .gif, instead of opening a window"
        ),
    ] = None
    replay: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help_behavior_hint="", help="play a recorded episode again; RUN, if given, comments on it"
        ),
    ] = None
    fps: Annotated[
        float | None,
        tyro.conf.arg(
            metavar="NUMBER", help_behavior_hint="", help="steps per second; if not given, the environment's own"
        ),
    ] = None
    runs_dir: Annotated[Path, tyro.conf.arg(help="where runs are, if RUN is not given")] = Path("runs")
    replays_dir: Annotated[Path, tyro.conf.arg(help="where episodes go if there is no display")] = Path("replays")
    json: Annotated[Flag, tyro.conf.arg(help="print the result as a last line")] = False
    debug: Annotated[Flag, tyro.conf.arg(help="show tracebacks")] = False


def main(argv: list[str] | None = None) -> int:
    """Parse, show, print; return the exit code."""
    return run_command(_watch, argv)


def _watch(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.watch", about=__doc__, examples=EXAMPLES)
    for name, value, least in (("episodes", options.episodes, 1), ("seed", options.seed, 0)):
        if value is not None and value < least:
            raise UserError(f"--{name}: {value} given, at least {least} expected.")
    if options.fps is not None and not 0 < options.fps <= 1000:
        raise UserError(f"--fps: {options.fps} given, a number above 0 and at most 1000 expected.")

    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy
    from agents.run.play import frames_per_second, watch_fault
    from agents.run.terminal import typed
    from agents.run.video import check_format, write_video
    from agents.view.show import PolicyShow, ReplayShow, Show, frames
    from agents.view.window import Player, open_screen, run_window

    if options.record is not None:
        check_format(options.record)
    show: Show
    if options.replay is not None:
        policy = None if options.run is None else load_policy(options.run, options.checkpoint).policy
        show = ReplayShow(options.replay, policy)
    else:
        run = options.run or find_latest_run(options.runs_dir)
        show = PolicyShow(run, options.checkpoint, options.seed, not options.stochastic, options.replays_dir)
    if fault := watch_fault(show.env_id):
        raise UserError(fault)
    print(*getattr(show, "notes", ()), f"{show.env_id} · {show.source}", sep="\n")

    fps = options.fps or frames_per_second(show.env_id)
    videos: list[Path] = []
    try:
        if options.record is not None:
            write_video(options.record, frames(show, options.episodes or 1, fps), fps)
            videos = [options.record]
        elif screen := open_screen(show.env_id):
            run_window(screen, Player(show, fps, options.episodes))
        else:
            print("There is no display to open a window on, so this is recorded instead.")
            videos = [show.record(index, fps) for index in range(options.episodes or 1)]
    finally:
        show.close()
    for video in videos:
        print(f"Recorded:       {video}")
        if (episode := video.with_suffix(".json")).exists():
            print(f"Play it again:  python -m agents.watch --replay {typed(episode)}")
    if options.json:
        print_json({"env": show.env_id, "policy": show.source, "videos": [str(video) for video in videos]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
