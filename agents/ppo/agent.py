"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from gymnasium import Space
from torch import Tensor, nn

from agents.core.optim import make_optimizer, set_learning_rate
from agents.core.schedules import scheduled
from agents.core.tree import tree_map, tree_to_tensor
from agents.data.rollout import Rollout
from agents.networks.build import ActorCritic
from agents.networks.normalize import RewardScale
from agents.ops.losses import normalized, ppo_policy_loss, value_loss
from agents.ops.returns import explained_variance, gae
from agents.ppo.config import PPOConfig
from envs.seeding import derive_seed


class Acted(NamedTuple):
    """What acting on a batch gives: the action as sampled and as the environment takes it, both `[N, ...]`."""

    action: Tensor
    env_action: Tensor
    log_prob: Tensor
    value: Tensor


class PPO:
    """The networks, optimiser and random streams of PPO.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        config: hyperparameters.
        device: where the networks live.
        seed: all randomness of the agent follows from it.
    """

    def __init__(
        self, observation_space: Space, action_space: Space, config: PPOConfig, device: torch.device, seed: int = 0
    ) -> None:
        self.config = config
        self.device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "network"))
            network = ActorCritic(
                observation_space,
                action_space,
                net_arch=config.net_arch,
                activation=config.activation,
                norm_obs=config.norm_obs,
                shared_torso=config.shared_torso,
                ortho_init=config.ortho_init,
                log_std_init=config.log_std_init,
                state_dependent_std=config.state_dependent_std,
                squash=config.squash_output,
            )
        self.network = network.to(device)
        self.parameters = list(self.network.parameters())
        self.optimizer = make_optimizer(config.optimizer, self.parameters, scheduled(config.learning_rate, 0), eps=1e-5)
        self.reward_scale = RewardScale(config.n_envs, config.gamma).to(device) if config.norm_reward else None
        self.sampling = torch.Generator(device).manual_seed(derive_seed(seed, "policy"))
        self.shuffling = torch.Generator(device).manual_seed(derive_seed(seed, "minibatch"))
        self.n_updates = 0

    @torch.inference_mode()
    def act(self, obs: Any) -> Acted:
        """Sample an action for each observation `[N, ...]` on this device."""
        policy, value = self.network(obs)
        action = policy.sample(self.sampling)
        return Acted(action, policy.to_env(action), policy.log_prob(action), value)

    @torch.inference_mode()
    def value(self, obs: Any) -> Tensor:
        """Return V(obs), `[N]`."""
        return self.network.value(obs)

    @torch.inference_mode()
    def predict(self, obs: Any, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Return the actions `[N, ...]` that the environment takes: the mode, or a sample from `generator`."""
        policy, _ = self.network(tree_to_tensor(obs, self.device))
        return policy.to_env(policy.mode() if deterministic else policy.sample(generator))

    @torch.inference_mode()
    def inspect(self, obs: Any) -> dict[str, Tensor]:
        """Return `value` and `probabilities`, or `mean` and `std`, for a batch of observations."""
        policy, value = self.network(tree_to_tensor(obs, self.device))
        return {"value": value, **policy.describe()}

    def schedules(self, progress: float) -> dict[str, float]:
        """Return TensorBoard tag -> what the schedules and counters say when `progress` of the budget is spent."""
        return {
            "train/learning_rate": scheduled(self.config.learning_rate, progress),
            "train/clip_range": scheduled(self.config.clip_range, progress),
            "train/n_updates": float(self.n_updates),
        }

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """Learn from one rollout when `progress` (0 to 1) of the budget is spent; return TensorBoard tag -> value."""
        config = self.config
        clip_range = scheduled(config.clip_range, progress)
        set_learning_rate(self.optimizer, scheduled(config.learning_rate, progress))

        reward = rollout.reward
        if self.reward_scale is not None:
            reward = self.reward_scale(reward, rollout.terminated | rollout.truncated, rollout.valid)
        advantage, return_ = gae(
            reward,
            rollout.value,
            rollout.next_value,
            rollout.terminated,
            rollout.truncated,
            config.gamma,
            config.gae_lambda,
        )
        data = {
            "obs": rollout.obs,
            "action": rollout.action,
            "log_prob": rollout.log_prob,
            "value": rollout.value,
            "advantage": advantage,
            "return": return_,
        }
        data = {key: tree_map(lambda leaf: leaf.flatten(0, 1), value) for key, value in data.items()}
        if rollout.valid is not None:
            kept = rollout.valid.flatten().nonzero().squeeze(1)
            if not len(kept):
                return {}
            data = {key: tree_map(lambda leaf: leaf[kept], value) for key, value in data.items()}

        losses, stopped = self._epochs(data, clip_range)
        self.network.encoder.update_statistics(data["obs"])

        means = torch.stack(losses).mean(dim=0).tolist()
        names = ("loss", "policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")
        metrics = {f"train/{name}": mean for name, mean in zip(names, means, strict=True)}
        metrics["train/explained_variance"] = explained_variance(data["value"], data["return"]).item()
        metrics["train/early_stop"] = float(stopped)
        if self.network.log_std is not None:
            metrics["train/std"] = self.network.log_std.detach().exp().mean().item()
        return metrics

    def _epochs(self, data: dict[str, Any], clip_range: float) -> tuple[list[Tensor], bool]:
        """Run the epochs over shuffled minibatches; return each one's losses and whether KL ended them early."""
        config = self.config
        total = len(data["advantage"])
        minibatches = -(-total // config.batch_size)
        losses = []
        for _ in range(config.n_epochs):
            order = torch.randperm(total, generator=self.shuffling, device=self.device)
            shuffled = {key: tree_map(lambda leaf, order=order: leaf[order], value) for key, value in data.items()}
            # tensor_split evens the sizes out, so that no small rest is left over
            parts = {
                key: tree_map(lambda leaf: leaf.tensor_split(minibatches), value) for key, value in shuffled.items()
            }
            for i in range(minibatches):
                minibatch = {key: tree_map(lambda chunks, i=i: chunks[i], value) for key, value in parts.items()}
                loss, watched = self._loss(minibatch, clip_range)
                losses.append(watched)
                if config.target_kl is not None and watched[4].item() > 1.5 * config.target_kl:
                    return losses, True
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm)
                self.optimizer.step()
                self.n_updates += 1
        return losses, False

    def _loss(self, minibatch: dict[str, Any], clip_range: float) -> tuple[Tensor, Tensor]:
        """Return the loss to descend and the detached `[6]` values the metrics are made of."""
        config = self.config
        policy, value = self.network(minibatch["obs"])
        advantage = minibatch["advantage"]
        if config.normalize_advantage:
            advantage = normalized(advantage)
        log_prob = policy.log_prob(minibatch["action"])
        surrogate = ppo_policy_loss(log_prob, minibatch["log_prob"], advantage, clip_range)
        critic = value_loss(value, minibatch["value"], minibatch["return"], config.clip_range_vf)
        entropy_loss = -policy.entropy(minibatch["action"]).mean()
        loss = surrogate.loss + config.ent_coef * entropy_loss + config.vf_coef * critic
        watched = (loss, surrogate.loss, critic, entropy_loss, surrogate.approx_kl, surrogate.clip_fraction)
        return loss, torch.stack(watched).detach()

    def state_dict(self) -> dict[str, Any]:
        """Return everything training needs to go on bit for bit."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "reward_scale": None if self.reward_scale is None else self.reward_scale.state_dict(),
            "sampling": self.sampling.get_state(),
            "shuffling": self.shuffling.get_state(),
            "n_updates": self.n_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.reward_scale is not None:
            self.reward_scale.load_state_dict(state["reward_scale"])
        self.sampling.set_state(state["sampling"])
        self.shuffling.set_state(state["shuffling"])
        self.n_updates = state["n_updates"]
