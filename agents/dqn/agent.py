"""Deep Q-learning (Mnih et al. 2015) with Double DQN (van Hasselt et al. 2016, arXiv:1509.06461)."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.core.optim import make_optimizer, set_learning_rate
from agents.core.schedules import linear, scheduled
from agents.core.tree import tree_to_tensor
from agents.data.replay import Batch
from agents.dqn.config import DQNConfig
from agents.networks.build import QNetwork
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

    Raises:
        UserError: the action space is not Discrete.
    """

    def __init__(
        self, observation_space: Space, action_space: Space, config: DQNConfig, device: torch.device, seed: int = 0
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
        self.parameters = list(self.network.parameters())
        self.optimizer = make_optimizer(config.optimizer, self.parameters, scheduled(config.learning_rate, 0), eps=1e-8)
        self.exploration = torch.Generator(device).manual_seed(derive_seed(seed, "exploration"))
        self.n_actions = int(action_space.n)
        self.n_updates = 0

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

    @torch.inference_mode()
    def act(self, obs: Any, epsilon: float) -> Tensor:
        """Return epsilon-greedy actions `[N]` for observations on this device."""
        return self._explore(self.network(obs).argmax(dim=1), epsilon, self.exploration)

    @torch.inference_mode()
    def predict(self, obs: Any, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Return greedy actions `[N]`, or epsilon-greedy ones at the final epsilon, drawn from `generator`."""
        greedy = self.network(tree_to_tensor(obs, self.device)).argmax(dim=1)
        return greedy if deterministic else self._explore(greedy, self.config.exploration_final_eps, generator)

    def _explore(self, greedy: Tensor, epsilon: float, generator: torch.Generator | None) -> Tensor:
        """Replace each action by a uniform one with chance `epsilon`; every environment has its own coin."""
        coin, choice = torch.rand(2, len(greedy), generator=generator, device=self.device)
        return torch.where(coin < epsilon, (choice * self.n_actions).long(), greedy)

    @torch.inference_mode()
    def inspect(self, obs: Any) -> dict[str, Tensor]:
        """Return `q_values` and their maximum, `value`, for a batch of observations."""
        q_values = self.network(tree_to_tensor(obs, self.device))
        return {"value": q_values.amax(dim=1), "q_values": q_values}

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Take one optimiser step when `progress` (0 to 1) of the budget is spent; return tag -> scalar tensor."""
        set_learning_rate(self.optimizer, scheduled(self.config.learning_rate, progress))
        self.network.encoder.update_statistics(batch.obs)
        with torch.no_grad():
            online = self.network(batch.next_obs) if self.config.double_q else None
            target = q_target(batch.return_, batch.discount, self.target(batch.next_obs), online)
        q_value = self.network(batch.obs).gather(1, batch.action[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(q_value, target)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        self.optimizer.step()
        self.n_updates += 1
        return {"train/loss": loss.detach(), "train/q_mean": q_value.detach().mean()}

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the target network towards the online one by `tau` (1 copies it), normaliser statistics included."""
        torch._foreach_lerp_(list(self.target.parameters()), list(self.parameters), self.config.tau)
        for target, online in zip(self.target.buffers(), self.network.buffers(), strict=True):
            target.copy_(online)

    def state_dict(self) -> dict[str, Any]:
        """Return everything training needs to go on bit for bit, the replay buffer excepted."""
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "exploration": self.exploration.get_state(),
            "n_updates": self.n_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.exploration.set_state(state["exploration"])
        self.n_updates = state["n_updates"]
