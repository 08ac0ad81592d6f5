"""Watch a trained policy play in a window, or record it as a video."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import EnvId, EnvKwargs, Flag, SB3Algo, Trust, VecNormalizeFile, parse_env_kwargs, parse_flags
from envs.errors import UserError

if TYPE_CHECKING:
    from agents.view.show import PolicyShow

EXAMPLES = """\
examples:
  python -m agents.watch
  python -m agents.watch runs/CartPole-v1__ppo__s0__20260101-120000 --checkpoint latest --seed 7
  python -m agents.watch runs/CartPole-v1__ppo__s0__20260101-120000 --record cartpole.gif
  python -m agents.watch --follow
  python -m agents.watch ppo_cartpole.zip --env CartPole-v1 --trust

keys in the window:
  space         pause                        p n   previous, next episode
  ← →           one step back, forward       [ ]   checkpoint before, after
  home end      first step, last             v     what the agent sees
  click         on the line: to that step    s     save the picture as PNG
  + -           faster, slower               h q   list the keys, quit
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Annotated[
        tyro.conf.Positional[Path | None],
        tyro.conf.arg(
            metavar="[RUN]",
            help_behavior_hint="",
            help="run folder, folder with a model, or MODEL.zip of stable-baselines3; without it, the run begun last",
        ),
    ] = None
    checkpoint: Annotated[str, tyro.conf.arg(metavar="best|latest|STEP", help="which of the run's policies")] = "best"
    follow: Annotated[
        Flag, tyro.conf.arg(help="play the newest model again and again while the run learns, until it has ended")
    ] = False
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
    width: Annotated[
        int | None,
        tyro.conf.arg(metavar="PIXELS", help_behavior_hint="", help="of the window or video; the height follows"),
    ] = None
    env: EnvId = None
    env_kwargs: EnvKwargs = ()
    algo: SB3Algo = None
    vec_normalize: VecNormalizeFile = None
    trust: Trust = False
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

    if options.follow:
        refuse_to_follow(options)

    from agents.run import code
    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy
    from agents.run.play import frames_per_second, watch_fault
    from agents.run.recording import load_episode
    from agents.run.terminal import say
    from agents.run.video import GIF_WIDTH, check_format, write_video
    from agents.view.show import FollowShow, ReplayShow, RunShow, Show, frames
    from agents.view.viewer import size_of
    from agents.view.window import Player, open_screen, run_window
    from envs.adapters import mujoco

    if options.record is not None:
        check_format(options.record)
    size, env_kwargs = size_of(options.width), parse_env_kwargs(options.env_kwargs)
    if options.replay is not None and env_kwargs:
        raise UserError("--replay: an episode is played where it was recorded; leave --env-kwargs out.")
    show: Show
    if options.replay is not None:
        recorded = load_episode(options.replay, trust=options.trust or code.typed_in([options.env or ""]))
        if options.env and code.absolute("env", options.env) != recorded.env:
            raise UserError(f"--replay: the episode is played where it was recorded, {recorded.env}; leave --env out.")
        policy = None
        if options.run is not None:
            policy = load_policy(options.run, options.checkpoint, trust=options.trust, env=recorded.env).policy
        show = ReplayShow(options.replay, recorded, policy)
    elif options.run is not None and options.run.suffix == ".zip":
        show = _show_of_sb3(options, env_kwargs)
    else:
        run, acting = options.run or find_latest_run(options.runs_dir), not options.stochastic
        load: Any = partial(load_policy, run, trust=options.trust, env=options.env, env_kwargs=env_kwargs)
        kind = FollowShow if options.follow else RunShow
        show = kind(run, load, options.checkpoint, options.seed, acting, options.replays_dir)
    if fault := watch_fault(show.env_id):
        raise UserError(fault)
    say(*getattr(show, "notes", ()), f"{show.env_id} · {show.source}")
    if drawing := mujoco.way():
        say(drawing)

    fps = options.fps or frames_per_second(show.env_id)
    videos: list[Path] = []
    try:
        if options.record is not None:
            pictures = frames(show, options.episodes or 1, fps, size)
            write_video(options.record, pictures, fps, options.width or GIF_WIDTH)
            videos = [options.record]
            tell_of(options.record)
        elif screen := open_screen(show.env_id, size):
            run_window(screen, Player(show, fps, options.episodes))
        else:
            print("There is no display to open a window on, so this is recorded instead.")
            for index in show.turns(options.episodes):
                videos.append(show.record(index, fps, size))
                tell_of(videos[-1])
    finally:
        show.close()
    if options.json:
        print_json({"env": show.env_id, "policy": show.source, "videos": [str(video) for video in videos]})
    return 0


def tell_of(video: Path) -> None:
    """Say where a video is, and how to play its episode again."""
    from agents.run.terminal import say, typed

    say(f"Recorded:       {video}")
    if (episode := video.with_suffix(".json")).exists():
        say(f"Play it again:  python -m agents.watch --replay {typed(episode)}")


def refuse_to_follow(options: Options) -> None:
    """Raise UserError where --follow makes no sense beside the other flags."""
    for name, other in (("--record", options.record), ("--replay", options.replay)):
        if other is not None:
            raise UserError(f"--follow and {name} exclude one another: --follow shows a run as it learns")
    if options.run is not None and options.run.suffix == ".zip":
        raise UserError(f"--follow shows a run as it learns, and {options.run} is a model that does not learn any more")
    if options.checkpoint not in ("best", "latest"):
        raise UserError(f"--checkpoint: {options.checkpoint} given, but --follow plays the newest: best or latest.")


def _show_of_sb3(options: Options, env_kwargs: dict[str, Any]) -> PolicyShow:
    """Return the show of a model that stable-baselines3 saved."""
    from agents.lab.sb3_policy import sb3_in_env
    from agents.run.registry import title_of
    from agents.view.show import PolicyShow
    from envs.make import env_label

    assert options.run is not None
    model, env = sb3_in_env(
        options.run,
        options.env,
        trust=options.trust,
        algo=options.algo,
        vec_normalize=options.vec_normalize,
        env_kwargs=env_kwargs,
        render=True,
    )
    assert options.env is not None
    source = f"SB3 {title_of(model.algo)} · {model.step:,} steps"
    folder = options.replays_dir / env_label(options.env) / options.run.stem
    return PolicyShow(model, env, options.env, source, options.seed, not options.stochastic, folder)


if __name__ == "__main__":
    sys.exit(main())
