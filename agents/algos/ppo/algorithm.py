"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space
from torch import Tensor, nn

from agents.acting.policies import ActorCriticPolicy
from agents.algos.ppo.config import PPOConfig
from agents.core.algorithm import Algorithm
from agents.core.objective import ClippedSurrogate
from agents.core.schedules import scheduled
from agents.data.trajectory import Trajectory
from agents.networks.curiosity import add_learning, build_curiosity
from agents.networks.models import ActorCritic
from agents.networks.normalize import RewardScale
from agents.networks.representation import add_auxiliary, build_auxiliary
from agents.ops.losses import Divergence, adapted_rate, divergence, mean, normalized, ppo_policy_loss, value_loss
from agents.ops.relative import relative_entropy
from agents.ops.returns import continuing_gae, explained_variance, gae


class PPO(Algorithm):
    """The clipped surrogate objective on advantages by GAE, over several epochs of minibatches."""

    config_class = PPOConfig
    optimizer_eps = 1e-5
    model: ActorCritic
    policy: ActorCriticPolicy
    rate: Tensor  # the learning rate reached, where `desired_kl` is given

    def __init__(self, observation_space: Space, action_space: Space, config: PPOConfig) -> None:
        super().__init__(config)
        spaces = observation_space, action_space
        own = config.intrinsic
        scale = RewardScale(config.n_envs, own.curiosity_gamma, episodic=own.curiosity_episodic)
        curiosity = build_curiosity(*spaces, config.intrinsic, config.network, scale)
        self.model = ActorCritic(*spaces, config.network, curiosity)
        how = config.representation, config.network, self.model, config.augment
        self.model.auxiliary = build_auxiliary(observation_space, *how)
        self.successors = curiosity is not None
        self.policy = ActorCriticPolicy(self.model)
        self.demonstrator: ActorCritic | None = None  # frozen; of another run, where the settings name one
        self.reward_scale = RewardScale(config.n_envs, config.gamma) if config.norm_reward else None
        self.n_epochs, self.batch_size = config.n_epochs, config.batch_size
        if config.desired_kl is not None:
            self.register_buffer("rate", torch.tensor(float(config.learning_rate)))

    def constants(self, progress: float) -> dict[str, float]:
        config, found = self.config, super().constants(progress)
        found["clip_range"] = scheduled(config.clip_range, progress)
        if config.clip_range_high is not None:
            found["clip_range_high"] = scheduled(config.clip_range_high, progress)
        found |= config.demonstration.constants(progress)
        return found | {"learning_rate": self.rate.item()} if self.paces else found

    def prepare(self, data: Trajectory, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Return the advantages, and what the policy that collected the data said, each `[T, N]`."""
        log_prob, value, next_value = self.policy.evaluate(data)
        reward, ends = data.reward, (data.terminated, data.truncated)
        if self.reward_scale is not None:
            reward = self.reward_scale(reward, data.terminated | data.truncated, data.valid)
        of_rewards, of_next = self._of_rewards(value), self._of_rewards(next_value)
        advantage, return_ = gae(reward, of_rewards, of_next, *ends, self.config.gamma, self.config.gae_lambda)
        curious = {}
        if self.model.curiosity is not None:
            bonus, more, also = self._curious(data, value[..., 1], next_value[..., 1])
            advantage = torch.add(advantage, more, alpha=self.config.intrinsic.curiosity_coef)
            return_ = torch.stack([return_, also], dim=-1)
            curious = {"bonus": bonus, "next_obs": data.next_obs}
        if self.config.normalize_advantage and self.config.normalize_over_rollout:
            advantage = normalized(advantage, data.valid)
        scaled = self.model.learn_scale(value, return_, data.valid)
        return {
            "action": data.action,
            "log_prob": log_prob,
            "value": value,
            "advantage": advantage,
            "return": return_,
            **({} if scaled is None else {"scaled_value": scaled}),
            **curious,
        }

    def _curious(self, data: Trajectory, value: Tensor, next_value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return how new each transition is, and the advantages and returns of rewards for that, `[T, N]` each."""
        config, ends = self.config.intrinsic, (data.terminated, data.truncated)
        over = data.terminated | data.truncated if config.curiosity_episodic else torch.zeros_like(data.terminated)
        bonus, reward = self.model.curiosity.rewards(data.obs, data.action, data.next_obs, over, data.valid)
        how = config.curiosity_gamma, self.config.gae_lambda
        if config.curiosity_episodic:
            return bonus, *gae(reward, value, next_value, *ends, *how)
        with torch.no_grad():
            last_value = self.model.value(data.last_obs, data.last_carry)[..., 1]
        return bonus, *continuing_gae(reward, value, last_value, *how, data.valid)

    def loss(
        self, model: nn.Module, minibatch: dict[str, Any], constants: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        config, valid = self.config, minibatch.get("valid")
        distribution, value = model(minibatch["obs"], minibatch.get("carry", ()), minibatch.get("start"))
        advantage = minibatch["advantage"]
        if config.normalize_advantage and not config.normalize_over_rollout:
            advantage = normalized(advantage, valid)
        log_ratio = distribution.log_prob(minibatch["action"]) - minibatch["log_prob"]
        clip_range, high = constants["clip_range"], constants.get("clip_range_high")
        surrogate = ppo_policy_loss(log_ratio, advantage, clip_range, valid, high, config.dual_clip)
        old_value, return_ = minibatch["value"], minibatch["return"]
        if (scale := self.model.value_scale) is not None:
            value, old_value, return_ = scale.normalized(value), minibatch["scaled_value"], scale.normalized(return_)
        is_curious = self.model.curiosity is not None
        critic = value_loss(value, old_value, return_, config.clip_range_vf, valid, heads=is_curious)
        loss = torch.add(surrogate, critic, alpha=config.vf_coef)
        curious: dict[str, Tensor] = {}
        if is_curious:
            loss, curious["curiosity"] = add_learning(loss, model.curiosity, minibatch, config.intrinsic)
        loss, also = add_auxiliary(loss, model, minibatch, config.representation)
        if self.demonstrator is not None:
            away = mean(relative_entropy(self.demonstrator(minibatch["obs"]).distribution, distribution), valid)
            loss, also["demonstrator_kl"] = loss + constants["demonstrator_coef"] * away, away.detach()
        if "augmented" in minibatch:
            gap = self._agreement(model, minibatch, value)
            loss, also["augment_loss"] = torch.add(loss, gap, alpha=config.augment_coef), gap.detach()
        with torch.set_grad_enabled(config.ent_coef > 0):
            entropy = mean(distribution.entropy(minibatch["action"]), valid)
        if config.ent_coef > 0:
            loss = torch.sub(loss, entropy, alpha=config.ent_coef)
        return loss, {
            "policy": surrogate.detach(),
            "value": critic.detach(),
            "entropy": entropy.detach(),
            # of what is no transition a ratio may be infinite, which no mask takes away
            "log_ratio": (log_ratio if valid is None else torch.where(valid, log_ratio, 0)).detach().flatten(),
            **({} if valid is None else {"valid": valid.flatten()}),
            **curious,
            **also,
        }

    def _agreement(self, model: nn.Module, minibatch: dict[str, Any], value: Tensor) -> Tensor:
        """Return how far what is said of augmented pictures is from what is said of the pictures themselves.

        Ratios, advantages and returns are of the pictures that were acted on (DrAC: Raileanu et al. 2021,
        arXiv:2006.12862, eq. 5); the actions taken stand for the policy there.
        """
        seen, valid = minibatch["augmented"], minibatch.get("valid")
        distribution, judged = model(seen, minibatch.get("carry", ()), minibatch.get("start"))
        if self.model.value_scale is not None:
            judged = self.model.value_scale.normalized(judged)
        gap = (judged - value.detach()).square()
        gap = gap if self.model.curiosity is None else gap.sum(-1)
        return mean(gap - distribution.log_prob(minibatch["action"]), valid)

    @property
    def objective(self) -> ClippedSurrogate | None:
        config = self.config
        model = self.model
        more = [config.dual_clip, config.desired_kl, self.demonstrator]
        more += [model.curiosity, model.value_scale, model.auxiliary]
        if any(part is not None for part in more) or type(self).loss is not PPO.loss or "loss" in vars(self):
            return None
        normalizes = config.normalize_advantage and not config.normalize_over_rollout
        return ClippedSurrogate(config.clip_range_vf, config.vf_coef, config.ent_coef, normalizes)

    @property
    def stops_early(self) -> bool:
        return self.config.target_kl is not None

    def stop(self, aux: dict[str, Tensor], constants: dict[str, Tensor]) -> Tensor:
        """Whether the policy has moved too far from the one that collected the data."""
        return _moved(aux, constants["clip_range"]).approx_kl > 1.5 * self.config.target_kl

    @property
    def paces(self) -> bool:
        return self.config.desired_kl is not None

    def pace(self, aux: dict[str, Tensor]) -> Tensor:
        """Move the learning rate by how far the policy is from the one that collected the data."""
        kl = _moved(aux, 0.0).approx_kl
        return self.rate.copy_(adapted_rate(self.rate, kl, self.config.desired_kl))

    def metrics(self, aux: dict[str, Tensor], data: dict[str, Any], constants: dict[str, Tensor]) -> dict[str, Tensor]:
        config = self.config
        policy, value, entropy = aux["policy"].mean(), aux["value"].mean(), aux["entropy"].mean()
        moved = _moved(aux, constants["clip_range"], constants.get("clip_range_high"))
        foretold, reached = (
            data[name] if "valid" not in data else data[name][data["valid"]] for name in ("value", "return")
        )
        found = {
            "loss": policy + config.vf_coef * value - config.ent_coef * entropy,
            "policy_gradient_loss": policy,
            "value_loss": value,
            "entropy_loss": -entropy,
            "approx_kl": moved.approx_kl,
            "clip_fraction": moved.clip_fraction,
            "explained_variance": explained_variance(self._of_rewards(foretold), self._of_rewards(reached)),
        }
        if self.model.log_std is not None:
            found["std"] = self.model.log_std.detach().exp().mean()
        if self.model.curiosity is not None:
            found["curiosity_loss"] = aux["curiosity"].mean()
            found["loss"] += config.intrinsic.curiosity_loss_coef * found["curiosity_loss"]
            found["curiosity_explained_variance"] = explained_variance(foretold[..., 1], reached[..., 1])
        if "demonstrator_kl" in aux:
            found["demonstrator_kl"] = aux["demonstrator_kl"].mean()
            found["loss"] += constants["demonstrator_coef"] * found["demonstrator_kl"]
        if "auxiliary_loss" in aux:
            found["auxiliary_loss"] = aux["auxiliary_loss"].mean()
            found["loss"] += config.representation.auxiliary_coef * found["auxiliary_loss"]
        if "augment_loss" in aux:
            found["augment_loss"] = aux["augment_loss"].mean()
            found["loss"] += config.augment_coef * found["augment_loss"]
        tags = {f"train/{name}": scalar for name, scalar in found.items()}
        return tags | ({"rollout/curiosity": mean(data["bonus"], data.get("valid"))} if "bonus" in data else {})

    def _of_rewards(self, values: Tensor) -> Tensor:
        """Return the values of rewards, without those of what is new."""
        return values if self.model.curiosity is None else values[..., 0]

    def follow_model(self) -> None:
        self.model.copy_encoder()

    def after_update(self, data: dict[str, Any]) -> None:
        """Let the normalisers take in the observations: so the policy that acted is the one first updated."""
        self.model.update_statistics(data["obs"], data.get("valid"))


def _moved(aux: dict[str, Tensor], clip_range: Tensor | float, high: Tensor | float | None = None) -> Divergence:
    """Return how far the policy is from the one that collected the data, over the transitions that are real."""
    return divergence(aux["log_ratio"], clip_range, high, aux.get("valid"))
