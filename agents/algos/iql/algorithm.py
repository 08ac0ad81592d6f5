"""Implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169)."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor

from agents.acting.policies import ActorCriticPolicy
from agents.algos.iql.config import IQLConfig
from agents.core.algorithm import Algorithm
from agents.data.batch import Batch
from agents.networks.implicit import ImplicitActorCritic
from agents.networks.target import Tensors, alike, copy_of, follow, make_target, tensors
from agents.ops.losses import advantage_weight, expectile_loss, mean
from envs.actions import Hybrid, bounds
from envs.errors import UserError


class IQL(Algorithm):
    """A policy that does what the better of the recorded actions do, by values that no other action is asked about.

    A state is worth an expectile of the critics' values of what was done there, the critics learn from the values of
    successors, and the policy clones actions by weights that rise with their advantage. An update is one step along
    the gradient of the sum of the three losses.

    Raises:
        UserError: there is a memory.
    """

    config_class = IQLConfig
    data = "replay"
    model: ImplicitActorCritic
    policy: ActorCriticPolicy
    low: Tensor
    high: Tensor

    def __init__(self, observation_space: Space, action_space: Space, config: IQLConfig) -> None:
        super().__init__(config)
        if config.network.recurrence.memory is not None:
            raise UserError("IQL replays single transitions and has no memory: leave --memory at none, or use bc.")
        self.model = ImplicitActorCritic(observation_space, action_space, config.network)
        self.policy = ActorCriticPolicy(self.model)
        self.bounded = isinstance(action_space, spaces.Box | Hybrid)
        for name, bound in zip(("low", "high"), bounds(action_space), strict=True) if self.bounded else ():
            self.register_buffer(name, torch.as_tensor(bound), persistent=False)
        self.target = make_target(self.model.critics)
        self._tensors: tuple[Tensors, Tensors] | None = None  # found in an update: another device has other buffers

    def copy_model(self) -> None:
        """Make the target critics a copy of the critics, with the same normalisers."""
        self.target = copy_of(self.model.critics, self.target)
        self._tensors = None

    def follow_model(self) -> None:
        if not alike(self.target, self.model.critics):
            self.target = make_target(self.model.critics)
        self._tensors = None

    def prepare(self, data: Batch, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Let the normalisers take in the observations; return the batch by name, actions as they were carried out."""
        self.model.update_statistics(data.obs)
        done = data.action.clamp(self.low, self.high) if self.bounded else data.action
        return data._asdict() | {"action": done}

    def loss(self, model: Any, minibatch: dict[str, Any], constants: dict[str, Tensor]) -> tuple[Tensor, Any]:
        config, values = self.config, self.model.critics.values
        obs, next_obs, action, weight = (minibatch[name] for name in ("obs", "next_obs", "action", "weight"))
        numbers = model.code(action)
        with torch.no_grad():
            worth = values.value(self.target(obs, numbers))
            goal = torch.addcmul(minibatch["return_"], minibatch["discount"], model.value(next_obs))[:, None]
        distribution, value = model(obs)
        taken = model.critics(obs, numbers)
        value_loss = expectile_loss(worth - value, config.expectile)  # eq. 5
        critic_loss = values.loss(taken, goal)  # eq. 6
        clone = advantage_weight(worth - value.detach(), config.weight_temp, config.max_weight)
        actor_loss = -clone * distribution.log_prob(action)  # eq. 7
        losses = {"value_loss": value_loss, "critic_loss": critic_loss, "actor_loss": actor_loss}
        means = {name: mean(loss if weight is None else loss * weight) for name, loss in losses.items()}
        aux = {name: loss.detach() for name, loss in means.items()}
        aux |= {"advantage_weight": clone.mean(), "value_mean": value.detach().mean()}
        if weight is not None:
            aux["priority"] = values.error(taken.detach(), goal)
        return means["value_loss"] + means["critic_loss"] + means["actor_loss"], aux

    def after_update(self, data: dict[str, Any]) -> None:
        """Move the target critics by `tau`."""
        self._tensors = self._tensors or (tensors(self.target), tensors(self.model.critics))
        follow(*self._tensors, self.config.tau)
