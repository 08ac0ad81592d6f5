"""Watch a trained policy play in a window, or record it as a video."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import (
    Debug,
    EnvId,
    EnvKwargs,
    Flag,
    Json,
    RunOrZip,
    RunsDir,
    Trust,
    VecNormalizeFile,
    is_sb3,
    parse_env_kwargs,
    parse_flags,
    refuse_idle,
    refuse_outside,
)
from envs.errors import UserError

if TYPE_CHECKING:
    from agents.view.player import Player
    from agents.view.show import PolicyShow, Show

EXAMPLES = """\
examples:
  python -m agents.watch
  python -m agents.watch runs/CartPole-v1__ppo__s0__20260101-120000 --checkpoint latest --seed 7
  python -m agents.watch runs/CartPole-v1__ppo__s0__20260101-120000 --record cartpole.gif
  python -m agents.watch --follow
  python -m agents.watch runs/CartPole-v1__ppo__s0__20260101-120000 --beside latest --record both.mp4
  python -m agents.watch ppo_cartpole.zip --env CartPole-v1 --trust

keys in the window:
  space         pause                        v     what the agent sees
  ← →           one step back, forward       g     what its action depends on
  home end      first step, last             m     let it forget what it remembers
  p n           previous, next episode       s     save the picture as PNG
  + -           faster, slower               h     list the keys
  [ ] { }       checkpoint before, after, first, last (or click on their line)
  click         on the line at the bottom: to that step
  q             quit
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: RunOrZip = None
    checkpoint: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="best|latest|STEP",
            help_behavior_hint="",
            help="which of the run's policies; if not given, the best, and with --follow the latest",
        ),
    ] = None
    beside: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="RUN|best|latest|STEP",
            help_behavior_hint="",
            help="play a second one beside it, from the same seeds: of another run, or another of this run's policies",
        ),
    ] = None
    follow: Annotated[
        Flag,
        tyro.conf.arg(help="play the newest model again and again while the run learns, and then the last"),
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
    page: Annotated[
        Flag,
        tyro.conf.arg(help="show it on a page for a browser instead of in a window (--follow does without a display)"),
    ] = False
    host: Annotated[
        str, tyro.conf.arg(help="address that the page listens on; others than this machine's ask for a token")
    ] = "127.0.0.1"
    port: Annotated[int, tyro.conf.arg(help="port of the page; 0 for one that is free")] = 0
    no_panel: Annotated[
        Flag, tyro.conf.arg(help="with --record: show the environment alone, without what the policy thinks")
    ] = False
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
    vec_normalize: VecNormalizeFile = None
    trust: Trust = False
    runs_dir: RunsDir = Path("runs")
    replays_dir: Annotated[Path, tyro.conf.arg(help="where episodes go if there is no display")] = Path("replays")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, show, print; return the exit code."""
    return run_command(_watch, argv)


def _watch(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.watch", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, episodes=1, seed=0)
    if options.fps is not None and not 0 < options.fps <= 1000:
        raise UserError(f"--fps: {options.fps} given, a number above 0 and at most 1000 expected.")

    refuse_combinations(options)

    from agents.run.play import frames_per_second, watch_fault
    from agents.run.terminal import say
    from agents.run.video import GIF_WIDTH, check_format, write_video
    from agents.view.player import Player
    from agents.view.show import frames
    from agents.view.viewer import size_of
    from agents.view.window import open_screen, run_window
    from envs.adapters import mujoco

    if options.record is not None:
        check_format(options.record)
    size = size_of(options.width, 1 if options.beside is None else 2)
    shows = shows_of(options)
    for show in shows:
        if fault := watch_fault(show.env_id):
            raise UserError(fault)
        say(*getattr(show, "notes", ()), f"{show.env_id} · {show.source}")
    if drawing := mujoco.way():
        say(drawing)

    first, env_id = shows[0], shows[0].env_id
    fps = options.fps or frames_per_second(env_id)
    videos: list[Path] = []
    try:
        if options.record is not None:
            pictures = frames(shows, options.episodes or 1, fps, size, not options.no_panel)
            write_video(options.record, pictures, fps, options.width or GIF_WIDTH)
            videos = [options.record]
            tell_of(options.record)
        elif not options.page and (screen := open_screen(env_id, size)):
            run_window(screen, Player(*shows, fps=fps, episodes=options.episodes))
        elif options.page or options.follow:
            serve(options, getattr(first, "path", None), Player(*shows, fps=fps, episodes=options.episodes), size)
        elif len(shows) > 1:
            raise UserError("there is no display to open a window on: give --record FILE, or --page")
        else:
            print("There is no display to open a window on, so this is recorded instead.")
            for index in range(options.episodes or 1):
                videos.append(first.record(index, fps, size))
                tell_of(videos[-1])
    finally:
        for show in shows:
            show.close()
    if options.json:
        policies = [show.source for show in shows]
        found = {"env": env_id, "policy": policies[0], "videos": [str(video) for video in videos]}
        print_json(found if len(shows) == 1 else {**found, "beside": policies[1]})
    return 0


def shows_of(options: Options) -> list[Show]:
    """Return what is to be watched: one show, or two beside one another.

    Raises:
        UserError: there is no such thing, or flags exclude one another.
    """
    first = _show(options, options.run, options.checkpoint)
    if options.beside is None:
        return [first]
    run, checkpoint = options.run, options.beside
    if Path(options.beside).exists():
        run, checkpoint = Path(options.beside), "best"
    elif run is None or is_sb3(run):
        first.close()
        raise UserError(f"--beside: there is no {options.beside}; name a run, or RUN and another of its checkpoints")
    try:
        second = _show(dataclasses.replace(options, follow=False), run, checkpoint)
    except BaseException:
        first.close()
        raise
    if second.env_id != first.env_id:
        for show in (first, second):
            show.close()
        raise UserError(
            f"--beside: {options.beside} plays {second.env_id}, the other one {first.env_id}; both must play the same "
            "(--env names it)"
        )
    return [first, second]


def _show(options: Options, path: Path | None, checkpoint: str | None) -> Show:
    """Return the show of a run, a recorded episode or a model of stable-baselines3."""
    from agents.run import code
    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy
    from agents.run.recording import load_episode
    from agents.view.show import FollowShow, ReplayShow, RunShow

    env_kwargs = parse_env_kwargs(options.env_kwargs)
    if options.replay is not None:
        if env_kwargs:
            raise UserError("--replay: an episode is played where it was recorded; leave --env-kwargs out.")
        recorded = load_episode(options.replay, trust=options.trust or code.typed_in([options.env or ""]))
        if options.env and code.absolute("env", options.env) != recorded.env:
            raise UserError(f"--replay: the episode is played where it was recorded, {recorded.env}; leave --env out.")
        loaded = None
        if path is not None:
            loaded = load_policy(path, checkpoint or "best", trust=options.trust, env=recorded.env)
        return ReplayShow(options.replay, recorded, loaded)
    if path is not None and is_sb3(path):
        return _show_of_sb3(options, path, env_kwargs)
    run, acting = path or find_latest_run(options.runs_dir), not options.stochastic
    load: Any = partial(load_policy, run, trust=options.trust, env=options.env, env_kwargs=env_kwargs)
    kind, usual = (FollowShow, "latest") if options.follow else (RunShow, "best")
    return kind(run, load, checkpoint or usual, options.seed, acting, options.replays_dir)


def serve(options: Options, run: Path | None, player: Player, size: tuple[int, int]) -> None:
    """Show it on a page; say where that is."""
    from agents.run.terminal import say
    from agents.view.page import Page, run_page

    page = Page(run, options.host, options.port)
    try:
        say(f"watch it on {page.url}")
        run_page(page, player, size, lingers=options.follow)
    finally:
        page.close()


def tell_of(video: Path) -> None:
    """Say where a video is, and how to play its episode again."""
    from agents.run.terminal import say, typed

    say(f"Recorded:       {video}")
    if (episode := video.with_suffix(".json")).exists():
        say(f"Play it again:  python -m agents.watch --replay {typed(episode)}")


def refuse_combinations(options: Options) -> None:
    """Raise UserError where flags make no sense beside one another."""
    if not (is_sb3(options.run) or (options.beside is not None and is_sb3(Path(options.beside)))):
        refuse_idle(options, "it goes with a MODEL.zip of stable-baselines3", "vec_normalize")
    if options.beside is not None and options.replay is not None:
        raise UserError("--beside and --replay exclude one another: --beside plays from the same seeds")
    if options.page and options.record is not None:
        raise UserError("--page and --record exclude one another")
    if not 0 <= options.port < 2**16:
        raise UserError(f"--port: {options.port} given, 0 to {2**16 - 1} expected")
    if options.no_panel and (options.record is None or options.beside is not None):
        raise UserError("--no-panel is for --record FILE, and of one policy alone")
    if not options.follow:
        return
    for name, other in (("--record", options.record), ("--replay", options.replay)):
        if other is not None:
            raise UserError(f"--follow and {name} exclude one another: --follow shows a run as it learns")
    if is_sb3(options.run):
        raise UserError(f"--follow shows a run as it learns, and {options.run} is a model that does not learn any more")
    if options.checkpoint not in (None, "best", "latest"):
        raise UserError(f"--checkpoint: {options.checkpoint} given, but --follow plays the newest: best or latest.")


def _show_of_sb3(options: Options, path: Path, env_kwargs: dict[str, Any]) -> PolicyShow:
    """Return the show of a model that stable-baselines3 saved."""
    from agents.lab.sb3_policy import sb3_in_env
    from agents.run.registry import title_of
    from agents.view.show import PolicyShow
    from envs.locate import env_label

    model, env = sb3_in_env(
        path,
        options.env,
        trust=options.trust,
        vec_normalize=options.vec_normalize,
        env_kwargs=env_kwargs,
        render=True,
    )
    assert options.env is not None
    source = f"SB3 {title_of(model.algo)} · {model.step:,} steps"
    folder = options.replays_dir / env_label(options.env) / path.stem
    return PolicyShow(model, env, options.env, source, options.seed, not options.stochastic, folder)


if __name__ == "__main__":
    sys.exit(main())
