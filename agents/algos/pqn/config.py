"""PQN's hyperparameters, named as in stable-baselines3 where that has them."""

from __future__ import annotations

from pydantic import Field

from agents.core.auxiliary import AuxiliaryConfig
from agents.core.config import CuriosityConfig, EpochsConfig, ExplorationConfig, QNetworkConfig
from agents.core.recorded_config import MarginDemonstratorConfig
from agents.core.settings import GradNorm, Schedule


class NormalizedQNetworkConfig(QNetworkConfig):
    """What the action-value network is made of; layer normalisation is what keeps it from diverging."""

    layer_norm: bool = Field(True, description="normalise each hidden layer (LayerNorm)")

    def contradiction(self) -> str | None:
        for name in ("noisy", "rescale_values", "bcq_threshold"):
            if getattr(self, name):
                return f"{name} is a part of dqn, which pqn does not have: leave it out, or use --algo dqn."
        if self.distribution != "none":
            return f"distribution {self.distribution} is a part of dqn, which pqn does not have: use --algo dqn."
        return super().contradiction()


class LongExplorationConfig(ExplorationConfig):
    """How often a random action is taken (epsilon-greedy); without a replay buffer this must last longer."""

    exploration_fraction: float = Field(0.5, ge=0, le=1, description="part of the budget over which epsilon falls")
    exploration_final_eps: float = Field(0.02, ge=0, le=1, description="epsilon at the end")


class PQNConfig(EpochsConfig):
    """Parallelised Q-learning (Gallici et al. 2025, arXiv:2407.04811): no replay, no target network."""

    n_envs: int = Field(16, gt=0, description="environments stepped together")
    n_steps: int = Field(32, gt=0, description="steps of each environment in one rollout")
    batch_size: int = Field(128, gt=0, description="transitions in a minibatch")
    learning_rate: Schedule = Field("lin_1e-3", description="optimiser step size; lin_X falls linearly from X to 0")
    q_lambda: float = Field(0.65, ge=0, le=1, description="lambda of the returns: 0 for one step, 1 for whole episodes")
    max_grad_norm: GradNorm = 10.0
    exploration: LongExplorationConfig = LongExplorationConfig()
    intrinsic: CuriosityConfig = CuriosityConfig()
    representation: AuxiliaryConfig = AuxiliaryConfig()
    demonstration: MarginDemonstratorConfig = MarginDemonstratorConfig()
    network: NormalizedQNetworkConfig = NormalizedQNetworkConfig()

    def contradiction(self) -> str | None:
        return self.demonstration.beside(self.network.recurrence.memory) or super().contradiction()
