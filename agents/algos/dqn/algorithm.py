"""Deep Q-learning (Mnih et al. 2015) with Double DQN (van Hasselt et al. 2016, arXiv:1509.06461)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor

from agents.algos.dqn.config import DQNConfig
from agents.core.runtime import Compiler
from agents.core.schedules import linear, scheduled
from agents.core.tree import to_numpy, tree_to_tensor
from agents.data.replay import Batch
from agents.learning.optim import FlatParameters, Optimizer, clipped
from agents.networks.build import QNetwork
from agents.networks.host import on_host
from agents.ops.losses import q_target
from envs.errors import UserError
from envs.seeding import derive_seed


class DQN:
    """The networks, optimiser and random streams of DQN.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        config: hyperparameters.
        device: where the networks live.
        seed: all randomness of the agent follows from it.
        compiler: how the update's step is run.

    Raises:
        UserError: the action space is not Discrete.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        config: DQNConfig,
        device: torch.device,
        seed: int = 0,
        compiler: Compiler | None = None,
    ) -> None:
        if not isinstance(action_space, spaces.Discrete):
            raise UserError(f"DQN needs a Discrete action space; this environment has {action_space}. Use --algo ppo.")
        self.config = config
        self.device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "network"))
            network = QNetwork(
                observation_space,
                action_space,
                net_arch=config.net_arch,
                activation=config.activation,
                norm_obs=config.norm_obs,
            )
        self.network = network.to(device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.parameters, self._target_parameters = FlatParameters(self.network), FlatParameters(self.target)
        self.optimizer = Optimizer(config.optimizer, self.parameters.vector, eps=1e-8)
        self.exploring = torch.Generator(device).manual_seed(derive_seed(seed, "exploration"))
        self.n_actions = int(action_space.n)
        self.n_updates = 0
        self._host = on_host(network.encoder, network.torso, network.head)
        self._step = (compiler or Compiler()).step(self._descend)

    def epsilon(self, progress: float) -> float:
        """Return the chance of a random action when `progress` (0 to 1) of the budget is spent."""
        config = self.config
        done = progress / config.exploration_fraction if config.exploration_fraction else 1.0
        return linear(config.exploration_initial_eps, config.exploration_final_eps, done)

    def schedules(self, progress: float) -> dict[str, float]:
        """Return TensorBoard tag -> what the schedules and counters say when `progress` of the budget is spent."""
        return {
            "rollout/exploration_rate": self.epsilon(progress),
            "train/learning_rate": scheduled(self.config.learning_rate, progress),
            "train/n_updates": float(self.n_updates),
        }

    def exploration(self, progress: Sequence[float], num_envs: int) -> Tensor:
        """Toss the coins of the next calls of `act`, at each of which `progress` (0 to 1) of the budget is spent.

        Returns:
            int64 `[K, N]`: the uniform action that is taken, or -1 where the greedy one is.
        """
        epsilon = torch.tensor([self.epsilon(done) for done in progress], device=self.device)
        return self._toss(epsilon[:, None], (len(progress), num_envs), self.exploring)

    def _toss(self, epsilon: Tensor | float, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Every environment has a coin of its own."""
        coin, choice = torch.rand((2, *shape), generator=generator, device=self.device)
        return (choice * self.n_actions).long().masked_fill_(coin >= epsilon, -1)

    def sample(self, obs: Any, forced: Tensor) -> tuple[Tensor, Tensor]:
        """Act as a pure function of tensors on this device and a row of `exploration`, to be compiled or captured."""
        action = torch.where(forced < 0, self.network(obs).argmax(dim=1), forced)
        return action, action

    def act(self, obs: Any) -> Any:
        """Return the greedy actions `[N]`, an array or a tensor, for observations `[N, ...]`."""
        if self._host is not None and len(obs) <= self._host.max_rows:
            return self._host(to_numpy(obs)).argmax(axis=1)
        with torch.inference_mode():
            return self.network(tree_to_tensor(obs, self.device)).argmax(dim=1)

    @torch.inference_mode()
    def predict(self, obs: Any, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Return greedy actions `[N]`, or epsilon-greedy ones at the final epsilon, drawn from `generator`."""
        greedy = torch.as_tensor(self.act(obs))
        if deterministic:
            return greedy
        forced = self._toss(self.config.exploration_final_eps, greedy.shape, generator)
        return torch.where(forced < 0, greedy, forced)

    @torch.inference_mode()
    def inspect(self, obs: Any) -> dict[str, Tensor]:
        """Return `q_values` and their maximum, `value`, for a batch of observations."""
        q_values = self.network(tree_to_tensor(obs, self.device))
        return {"value": q_values.amax(dim=1), "q_values": q_values}

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Take one optimiser step when `progress` (0 to 1) of the budget is spent; return tag -> scalar tensor."""
        self.network.encoder.update_statistics(batch.obs)
        (rates,) = self.optimizer.rates(scheduled(self.config.learning_rate, progress))
        loss, q_mean = self._step(batch, rates)
        self.optimizer.steps += 1
        self.n_updates += 1
        return {"train/loss": loss, "train/q_mean": q_mean}

    def _descend(self, batch: Batch, rates: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            online = self.network(batch.next_obs) if self.config.double_q else None
            target = q_target(batch.return_, batch.discount, self.target(batch.next_obs), online)
        gradient, watched = self.parameters.gradient(self._loss, batch.obs, batch.action, target)
        self.optimizer.step(clipped(gradient, self.config.max_grad_norm), rates)
        return watched

    def _loss(self, network: Any, obs: Any, action: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the loss to descend, and it and the mean action value detached."""
        q_value = network(obs).gather(1, action[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(q_value, target)
        return loss, (loss.detach(), q_value.detach().mean())

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the target network towards the online one by `tau` (1 copies it), normaliser statistics included."""
        self._target_parameters.vector.lerp_(self.parameters.vector, self.config.tau)
        for target, online in zip(self.target.buffers(), self.network.buffers(), strict=True):
            target.copy_(online)

    def state_dict(self) -> dict[str, Any]:
        """Return everything training needs to go on bit for bit, the replay buffer excepted."""
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "exploration": self.exploring.get_state(),
            "n_updates": self.n_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.exploring.set_state(state["exploration"])
        self.n_updates = state["n_updates"]
