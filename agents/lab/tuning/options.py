"""What is asked of a search: the flags of `python -m agents.tune`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.run.flags import Count, Debug, Flag, Json, Trust, refuse_outside
from envs.errors import UserError

COUNTS = ("trials", "workers", "seeds", "evaluations", "eval_episodes", "total_timesteps", "best")


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    env: Annotated[
        str | None, tyro.conf.arg(metavar="ID", help_behavior_hint="", help="environment (always needed)")
    ] = None
    algo: Annotated[str, tyro.conf.arg(metavar="NAME", help="algorithm")] = "ppo"
    trials: Annotated[
        int, tyro.conf.arg(metavar="INTEGER", aliases=["--n-trials"], help="so many in all, those of before included")
    ] = 100
    timeout: Annotated[
        float | None,
        tyro.conf.arg(metavar="SECONDS", help_behavior_hint="", help="the search ends after them; none for no end"),
    ] = None
    workers: Annotated[
        Count,
        tyro.conf.arg(aliases=["--n-jobs"], help="trials at a time (default: as many as cores; with one_instance 1)"),
    ] = None
    seeds: Annotated[int, tyro.conf.arg(metavar="INTEGER", help="trainings of each trial that is not given up")] = 2
    total_timesteps: Annotated[
        Count, tyro.conf.arg(aliases=["-n"], help="environment steps of each training (default: as packaged)")
    ] = None
    objective: Annotated[
        Literal["return", "time", "both"],
        tyro.conf.arg(help="return at the end, seconds to --threshold, or both: a front of return and seconds"),
    ] = "return"
    threshold: Annotated[
        float | None,
        tyro.conf.arg(
            metavar="NUMBER", help_behavior_hint="", help="mean return to reach; by default the environment's own"
        ),
    ] = None
    space: Annotated[
        str, tyro.conf.arg(metavar="NAME|FILE.yaml", help="what is searched: default, wide, or a file of your own")
    ] = "default"
    sampler: Annotated[
        Literal["tpe", "random", "pbt"],
        tyro.conf.arg(help="what proposes trials; pbt: settings change while a population of networks is trained"),
    ] = "tpe"
    population: Annotated[
        Count, tyro.conf.arg(help="networks that --sampler pbt trains, whatever --trials and --seeds say (default: 8)")
    ] = None
    pruner: Annotated[
        Literal["asha", "hyperband", "median", "none"], tyro.conf.arg(help="what gives trials up early")
    ] = "asha"
    evaluations: Annotated[int, tyro.conf.arg(metavar="INTEGER", help="of each training")] = 8
    eval_episodes: Annotated[int, tyro.conf.arg(metavar="INTEGER", help="episodes of each evaluation")] = 20
    config: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help_behavior_hint="", help="YAML file of settings that trials change, over the packaged"
        ),
    ] = None
    preset: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="", help="preset of the algorithm beneath")
    ] = None
    env_kwargs: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="KEY=VALUE ...", help_behavior_hint="", help="environment arguments"),
    ] = ()
    warm_start: Annotated[
        tuple[Path, ...],
        tyro.conf.arg(
            metavar="DIR ...", help_behavior_hint="", help="earlier searches whose best settings are tried first"
        ),
    ] = ()
    best: Annotated[int, tyro.conf.arg(metavar="INTEGER", help="best trials that are trained on fresh seeds")] = 3
    retrain: Annotated[int, tyro.conf.arg(metavar="SEEDS", help="fresh seeds of each; 0 leaves that out")] = 5
    random: Annotated[
        Flag, tyro.conf.arg(help="search at random beside it, with as many trials and as much time, to compare")
    ] = False
    storage: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="URL",
            help_behavior_hint="",
            help="database of the trials, such as sqlite:///study.db; by default a file in --out",
        ),
    ] = None
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint="", help="folder of the search (default: runs/tune/ENV__ALGO)"),
    ] = None
    dry_run: Annotated[Flag, tyro.conf.arg(help="say what would be searched, and write nothing")] = False
    trust: Trust = False
    json: Json = False
    debug: Debug = False

    def refuse_nonsense(self) -> None:
        """Refuse numbers that no search can have.

        Raises:
            UserError: there is one, or no environment.
        """
        refuse_outside(self, **dict.fromkeys(COUNTS, 1), retrain=0)
        if self.population is not None and (self.sampler != "pbt" or self.population < 2):
            what = "at least 2 expected" if self.sampler == "pbt" else f"which --sampler {self.sampler} has not"
            raise UserError(f"--population: {self.population} given, {what}.")
        if self.sampler == "pbt" and self.objective != "return":
            raise UserError(f"--objective: {self.objective} given, but of a population only return can be judged.")
        if self.sampler == "pbt" and self.warm_start:
            raise UserError("--warm-start: a population begins with the settings beneath, and settings drawn at random")
        if self.timeout is not None and not self.timeout > 0:
            raise UserError(f"--timeout: {self.timeout:g} given, more than 0 seconds expected.")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UserError(f"--threshold: {self.threshold} given, a finite number expected.")
        if not self.env:
            raise UserError("which environment? Give one, for example: --env CartPole-v1")
