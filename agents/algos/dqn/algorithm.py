"""Deep Q-learning (Mnih et al. 2015) with Double DQN (van Hasselt et al. 2016, arXiv:1509.06461)."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.acting.policies import EpsilonGreedyPolicy
from agents.algos.dqn.config import DQNConfig
from agents.core.algorithm import Algorithm
from agents.core.schedules import crossings
from agents.core.watch import plain_attributes
from agents.data.replay import Batch
from agents.networks.models import QNetwork
from agents.ops.losses import q_target
from envs.errors import UserError


class DQN(Algorithm):
    """Action values, learnt from replayed transitions towards targets of a network that follows slowly.

    Raises:
        UserError: the action space is not Discrete, or there is a memory.
    """

    config_class = DQNConfig
    data = "replay"
    model: QNetwork
    policy: EpsilonGreedyPolicy

    def __init__(self, observation_space: Space, action_space: Space, config: DQNConfig) -> None:
        super().__init__(config)
        if not isinstance(action_space, spaces.Discrete):
            raise UserError(f"DQN needs a Discrete action space; this environment has {action_space}. Use --algo ppo.")
        if config.network.memory is not None:
            raise UserError("DQN replays single transitions and has no memory: leave --memory at none, or use PPO.")
        self.model = QNetwork(observation_space, action_space, config.network)
        eps = config.exploration
        self.policy = EpsilonGreedyPolicy(
            self.model, eps.exploration_initial_eps, eps.exploration_final_eps, eps.exploration_fraction
        )
        self._copy_target()

    def _copy_target(self) -> None:
        """Make the target network a copy of the online one, with the same normalisers."""
        # pruned weights are worked out from others at each call; only parameters can be copied
        worked_out = {
            id(value): value.detach().clone()
            for module in self.model.modules()
            for value in vars(module).values()
            if isinstance(value, Tensor) and not value.is_leaf
        }
        self.target = copy.deepcopy(self.model, worked_out).requires_grad_(False).eval()
        self.target.share_statistics(self.model)

    def follow_model(self) -> None:
        """Copy the target anew if it no longer has the parameters, modules, hooks and attributes of the online one."""
        if _structure(self.target) != _structure(self.model):
            self._copy_target()

    def prepare(self, data: Batch, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Let the normalisers take in the observations; return the batch by name."""
        self.model.update_statistics(data.obs)
        return data._asdict()

    def loss(
        self, model: nn.Module, minibatch: dict[str, Any], constants: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            next_obs = minibatch["next_obs"]
            online = model(next_obs).q if self.config.double_q else None
            target = q_target(minibatch["return_"], minibatch["discount"], self.target(next_obs).q, online)
        q_value = model(minibatch["obs"]).q.gather(1, minibatch["action"][:, None]).squeeze(1)
        loss = F.smooth_l1_loss(q_value, target)
        return loss, {"loss": loss.detach(), "q_mean": q_value.detach().mean()}

    def after_round(self, before: int, after: int) -> None:
        if crossings(before, after, self.config.target_update_interval):
            self.update_target()

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the target network towards the online one by `tau` (1 copies it), its statistics all the way."""
        torch._foreach_lerp_(list(self.target.parameters()), list(self.model.parameters()), self.config.tau)
        for mine, theirs in zip(self.target.buffers(), self.model.buffers(), strict=True):
            mine.copy_(theirs)


def _structure(network: nn.Module) -> list[Any]:
    modules = [
        (
            type(module),
            plain_attributes(module),
            *module._forward_hooks,
            *module._forward_pre_hooks,
            vars(module).get("forward"),
        )
        for module in network.modules()
    ]
    return [*modules, *((name, parameter.shape) for name, parameter in network.named_parameters())]
