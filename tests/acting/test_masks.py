"""Illegal actions are never taken: by either collector, greedily, sampled or explored, while the policy learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gymnasium import spaces

from agents.acting.collector import TickCollector
from agents.acting.evaluation import evaluate
from agents.acting.fused import FusedCollector
from agents.acting.masks import refuse_no_action
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.algos.pqn.config import PQNConfig
from agents.networks.memory import MEMORIES
from agents.run.config import CONFIGS
from agents.run.yaml_files import load_config_file
from envs.errors import EnvError
from envs.make import make
from tests.acting.trajectories import successors
from tests.fakes import training_on
from tests.marks import long_test

MASKED = f"{Path(__file__).with_name('masked_env.py')}:Masked"
KINDS = [
    "ppo",
    "ppo, gru",
    "dqn",
    "dqn, rainbow",
    "dqn, btr",
    "dqn, gru",
    "pqn",
    "pqn, gru",
    "ppo, scan",
    "ppo, gtrxl",
]

ALL = {"double_q": True, "dueling": True, "noisy": True, "distribution": "iqn", "n_quantiles": 4, "munchausen": True}
PARTS = {
    "dqn, plain": {"double_q": False},
    "dqn, double": {"double_q": True},
    "dqn, dueling": {"dueling": True},
    "dqn, noisy": {"noisy": True},
    "dqn, c51": {"distribution": "c51", "n_atoms": 11},
    "dqn, qr": {"distribution": "qr", "n_quantiles": 5},
    "dqn, iqn": {"distribution": "iqn", "n_quantiles": 4},
    "dqn, munchausen": {"munchausen": True},
    "dqn, all": ALL | {"prioritized_replay": True, "n_step_returns": 3},
    "dqn, all, gru": ALL | {"prioritized_replay": True, "n_step_returns": 3},
}


def params_of(kind, steps, num_envs=20, **options):
    common = {"n_envs": num_envs, "total_timesteps": steps, "net_arch": (16,), "learning_rate": 0.003} | options
    name = kind.rpartition(", ")[2] if "," in kind else ""
    memory = {"memory": name, "memory_size": 8, "memory_window": 4} if name in MEMORIES else {}
    if "dqn" in kind:
        settings = {"train_freq": 2 * num_envs, "batch_size": 64, "learning_starts": 1_000, "exploration_fraction": 0.8}
        if kind in PARTS:
            parts = PARTS[kind] | memory
        else:
            parts = load_config_file(CONFIGS / "dqn" / "presets" / f"{name}.yaml") if name and not memory else memory
        if memory:
            settings |= {"train_freq": 5 * num_envs, "batch_size": 90, "sequence_length": 9}
            settings["learning_starts"] = max(1_000, 10 * num_envs)
            common |= {"learning_rate": 0.01}
        support = {"v_min": -2.0, "v_max": 20.0, "exploration_final_eps": 0.05}
        return DQNConfig(**{**settings, **parts, **support, **common})
    if "pqn" in kind:
        return PQNConfig(n_steps=25, batch_size=10 * num_envs, exploration_fraction=0.8, **memory, **common)
    curiosity = {"curiosity": "rnd", "curiosity_arch": (8,)} if "rnd" in kind else {}
    return PPOConfig(n_steps=25, batch_size=10 * num_envs, n_epochs=2, **memory, **curiosity, **common)


def training_of(kind, steps, *, fused, env_kwargs=None, **options):
    params = params_of(kind, steps, **options)
    env = make(MASKED, params.n_envs, vec="native", tensors=fused, env_kwargs=env_kwargs)
    training = training_on(env, params)
    assert isinstance(training.collector, FusedCollector if fused else TickCollector)
    return training


def rewards_of(training):
    """Train to the end; return the reward of each action, `[steps]`, all of them legal."""
    rewards, collect = [], training.collector.collect

    def watched(*given):
        collected = collect(*given)
        trajectory = collected.trajectory
        mask = trajectory.obs["action_mask"]
        assert (mask.sum(-1) == 2).all()
        assert mask.gather(-1, trajectory.action[..., None]).all(), "an illegal action was taken"
        rewards.append(trajectory.reward.flatten().clone())
        return collected

    training.collector.collect = watched
    for _ in training.iterations():
        pass
    assert training.learner.n_updates > 20
    return torch.cat(rewards)


@pytest.mark.parametrize(
    ("kind", "fused"), [("ppo", False), ("dqn", False), *((kind, n % 2 == 0) for n, kind in enumerate(KINDS))]
)
def test_no_illegal_action_in_20_000_steps(kind, fused):
    """Each kind by one of the collectors, PPO and DQN by both."""
    rewards = rewards_of(training_of(kind, 20_000, fused=fused))
    assert len(rewards) == 20_000
    assert set(rewards.tolist()) == {0.0, 1.0}, "the environment has seen legal actions, and both"
    assert rewards[-4_000:].mean() > rewards[:4_000].mean(), "and the better one is learnt"


@long_test
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "ppo, rnd", *PARTS])
def test_no_illegal_action_in_a_million_steps(kind, fused):
    rewards = rewards_of(training_of(kind, 1_000_000, fused=fused, num_envs=200))
    assert len(rewards) == 1_000_000
    assert set(rewards.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("fused", [False, True])
def test_exploration_takes_each_legal_action_as_often(fused):
    options = {"exploration_initial_eps": 1.0, "exploration_final_eps": 1.0, "learning_starts": 10_000}
    training = training_of("dqn", 10_000, fused=fused, **options)
    rewards = torch.cat([training.collector.collect(2).trajectory.reward.flatten().clone() for _ in range(250)])
    assert set(rewards.tolist()) == {0.0, 1.0}
    assert abs(rewards.mean() - 0.5) < 4 * 0.5 / len(rewards) ** 0.5


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_evaluation_takes_legal_actions(kind, fused, deterministic):
    training = training_of(kind, 1_000, fused=fused)
    result = evaluate(training.env, training.policy, 40, seed=0, deterministic=deterministic)
    assert (result.returns >= 0).all()
    assert set(result.lengths.tolist()) == {6, 9}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_observation_to_act_on_that_allows_nothing_is_an_error_in_words(kind, fused):
    training = training_of(kind, 1_000, fused=fused, env_kwargs={"dead": 4})
    with pytest.raises(EnvError, match=r"environment \d+.*action_mask allows no action"):
        for _ in training.iterations():
            pass


@pytest.mark.parametrize("dead", [0, 4])
@pytest.mark.parametrize("fused", [False, True])
def test_an_evaluation_that_meets_no_legal_action_is_the_same_error(fused, dead):
    training = training_of("ppo", 1_000, fused=fused)
    env = make(MASKED, 3, vec="native", env_kwargs={"dead": dead}, tensors=fused)
    with pytest.raises(EnvError, match=r"environment \d+.*action_mask allows no action"):
        evaluate(env, training.policy, 40, seed=0)


@pytest.mark.parametrize("fused", [False, True])
def test_an_evaluation_does_not_mind_final_observations_that_allow_nothing(fused):
    training = training_of("ppo", 1_000, fused=fused)
    env = make(MASKED, 3, vec="native", env_kwargs={"dead": 6, "max_episode_steps": 6}, tensors=fused)
    assert evaluate(env, training.policy, 10, seed=0).lengths.tolist() == [6] * 10


@pytest.mark.parametrize(
    ("masks", "stuck"),
    [
        ([[1, 0, 0, 0, 1], [0, 1, 1, 1, 0]], None),
        ([[1, 0, 0, 0, 1], [0, 0, 1, 1, 0]], 1),
        ([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]], 0),
        ([[[1, 1, 1, 0, 0], [1, 0, 1, 1, 0]], [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]], 1),
    ],
)
def test_each_choice_needs_a_legal_action(masks, stuck):
    obs, space = {"action_mask": torch.tensor(masks)}, spaces.MultiDiscrete([2, 3])
    if stuck is None:
        refuse_no_action(obs, space)
    else:
        with pytest.raises(EnvError, match=f"^environment {stuck}: its action_mask allows no action"):
            refuse_no_action(obs, space)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_final_observation_may_allow_nothing(kind, fused):
    """Nobody acts on it, whether it ended a terminated or a truncated episode."""
    training = training_of(kind, 1_000, fused=fused, env_kwargs={"dead": 6, "max_episode_steps": 6})
    finals = [training.collector.collect(2).trajectory for _ in range(6)]
    assert any((~successors(trajectory)["action_mask"].any(-1)).any() for trajectory in finals)
