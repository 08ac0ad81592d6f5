"""A rollout as one function: the transitions of the environments stepped one tick at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.algos.ppo.algorithm import PPO
from agents.algos.ppo.config import PPOConfig
from agents.core.runtime import Compiler
from agents.loops.on_policy import AtOnce, on_policy
from agents.loops.position import Position
from envs.native.arrays import TorchArrays
from envs.native.gym_env import DYNAMICS
from envs.native.vec_env import NativeVecEnv
from tests.core.test_runtime import Tape

CPU = torch.device("cpu")
CONFIG = PPOConfig(n_envs=5, n_steps=60, batch_size=100, n_epochs=2, net_arch=(8,), total_timesteps=1200)


def start(task, compiler=None, seed=0, device="cpu"):
    """Return native environments on torch, an agent, and where they stand."""
    env = NativeVecEnv(DYNAMICS[task](max_episode_steps=25), CONFIG.n_envs, TorchArrays(device))
    agent = PPO(env.observation_space, env.action_space, CONFIG, torch.device(device), seed, compiler)
    return env, agent, Position.start(env, seed)


@pytest.mark.parametrize("task", ["CartPole-v1", "Pendulum-v1"])
def test_a_horizon_is_its_ticks(task):
    env, agent, position = start(task)
    twin, same, other = start(task)
    horizon = AtOnce(env, agent, position, CONFIG.n_steps, Compiler())
    seen, obs = [], other.obs
    for _ in range(2):
        rollout, episodes, seconds = horizon.collect()
        assert set(seconds) == {"act", "env", "copy"}
        noise, uniform = same.noise(CONFIG.n_steps, CONFIG.n_envs), twin.draw(CONFIG.n_steps)
        ended = []
        for t in range(CONFIG.n_steps):
            with torch.no_grad():
                acted = same.sample(obs, noise[t])
            step = twin.step_drawn(acted.env_action, uniform[t])
            assert rollout.obs[t].equal(obs)
            assert rollout.action[t].equal(acted.action)
            for name in ("reward", "terminated", "truncated"):
                assert getattr(rollout, name)[t].equal(getattr(step, name))
            used = ~step.terminated
            torch.testing.assert_close(rollout.next_value[t][used], same.value(step.next_obs)[used])
            other.tracker.returns += step.reward.numpy()
            other.tracker.lengths += 1
            for n in (step.terminated | step.truncated).nonzero().flatten():
                ended.append((other.tracker.returns[n], other.tracker.lengths[n]))
                other.tracker.returns[n] = other.tracker.lengths[n] = 0
            obs = step.obs
        torch.testing.assert_close(rollout.value, same.value(rollout.obs.flatten(0, 1)).view(60, 5))
        assert [episode.length for episode in episodes] == [length for _, length in ended]
        np.testing.assert_allclose([episode.ret for episode in episodes], [total for total, _ in ended])
        np.testing.assert_array_equal(position.tracker.lengths, other.tracker.lengths)
        assert position.obs.equal(obs)
        seen += episodes
    assert position.step == 2 * CONFIG.n_steps * CONFIG.n_envs
    assert len(seen) > 10
    if task == "CartPole-v1":
        assert rollout.terminated.any()


def train(compiler, device="cpu"):
    env, agent, position = start("CartPole-v1", compiler, device=device)
    loop = on_policy(env, agent, position, total_timesteps=1200, n_steps=CONFIG.n_steps, compiler=compiler)
    return agent, [(progress.step, dict(progress.metrics), progress.episodes) for progress in loop]


def test_captured_training_is_the_plain_one_bit_for_bit():
    plain, expected = train(Compiler("off"))
    tape = Tape()
    captured, got = train(Compiler("auto", record=tape))
    assert got == expected
    assert len(got) == 4
    assert captured.parameters.vector.equal(plain.parameters.vector)
    assert tape.recorded == 2, "one graph for the rollout, one for the update"
    assert tape.replayed == 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_captured_training_on_cuda_follows_the_plain_one():
    plain, expected = train(Compiler("off"), "cuda")
    compiler, said = Compiler("auto", torch.device("cuda")), []
    compiler.say = said.append
    captured, got = train(compiler, "cuda")
    assert said == []
    for (step, metrics, episodes), (wanted_step, wanted, wanted_episodes) in zip(got, expected, strict=True):
        assert (step, episodes) == (wanted_step, wanted_episodes)
        assert metrics == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    torch.testing.assert_close(captured.parameters.vector, plain.parameters.vector, atol=1e-5, rtol=1e-4)


def test_a_loaded_position_goes_on():
    env, agent, position = start("CartPole-v1")
    horizon = AtOnce(env, agent, position, CONFIG.n_steps, Compiler())
    horizon.collect()
    state = position.state_dict(), env.state_dict(), agent.state_dict()
    second, twin, other = start("CartPole-v1", seed=1)
    for part, saved in zip((other, second, twin), state, strict=True):
        part.load_state_dict(saved)
    rollout, episodes, _ = AtOnce(second, twin, other, CONFIG.n_steps, Compiler()).collect()
    expected, wanted, _ = horizon.collect()
    assert episodes == wanted
    for name in ("obs", "action", "reward", "log_prob", "next_value"):
        assert getattr(rollout, name).equal(getattr(expected, name))
