"""PPO's hyperparameters, named as in stable-baselines3."""

from __future__ import annotations

from pydantic import Field

from agents.core.config import AlgoConfig, Schedule


class PPOConfig(AlgoConfig):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

    n_steps: int = Field(128, gt=0, description="steps of each environment in one rollout")
    batch_size: int = Field(256, gt=0, description="transitions in a minibatch")
    n_epochs: int = Field(4, gt=0, description="passes over each rollout")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="GAE's bias-variance trade-off")
    clip_range: Schedule = Field(0.2, description="how far a probability ratio may move; lin_X falls linearly to 0")
    clip_range_vf: float | None = Field(None, gt=0, description="the same for the value function; none for no clipping")
    normalize_advantage: bool = Field(True, description="normalise advantages in each minibatch")
    ent_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    vf_coef: float = Field(0.5, ge=0, description="weight of the value loss")
    target_kl: float | None = Field(None, gt=0, description="end an update early beyond 1.5 times this KL divergence")
    norm_reward: bool = Field(False, description="divide rewards by the running deviation of the discounted return")
    shared_torso: bool = Field(False, description="one torso for policy and value function instead of two")
    ortho_init: bool = Field(True, description="orthogonal initialisation of the weights")
    log_std_init: float = Field(0.0, description="initial log standard deviation of continuous actions")
    state_dependent_std: bool = Field(False, description="let the network choose the deviation of continuous actions")
    squash_output: bool = Field(False, description="squash continuous actions with tanh and rescale them to the bounds")
    rescale_action: bool = Field(False, description="map [-1, 1] to the action bounds instead of clipping to them")

    @property
    def rescales_action(self) -> bool:
        """Squashed actions are always rescaled: tanh gives [-1, 1]."""
        return self.rescale_action or self.squash_output
