"""What every algorithm's hyperparameters share. Field descriptions are the commands' `--help`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_LINEAR = re.compile(r"lin_(\d+(\.\d*)?([eE][-+]?\d+)?)")


def _check_schedule(value: float | str) -> float | str:
    if isinstance(value, str):
        if not _LINEAR.fullmatch(value):
            raise ValueError("must be a number, or lin_NUMBER to fall linearly to 0, such as lin_3e-4")
    elif value < 0:
        raise ValueError("must be >= 0")
    return value


Schedule = Annotated[float | str, AfterValidator(_check_schedule)]


CompileMode = Literal["auto", "off", "on"]
Activation = Literal["tanh", "relu", "elu", "gelu", "silu"]


class AlgoConfig(BaseModel):
    """Fields that every algorithm has; `agents.algos.ppo.config` and `agents.algos.dqn.config` add their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    total_timesteps: int = Field(100_000, gt=0, description="environment steps to train for")
    n_envs: int = Field(8, gt=0, description="environments stepped together")
    target_reward: float | None = Field(
        None, description="stop once an evaluation's mean return reaches this; none trains the whole budget"
    )
    eval_freq: int = Field(10_000, ge=0, description="environment steps between evaluations; 0 for none")
    eval_episodes: int = Field(20, gt=0, description="episodes of each evaluation")
    final_eval_episodes: int = Field(100, ge=0, description="episodes of the last evaluation; 0 for none")
    save_freq: int = Field(50_000, ge=0, description="environment steps between checkpoints; 0 saves only at the end")
    learning_rate: Schedule = Field(3e-4, description="optimiser step size; lin_X falls linearly from X to 0")
    gamma: float = Field(0.99, ge=0, le=1, description="discount factor")
    max_grad_norm: float = Field(0.5, gt=0, description="gradients are scaled down to this norm")
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = Field("adam", description="optimiser")
    net_arch: tuple[Annotated[int, Field(gt=0)], ...] = Field((64, 64), description="widths of the hidden layers")
    activation: Activation = Field("tanh", description="hidden activation")
    norm_obs: bool = Field(False, description="normalise observations by their running mean and variance")

    @property
    def rescales_action(self) -> bool:
        """Whether actions in [-1, 1] are mapped to the environment's bounds, rather than clipped to them."""
        return False


class OffPolicyConfig(AlgoConfig):
    """What algorithms that learn from a replay buffer share."""

    n_envs: int = Field(1, gt=0, description="environments stepped together")
    buffer_size: int = Field(100_000, gt=0, description="transitions that the replay buffer holds")
    learning_starts: int = Field(1_000, ge=0, description="environment steps before the first update")
    batch_size: int = Field(64, gt=0, description="transitions in a minibatch")
    train_freq: int = Field(4, gt=0, description="environment steps between rounds of updates")
    gradient_steps: int = Field(1, ge=-1, description="updates in a round; -1 for as many as steps were taken")
    target_update_interval: int = Field(1_000, gt=0, description="environment steps between target updates")
    n_step_returns: int = Field(1, gt=0, description="rewards summed before bootstrapping")
