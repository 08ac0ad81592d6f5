"""What a search is: what is held the same in all its trials, and what a trial is judged by."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeInt, PositiveInt

from agents.lab.tuning.space import Space, from_plain, to_plain
from agents.run import registry
from agents.run.config import RunConfig
from envs.errors import UserError
from envs.locate import env_label

FIRST_SEED = 1_000_000  # of the trials: those that settings are judged by at the end are others
RANDOM_TRIALS = 10  # before TPE begins to learn from them
FACTOR = 3  # of the trials at a rung, one in so many goes on
RUNGS = 4  # a trial is judged first after this part of its first training
BEYOND = 0.05  # part of a training's steps that may come on top, as its last rollout is whole


class _Base(BaseModel):
    """What a plan itself reads of the settings that trials change."""

    model_config = ConfigDict(strict=True, extra="allow")

    env: str
    algo: str
    total_timesteps: PositiveInt


class _Stored(BaseModel):
    """A plan as JSON holds it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    base: _Base
    space: dict[str, list[Any]]
    objective: Literal["return", "time", "both"]
    threshold: FiniteFloat | None
    seeds: PositiveInt
    evaluations: PositiveInt
    eval_episodes: PositiveInt
    sampling: Literal["tpe", "random", "pbt"]
    pruning: Literal["asha", "hyperband", "median", "none"]
    population: NonNegativeInt = 0


def _rollout(config: RunConfig) -> int:
    """Return the steps of a rollout, or of a tick where there are none."""
    return int(getattr(config.params, "n_steps", 1)) * int(config.params.n_envs)


@dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        base: the settings that trials change, flat, without the seed.
        space: what they may be.
        objective: "return" of the last evaluation, "time" in seconds to the threshold, or "both": return, and seconds
            of the training.
        threshold: mean return at which a training is done; None unless time is the objective.
        seeds: trainings of each trial.
        evaluations: of each training, after which a trial may be given up.
        eval_episodes: of each of them.
        sampling: "tpe", "random", or "pbt": a trial is then an interval of a member (`population.py`).
        pruning: "asha", "hyperband", "median" or "none".
        population: members of population-based training; 0 for another search.
    """

    base: dict[str, Any]
    space: Space
    objective: str
    threshold: float | None
    seeds: int
    evaluations: int
    eval_episodes: int
    sampling: str
    pruning: str
    population: int = 0

    @property
    def env(self) -> str:
        return str(self.base["env"])

    @property
    def algo(self) -> str:
        return str(self.base["algo"])

    @property
    def name(self) -> str:
        """What the study is called in a database."""
        return f"{env_label(self.env)}__{registry.label(self.algo)}__{self.sampling}"

    @property
    def budget(self) -> int:
        """Environment steps of each training."""
        return int(self.base["total_timesteps"])

    def trials(self, asked: int) -> int:
        """Return how many trials there will be where so many are asked for."""
        return self.population * self.evaluations or asked

    def what(self, asked: int) -> str:
        """Say how much will be trained."""
        if self.population:
            return f"{self.population} networks x {self.budget:,} steps in {self.evaluations} intervals"
        return f"{self.seeds} x {self.budget:,} steps a trial, {asked:,} trials"

    @property
    def goals(self) -> list[str]:
        """What is wanted of a trial, in words."""
        return {"return": ["return"], "time": ["seconds"], "both": ["return", "seconds"]}[self.objective]

    @property
    def directions(self) -> list[str]:
        return ["maximize" if goal == "return" else "minimize" for goal in self.goals]

    @property
    def may_give_up(self) -> bool:
        """Whether trials are ended early; with two goals there is no telling which are worse."""
        return self.objective != "both" and self.pruning != "none" and not self.population

    def config(self, values: dict[str, Any], seed: int) -> RunConfig:
        """Return the configuration of a training with `values` over the base.

        Raises:
            UserError: they exclude one another, or whole rollouts take more steps than there are: beyond what those of
                the base take, and a twentieth. With longer ones a trial would be better for being trained longer.
        """
        config = RunConfig.from_dict({**self.base, **values, "seed": FIRST_SEED + seed}, "trial")
        base = RunConfig.from_dict({**self.base, "seed": FIRST_SEED}, "base")
        if _rollout(base) > self.budget:
            what = f"n_envs times n_steps is {_rollout(base):,}"
            raise UserError(f"{what}, more than the {self.budget:,} steps of a training")
        steps, most = self._steps(config), max(self._steps(base), int(self.budget * (1 + BEYOND)))
        if steps > most:
            what = f"n_envs times n_steps is {_rollout(config):,}"
            raise UserError(f"{what}, so that a training takes {steps:,} steps, {most:,} at most expected")
        return config

    def _steps(self, config: RunConfig) -> int:
        """Return how many steps a training takes, as its last rollout is whole."""
        return -(-self.budget // _rollout(config)) * _rollout(config)

    def sampler(self) -> Any:
        """Return what proposes trials: TPE sees those of other workers that are under way (Bergstra et al. 2011)."""
        from optuna.samplers import RandomSampler, TPESampler

        if self.sampling != "tpe":
            return RandomSampler()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # groups are experimental, it says
            return TPESampler(multivariate=True, group=True, constant_liar=True, n_startup_trials=RANDOM_TRIALS)

    def pruner(self) -> Any:
        """Return what gives trials up (Li et al. 2020); its steps are evaluations, seed after seed."""
        from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

        first = max(self.evaluations // RUNGS, 1)
        if not self.may_give_up:
            return NopPruner()
        if self.pruning == "hyperband":
            return HyperbandPruner(first, self.seeds * self.evaluations, FACTOR)
        if self.pruning == "median":
            return MedianPruner(n_startup_trials=RANDOM_TRIALS, n_warmup_steps=first)
        return SuccessiveHalvingPruner(first, FACTOR)

    def to_plain(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"space": to_plain(self.space)}

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Plan:
        """Read what `to_plain` wrote.

        Raises:
            TypeError, ValueError: it is not of that form.
        """
        _Stored.model_validate(values)
        return cls(**{**values, "space": from_plain(values["space"])})

    def refuse_other(self, stored: Plan, folder: Path) -> None:
        """Refuse to go on with a study of another plan.

        Raises:
            UserError: the message names what differs.
        """
        mine, theirs = ({**plan.base, **plan.to_plain()} for plan in (self, stored))
        names = [name for name in {**mine, **theirs} if name != "base" and mine.get(name) != theirs.get(name)]
        if names:
            shown = "; ".join(f"{name} is {theirs.get(name)!r} there, {mine.get(name)!r} here" for name in names[:4])
            raise UserError(f"{folder} holds another search: {shown[:600]}. Choose another --out for this one.")
