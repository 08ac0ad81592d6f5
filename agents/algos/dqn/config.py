"""DQN's hyperparameters, named as in stable-baselines3."""

from __future__ import annotations

from pydantic import Field

from agents.core.config import Activation, NetworkConfig, OffPolicyConfig, Schedule, Settings


class QNetworkConfig(NetworkConfig):
    """What the action-value network is made of."""

    activation: Activation = Field("relu", description="hidden activation")


class ExplorationConfig(Settings):
    """How often a random action is taken (epsilon-greedy)."""

    exploration_fraction: float = Field(0.1, ge=0, le=1, description="part of the budget over which epsilon falls")
    exploration_initial_eps: float = Field(1.0, ge=0, le=1, description="epsilon at the start")
    exploration_final_eps: float = Field(0.05, ge=0, le=1, description="epsilon at the end")


class DQNConfig(OffPolicyConfig):
    """Deep Q-learning (Mnih et al. 2015), with Double DQN (van Hasselt et al. 2016, arXiv:1509.06461)."""

    learning_rate: Schedule = Field(1e-4, description="optimiser step size; lin_X falls linearly from X to 0")
    max_grad_norm: float | None = Field(
        10.0, gt=0, description="gradients are scaled down to this norm; none leaves them as they are"
    )
    tau: float = Field(1.0, gt=0, le=1, description="share of the online network mixed into the target (1 copies it)")
    double_q: bool = Field(True, description="let the online network choose the target's action (Double DQN)")
    exploration: ExplorationConfig = ExplorationConfig()
    network: QNetworkConfig = QNetworkConfig()
