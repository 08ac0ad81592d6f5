"""Behaviour cloning (Pomerleau 1989, "ALVINN"): the policy under which recorded actions are most likely."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.acting.policies import ActorCriticPolicy
from agents.algos.bc.config import BCConfig
from agents.core.algorithm import RecordedAlgorithm
from agents.core.tree import tree_map
from agents.data.trajectory import Trajectory
from agents.networks.models import ActorCritic
from agents.ops.losses import mean
from agents.ops.returns import gae


class BC(RecordedAlgorithm):
    """Maximum likelihood of recorded actions; the values of recorded returns are learnt beside, for what follows.

    Attributes:
        weight: of each action of Discrete in the loss, `[A]`; () for other actions.
    """

    config_class = BCConfig
    model: ActorCritic
    policy: ActorCriticPolicy
    weight: Tensor

    def __init__(self, observation_space: Space, action_space: Space, config: BCConfig) -> None:
        super().__init__(config)
        self.model = ActorCritic(observation_space, action_space, config.network)
        self.policy = ActorCriticPolicy(self.model)
        self.batch_size = config.batch_size
        self.choices = int(action_space.n) if isinstance(action_space, spaces.Discrete) else 0
        self.register_buffer("weight", torch.ones(self.choices))

    def see(self, action: Tensor) -> None:
        """Weigh the actions by how often they are in the data, `[M]`, if the settings say so; absent ones by 1."""
        if self.config.balanced and self.choices:
            counts = torch.bincount(action, minlength=self.choices).to(self.weight)
            there = counts > 0
            self.weight.copy_(torch.where(there, len(action) / (counts * there.sum()), 1.0))

    def prepare(self, data: Trajectory, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Return the actions, and the discounted returns where values are learnt, `[T, N]`."""
        found = {"action": self.model.stored(data.action)}
        if self.config.vf_coef:
            _, value, next_value = self.policy.evaluate(self._remembered(data) if self.model.recurrent else data)
            ends = data.terminated, data.truncated
            found["return"] = gae(data.reward, value, next_value, *ends, self.config.gamma, gae_lambda=1.0)[1]
            self.model.learn_scale(value, found["return"], data.valid)
        return found

    def _remembered(self, data: Trajectory) -> Trajectory:
        """Return a trajectory whose successors are looked at with what is remembered of the steps before them.

        Recorded steps have no carry: the memory is followed from one end of an episode to the next.
        """
        carry, final = data.carry, data.final
        ends = [] if final is None else (final.t.unique() + 1).tolist()
        for begin, end in pairwise(sorted({0, *ends, len(data.start)})):
            obs, start = tree_map(lambda leaf, part=slice(begin, end): leaf[part], (data.obs, data.start))
            carry = self.model.remember(obs, carry, start)
            if final is not None:
                here = (final.t == end - 1).nonzero().squeeze(1)
                after = tree_map(lambda leaf, n=final.n[here]: leaf[n], carry)
                kept = tree_map(lambda leaf, new, here=here: leaf.index_copy(0, here, new), final.carry, after)
                final = final._replace(carry=kept)
        return replace(data, last_carry=carry, final=final)

    def loss(
        self, model: nn.Module, minibatch: dict[str, Any], constants: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        valid, action = minibatch.get("valid"), minibatch["action"]
        obs = minibatch.get("augmented", minibatch["obs"])
        distribution, value = model(obs, minibatch.get("carry", ()), minibatch.get("start"))
        log_prob = distribution.log_prob(action)
        weighed = log_prob * self.weight[action] if self.choices else log_prob
        entropy = mean(distribution.entropy(None), valid)
        likelihood = mean(weighed, valid)
        loss = -likelihood - self.config.ent_coef * entropy
        found = {"neglogp": -mean(log_prob, valid), "entropy": entropy}
        if "return" in minibatch:
            return_ = minibatch["return"]
            if self.model.value_scale is not None:
                value, return_ = self.model.value_scale.normalized(value), self.model.value_scale.normalized(return_)
            found["value_loss"] = mean((value - return_).square(), valid)
            loss = loss + self.config.vf_coef * found["value_loss"]
        if self.choices:
            found["accuracy"] = mean((distribution.mode() == action).float(), valid)
        return loss, {"loss": loss.detach(), **{name: number.detach() for name, number in found.items()}}

    def after_update(self, data: dict[str, Any]) -> None:
        """Let the normalisers take in the observations."""
        self.model.update_statistics(data["obs"], data.get("valid"))
