"""DQN's hyperparameters, named as in stable-baselines3; those of prioritised replay as in its version 2.

Two differ: `n_step_returns` (its `n_steps`, which is the length of a rollout here), and `train_freq`, which counts the
steps of all environments together, not of each.
"""

from __future__ import annotations

from pydantic import Field

from agents.core.auxiliary import AuxiliaryConfig
from agents.core.config import CuriosityConfig, ExplorationConfig, OffPolicyConfig, QNetworkConfig
from agents.core.recorded_config import MarginDemonstratorConfig, OfflineConfig
from agents.core.settings import GradNorm, Schedule, Settings


class MunchausenConfig(Settings):
    """A bonus for actions that the policy takes anyway (Vieillard et al. 2020, arXiv:2007.14430)."""

    munchausen: bool = Field(False, description="add the scaled log-probability of the action taken to the reward")
    munchausen_alpha: float = Field(0.9, ge=0, le=1, description="its weight")
    munchausen_tau: float = Field(0.03, gt=0, description="temperature of the policy that values stand for")
    munchausen_clip: float = Field(-1.0, lt=0, description="the least that is added, before the weight")


class DQNConfig(OffPolicyConfig):
    """Deep Q-learning (Mnih et al. 2015), with Double DQN (van Hasselt et al. 2016, arXiv:1509.06461)."""

    learning_rate: Schedule = Field(1e-4, description="optimiser step size; lin_X falls linearly from X to 0")
    max_grad_norm: GradNorm = 10.0
    target_update_interval: int = Field(1_000, gt=0, description="environment steps between target updates")
    tau: float = Field(1.0, gt=0, le=1, description="share of the online network mixed into the target (1 copies it)")
    double_q: bool = Field(True, description="let the online network choose the target's action (Double DQN)")
    cql_alpha: float = Field(
        0.0, ge=0, description="weight of a penalty on values of actions not taken, for data of others; 0 for none"
    )
    exploration: ExplorationConfig = ExplorationConfig()
    target: MunchausenConfig = MunchausenConfig()
    intrinsic: CuriosityConfig = CuriosityConfig()
    representation: AuxiliaryConfig = AuxiliaryConfig()
    recorded: OfflineConfig = OfflineConfig()
    demonstration: MarginDemonstratorConfig = MarginDemonstratorConfig()
    network: QNetworkConfig = QNetworkConfig()

    def contradiction(self) -> str | None:
        if self.intrinsic.curiosity != "none" and self.replay.n_step_returns > 1:
            return (
                f"curiosity {self.intrinsic.curiosity} judges single steps, and n_step_returns "
                f"{self.replay.n_step_returns} replays several as one: give n_step_returns 1, or leave curiosity out."
            )
        if self.target.munchausen and self.network.bcq_threshold:
            return "munchausen backs up a policy over all actions, and bcq_threshold leaves some out: give only one."
        return self.demonstration.beside(self.network.recurrence.memory) or super().contradiction()
