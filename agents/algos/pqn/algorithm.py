"""Parallelised Q-learning (Gallici et al. 2025, arXiv:2407.04811)."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space
from torch import Tensor, nn

from agents.acting.policies import EpsilonGreedyPolicy
from agents.algos.pqn.config import PQNConfig
from agents.core.algorithm import Algorithm
from agents.data.trajectory import Trajectory
from agents.networks.curiosity import add_learning, build_curiosity
from agents.networks.demonstrator import below_demonstrator
from agents.networks.models import ActorCritic, QNetwork
from agents.networks.normalize import RewardScale
from agents.networks.representation import add_auxiliary, build_auxiliary
from agents.ops.losses import mean
from agents.ops.returns import gae


class PQN(Algorithm):
    """Action values, learnt from rollouts towards their own lambda-returns, over several epochs of minibatches.

    Raises:
        UserError: the action space is not Discrete.
    """

    config_class = PQNConfig
    model: QNetwork
    policy: EpsilonGreedyPolicy

    def __init__(self, observation_space: Space, action_space: Space, config: PQNConfig) -> None:
        super().__init__(config)
        actions, scale = self.discrete(action_space), RewardScale(config.n_envs, config.gamma)
        curiosity = build_curiosity(observation_space, actions, config.intrinsic, config.network, scale)
        self.model = QNetwork(observation_space, actions, config.network, curiosity)
        how = config.representation, config.network, self.model, config.augment
        self.model.auxiliary = build_auxiliary(observation_space, *how)
        self.successors = curiosity is not None
        self.policy = EpsilonGreedyPolicy(self.model, config.exploration)
        self.demonstrator: ActorCritic | QNetwork | None = None  # frozen; of another run, where the settings name one
        self.n_epochs, self.batch_size = config.n_epochs, config.batch_size

    def constants(self, progress: float) -> dict[str, float]:
        return super().constants(progress) | self.config.demonstration.constants(progress)

    def prepare(self, data: Trajectory, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Return Q(lambda) targets `[T, N]` (eq. 6): those of GAE whose values are those of the best actions."""
        _, value, next_value = self.policy.evaluate(data)
        reward, ends, curious = data.reward, (data.terminated, data.truncated), {}
        if self.model.curiosity is not None:
            seen = data.obs, data.action, data.next_obs
            bonus, more = self.model.curiosity.rewards(*seen, data.terminated | data.truncated, data.valid)
            reward = torch.add(reward, more, alpha=self.config.intrinsic.curiosity_coef)
            curious = {"bonus": bonus, "next_obs": data.next_obs}
        _, return_ = gae(reward, value, next_value, *ends, self.config.gamma, self.config.q_lambda)
        return {"action": data.action, "return": return_, **curious}

    def loss(
        self, model: nn.Module, minibatch: dict[str, Any], constants: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self.model.bring_bounds_up_to_date()
        q = model(minibatch.get("augmented", minibatch["obs"]), minibatch.get("carry", ()), minibatch.get("start")).q
        taken = q.gather(-1, minibatch["action"][..., None]).squeeze(-1)
        valid = minibatch.get("valid")
        loss = 0.5 * mean((taken - minibatch["return"]).square(), valid)
        also: dict[str, Tensor] = {}
        if self.demonstrator is not None:
            margin = self.config.demonstration.demonstrator_margin
            below = mean(below_demonstrator(self.demonstrator, minibatch["obs"], q, margin), valid)
            loss, also["demonstrator_loss"] = loss + constants["demonstrator_coef"] * below, below.detach()
        aux = {"q_mean": mean(taken.detach(), valid), **also}
        if self.model.curiosity is not None:
            loss, learnt = add_learning(loss, model.curiosity, minibatch, self.config.intrinsic)
            aux |= {"curiosity_loss": learnt, "rollout/curiosity": mean(minibatch["bonus"], valid)}
        loss, of_observations = add_auxiliary(loss, model, minibatch, self.config.representation)
        return loss, {"loss": loss.detach(), **aux, **of_observations}

    def follow_model(self) -> None:
        self.model.copy_encoder()

    def after_update(self, data: dict[str, Any]) -> None:
        """Let the normalisers take in the observations: so the values that acted are those first updated."""
        self.model.update_statistics(data["obs"], data.get("valid"))
