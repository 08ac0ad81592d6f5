"""What is asked of a comparison: the flags of `python -m agents.compare`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from agents.run.flags import (
    Count,
    CurveFiles,
    Debug,
    Flag,
    Json,
    Trust,
    VecNormalizeFile,
    is_sb3,
    parse_env_kwargs,
    refuse_idle,
    refuse_outside,
)
from envs.errors import UserError

QUICK: dict[str, Any] = {
    "env": ("CartPole-v1",),
    "algos": ("ppo",),
    "seeds": 3,
    "total_timesteps": 50_000,
    "workers": 2,
}
TRAINING = (
    *("algos", "against", "hyper", "seeds", "workers", "total_timesteps", "eval_freq", "eval_episodes"),
    *("quick", "list"),
)
COUNTS = ("seeds", "workers", "total_timesteps", "eval_freq", "eval_episodes", "final_eval_episodes")


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(
            metavar="[RUN|MODEL.zip ...]",
            help_behavior_hint="",
            help="run folders of ours and models of SB3's (with --trust) to compare as they are: nothing is trained",
        ),
    ] = ()
    env: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID ...", help_behavior_hint="", help="environments")] = ()
    algos: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="NAME|FILE.py:Class ...",
            help_behavior_hint="",
            help="algorithms, your own among them (default: ppo)",
        ),
    ] = ()
    against: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="sb3|sb3:ALGO|FILE.yaml|RUN|MODEL.zip ...",
            help="the same algorithm of stable-baselines3 (SB3), another one of its with its own settings (sb3:ppo), "
            "other settings of ours, a trained run of ours, a saved model of SB3's",
        ),
    ] = ("sb3",)
    hyper: Annotated[Literal["tuned", "same"], tyro.conf.arg(help="each side's best settings, or ours for both")] = (
        "tuned"
    )
    seeds: Annotated[Count, tyro.conf.arg(help="runs of each: seeds 0, 1, ... (default: 5)")] = None
    workers: Annotated[Count, tyro.conf.arg(help="runs at a time (default: as many as cores)")] = None
    total_timesteps: Annotated[
        Count, tyro.conf.arg(aliases=["-n"], help="environment steps of each run (default: as tuned)")
    ] = None
    eval_freq: Annotated[Count, tyro.conf.arg(help="steps between evaluations (default: 20 in a run)")] = None
    eval_episodes: Annotated[int, tyro.conf.arg(metavar="INTEGER", help="episodes of each evaluation")] = 20
    final_eval_episodes: Annotated[
        int, tyro.conf.arg(metavar="INTEGER", help="episodes that the final policy is judged by")
    ] = 100
    env_kwargs: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="KEY=VALUE ...", help_behavior_hint="", help="environment arguments"),
    ] = ()
    files: CurveFiles = ()
    trust: Trust = False
    vec_normalize: VecNormalizeFile = None
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FOLDER",
            help_behavior_hint="",
            help="where all of it lies, and goes on (default: runs/comparison; runs/compared for finished runs)",
        ),
    ] = None
    no_video: Annotated[Flag, tyro.conf.arg(help="of RUN ...: make no video of them side by side")] = False
    quick: Annotated[Flag, tyro.conf.arg(help="a first answer in under five minutes: PPO on CartPole-v1")] = False
    list: Annotated[Flag, tyro.conf.arg(help="show the runs and which are done, and train nothing")] = False
    json: Json = False
    debug: Debug = False

    def refuse_training(self) -> None:
        """Raise UserError for a flag that belongs to a training, where what is compared is trained already."""
        refuse_idle(self, f"{self.runs[0]} is compared as it is", *TRAINING)
        refuse_outside(self, final_eval_episodes=1)

    def completed(self) -> Options:
        """Return them with what `--quick` sets and with defaults.

        Raises:
            UserError: a count is below 1, an environment's argument is malformed, there is no environment, or a flag
                changes nothing.
        """
        refuse_idle(self, "videos are made of finished runs", "no_video")
        if not any(is_sb3(Path(side)) for side in self.against):
            refuse_idle(self, "it goes with a MODEL.zip of stable-baselines3", "vec_normalize")
        quick = {name: getattr(self, name) or value for name, value in QUICK.items()} if self.quick else {}
        refuse_outside(self, **dict.fromkeys(COUNTS, 1))
        parse_env_kwargs(self.env_kwargs)
        found = dataclasses.replace(self, **quick)
        if not found.env:
            raise UserError("which environments? Give some, for example: --env CartPole-v1 LunarLander-v3, or --quick")
        out = found.out or Path("runs", "comparison")
        return dataclasses.replace(found, algos=found.algos or ("ppo",), seeds=found.seeds or 5, out=out)
