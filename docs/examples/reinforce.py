"""REINFORCE with a learnt baseline (Williams 1992; Sutton & Barto 2018, section 13.4), as an algorithm of your own.

python -m agents.train --env CartPole-v1 --algo docs/examples/reinforce.py:Reinforce
"""

from __future__ import annotations

from typing import Any

from gymnasium import Space
from pydantic import Field
from torch import Tensor, nn

from agents.acting.policies import ActorCriticPolicy
from agents.core.algorithm import Algorithm
from agents.core.config import ActorCriticConfig, RolloutConfig, Schedule
from agents.data.trajectory import Trajectory
from agents.networks.models import ActorCritic
from agents.ops.losses import mean, normalized
from agents.ops.returns import gae


class ReinforceConfig(RolloutConfig):
    """REINFORCE with a learnt baseline (Williams 1992)."""

    total_timesteps: int = Field(100_000, gt=0, description="environment steps to train for")
    n_steps: int = Field(64, gt=0, description="steps of each environment in one rollout")
    learning_rate: Schedule = Field(3e-3, description="optimiser step size; lin_X falls linearly from X to 0")
    vf_coef: float = Field(0.5, ge=0, description="weight of the baseline's loss")
    network: ActorCriticConfig = ActorCriticConfig()


class Reinforce(Algorithm):
    """One step along the policy gradient for each rollout; the baseline is the value function."""

    config_class = ReinforceConfig
    model: ActorCritic
    policy: ActorCriticPolicy

    def __init__(self, observation_space: Space, action_space: Space, config: ReinforceConfig) -> None:
        super().__init__(config)
        self.model = ActorCritic(observation_space, action_space, config.network)
        self.policy = ActorCriticPolicy(self.model)

    def prepare(self, data: Trajectory, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Return the discounted returns, which go on with the value where the rollout or a time limit cut them."""
        _, value, next_value = self.policy.evaluate(data)
        ends = data.terminated, data.truncated
        advantage, return_ = gae(data.reward, value, next_value, *ends, self.config.gamma, gae_lambda=1.0)
        return {"action": data.action, "advantage": advantage, "return": return_}

    def loss(
        self, model: nn.Module, minibatch: dict[str, Any], constants: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        valid = minibatch.get("valid")  # False on transitions that are none; only sequences have such
        distribution, value = model(minibatch["obs"], minibatch.get("carry", ()), minibatch.get("start"))
        advantage = normalized(minibatch["advantage"], valid)
        policy = -mean(distribution.log_prob(minibatch["action"]) * advantage, valid)
        baseline = mean((value - minibatch["return"]).square(), valid)
        loss = policy + self.config.vf_coef * baseline
        return loss, {
            "loss": loss.detach(),
            "policy_gradient_loss": policy.detach(),
            "value_loss": baseline.detach(),
        }

    def after_update(self, data: dict[str, Any]) -> None:
        self.model.update_statistics(data["obs"], data.get("valid"))
