"""The settings of behaviour cloning."""

from __future__ import annotations

from pydantic import Field

from agents.core.config import ActorCriticConfig, RolloutConfig
from agents.core.recorded_config import HeldOutConfig, RunPath
from agents.core.settings import Schedule, Settings


class DaggerConfig(Settings):
    """An expert that is asked what it would do where the policy came to (Ross et al. 2011, arXiv:1011.0686)."""

    dagger: RunPath | None = Field(None, description="the expert's run; none learns from the recorded episodes alone")
    dagger_steps: int = Field(1_000, gt=0, description="steps that the policy takes in each round of asking")
    dagger_rounds: int = Field(10, gt=0, description="rounds, evenly over the first half of the training")


class BCConfig(RolloutConfig):
    """Behaviour cloning (Pomerleau 1989): an environment step is here a transition that was learnt from."""

    details = (("dagger", None, ("dagger_steps", "dagger_rounds")),)
    total_timesteps: int = Field(500_000, gt=0, description="transitions to learn from, each time that one is")
    n_envs: int = Field(1, gt=0, description="environments stepped together, where an expert is asked (dagger)")
    n_steps: int = Field(64, gt=0, description="steps of an episode that are learnt from together")
    batch_size: int = Field(64, gt=0, description="transitions in a minibatch")
    learning_rate: Schedule = Field(1e-3, description="optimiser step size; lin_X falls linearly from X to 0")
    ent_coef: float = Field(1e-3, ge=0, description="weight of the entropy bonus")
    vf_coef: float = Field(0.5, ge=0, description="weight of the value loss, for trainings that go on from it")
    rescale_action: bool = Field(False, description="map [-1, 1] to the action bounds instead of clipping to them")
    balanced: bool = Field(False, description="count rare actions of Discrete as much as frequent ones")
    patience: int = Field(
        10,
        ge=0,
        description="passes over the data without a lower loss on held-out episodes, to end after; 0 for never",
    )
    recorded: HeldOutConfig = HeldOutConfig()
    expert: DaggerConfig = DaggerConfig()
    network: ActorCriticConfig = ActorCriticConfig()

    @property
    def rescales_action(self) -> bool:
        """Squashed actions are always rescaled: tanh gives [-1, 1]."""
        return self.rescale_action or self.network.squash_output
