"""PPO's hyperparameters, named as in stable-baselines3."""

from __future__ import annotations

from pydantic import Field

from agents.core.auxiliary import AuxiliaryConfig
from agents.core.config import ActorCriticConfig, CuriosityConfig, EpochsConfig
from agents.core.recorded_config import DemonstratorConfig
from agents.core.settings import Schedule


class SeparateCuriosityConfig(CuriosityConfig):
    """Rewards for what is new, whose returns and values are apart from those of the environment's."""

    curiosity_gamma: float = Field(0.99, ge=0, le=1, description="discount factor of its returns")
    curiosity_episodic: bool = Field(False, description="let its returns end with the episode")


class PPOConfig(EpochsConfig):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

    gae_lambda: float = Field(0.95, ge=0, le=1, description="GAE's bias-variance trade-off")
    clip_range: Schedule = Field(0.2, description="how far a probability ratio may move; lin_X falls linearly to 0")
    clip_range_high: Schedule | None = Field(None, description="how far it may rise; none for clip_range")
    dual_clip: float | None = Field(
        None, gt=1, description="an action's loss grows up to a probability ratio of this, where the action was bad"
    )
    clip_range_vf: float | None = Field(
        None, gt=0, description="how far values may move from the old ones; none for no clipping"
    )
    normalize_advantage: bool = Field(True, description="normalise advantages in each minibatch")
    normalize_over_rollout: bool = Field(False, description="normalise them over the whole rollout instead")
    ent_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    vf_coef: float = Field(0.5, ge=0, description="weight of the value loss")
    augment_coef: float = Field(0.1, ge=0, description="weight of saying the same of pictures as of augmented ones")
    target_kl: float | None = Field(None, gt=0, description="end an update early beyond 1.5 times this KL divergence")
    desired_kl: float | None = Field(
        None, gt=0, description="let learning_rate rise and fall from step to step with this KL divergence as its aim"
    )
    norm_reward: bool = Field(False, description="divide rewards by the running deviation of the discounted return")
    rescale_action: bool = Field(False, description="map [-1, 1] to the action bounds instead of clipping to them")
    intrinsic: SeparateCuriosityConfig = SeparateCuriosityConfig()
    representation: AuxiliaryConfig = AuxiliaryConfig()
    demonstration: DemonstratorConfig = DemonstratorConfig()
    network: ActorCriticConfig = ActorCriticConfig()

    def contradiction(self) -> str | None:
        if self.desired_kl is not None and isinstance(self.learning_rate, str):
            return (
                f"desired_kl lets the learning rate follow the policy's steps, and learning_rate {self.learning_rate} "
                "lets it fall: give the number that it begins with, or leave desired_kl out."
            )
        return self.demonstration.beside(self.network.recurrence.memory) or super().contradiction()

    @property
    def rescales_action(self) -> bool:
        """Squashed actions are always rescaled: tanh gives [-1, 1]."""
        return self.rescale_action or self.network.squash_output
