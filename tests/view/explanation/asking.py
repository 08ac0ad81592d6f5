"""Untrained policies of every kind, and questions about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.algos.pqn.config import PQNConfig
from agents.algos.sac.config import SACConfig
from agents.core.tree import tree_map
from agents.run.build import make_algorithm
from agents.view.explanation.attribution import Question
from agents.view.explanation.states import States, greedy
from envs.actions import Hybrid
from tests.fakes import algo_of

VECTOR = spaces.Box(-np.inf, np.inf, (4,), np.float32)
PICTURE = spaces.Box(0, 255, (10, 10, 3), np.uint8)
MASKED = spaces.Dict(
    observation=spaces.Discrete(5), speed=spaces.Box(-1, 1, (2,)), action_mask=spaces.Box(0, 1, (3,), np.float32)
)
BOX, THREE = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)
SEVERAL = Hybrid({"go": THREE, "arm": BOX, "keys": spaces.MultiBinary(2)})

# name -> settings, observations, actions
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "ppo": (PPOConfig(net_arch=(16,)), VECTOR, THREE),
    "ppo normalised": (PPOConfig(net_arch=(16,), norm_obs=True), VECTOR, THREE),
    "ppo box": (PPOConfig(net_arch=(16,)), VECTOR, BOX),
    "ppo choices": (PPOConfig(net_arch=(16,)), VECTOR, spaces.MultiDiscrete([2, 3])),
    "ppo coins": (PPOConfig(net_arch=(16,)), VECTOR, spaces.MultiBinary(3)),
    "ppo parts": (PPOConfig(net_arch=(16,)), VECTOR, SEVERAL),
    "ppo masks": (PPOConfig(net_arch=(16,)), MASKED, THREE),
    "ppo pictures": (PPOConfig(net_arch=(16,), encoder="small"), PICTURE, THREE),
    "ppo memory": (PPOConfig(net_arch=(16,), memory="gru", memory_size=8), VECTOR, THREE),
    "dqn": (DQNConfig(net_arch=(16,)), VECTOR, THREE),
    "dqn c51": (DQNConfig(net_arch=(16,), distribution="c51", dueling=True), VECTOR, THREE),
    "dqn iqn": (DQNConfig(net_arch=(16,), distribution="iqn"), VECTOR, THREE),
    "dqn noisy masks": (DQNConfig(net_arch=(16,), noisy=True), MASKED, THREE),
    "pqn": (PQNConfig(net_arch=(16,)), VECTOR, THREE),
    "sac": (SACConfig(net_arch=(16,)), VECTOR, BOX),
}


def policy_of(kind: str, seed: int = 0) -> Any:
    """Return an untrained policy whose head is not as good as zero, as untrained ones of PPO are."""
    config, obs_space, action_space = KINDS[kind]
    config = type(config).model_validate(config.model_dump() | {"ortho_init": False} if "ppo" in kind else config)
    algorithm = make_algorithm(algo_of(config), obs_space, action_space, config, seed)
    return algorithm.eval().policy


def states_of(kind: str, policy: Any, count: int = 6, seed: int = 0) -> States:
    """Return random states."""
    rng = np.random.default_rng(seed)
    space = KINDS[kind][1]

    def drawn(path: str, leaf: Any) -> Any:
        if path == "action_mask":
            return np.eye(3, dtype=np.float32)[rng.permutation(count) % 3] + np.float32([0, 1, 0]) > 0
        if leaf.dtype == np.float32:
            return rng.normal(size=(count, *leaf.shape)).astype(np.float32)
        return rng.integers(0, 256 if leaf.dtype == np.uint8 else leaf.n, (count, *leaf.shape)).astype(leaf.dtype)

    obs = {path: drawn(path, leaf) for path, leaf in space.items()} if hasattr(space, "items") else drawn("", space)
    carry = policy.initial_carry(count)
    return States(obs, tree_map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), carry))


def ask(kind: str, policy: Any, states: States) -> Question:
    _, obs_space, action_space = KINDS[kind]
    return Question(policy, obs_space, action_space, states.obs, states.carry, greedy(policy, states))


def scores_at(question: Question, inputs: tuple[torch.Tensor, ...]) -> np.ndarray:
    with torch.no_grad():
        return question.scores(*inputs, *question.fixed()).numpy()
