"""PPO's hyperparameters, named as in stable-baselines3."""

from __future__ import annotations

from pydantic import Field

from agents.core.config import ActorCriticConfig, EpochsConfig, Schedule


class PPOConfig(EpochsConfig):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

    gae_lambda: float = Field(0.95, ge=0, le=1, description="GAE's bias-variance trade-off")
    clip_range: Schedule = Field(0.2, description="how far a probability ratio may move; lin_X falls linearly to 0")
    clip_range_vf: float | None = Field(None, gt=0, description="the same for the value function; none for no clipping")
    normalize_advantage: bool = Field(True, description="normalise advantages in each minibatch")
    ent_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    vf_coef: float = Field(0.5, ge=0, description="weight of the value loss")
    target_kl: float | None = Field(None, gt=0, description="end an update early beyond 1.5 times this KL divergence")
    norm_reward: bool = Field(False, description="divide rewards by the running deviation of the discounted return")
    rescale_action: bool = Field(False, description="map [-1, 1] to the action bounds instead of clipping to them")
    network: ActorCriticConfig = ActorCriticConfig()

    @property
    def rescales_action(self) -> bool:
        """Squashed actions are always rescaled: tanh gives [-1, 1]."""
        return self.rescale_action or self.network.squash_output
