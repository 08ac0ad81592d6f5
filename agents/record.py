"""Record episodes of a run, of a scripted expert, of random actions or of your own play, to learn from."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import (
    Debug,
    EnvKwargs,
    Flag,
    Json,
    RunsDir,
    Trust,
    parse_env_kwargs,
    parse_flags,
    refuse_idle,
    refuse_outside,
)
from envs.errors import UserError

if TYPE_CHECKING:
    from agents.run.datasets.recorder import Recording, RecordingWrapper

EXAMPLES = """\
examples:
  python -m agents.record runs/CartPole-v1__ppo__s0__20260101-120000 --episodes 20
  python -m agents.record runs/CartPole-v1__ppo__s0__20260101-120000 --checkpoint best latest --exploration 0 0.5
  python -m agents.record heuristic --env CartPole-v1 --episodes 20 --out datasets/mine
  python -m agents.record random --env MountainCar-v0 --episodes 5 --seed 1
"""
MOST = 1_000_000


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Annotated[
        tyro.conf.Positional[str | None],
        tyro.conf.arg(
            metavar="[RUN|heuristic|random]",
            help_behavior_hint="",
            help="who plays; without it, the run begun last. heuristic and random need --env",
        ),
    ] = None
    episodes: Annotated[int, tyro.conf.arg(help="how many")] = 20
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FOLDER", help_behavior_hint="", help="where; if not given, in datasets/, by env and player"
        ),
    ] = None
    exploration: Annotated[
        tuple[float, ...],
        tyro.conf.arg(metavar="SHARE ...", help="of random actions; of several shares, episodes take turns"),
    ] = (0.0,)
    stochastic: Annotated[Flag, tyro.conf.arg(help="sample the policy's actions instead of taking the most likely")] = (
        False
    )
    human: Annotated[Flag, tyro.conf.arg(help="you play, by arrows or digits; a closed window ends it")] = False
    checkpoint: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="best|latest|STEP ...", help="which of the run's policies; of several, episodes take turns"
        ),
    ] = ("best",)
    seed: Annotated[int, tyro.conf.arg(help="the same seed records the same episodes")] = 0
    env: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="ID",
            help_behavior_hint="",
            help="which environment; needed by heuristic, random and --human, else another than the run's",
        ),
    ] = None
    env_kwargs: EnvKwargs = ()
    max_steps: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="N",
            help_behavior_hint="",
            help="steps after which an episode breaks off; if not given, only where the environment has no time limit",
        ),
    ] = None
    trust: Trust = False
    runs_dir: RunsDir = Path("runs")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, record, print; return the exit code."""
    return run_command(_record, argv)


