"""Compiled and captured steps do what the plain ones do, and fall back with one sentence."""

from __future__ import annotations

import shutil

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from agents.algos.dqn.algorithm import DQN
from agents.algos.ppo.algorithm import PPO
from agents.algos.ppo.config import PPOConfig
from agents.core.runtime import Compiler
from agents.core.tree import tree_map
from agents.loops.on_policy import on_policy
from agents.loops.position import Position
from tests.algos.test_dqn import OBS, make_batch
from tests.algos.test_dqn import make_agent as make_dqn
from tests.fakes import ClockEnv

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
CONFIG = PPOConfig(
    n_envs=4, n_steps=16, batch_size=32, n_epochs=2, net_arch=(8, 8), total_timesteps=256, learning_rate="lin_0.01",
    clip_range="lin_0.2", ent_coef=0.01, norm_obs=True, norm_reward=True,
)  # fmt: skip


class Tape:
    """Stands in for CUDA graphs: records once, replays on the same inputs, and writes the same outputs anew."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, function):
        self.recorded += 1
        outputs = function()

        def replay():
            self.replayed += 1
            new = function()
            if isinstance(outputs, dict):
                tree_map(Tensor.copy_, outputs, new)
            else:
                for old, fresh in zip(outputs, new, strict=True):
                    old.copy_(fresh)

        return replay, outputs


def train(compiler, config=CONFIG, seed=0):
    """Return an agent after a few iterations, and the metrics of each."""
    env = ClockEnv(config.n_envs)
    agent = PPO(env.observation_space, env.action_space, config, CPU, seed, compiler)
    loop = on_policy(env, agent, Position.start(env, seed), total_timesteps=256, n_steps=config.n_steps)
    return agent, [dict(progress.metrics) for progress in loop]


def test_a_captured_update_is_the_plain_one_bit_for_bit():
    plain, expected = train(Compiler("off"))
    tape = Tape()
    captured, metrics = train(Compiler("auto", record=tape))
    assert metrics == expected
    assert captured.parameters.vector.equal(plain.parameters.vector)
    assert tape.recorded == 1
    assert tape.replayed == len(metrics) == 4


def test_off_captures_nothing_and_a_kl_limit_cannot_be_captured():
    tape = Tape()
    train(Compiler("off", record=tape))
    train(Compiler("auto", record=tape), CONFIG.model_copy(update={"target_kl": 10.0}))
    assert tape.recorded == 0


def test_warming_up_leaves_no_trace():
    total = torch.zeros(2)

    def add(values):
        total.add_(values)
        return (total.clone(),)

    add_captured = Compiler("auto", record=Tape()).loop(add, lambda: [total])
    assert add_captured(torch.ones(2))[0].tolist() == [1.0, 1.0]
    assert add_captured(torch.full((2,), 5.0))[0].tolist() == [6.0, 6.0]


def test_what_cannot_be_captured_runs_as_it_is_and_says_so_once():
    def record(function):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    compiler, said = Compiler("auto", record=record), []
    compiler.say = said.append
    total = torch.zeros(1)
    captured = compiler.loop(lambda x: (total.add_(x),), lambda: [total])
    for _ in range(3):
        captured(torch.ones(1))
    assert total.item() == 3.0
    assert said == ["not captured, runs as it is: RuntimeError: operation not permitted"]


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(monkeypatch):
    def broken(function, **options):
        def run(*args):
            raise RuntimeError("no C++ compiler")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    expected = train(Compiler("off"))[1]
    compiler, said = Compiler("on"), []
    compiler.say = said.append
    metrics = train(compiler)[1]
    assert metrics == expected
    assert said == ["not compiled, runs as it is: RuntimeError: no C++ compiler"]


def test_a_summary_says_what_is_done():
    def summary(mode, device, **options):
        compiler = Compiler(mode, torch.device(device))
        PPO(ClockEnv.observation_space, spaces.Discrete(3), PPOConfig(**options), CPU, 0, compiler)
        return compiler.summary

    assert summary("off", "cpu") == summary("auto", "cpu") == summary("off", "cuda") == "eager"
    assert summary("on", "cpu") == summary("on", "cpu", target_kl=0.1) == "compiled"
    assert summary("auto", "cuda") == "captured"
    assert summary("auto", "cuda", target_kl=0.1) == "eager"
    assert summary("on", "cuda") == "compiled and captured"
    only_dqn = Compiler("auto", torch.device("cuda"))
    DQN(OBS, spaces.Discrete(4), make_dqn().config, CPU, 0, only_dqn)
    assert only_dqn.summary == "eager"


def test_rollouts_with_dummies_vary_in_size_and_are_left_alone(monkeypatch):
    def shapes_only(function, **options):
        def run(*args):
            raise AssertionError("compiled for a size that will not come again")

        return run

    monkeypatch.setattr(torch, "compile", shapes_only)
    env, compiler, said = ClockEnv(4, dummies=True), Compiler("on"), []
    compiler.say = said.append
    for options in ({}, {"target_kl": 10.0}):
        agent = PPO(env.observation_space, env.action_space, CONFIG.model_copy(update=options), CPU, 0, compiler)
        loop = on_policy(env, agent, Position.start(env, 0), total_timesteps=256, n_steps=16)
        assert all(progress.metrics for progress in loop)
    assert said == []


@needs_compiler
def test_compiled_ppo_follows_the_plain_one():
    compiler, said = Compiler("on", CPU), []
    compiler.say = said.append
    config = CONFIG.model_copy(update={"clip_range": 0.2})  # at a clip range of 0 rounding alone counts as clipped
    plain, expected = train(Compiler("off"), config)
    compiled, metrics = train(compiler, config)
    assert said == []
    torch.testing.assert_close(compiled.parameters.vector, plain.parameters.vector, atol=1e-5, rtol=1e-4)
    for step, wanted in zip(metrics, expected, strict=True):
        assert step == pytest.approx(wanted, abs=1e-4, rel=1e-3)


@needs_compiler
def test_compiled_dqn_follows_the_plain_one():
    plain = make_dqn()
    compiler, said = Compiler("on", CPU), []
    compiler.say = said.append
    compiled = DQN(OBS, spaces.Discrete(4), plain.config, CPU, 0, compiler)
    for seed in range(4):
        wanted, got = (agent.update(make_batch(seed=seed), 0.1) for agent in (plain, compiled))
        assert got["train/loss"].item() == pytest.approx(wanted["train/loss"].item(), rel=1e-4)
    assert said == []
    torch.testing.assert_close(compiled.parameters.vector, plain.parameters.vector, atol=1e-6, rtol=1e-4)
