"""The settings of pretraining."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agents.core.config import RolloutConfig
from agents.core.recorded_config import HeldOutConfig
from agents.core.settings import Auto, Schedule, not_negative

PLAYING = ("target_reward", "eval_freq", "final_eval_episodes", "video_freq", "record_every")


class PretrainConfig(RolloutConfig):
    """An encoder learnt from recorded observations: an environment step is here one that was learnt from."""

    details = (("objective", ("curl",), ("curl_tau",)),)
    objective: Literal["autoencoder", "curl"] = Field(
        "autoencoder",
        description="put observations together again, or (curl; Laskin et al. 2020, arXiv:2004.04136) tell changed "
        "pictures apart, for which augment says how they are changed",
    )
    curl_tau: float = Field(
        0.5, gt=0, le=1, description="share of the encoder mixed into that of curl's keys every 4,096 observations"
    )
    total_timesteps: int = Field(200_000, gt=0, description="observations to learn from, each time that one is")
    n_envs: int = Field(1, gt=0, description="environments, which only say what observations are")
    n_steps: int = Field(1, gt=0, description="steps of an episode that are learnt from together")
    batch_size: int = Field(128, gt=0, description="observations in a minibatch")
    learning_rate: Schedule = Field(1e-3, description="optimiser step size; lin_X falls linearly from X to 0")
    eval_freq: Annotated[int | Auto, not_negative] = Field(0, description="0: there is no policy to evaluate")
    final_eval_episodes: int = Field(0, ge=0, description="0: there is no policy to evaluate")
    patience: int = Field(
        10,
        ge=0,
        description="passes over the data without a lower loss on held-out episodes, to end after; 0 for never",
    )
    recorded: HeldOutConfig = HeldOutConfig()

    def contradiction(self) -> str | None:
        if given := [name for name in PLAYING if getattr(self, name)]:
            return f"{given[0]} {getattr(self, given[0])} asks for a policy, and pretrain learns none: leave it out."
        if self.network.recurrence.memory:
            return f"pretrain learns what reads observations, and memory {self.network.recurrence.memory} comes after."
        return super().contradiction()
