"""Small algorithms, their learners, and data for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.acting.collector import TickCollector
from agents.acting.state import ActorState
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.core.config import AlgoConfig
from agents.core.runtime import Runtime
from agents.data.batch import Batch
from agents.data.trajectory import Trajectory
from agents.learning.learner import Learner
from agents.learning.results import UpdateResult
from agents.run.build import make_algorithm
from envs.api import VecEnv
from tests.fakes import ClockEnv, algo_of

BOX = spaces.Box(-1, 1, (2,), np.float32)
OBS = ClockEnv.observation_space
NUM_ENVS, N_STEPS = 4, 8


@dataclass
class Made:
    """An algorithm and what trains it."""

    algorithm: Any
    learner: Learner

    @property
    def model(self) -> Any:
        return self.algorithm.model

    @property
    def policy(self) -> Any:
        return self.algorithm.policy

    def update(self, data: Trajectory | Batch, progress: float = 0.0) -> dict[str, float]:
        return numbers(self.learner.update(data, progress))

    def state_dict(self) -> dict[str, Any]:
        return {"algorithm": self.algorithm.state_dict(), "learner": self.learner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.algorithm.load_state_dict(state["algorithm"])
        self.learner.load_state_dict(state["learner"])


def make(
    config: AlgoConfig, action_space: Space, seed: int = 0, runtime: Runtime | None = None, obs_space: Space = OBS
) -> Made:
    algorithm = make_algorithm(algo_of(config), obs_space, action_space, config, seed)
    return Made(algorithm, Learner(algorithm, runtime or Runtime(), seed))


def make_ppo(
    action_space: Space | None = None,
    seed: int = 0,
    runtime: Runtime | None = None,
    obs_space: Space = OBS,
    **options: Any,
) -> Made:
    settings = {"n_envs": NUM_ENVS, "n_steps": N_STEPS, "batch_size": 16, "n_epochs": 2, "net_arch": (16,)}
    config = PPOConfig.model_validate({**settings, **options})
    return make(config, action_space or spaces.Discrete(3), seed, runtime, obs_space)


def make_dqn(
    seed: int = 0, n_actions: int = 4, runtime: Runtime | None = None, obs_space: Space = OBS, **options: Any
) -> Made:
    config = DQNConfig.model_validate({"net_arch": (16,), "learning_rate": 0.01, **options})
    return make(config, spaces.Discrete(n_actions), seed, runtime, obs_space)


def collect(made: Made, env: VecEnv | None = None, seed: int = 0, n_steps: int = N_STEPS) -> Trajectory:
    """Return a rollout of an algorithm's policy from `env.reset(seed)` on."""
    env = env or ClockEnv(NUM_ENVS, made.model.action_space)
    state = ActorState.begin(env, made.policy, seed, torch.Generator().manual_seed(seed))
    return TickCollector(env, made.policy, state, ticks=n_steps, schedule_steps=10**6).collect(n_steps).trajectory


def make_batch(size: int = 32, seed: int = 0, discount: float = 0.9, n_actions: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, size, 3, generator=generator)
    return Batch(
        obs=obs,
        action=torch.randint(n_actions, (size,), generator=generator),
        return_=torch.randn(size, generator=generator),
        discount=torch.full((size,), discount),
        next_obs=next_obs,
        indices=torch.arange(size),
    )


def weights(module: nn.Module) -> Tensor:
    """Return all parameters, one after the other."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def numbers(result: UpdateResult) -> dict[str, float]:
    """Return an update's metrics as Python numbers."""
    return {tag: float(value) for tag, value in result.metrics.items()}


def watch_losses(made: Made, see: Callable[[dict[str, Any], dict[str, Tensor], dict[str, Tensor]], object]) -> None:
    """Let `see` have each minibatch, what its loss handed out, and the constants, from now on."""
    loss = made.algorithm.loss

    def watched(model: nn.Module, minibatch: Any, constants: Any) -> Any:
        result = loss(model, minibatch, constants)
        see(minibatch, result[1], constants)
        return result

    made.algorithm.loss = watched
