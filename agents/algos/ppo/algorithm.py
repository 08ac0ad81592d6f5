"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from gymnasium import Space
from torch import Tensor

from agents.algos.ppo.config import PPOConfig
from agents.core.runtime import Compiler
from agents.core.schedules import scheduled
from agents.core.tree import to_numpy, tree_map, tree_to_tensor
from agents.data.rollout import Rollout
from agents.learning.optim import FlatParameters, Optimizer, clipped
from agents.networks.build import ActorCritic
from agents.networks.host import on_host
from agents.networks.normalize import RewardScale
from agents.ops.distributions import Distribution, draw_noise
from agents.ops.losses import divergence, normalized, ppo_policy_loss, value_loss
from agents.ops.returns import explained_variance, gae
from envs.seeding import derive_seed

EVALUATE_ROWS = {"cpu": 2048}  # of a rollout in one pass: what stays in the processor's cache; a GPU takes more


class Acted(NamedTuple):
    """What acting on a batch gives: the action as sampled and as the environment takes it, both `[N, ...]`."""

    action: Tensor
    env_action: Tensor


class Losses(NamedTuple):
    """What one minibatch gives the metrics: three scalars and log r of each transition, `[B]`."""

    policy: Tensor
    value: Tensor
    entropy: Tensor
    log_ratio: Tensor


def _gathered(losses: list[Losses]) -> Losses:
    policy, value, entropy, log_ratio = zip(*losses, strict=True)
    return Losses(torch.stack(policy), torch.stack(value), torch.stack(entropy), torch.cat(log_ratio))


