"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), with TQC's critics and CrossQ's normalisation."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor

from agents.acting.policies import SquashedPolicy
from agents.algos.sac.config import SACConfig
from agents.core.algorithm import Algorithm
from agents.core.tree import tree_map
from agents.data.batch import Batch
from agents.networks.soft import SoftActorCritic
from agents.networks.target import Tensors, alike, copy_of, follow, make_target, tensors
from envs.errors import UserError


class SAC(Algorithm):
    """A policy that earns much and stays random, learnt with its critics from replayed transitions.

    Policy, critics and the weight of the entropy have losses of their own, whose gradients meet in no parameter: an
    update is one step along the gradient of their sum.

    Raises:
        UserError: the action space is no Box, or there is a memory.
    """

    config_class = SACConfig
    data = "replay"
    model: SoftActorCritic
    policy: SquashedPolicy
    updates: Tensor

    def __init__(self, observation_space: Space, action_space: Space, config: SACConfig) -> None:
        super().__init__(config)
        if not isinstance(action_space, spaces.Box):
            raise UserError(
                f"SAC needs continuous actions, a Box; this environment has {action_space}. Use --algo ppo or dqn."
            )
        if config.network.recurrence.memory is not None:
            raise UserError("SAC replays single transitions and has no memory: leave --memory at none, or use PPO.")
        self.model = SoftActorCritic(observation_space, action_space, config.network, config.initial_ent_coef)
        self.policy = SquashedPolicy(
            self.model, lambda: self.config.replay.learning_starts / self.config.schedule_steps
        )
        auto = config.target_entropy == "auto"
        self.target_entropy = -float(self.model.size) if auto else float(config.target_entropy)
        # a copy of the critics to bootstrap from; CrossQ does without
        self.target = None if config.network.batch_norm else make_target(self.model.critics)
        # counted in the state, as a run may be resumed in between
        if self.target is not None and config.target_update_interval > 1:
            self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._tensors: tuple[Tensors, Tensors] | None = None  # found in an update: another device has other buffers

    def copy_model(self) -> None:
        if self.target is not None:
            self.target = copy_of(self.model.critics, self.target)
        self._tensors = None

    def follow_model(self) -> None:
        if self.target is not None and not alike(self.target, self.model.critics):
            self.copy_model()
        self._tensors = None

    def constants(self, progress: float) -> dict[str, float]:
        fixed = {} if self.model.log_ent_coef is not None else {"ent_coef": self.config.ent_coef}
        return super().constants(progress) | fixed

    def prepare(self, data: Batch, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Let the normalisers take in the observations; return the batch by name."""
        self.model.update_statistics(data.obs)
        return data._asdict()

    def draw(self, rows: int, generator: torch.Generator) -> dict[str, Any]:
        """Return the noise of the policy's actions now and next, `[B, d]` each."""
        noise = torch.randn(2, rows, self.model.size, generator=generator, device=generator.device)
        return {"noise": dict(zip(("now", "next"), noise.unbind(), strict=True))}

    def loss(self, model: Any, minibatch: dict[str, Any], constants: dict[str, Tensor]) -> tuple[Tensor, Any]:
        values, noise, log_coef = self.model.critics.values, minibatch["noise"], model.log_ent_coef
        coef = constants["ent_coef"] if log_coef is None else log_coef.detach().exp()
        obs, next_obs, action = (minibatch[name] for name in ("obs", "next_obs", "action"))
        with torch.no_grad():
            next_action, next_log_prob = model(next_obs).draw(noise["next"])
        taken, after = self._judged(model, obs, action, next_obs, next_action)
        target = values.backup(minibatch["return_"], minibatch["discount"], after, -coef * next_log_prob)  # eq. 6
        loss_B, weight = values.loss(taken, target), minibatch["weight"]
        critic_loss = (loss_B if weight is None else loss_B * weight).mean()

        drawn, log_prob = model(obs).draw(noise["now"])
        worth = values.value(model.critics(obs, drawn, frozen=True))
        actor_loss = (coef * log_prob - worth).mean()  # eq. 9
        loss = critic_loss + actor_loss
        aux = {"critic_loss": critic_loss.detach(), "actor_loss": actor_loss.detach()}
        if log_coef is not None:  # eq. 18, by the logarithm
            ent_coef_loss = -log_coef * (log_prob.detach().mean() + self.target_entropy)
            loss = loss + ent_coef_loss
            aux |= {"ent_coef_loss": ent_coef_loss.detach(), "ent_coef": coef}
        if weight is not None:
            aux["priority"] = values.error(taken.detach(), target)
        return loss, aux

    def _judged(
        self, model: Any, obs: Any, action: Tensor, next_obs: Any, next_action: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what the critics say of the actions taken, and what targets are made of of the next ones.

        Without a target network both go through the critics together, so that they are normalised by the statistics
        of both (Bhatt et al. 2024, arXiv:1902.05605, sec. 3).
        """
        if self.target is not None:
            with torch.no_grad():
                after = self.target(next_obs, next_action)
            return model.critics(obs, action), after
        both = model.critics(*_joined(obs, action, next_obs, next_action), batch=True)
        taken, after = both.chunk(2, dim=1)
        return taken, after.detach()

    def after_update(self, data: dict[str, Any]) -> None:
        """Move the target critics by `tau`, if it is time; without, let the running statistics take in the batch."""
        if self.target is not None:
            if self._due():
                self._tensors = self._tensors or (tensors(self.target), tensors(self.model.critics))
                follow(*self._tensors, self.config.tau)
            return
        next_action, _ = self.model(data["next_obs"]).draw(data["noise"]["next"])
        joined = _joined(data["obs"], data["action"], data["next_obs"], next_action)
        self.model.critics(*joined, batch=True, learn=True)

    def _due(self) -> bool:
        interval = self.config.target_update_interval
        if interval == 1:
            return True
        self.updates += 1
        return int(self.updates) % interval == 0


def _joined(obs: Any, action: Tensor, next_obs: Any, next_action: Tensor) -> tuple[Any, Tensor]:
    return tree_map(lambda one, other: torch.cat([one, other]), obs, next_obs), torch.cat([action, next_action])