def _record(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.record", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, episodes=(1, MOST), seed=(0, MOST), max_steps=(1, MOST))
    if not options.exploration or any(not 0 <= share <= 1 for share in options.exploration):
        given = " ".join(map(str, options.exploration)) or "none"
        raise UserError(f"--exploration: {given} given, numbers from 0 to 1 expected")
    from agents.run import code
    from agents.run.datasets.reading import load_dataset
    from agents.run.summary import env_flags
    from agents.run.terminal import say, typed

    out = (_by_hand if options.human else _by_policy)(options, parse_env_kwargs(options.env_kwargs))
    data = load_dataset(out)
    returns = data.returns
    env = env_flags(str(data.env), data.env_kwargs, data.wrappers)
    named = any(code.names({"env": data.env, "wrappers": data.wrappers}))
    summary = {
        "data": str(out),
        "episodes": data.episodes,
        "transitions": len(data),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
    }
    say(
        f"{data.episodes:,} episodes, {len(data):,} transitions: {out}",
        f"return {returns.mean():,.1f} +- {returns.std():,.1f}",
        f"  look at it    {typed('python', '-m', 'agents.check', '--data', out, *['--trust'] * named)}",
        f"  learn from it {typed('python', '-m', 'agents.train', '--algo', 'bc', *env, '--data', out)}",
    )
    if options.json:
        print_json(summary)
    return 0


def _out(options: Options, recording: Recording) -> Path:
    from envs.locate import env_label

    who = Path(recording.who.partition(" ")[0]).name
    return options.out or Path("datasets") / env_label(recording.env) / f"{who}-s{recording.seed}"


def _by_policy(options: Options, env_kwargs: dict[str, Any]) -> Path:
    from agents.acting.evaluation import StatelessPolicy
    from agents.core.types import Policy
    from agents.run.datasets.experts import NAMES, Heuristic, Random
    from agents.run.datasets.recorder import Recording, RecordingWrapper, record
    from agents.run.evaluator import most_steps_of
    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy
    from agents.run.play import policy_env, stage
    from agents.run.sinks import Working
    from agents.run.terminal import console, say

    noted: list[RecordingWrapper] = []

    def around(env: Any) -> RecordingWrapper:
        noted.append(RecordingWrapper(env))
        return noted[-1]

    how: dict[str, Any] = {
        "seed": options.seed,
        "exploration": options.exploration,
        "stochastic": options.stochastic,
    }
    if options.run in NAMES and not Path(options.run).exists():
        if options.env is None:
            raise UserError(f"{options.run}: which environment? Give one, for example: --env CartPole-v1")
        refuse_idle(options, f"{options.run} is no run", "checkpoint", "stochastic")
        if options.run == "random":
            refuse_idle(options, "all actions are random", "exploration")
        name, config, wrappers, who = options.env, None, [], options.run
        heuristic: StatelessPolicy | None = Heuristic(name) if options.run == "heuristic" else None
        env = stage(name, vec="sync", env_kwargs=env_kwargs, around=around)
        policies: list[Policy] = [heuristic or Random(env.action_space)]
        if heuristic is None:
            how["exploration"] = (1.0,)
    else:
        run = find_latest_run(options.runs_dir) if options.run is None else Path(options.run)
        each = [
            load_policy(run, checkpoint, trust=options.trust, env=options.env, env_kwargs=env_kwargs)
            for checkpoint in options.checkpoint
        ]
        loaded = each[0]
        say(*loaded.notes)
        env = policy_env(loaded, around=around)
        policies, config, name = [one.policy for one in each], loaded.config, loaded.env
        env_kwargs, wrappers = loaded.env_kwargs, loaded.config.wrappers
        who = f"{run.resolve().name} {' '.join(one.name for one in each)}"
    try:
        limit = options.max_steps or most_steps_of(config, name, env_kwargs)
        recording = Recording(who, name, env_kwargs, wrappers, max_steps=limit, **how)
        with Working("recording", "episodes", console(stderr=True)) as report:
            return record(policies, env, noted[0], recording, options.episodes, _out(options, recording), report)
    finally:
        env.close()


def _by_hand(options: Options, env_kwargs: dict[str, Any]) -> Path:
    from gymnasium import spaces

    from agents.run.datasets.recorder import Recording, play_by_hand
    from agents.run.play import has_display, prepare_drawing
    from envs.adapters.masks import masked
    from envs.single import make_single

    if options.env is None or options.run is not None:
        raise UserError("--human: give the environment alone, for example: --human --env CartPole-v1")
    if not has_display():
        raise UserError("--human: there is no display here to play on")
    refuse_idle(options, "you play", "checkpoint", "stochastic", "exploration", "max_steps")
    prepare_drawing(options.env)
    env = masked(make_single(options.env, env_kwargs=env_kwargs, render_mode="rgb_array"))
    try:
        if not isinstance(env.action_space, spaces.Discrete):
            raise UserError(f"--human: keys stand for Discrete actions; {options.env} has {env.action_space}")
        recording = Recording("human", options.env, env_kwargs, seed=options.seed)
        return play_by_hand(env, recording, options.episodes, _out(options, recording))
    finally:
        env.close()


if __name__ == "__main__":
    sys.exit(main())
