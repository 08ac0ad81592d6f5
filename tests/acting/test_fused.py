"""Ticks as one function: the transitions of the environments stepped one tick at a time."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from agents.acting.fused import NEWEST, FusedCollector, episodes_of, newest_episodes
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.core.runtime import Runtime
from agents.core.tree import to_numpy, tree_map
from agents.run.build import build_on
from agents.run.config import RunConfig
from envs.api import InProcess, Step
from envs.make import make
from tests.acting.trajectories import successors
from tests.core.recorder import Tape
from tests.fakes import algo_of, training_on

PPO = PPOConfig(n_envs=5, n_steps=60, batch_size=100, n_epochs=2, net_arch=(8,), total_timesteps=1200)
SMOOTH = PPOConfig(**{**PPO.model_dump(), "use_sde": True, "sde_sample_freq": 7})
SQUASHED = PPOConfig(**{**PPO.model_dump(), "squash_output": True})
GRU = PPOConfig(**{**PPO.model_dump(), "memory": "gru", "memory_size": 6})
LSTM = {"memory": "lstm", "memory_size": 6, "sequence_length": 8, "burn_in": 2}
DQN = DQNConfig(
    n_envs=3,
    total_timesteps=1500,
    learning_starts=200,
    buffer_size=500,
    batch_size=16,
    train_freq=12,
    gradient_steps=2,
    target_update_interval=50,
    exploration_fraction=0.5,
    n_step_returns=2,
    net_arch=(8,),
)
RECURRENT = DQNConfig(**{**DQN.model_dump(), **LSTM})


class OneByOne(InProcess):
    """Native environments on tensors that speak NumPy: they are stepped tick by tick, with the same randomness."""

    device, backend, capturable = "cpu", "sync", False

    def __init__(self, env):
        self.env, self.num_envs = env, env.num_envs
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self, seed):
        return to_numpy(self.env.reset(seed)).copy()

    def step(self, action):
        step = self.env.step(torch.from_numpy(action))
        return Step(*(to_numpy(getattr(step, name)).copy() for name in Step.__slots__[:5]))

    def state_dict(self):
        return self.env.state_dict()


def native(task, num_envs, device="cpu"):
    limit = {"max_episode_steps": 25} if task != "Corridor-v0" else {"length": 4}
    return make(task, num_envs, vec="native", tensors=True, device=device, env_kwargs=limit)


def numbers(episodes):
    """Return the (return, length) of the episodes that ended, in parts."""
    return [pair for part in episodes for pair in zip(*(each.tolist() for each in part.read()), strict=True)]


@pytest.mark.parametrize(
    ("task", "params"),
    [
        ("CartPole-v1", PPO),
        ("Pendulum-v1", PPO),
        ("Pendulum-v1", SMOOTH),
        ("Pendulum-v1", SQUASHED),
        ("CartPole-v1", GRU),
        ("Corridor-v0", GRU),
        ("CartPole-v1", DQN),
        ("CartPole-v1", RECURRENT),
    ],
)
def test_it_collects_what_ticks_one_by_one_do(task, params):
    training = training_on(native(task, params.n_envs), params)
    twin = training_on(OneByOne(native(task, params.n_envs)), params)
    assert isinstance(training.collector, FusedCollector)
    found, expected, starts = [], [], []
    for ticks in (60, 60, 7):
        got, wanted = training.collector.collect(ticks), twin.collector.collect(ticks)
        one, other = got.trajectory, wanted.trajectory
        for name in ("obs", "action", "reward", "terminated", "truncated", "start", "last_obs", "carry", "last_carry"):
            pair = getattr(one, name), getattr(other, name)
            tree_map(lambda a, b, name=name: torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=name), *pair)
        assert one.valid is None
        starts.append(int(one.start.sum()))
        used = one.truncated | ~one.terminated
        torch.testing.assert_close(successors(one)[used], successors(other)[used], atol=1e-5, rtol=1e-4)
        if params in (PPO, GRU):
            judged = training.policy.evaluate(one), twin.policy.evaluate(other)
            for a, b in zip(*judged, strict=True):
                a, b = a[used], b[used]
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        found += numbers(got.episodes)
        expected += numbers(wanted.episodes)
        for a, b in ((training, twin), (twin, training)):
            mine, theirs = a.collector.state, b.collector.state
            assert mine.step == theirs.step
            np.testing.assert_array_equal(to_numpy(mine.start), to_numpy(theirs.start))
            np.testing.assert_array_equal(to_numpy(mine.tracker.lengths), to_numpy(theirs.tracker.lengths))
            np.testing.assert_allclose(to_numpy(mine.tracker.returns), to_numpy(theirs.tracker.returns), rtol=1e-4)
        assert got.last_steps == wanted.last_steps == params.n_envs
    assert [length for _, length in found] == [length for _, length in expected]
    np.testing.assert_allclose([total for total, _ in found], [total for total, _ in expected], rtol=1e-4)
    assert len(found) > 10
    assert starts[0] > params.n_envs
    assert starts[1] > 0
    assert training.step == 127 * params.n_envs


@torch.no_grad()
def test_memory_reproduces_what_acting_saw_and_bootstraps_with_the_carry_of_that_step():
    """By hand, from what was drawn; truncations after 25 steps, and terminations before."""
    training = training_on(native("CartPole-v1", 5), GRU)
    model, draw, noises = training.algorithm.model, training.policy.draw_noise, []
    training.policy.draw_noise = lambda *given: noises.append(draw(*given)) or noises[-1]
    carry, kinds = model.initial_carry(5), set()
    for number in range(3):
        trajectory = training.collector.collect(60).trajectory
        log_prob, value, next_value = training.policy.evaluate(trajectory)
        torch.testing.assert_close(trajectory.carry, carry)
        following_obs = successors(trajectory)
        for t in range(60):
            output, after = model.output(trajectory.obs[t], carry), model.act(trajectory.obs[t], carry)[1]
            action = output.distribution.sample(noises[number][t])
            assert trajectory.action[t].equal(action)
            torch.testing.assert_close(log_prob[t], output.distribution.log_prob(action), atol=1e-5, rtol=0)
            torch.testing.assert_close(value[t], output.value, atol=1e-5, rtol=0)
            used = ~trajectory.terminated[t]
            following = model.value(following_obs[t], after)
            torch.testing.assert_close(next_value[t][used], following[used], atol=1e-5, rtol=0)
            ended = trajectory.terminated[t] | trajectory.truncated[t]
            kinds |= set(zip(trajectory.terminated[t].tolist(), trajectory.truncated[t].tolist(), strict=True))
            carry = torch.where(ended[:, None], 0.0, after)
        torch.testing.assert_close(training.collector.state.carry, carry)
    assert kinds >= {(True, False), (False, True), (False, False)}


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_a_trajectory_to_be_replayed_holds_what_was_remembered_at_each_tick(fused):
    env = native("CartPole-v1", 3)
    training = training_on(env if fused else OneByOne(env), RECURRENT)
    assert isinstance(training.collector, FusedCollector) == fused
    carry = training.policy.initial_carry(3)
    for ticks in (1, 40, 7):
        trajectory = training.collector.collect(ticks).trajectory
        for t in range(ticks):
            torch.testing.assert_close(trajectory.carries[t], carry, atol=1e-6, rtol=0)
            carry = training.algorithm.model.act(trajectory.obs[t], carry)[1]
            carry = torch.where((trajectory.terminated[t] | trajectory.truncated[t])[:, None], 0.0, carry)
    assert carry.any()
    assert training_on(native("CartPole-v1", 5), GRU).collector.collect(3).trajectory.carries is None


def train(env, params, runtime=None):
    training = training_on(env, params, runtime=runtime)
    seen = []
    for iteration in training.iterations():
        metrics = {name: float(value) for name, value in iteration.metrics.items()}
        seen.append((iteration.step, metrics, numbers(iteration.episodes)))
    return training, seen


def same_weights(one, other):
    mine, theirs = one.algorithm.state_dict(), other.algorithm.state_dict()
    return all(mine[name].equal(value) for name, value in theirs.items())


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("params", [PPO, GRU])
def test_captured_training_is_the_plain_one_bit_for_bit(params):
    plain, expected = train(native("CartPole-v1", 5), params)
    tape = Tape()
    captured, got = train(native("CartPole-v1", 5), params, Runtime("auto", record=tape))
    assert got == expected
    assert len(got) == 4
    assert same_weights(captured, plain)
    assert tape.recorded == 2, "one graph for the rollout, one for the update"
    assert tape.replayed == 8


@pytest.mark.parametrize("changed", [{}, {"n_envs": 16}, {"train_freq": 7}, {"total_timesteps": 150}])
def test_training_off_policy_is_that_of_ticks_one_by_one(changed):
    params = DQNConfig(**{**DQN.model_dump(), **changed})
    training, seen = train(native("CartPole-v1", params.n_envs), params)
    twin, expected = train(OneByOne(native("CartPole-v1", params.n_envs)), params)
    assert seen == expected
    assert same_weights(training, twin)
    assert training.learner.n_updates == twin.learner.n_updates
    assert bool(training.learner.n_updates) == (params.total_timesteps > params.replay.learning_starts)
    saved, wanted = training.replay.state_dict(), twin.replay.state_dict()
    assert saved["level"]
    assert saved["head"].equal(wanted["head"])
    for key, store in wanted["store"].items():
        assert saved["store"][key].equal(store), key


def test_captured_ticks_are_the_plain_ones():
    tape = Tape()
    captured, seen = train(native("CartPole-v1", 3), DQN, Runtime("auto", record=tape))
    plain, expected = train(native("CartPole-v1", 3), DQN)
    assert seen == expected
    assert same_weights(captured, plain)
    assert tape.recorded == 1, "one graph, for as many ticks as there are between updates"
    assert tape.replayed > 100


@pytest.mark.parametrize("params", [PPO, GRU, DQN], ids=["ppo", "ppo, gru", "dqn"])
def test_a_state_loaded_after_some_ticks_is_where_it_goes_on_from(params):
    """What was captured goes on there too, bit for bit."""
    training = training_on(native("CartPole-v1", params.n_envs), params, runtime=Runtime("auto", record=Tape()))
    twin = training_on(native("CartPole-v1", params.n_envs), params)
    ticks = training.collector._usual
    for each in (training, twin):
        each.collector.collect(ticks)
    state = copy.deepcopy(twin.state_dict())
    wanted = [copy.deepcopy(twin.collector.collect(ticks)) for _ in range(2)]
    training.collector.collect(ticks)
    for _ in range(2):
        assert training.load_state_dict(copy.deepcopy(state)) == []
        for expected in wanted:
            got = training.collector.collect(ticks)
            for name in ("obs", "action", "reward", "terminated", "truncated", "start", "last_obs"):
                assert getattr(got.trajectory, name).equal(getattr(expected.trajectory, name)), name
            if params is GRU:
                assert got.trajectory.carry.equal(expected.trajectory.carry)
            assert numbers(got.episodes) == numbers(expected.episodes)
        assert training.step == twin.step


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("params", [PPO, GRU, DQN], ids=["ppo", "ppo, gru", "dqn"])
def test_captured_training_on_cuda_follows_the_plain_one(params):
    device, seen, said = torch.device("cuda"), [], []
    for mode in ("off", "auto"):
        config = RunConfig(env="CartPole-v1", algo=algo_of(params), device="cuda", params=params, seed=0)
        runtime = Runtime(mode, device)
        runtime.say = said.append
        training = build_on(native("CartPole-v1", params.n_envs, "cuda"), config, device, runtime=runtime)
        found = [
            (p.step, {k: float(v) for k, v in p.metrics.items()}, numbers(p.episodes)) for p in training.iterations()
        ]
        seen.append((found[:40], training.learner.parameters.vector.cpu()))
    assert said == []
    for (step, metrics, episodes), (wanted_step, wanted, wanted_episodes) in zip(seen[1][0], seen[0][0], strict=True):
        assert (step, episodes) == (wanted_step, wanted_episodes)
        if params in (PPO, GRU):
            assert metrics == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    if params is not DQN:
        torch.testing.assert_close(seen[1][1], seen[0][1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("chance", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 7, 100])
@pytest.mark.parametrize("shape", [(1, 1), (40, 3), (3, 40), (25, 20)])
def test_newest_episodes_are_those_of_a_plain_loop(shape, count, chance):
    generator = torch.Generator().manual_seed(count)
    for _ in range(4):
        done = torch.rand(shape, generator=generator) < chance
        returns = torch.rand(shape, dtype=torch.float64, generator=generator)
        lengths = torch.randint(1, 1000, shape, generator=generator)
        expected = []
        for t in range(shape[0]):
            for n in range(shape[1]):
                if done[t, n]:
                    expected.append((returns[t, n].item(), lengths[t, n].item()))
        found = episodes_of(done, returns, lengths)
        assert numbers(found) == expected, "on the CPU all of them"
        assert [each.count for each in found] == ([len(expected)] if expected else [])
        episodes = newest_episodes(done, returns, lengths, count)
        assert int(episodes.count) == len(expected) == done.sum()
        assert numbers([episodes]) == expected[-count:]
        assert len(episodes.returns) == len(episodes.lengths) == count, "no more room, however many ended"
        assert episodes.returns.dtype == torch.float64


def test_episodes_on_a_gpu_are_not_waited_for():
    done, returns, lengths = (
        torch.empty(40, 3, device="meta", dtype=of) for of in (torch.bool, torch.float32, torch.int64)
    )
    (found,) = episodes_of(done, returns, lengths)  # whatever reads a number of a meta tensor fails
    assert found.returns.device.type == "meta"
    assert found.returns.shape == (NEWEST,)


def test_episodes_that_wait_to_be_read_hold_on_to_no_more_than_themselves():
    """Thousands may end in one rollout, and rollouts are collected before the first is read."""
    generator = torch.Generator().manual_seed(0)
    kept = []
    for _ in range(5):
        done = torch.rand((64, 64), generator=generator) < 0.5
        kept.append(newest_episodes(done, torch.rand(64, 64), torch.ones(64, 64, dtype=torch.int64), 100))
    assert all(int(episodes.count) > 1500 for episodes in kept)
    held = [part.untyped_storage().nbytes() for each in kept for part in (each.count, each.returns, each.lengths)]
    assert max(held) <= 8 * 101, "a view holds all that it is a part of"
