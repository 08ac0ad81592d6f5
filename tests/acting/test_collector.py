"""PPO's loop: what it hands to the agent, when it stops, and that it can be taken up again."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.algos.ppo.algorithm import PPO, Acted
from agents.algos.ppo.config import PPOConfig
from agents.core.types import Episode
from agents.loops.on_policy import on_policy
from agents.loops.position import Position
from tests.fakes import ClockEnv, decode_clock

CPU = torch.device("cpu")


class Scribe:
    """Acts the step number and keeps its rollouts; the value of an observation is its sum."""

    device = CPU

    def __init__(self, n_steps):
        self.n_steps, self.rollouts, self.acted = n_steps, [], 0

    def noise(self, n_steps, num_envs):
        return torch.arange(n_steps)[:, None].expand(n_steps, num_envs)

    def act(self, obs, noise):
        assert noise.tolist() == [self.acted % self.n_steps] * len(obs), "each tick has a noise of its own"
        self.acted += 1
        action = torch.full((len(obs),), self.acted)
        return Acted(action, action % 3)

    def evaluate(self, obs, action):
        return -action.float(), obs.sum(dim=1)

    def value(self, obs):
        return obs.sum(dim=1)

    def update(self, rollout, progress):
        self.rollouts.append((copy.deepcopy(rollout), progress))
        return {"train/loss": float(len(self.rollouts))}


def run(env, total_timesteps, n_steps):
    agent, position = Scribe(n_steps), Position.start(env, 0)
    return agent, position, on_policy(env, agent, position, total_timesteps=total_timesteps, n_steps=n_steps)


def test_nothing_happens_until_it_is_pulled_and_it_stops_when_it_is_not():
    env = ClockEnv(2)
    agent, position, loop = run(env, 1000, 5)
    assert env.actions == []
    assert next(loop).step == position.step == 10
    assert len(env.actions) == 5
    assert len(agent.rollouts) == 1
    loop.close()
    assert len(env.actions) == 5
    assert position.step == 10


@pytest.mark.parametrize(("total", "n_steps", "steps"), [(20, 5, [10, 20]), (21, 5, [10, 20, 30]), (1, 4, [8])])
def test_whole_rollouts_until_the_budget_is_spent(total, n_steps, steps):
    agent, _, loop = run(ClockEnv(2), total, n_steps)
    assert [progress.step for progress in loop] == steps
    assert [progress for _, progress in agent.rollouts] == [min(step / total, 1.0) for step in steps]


def test_a_finished_position_takes_no_step():
    env = ClockEnv(2)
    _, position, loop = run(env, 10, 5)
    list(loop)
    assert list(on_policy(env, Scribe(5), position, total_timesteps=10, n_steps=5)) == []
    assert len(env.actions) == 5


@pytest.mark.parametrize("dummies", [False, True])
def test_the_rollout_holds_the_transitions_in_order(dummies):
    env = ClockEnv(3, dummies=dummies)
    agent, _, loop = run(env, 10**6, 20)
    episodes = []
    for _ in range(3):
        episodes += next(loop).episodes
    clean = ClockEnv(3, dummies=dummies)
    obs = clean.reset(0)
    t, finals, checked = 0, 0, 0
    for rollout, _ in agent.rollouts:
        assert (rollout.valid is None) == (not dummies)
        for row in range(20):
            t += 1
            np.testing.assert_array_equal(rollout.obs[row], obs)
            assert rollout.action[row].tolist() == [t] * 3
            step = clean.step(np.full(3, t % 3))
            for name in ("reward", "terminated", "truncated"):
                np.testing.assert_array_equal(getattr(rollout, name)[row], getattr(step, name))
            valid = np.ones(3, bool) if step.valid is None else step.valid
            if dummies:
                np.testing.assert_array_equal(rollout.valid[row], valid)
            # V of the true successor, wherever it is used: everywhere but after a termination
            used = valid & ~step.terminated
            np.testing.assert_array_equal(rollout.next_value[row][used], step.next_obs.sum(axis=1)[used])
            finals += (used & step.truncated).sum()
            checked += used.sum()
            obs = step.obs
    assert finals >= 3
    assert checked > 100
    assert all(isinstance(episode, Episode) for episode in episodes)
    lengths = [3 + (2 * n + 3 * e) % 7 for n in range(3) for e in range(20)]
    assert {episode.length for episode in episodes} <= set(lengths)
    assert len(episodes) > 15


@pytest.mark.parametrize("dummies", [False, True])
def test_only_real_transitions_count_as_steps(dummies):
    env = ClockEnv(3, dummies=dummies)
    agent, position, loop = run(env, 10**6, 30)
    progress = next(loop)
    (rollout, _) = agent.rollouts[0]
    real = 90 if rollout.valid is None else int(rollout.valid.sum())
    assert progress.step == position.step == real
    assert (real < 90) == dummies
    assert set(progress.seconds) == {"act", "env", "copy", "learn"}
    assert all(seconds >= 0 for seconds in progress.seconds.values())
    assert dict(progress.metrics) == {"train/loss": 1.0}


def test_positions_point_at_the_observation_to_act_on_next():
    env = ClockEnv(2)
    _, position, loop = run(env, 10**6, 7)
    next(loop)
    clean = ClockEnv(2)
    clean.reset(0)
    for t in range(1, 8):
        step = clean.step(np.full(2, t % 3))
    np.testing.assert_array_equal(position.obs, step.obs)
    assert decode_clock(position.obs)[:, 0].tolist() == [0, 1]


def make_training(action_space, seed, dummies):
    config = PPOConfig(
        n_envs=3, n_steps=8, batch_size=12, n_epochs=2, net_arch=(8,), norm_obs=True, norm_reward=True,
        total_timesteps=24 * 6, learning_rate="lin_0.01",
    )  # fmt: skip
    env = ClockEnv(3, action_space, dummies=dummies)
    agent = PPO(env.observation_space, action_space, config, CPU, seed)
    position = Position.start(env, seed)
    return env, agent, position


def loop_of(env, agent, position):
    return on_policy(env, agent, position, total_timesteps=agent.config.total_timesteps, n_steps=8)


@pytest.mark.parametrize("dummies", [False, True])
@pytest.mark.parametrize("action_space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32)], ids=str)
def test_half_and_half_is_the_whole_bit_for_bit(action_space, dummies):
    whole = make_training(action_space, 0, dummies)
    expected = [dict(progress.metrics) for progress in loop_of(*whole)]

    first = make_training(action_space, 0, dummies)
    loop = loop_of(*first)
    metrics = [dict(next(loop).metrics) for _ in range(3)]
    states = copy.deepcopy([part.state_dict() for part in first])
    second = make_training(action_space, 1, dummies)
    for part, state in zip(second, states, strict=True):
        part.load_state_dict(state)
    metrics += [dict(progress.metrics) for progress in loop_of(*second)]

    assert metrics == expected
    assert len(expected) >= 6
    for key, value in whole[1].network.state_dict().items():
        assert second[1].network.state_dict()[key].equal(value), key
    assert second[2].step == whole[2].step
    np.testing.assert_array_equal(second[2].tracker.returns, whole[2].tracker.returns)
