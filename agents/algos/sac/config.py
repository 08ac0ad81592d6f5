"""SAC's hyperparameters, named as in stable-baselines3, and those of TQC and CrossQ as in its contributions."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from agents.core.config import OffPolicyConfig, ReplayConfig, SoftActorCriticConfig
from agents.core.settings import Auto, GradNorm

_AUTO = re.compile(r"auto(_(\d+(\.\d*)?([eE][-+]?\d+)?))?")


def _check_ent_coef(value: float | str) -> float | str:
    if isinstance(value, str):
        match = _AUTO.fullmatch(value)
        if match is None or (match[2] is not None and float(match[2]) == 0):
            raise ValueError("must be a number, auto, or auto_NUMBER to begin at a number > 0, such as auto_0.1")
    elif value < 0:
        raise ValueError("must be >= 0")
    return value


class LargeReplayConfig(ReplayConfig):
    """The store of transitions, and when they are learnt from."""

    buffer_size: int = Field(1_000_000, gt=0, description="transitions that the replay buffer holds")
    learning_starts: int = Field(
        100, ge=0, description="environment steps with random actions, before the first update"
    )
    train_freq: int = Field(1, gt=0, description="environment steps between rounds of updates")


class SACConfig(OffPolicyConfig):
    """Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905)."""

    batch_size: int = Field(256, gt=0, description="transitions in a minibatch")
    max_grad_norm: GradNorm = None
    tau: float = Field(0.005, gt=0, le=1, description="share of the critics mixed into their target as it moves")
    target_update_interval: int = Field(1, gt=0, description="updates after which the target moves")
    ent_coef: Annotated[float | str, AfterValidator(_check_ent_coef)] = Field(
        "auto", description="weight of the entropy; auto learns it, beginning at 1, and auto_X beginning at X"
    )
    target_entropy: float | Auto = Field(
        "auto", description="entropy that a learnt weight aims at; auto is minus the number of an action's entries"
    )
    replay: LargeReplayConfig = LargeReplayConfig()
    network: SoftActorCriticConfig = SoftActorCriticConfig()

    @property
    def rescales_action(self) -> bool:
        return True

    @property
    def initial_ent_coef(self) -> float | None:
        """The weight of the entropy that learning it begins with; None where it is not learnt."""
        return float(self.ent_coef[5:] or 1.0) if isinstance(self.ent_coef, str) else None

    def contradiction(self) -> str | None:
        starts, total = self.replay.learning_starts, self.schedule_total
        if total is not None and total < starts:
            return (
                f"schedule_total {total} is below learning_starts {starts}, up to which actions are random: lower "
                "learning_starts, or raise schedule_total."
            )
        if self.target_entropy != "auto" and self.initial_ent_coef is None:
            return (
                f"target_entropy is what a learnt weight of the entropy aims at, and ent_coef is {self.ent_coef:g}: "
                "give ent_coef as auto, or leave target_entropy out."
            )
        return super().contradiction()
