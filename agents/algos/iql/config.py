"""IQL's hyperparameters, named as in d3rlpy; what it shares with SAC as in stable-baselines3."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from agents.algos.sac.config import LargeReplayConfig
from agents.core.config import ActorCriticConfig, NetworkConfig, OffPolicyConfig, SoftActorCriticConfig
from agents.core.recorded_config import OfflineConfig
from agents.core.settings import Activation, GradNorm, TorsoWidths


class AlwaysOfflineConfig(OfflineConfig):
    """Recorded episodes, without which nothing is learnt."""

    required: ClassVar[bool] = True


class ImplicitNetworkConfig(ActorCriticConfig):
    """What a policy, a value function and critics of actions are made of; critics are as wide as the value function."""

    net_arch: TorsoWidths = Field(
        (256, 256), description="widths of the hidden layers; pi=64,64 vf=128 for policy and values apart"
    )
    activation: Activation = Field("relu", description="hidden activation")
    n_critics: int = Field(2, gt=0, description="critics, each with weights of its own")

    @property
    def critics(self) -> SoftActorCriticConfig:
        """What the critics are made of."""
        shared = {name: getattr(self, name) for name in NetworkConfig.model_fields}
        return SoftActorCriticConfig(**shared | {"net_arch": self.torsos.vf, "n_critics": self.n_critics})

    def contradiction(self) -> str | None:
        if self.squash_output:
            return "squash_output gives no likelihood to recorded actions at their bounds: leave it out for iql."
        if self.norm_value != "none":
            return f"norm_value {self.norm_value} follows the returns of rollouts, which iql has none of: leave it out."
        return super().contradiction()


class IQLConfig(OffPolicyConfig):
    """Implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169)."""

    batch_size: int = Field(256, gt=0, description="transitions in a minibatch")
    max_grad_norm: GradNorm = None
    tau: float = Field(0.005, gt=0, le=1, description="share of the critics mixed into their target at each update")
    expectile: float = Field(
        0.7, gt=0, lt=1, description="which expectile of its actions' values a state is worth; 0.5 is their mean"
    )
    weight_temp: float = Field(
        3.0, ge=0, description="how much better actions count more, by exp(weight_temp * advantage); 0 clones"
    )
    max_weight: float = Field(100.0, gt=0, description="the largest of these weights")
    rescale_action: bool = Field(True, description="map [-1, 1] to the action bounds instead of clipping to them")
    replay: LargeReplayConfig = LargeReplayConfig()
    recorded: AlwaysOfflineConfig = AlwaysOfflineConfig()
    network: ImplicitNetworkConfig = ImplicitNetworkConfig()

    @property
    def rescales_action(self) -> bool:
        return self.rescale_action