class PPO:
    """The networks, optimiser and random streams of PPO.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        config: hyperparameters.
        device: where the networks live.
        seed: all randomness of the agent follows from it.
        compiler: how the update's step is run.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        config: PPOConfig,
        device: torch.device,
        seed: int = 0,
        compiler: Compiler | None = None,
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
        self.parameters = FlatParameters(self.network)
        self.optimizer = Optimizer(config.optimizer, self.parameters.vector, eps=1e-5)
        self.reward_scale = RewardScale(config.n_envs, config.gamma).to(device) if config.norm_reward else None
        self.sampling = torch.Generator(device).manual_seed(derive_seed(seed, "policy"))
        self.shuffling = torch.Generator(device).manual_seed(derive_seed(seed, "minibatch"))
        self.n_updates = 0
        self._host = on_host(network.encoder, network.policy_torso, network.policy_head)
        compiler = compiler or Compiler()
        if config.target_kl is None:
            self._step = compiler.step(self._descend)
            self._captured_sweep = compiler.loop(self._sweep, lambda: [self.parameters.vector, *self.optimizer.moments])
        else:  # a step waits for the divergence, so its halves are compiled and nothing is captured
            self._halves = compiler.step(self._gradient), compiler.step(self._apply)

    def noise(self, n_steps: int, num_envs: int) -> Sequence[Tensor]:
        """Draw the randomness of `n_steps` calls of `act`."""
        return draw_noise(self.network.action_space, (n_steps, num_envs), self.sampling, self.device).unbind()

    @torch.inference_mode()
    def act(self, obs: Any, noise: Tensor) -> Acted:
        """Sample an action for each observation `[N, ...]`."""
        policy = self._policy(obs)
        action = policy.sample(noise)
        return Acted(action, policy.to_env(action))

    def _policy(self, obs: Any) -> Distribution:
        if self._host is not None and len(obs) <= self._host.max_rows:
            return self.network.distribution(torch.from_numpy(self._host(to_numpy(obs))))
        return self.network.policy(tree_to_tensor(obs, self.device))

    def sample(self, obs: Any, noise: Tensor) -> Acted:
        """`act` as a pure function of tensors on this device, to be compiled or captured."""
        policy = self.network.policy(obs)
        action = policy.sample(noise)
        return Acted(action, policy.to_env(action))

    @torch.no_grad()
    def evaluate(self, obs: Any, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities and values of many observations and stored actions, each `[B]`."""
        log_probs, values = [], []
        rows = EVALUATE_ROWS.get(self.device.type, 65536)
        for start in range(0, len(action), rows):
            part = slice(start, start + rows)
            policy, value = self.network(tree_map(lambda leaf, part=part: leaf[part], obs))
            log_probs.append(policy.log_prob(action[part]))
            values.append(value)
        return torch.cat(log_probs), torch.cat(values)

    @torch.no_grad()
    def value(self, obs: Any) -> Tensor:
        """Return V(obs), `[N]`."""
        return self.network.value(obs)

    @torch.inference_mode()
    def predict(self, obs: Any, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Return the actions `[N, ...]` that the environment takes: the mode, or a sample from `generator`."""
        policy = self._policy(obs)
        if deterministic:
            return policy.to_env(policy.mode())
        rows = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        return policy.to_env(policy.sample(draw_noise(self.network.action_space, (rows,), generator, self.device)))

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
        data = self._prepare(rollout)
        total = len(data["advantage"])
        if not total:
            return {}
        order = torch.stack(
            [torch.randperm(total, generator=self.shuffling, device=self.device) for _ in range(config.n_epochs)]
        )
        n_updates = config.n_epochs * -(-total // config.batch_size)
        rates = self.optimizer.rates(scheduled(config.learning_rate, progress), n_updates)
        clip_range = torch.tensor(scheduled(config.clip_range, progress), device=self.device)
        if config.target_kl is not None:
            losses, n_updates = self._sweep_within_kl(data, order, rates, clip_range)
        elif rollout.valid is None:
            losses = self._captured_sweep(data, order, rates, clip_range)
        else:  # the number of real transitions varies, which nothing compiled or captured can follow
            losses = self._sweep(data, order, rates, clip_range, self._descend)
        self.optimizer.steps += n_updates
        self.n_updates += n_updates
        self.network.encoder.update_statistics(data["obs"])
        metrics = self._metrics(losses, clip_range)
        metrics["train/explained_variance"] = explained_variance(data["value"], data["return"]).item()
        metrics["train/early_stop"] = float(n_updates < len(rates))
        return metrics

    def _prepare(self, rollout: Rollout) -> dict[str, Any]:
        """Return what minibatches are made of, each `[B, ...]`: the rollout's real transitions."""
        reward = rollout.reward
        if self.reward_scale is not None:
            reward = self.reward_scale(reward, rollout.terminated | rollout.truncated, rollout.valid)
        config, masks = self.config, (rollout.terminated, rollout.truncated)
        advantage, return_ = gae(reward, rollout.value, rollout.next_value, *masks, config.gamma, config.gae_lambda)
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
            data = {key: tree_map(lambda leaf: leaf[kept], value) for key, value in data.items()}
        return data

    def _minibatches(self, data: dict[str, Any], order: Tensor) -> Iterator[dict[str, Any]]:
        """Yield the minibatches of every epoch; `order` `[n_epochs, B]` shuffles each."""
        count = -(-order.shape[1] // self.config.batch_size)
        for rows in order.unbind():
            shuffled = {key: tree_map(lambda leaf, rows=rows: leaf[rows], value) for key, value in data.items()}
            # tensor_split evens the sizes out, so that no small rest is left over
            parts = {key: tree_map(lambda leaf: leaf.tensor_split(count), value) for key, value in shuffled.items()}
            for i in range(count):
                yield {key: tree_map(lambda chunks, i=i: chunks[i], value) for key, value in parts.items()}

    def _sweep(
        self,
        data: dict[str, Any],
        order: Tensor,
        rates: Tensor,
        clip_range: Tensor,
        step: Callable[..., Losses] | None = None,
    ) -> Losses:
        """Take a step on every minibatch of every epoch; return their losses `[M]`, and log r of all, `[M * B]`."""
        step = step or self._step
        pairs = zip(self._minibatches(data, order), rates.unbind(), strict=True)
        return _gathered([step(minibatch, clip_range, rate) for minibatch, rate in pairs])

    def _sweep_within_kl(
        self, data: dict[str, Any], order: Tensor, rates: Tensor, clip_range: Tensor
    ) -> tuple[Losses, int]:
        """As `_sweep`, until the policy has moved too far, which is found out before each step; and the steps taken."""
        assert self.config.target_kl is not None
        losses: list[Losses] = []
        dense = len(data["advantage"]) == self.config.n_steps * self.config.n_envs  # no dummies, so always as many
        gradient_of, apply = self._halves if dense else (self._gradient, self._apply)
        for minibatch, rate in zip(self._minibatches(data, order), rates.unbind(), strict=True):
            gradient, watched = gradient_of(minibatch, clip_range)
            losses.append(watched)
            if divergence(watched.log_ratio, clip_range).approx_kl.item() > 1.5 * self.config.target_kl:
                return _gathered(losses), len(losses) - 1
            apply(gradient, rate)
        return _gathered(losses), len(losses)

    def _descend(self, minibatch: dict[str, Any], clip_range: Tensor, rates: Tensor) -> Losses:
        """Take one optimiser step."""
        gradient, losses = self._gradient(minibatch, clip_range)
        self._apply(gradient, rates)
        return losses

    def _gradient(self, minibatch: dict[str, Any], clip_range: Tensor) -> tuple[Tensor, Losses]:
        return self.parameters.gradient(self._loss, minibatch, clip_range)

    def _apply(self, gradient: Tensor, rates: Tensor) -> None:
        self.optimizer.step(clipped(gradient, self.config.max_grad_norm), rates)

    def _loss(self, network: Any, minibatch: dict[str, Any], clip_range: Tensor) -> tuple[Tensor, Losses]:
        """Return the loss to descend and what the metrics are made of."""
        config = self.config
        policy, value = network(minibatch["obs"])
        advantage = minibatch["advantage"]
        if config.normalize_advantage:
            advantage = normalized(advantage)
        log_ratio = policy.log_prob(minibatch["action"]) - minibatch["log_prob"]
        surrogate = ppo_policy_loss(log_ratio, advantage, clip_range)
        critic = value_loss(value, minibatch["value"], minibatch["return"], config.clip_range_vf)
        loss = torch.add(surrogate, critic, alpha=config.vf_coef)
        with torch.set_grad_enabled(config.ent_coef > 0):
            entropy = policy.entropy(minibatch["action"]).mean()
        if config.ent_coef > 0:
            loss = torch.sub(loss, entropy, alpha=config.ent_coef)
        return loss, Losses(surrogate.detach(), critic.detach(), entropy.detach(), log_ratio.detach())

    def _metrics(self, losses: Losses, clip_range: Tensor) -> dict[str, float]:
        """Return TensorBoard tag -> mean over the minibatches."""
        config = self.config
        policy, value, entropy = losses.policy.mean(), losses.value.mean(), losses.entropy.mean()
        total = policy + config.vf_coef * value - config.ent_coef * entropy
        scalars = torch.stack([total, policy, value, -entropy, *divergence(losses.log_ratio, clip_range)]).tolist()
        names = ("loss", "policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")
        metrics = {f"train/{name}": scalar for name, scalar in zip(names, scalars, strict=True)}
        if self.network.log_std is not None:
            metrics["train/std"] = self.network.log_std.detach().exp().mean().item()
        return metrics

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
