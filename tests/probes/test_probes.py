"""Both algorithms learn each probe to the value and the actions that its formula gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.algos.dqn.algorithm import DQN
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.algorithm import PPO
from agents.algos.ppo.config import PPOConfig
from agents.data.replay import ReplayBuffer
from agents.loops.off_policy import off_policy
from agents.loops.on_policy import on_policy
from agents.loops.position import Position
from tests.probes.probe_env import Aim, Bet, Choice, Constant, Cue, Delay, Endless, Finite, Match

CPU = torch.device("cpu")
GAMMA = 0.8
NUM_ENVS = 8


def ppo(env, steps=2_000, **options):
    settings = {"learning_rate": 0.01, "gamma": GAMMA, "n_steps": 16, "batch_size": 64, "net_arch": (16,)}
    config = PPOConfig(**{**settings, "n_envs": NUM_ENVS, "total_timesteps": steps, "n_epochs": 4, **options})
    agent = PPO(env.observation_space, env.action_space, config, CPU, seed=0)
    position = Position.start(env, 0)
    for _ in on_policy(env, agent, position, total_timesteps=config.total_timesteps, n_steps=config.n_steps):
        pass
    return agent


def dqn(env, steps=2_000, **options):
    settings = {"learning_rate": 0.01, "gamma": GAMMA, "learning_starts": 200, "buffer_size": 2_000, "net_arch": (16,)}
    settings |= {"n_envs": NUM_ENVS, "train_freq": 8, "target_update_interval": 80, "exploration_fraction": 0.5}
    config = DQNConfig(**{**settings, "total_timesteps": steps, "exploration_final_eps": 0.2, **options})
    agent = DQN(env.observation_space, env.action_space, config, CPU, seed=0)
    replay = ReplayBuffer(config.buffer_size, NUM_ENVS, CPU)
    position = Position.start(env, 0)
    for _ in off_policy(env, agent, position, replay, torch.Generator().manual_seed(0), config):
        pass
    return agent


def values(agent, *observations):
    return agent.inspect(np.array(observations, np.float32))["value"].tolist()


def q_values(agent, *observations):
    return agent.inspect(np.array(observations, np.float32))["q_values"].numpy()


def actions(agent, *observations):
    return agent.predict(np.array(observations, np.float32)).tolist()


BOTH = pytest.mark.parametrize("learn", [ppo, dqn])


@BOTH
def test_a_constant_reward_is_the_value(learn):
    assert values(learn(Constant(NUM_ENVS)), [0]) == pytest.approx([1.0], abs=0.05)


@BOTH
def test_the_value_depends_on_the_observation(learn):
    assert values(learn(Cue(NUM_ENVS)), [-1], [1]) == pytest.approx([-1.0, 1.0], abs=0.05)


@BOTH
def test_a_later_reward_is_discounted(learn):
    assert values(learn(Delay(NUM_ENVS)), [0], [1]) == pytest.approx([GAMMA, 1.0], abs=0.05)


def test_a_later_reward_is_discounted_over_n_steps():
    agent = dqn(Delay(NUM_ENVS), n_step_returns=3)
    assert values(agent, [0], [1]) == pytest.approx([GAMMA, 1.0], abs=0.05)


@BOTH
def test_the_better_action_is_found(learn):
    assert actions(learn(Choice(NUM_ENVS)), [0]) == [1]


def test_q_values_of_both_actions():
    assert q_values(dqn(Choice(NUM_ENVS)), [0]) == pytest.approx(np.array([[-1.0, 1.0]]), abs=0.05)


@BOTH
def test_the_right_action_depends_on_the_observation(learn):
    agent = learn(Match(NUM_ENVS))
    assert actions(agent, [-1], [1]) == [0, 1]
    if learn is dqn:
        assert q_values(agent, [-1], [1]) == pytest.approx(np.array([[1.0, -1.0], [-1.0, 1.0]]), abs=0.1)


@BOTH
def test_a_small_cost_is_paid_for_a_later_gain(learn):
    agent = learn(Bet(NUM_ENVS))
    assert actions(agent, [0, 0]) == [1]
    assert values(agent, [0, 0], [1, 1]) == pytest.approx([GAMMA - 0.1, 1.0], abs=0.05)


@BOTH
def test_a_truncation_does_not_cut_the_value(learn):
    assert values(learn(Endless(NUM_ENVS)), [0]) == pytest.approx([1 / (1 - GAMMA)], rel=0.02)


@BOTH
def test_a_termination_does(learn):
    times = np.arange(4)
    expected = (1 - GAMMA ** (4 - times)) / (1 - GAMMA)
    assert values(learn(Finite(NUM_ENVS)), *(times[:, None] / 4)) == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("options", [{}, {"squash_output": True}, {"state_dependent_std": True}])
def test_a_continuous_action_is_aimed(options):
    agent = ppo(Aim(NUM_ENVS), learning_rate="lin_0.02", **options)
    assert np.ravel(actions(agent, [-1], [1])) == pytest.approx([-0.5, 0.5], abs=0.1)
