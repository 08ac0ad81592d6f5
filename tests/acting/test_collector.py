"""Collecting tick by tick: what a trajectory holds, what is remembered, and what crosses to the device."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces

import agents.acting.collector
import agents.acting.policies
import agents.core.tree
from agents.acting.collector import TickCollector
from agents.acting.state import ActorState
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.core.types import Acted
from envs.errors import EnvError
from tests.acting.trajectories import successors
from tests.fakes import ClockEnv, decode_clock, training_on

CPU = torch.device("cpu")


class Scribe:
    """Acts the number of the tick, modulo 3 for the environment."""

    device, recurrent = CPU, False

    def __init__(self):
        self.acted, self.progress, self.seen = 0, [], []

    def initial_carry(self, num_envs):
        return ()

    def draw_noise(self, shape, progress, generator):
        self.progress += progress.tolist()
        assert len(progress) == shape[0], "each tick has a progress of its own"
        return torch.arange(self.acted, self.acted + shape[0])[:, None].expand(shape)

    def actor(self):
        def act(obs, carry, noise):
            assert noise.tolist() == [self.acted] * len(obs), "each tick has a noise of its own"
            self.acted += 1
            self.seen.append(obs)
            action = torch.full((len(obs),), self.acted)
            return Acted(action, action % 3, carry)

        return act


def start(env, ticks=20, policy=None, **options):
    policy = policy or Scribe()
    state = ActorState.begin(env, policy, 0, torch.Generator())
    return policy, TickCollector(env, policy, state, ticks=ticks, schedule_steps=600, **options)


def replayed(env):
    """Yield the observation, the step and the `start` flags of each tick that `env` has made, from a fresh one."""
    clean = ClockEnv(env.num_envs, env.action_space, dummies=env.dummies)
    obs, begins = clean.reset(0), np.ones(env.num_envs, bool)
    for action in env.actions:
        step = clean.step(action)
        yield obs, step, begins
        obs, begins = step.obs, step.terminated | step.truncated
        begins = begins if step.valid is None else begins | ~step.valid


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("dummies", [False, True])
def test_the_trajectory_holds_the_transitions_in_order(dummies, every):
    env = ClockEnv(3, dummies=dummies)
    _, collector = start(env, successors=every, carries=every)
    kinds, checked, found, t = set(), 0, [], 0
    for _ in range(3):
        collected = collector.collect(20)
        trajectory, ticks = collected.trajectory, list(replayed(env))[t:]
        assert (trajectory.valid is None) == (not dummies)
        assert (trajectory.next_obs is not None) == every
        following = successors(trajectory)
        for row, (obs, step, begins) in enumerate(ticks):
            t += 1
            np.testing.assert_array_equal(trajectory.obs[row], obs)
            assert trajectory.action[row].tolist() == [t] * 3
            assert env.actions[t - 1].tolist() == [t % 3] * 3
            for name in ("reward", "terminated", "truncated"):
                np.testing.assert_array_equal(getattr(trajectory, name)[row], getattr(step, name))
            np.testing.assert_array_equal(trajectory.start[row], begins)
            valid = np.ones(3, bool) if step.valid is None else step.valid
            if dummies:
                np.testing.assert_array_equal(trajectory.valid[row], valid)
            # the true successor, wherever it is used; that of a termination only where it is kept
            used = valid & (step.truncated | ~step.terminated | every)
            np.testing.assert_array_equal(following[row][used], step.next_obs[used])
            kinds |= set(zip(step.terminated[used].tolist(), step.truncated[used].tolist(), strict=True))
            checked += used.sum()
        np.testing.assert_array_equal(trajectory.last_obs, ticks[-1][1].obs)
        found += [list(zip(*(part.tolist() for part in ended.read()), strict=True)) for ended in collected.episodes]
    ends = {(True, True), (False, True)} | ({(True, False)} if every else set())
    assert kinds == {(False, False)} | ends, "each way to end is in the data"
    assert checked > 120

    expected, returns, lengths = [], np.zeros(3), np.zeros(3, int)
    for _, step, _ in replayed(env):
        valid = np.ones(3, bool) if step.valid is None else step.valid
        returns, lengths = np.where(valid, returns + step.reward, 0), np.where(valid, lengths + 1, 0)
        (ended,) = (step.terminated | step.truncated).nonzero()
        if len(ended):
            expected.append(list(zip(returns[ended].tolist(), lengths[ended].tolist(), strict=True)))
            returns[ended] = lengths[ended] = 0
    assert found == expected, "by tick, and in a tick by environment"
    assert len(found) > 10


@pytest.mark.parametrize("dummies", [False, True])
def test_only_real_transitions_count_as_steps(dummies):
    env = ClockEnv(3, dummies=dummies)
    policy, collector = start(env, ticks=30)
    collected = collector.collect(29)
    before = collector.state.step
    collected = collector.collect(30)
    real = 90 if collected.trajectory.valid is None else int(collected.trajectory.valid.sum())
    assert collector.state.step - before == real
    assert (real < 90) == dummies
    assert collected.last_steps == (3 if not dummies else int(collected.trajectory.valid[-1].sum()))
    assert set(collected.seconds) == {"act", "env"}
    assert all(seconds >= 0 for seconds in collected.seconds.values())
    assert policy.progress[29:] == [(before + 3 * tick) / 600 for tick in range(30)]


def test_the_state_points_at_the_observation_to_act_on_next():
    env = ClockEnv(2)
    _, collector = start(env)
    collector.collect(7)
    *_, (_, step, _) = replayed(env)
    np.testing.assert_array_equal(collector.state.obs, step.obs)
    assert decode_clock(collector.state.obs)[:, 0].tolist() == [0, 1]
    assert collector.state.start.tolist() == (step.terminated | step.truncated).tolist()


def test_fewer_ticks_than_there_is_room_for_leave_nothing_of_those_before():
    env = ClockEnv(2)
    _, collector = start(env, ticks=20)
    collector.collect(20)
    trajectory = collector.collect(3).trajectory
    assert trajectory.action.tolist() == [[21, 21], [22, 22], [23, 23]]
    assert successors(trajectory).shape == (3, 2, 3)


def test_what_is_due_meanwhile_is_done_once_between_the_halves_of_the_first_tick():
    env, order = ClockEnv(2), []
    _, collector = start(env)
    send, receive = env.send, env.receive
    env.send = lambda action: order.append("send") or send(action)
    env.receive = lambda: order.append("receive") or receive()
    collector.collect(3, lambda: order.append("meanwhile"))
    assert order == ["send", "meanwhile", "receive", "send", "receive", "send", "receive"]


@pytest.mark.parametrize("dummies", [False, True])
@pytest.mark.parametrize("algo", ["ppo", "ppo, gru", "dqn"])
def test_a_failure_in_the_middle_leaves_the_state_where_the_trajectory_began(monkeypatch, algo, dummies):
    """All but the random stream, from which the noise of all ticks is drawn at first."""
    sizes = {"net_arch": (8,), "n_envs": 3, "batch_size": 6}
    params = DQNConfig(**sizes) if algo == "dqn" else PPOConfig(**(sizes | ({} if algo == "ppo" else GRU)), n_steps=20)
    env = ClockEnv(3, dummies=dummies)
    collector = training_on(env, params).collector
    collector.collect(20)
    before = copy.deepcopy(collector.state.state_dict())
    assert before["step"] > 0
    assert before["lengths"].any()
    left, receive = [17], env.receive

    def failing():
        step = receive()
        left[0] -= 1
        if not left[0]:
            raise EnvError("broken")
        return step

    monkeypatch.setattr(env, "receive", failing)
    with pytest.raises(EnvError, match="broken"):
        collector.collect(20)
    assert len(env.actions) == 37, "episodes ended in the ticks before it failed"
    after = collector.state.state_dict()
    for name in ("obs", "start", "carry", "returns", "lengths"):
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert after["step"] == before["step"]


GRU = {"memory": "gru", "memory_size": 6, "net_arch": (8,)}


def recurrent(action_space, dummies=False, num_envs=4, n_steps=24):
    params = PPOConfig(**GRU, n_envs=num_envs, n_steps=n_steps, batch_size=num_envs * n_steps)
    env = ClockEnv(num_envs, action_space, dummies=dummies)
    return env, training_on(env, params)


@pytest.mark.parametrize("dummies", [False, True])
@pytest.mark.parametrize("action_space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32)], ids=str)
@torch.no_grad()
def test_memory_is_that_of_a_loop_by_hand(action_space, dummies):
    """Carries, restarts, log-probabilities and values, those after truncations too, environment by environment."""
    env, training = recurrent(action_space, dummies)
    model, collector = training.algorithm.model, training.collector
    noises = []
    draw = training.policy.draw_noise

    def drawing(*given):
        noises.append(draw(*given))
        return noises[-1]

    training.policy.draw_noise = drawing
    carry, cut, t = model.initial_carry(4), 0, 0
    for noise in range(2):  # the second begins in the middle of episodes
        trajectory = collector.collect(24).trajectory
        log_prob, value, next_value = training.policy.evaluate(trajectory)
        torch.testing.assert_close(trajectory.carry, carry)
        ticks = list(replayed(env))[t:]
        for row, (obs, step, _) in enumerate(ticks):
            t += 1
            output = model.output(torch.from_numpy(obs), carry)
            action = output.distribution.sample(noises[noise][row])
            torch.testing.assert_close(trajectory.action[row], action)
            torch.testing.assert_close(log_prob[row], output.distribution.log_prob(action), atol=1e-5, rtol=0)
            torch.testing.assert_close(value[row], output.value, atol=1e-5, rtol=0)
            after = model.act(torch.from_numpy(obs), carry)[1]
            real = torch.ones(4, dtype=torch.bool) if step.valid is None else torch.from_numpy(step.valid)
            used = real & ~torch.from_numpy(step.terminated & ~step.truncated)
            following = model.value(torch.from_numpy(step.next_obs), after)
            torch.testing.assert_close(next_value[row][used], following[used], atol=1e-5, rtol=0)
            for n in torch.from_numpy(step.truncated).nonzero().flatten():
                cut += 1
                without = model.value(torch.from_numpy(step.next_obs), model.initial_carry(4))[n]
                assert abs(next_value[row, n] - without) > 1e-4, "the carry matters to the value"
            begins = torch.from_numpy(step.terminated | step.truncated) | ~real
            carry = torch.where(begins[:, None], 0.0, after)
        torch.testing.assert_close(collector.state.carry, carry)
        torch.testing.assert_close(trajectory.last_carry, carry)
    assert cut >= 5


def on_device(monkeypatch, training):
    """Let the collector take its policy's device for another one; return the arrays, and whole columns, that cross."""
    crossed, columns = [], []

    def to_tensor(array, device):
        if isinstance(array, torch.Tensor):
            return array
        crossed.append(array)
        return torch.from_numpy(array.copy())

    collector = training.collector
    monkeypatch.setattr(agents.acting.policies, "numpy_forward", lambda model: None)
    monkeypatch.setattr(collector, "_on_host", False)
    monkeypatch.setattr(collector, "_host_rows", type(collector._rows)(collector._rows._length, CPU))
    read = collector._host_rows.read
    monkeypatch.setattr(collector._host_rows, "read", lambda count: columns.append(read(count)) or columns[-1])
    for place in (agents.acting.collector, agents.core.tree):
        monkeypatch.setattr(place, "to_tensor", to_tensor)
    return crossed, columns


@pytest.mark.parametrize("ticks", [1, 5])
@pytest.mark.parametrize("algo", ["ppo", "ppo, gru", "dqn"])
def test_each_observation_crosses_to_the_device_once(monkeypatch, algo, ticks):
    """It is acted on, stored and handed on there; rewards, flags and successors cross for all ticks at once."""
    sizes = {"net_arch": (8,), "n_envs": 3, "batch_size": 6}
    params = DQNConfig(**sizes) if algo == "dqn" else PPOConfig(**(sizes | ({} if algo == "ppo" else GRU)), n_steps=5)
    plain = training_on(ClockEnv(3), params)
    expected = [copy.deepcopy(plain.collector.collect(ticks).trajectory) for _ in range(6)]
    env = ClockEnv(3)
    training = training_on(env, params)
    crossed, columns = on_device(monkeypatch, training)
    made, step = [], env.step
    monkeypatch.setattr(env, "step", lambda action: made.append(step(action)) or made[-1])
    written, write = [], training.collector._rows.write
    monkeypatch.setattr(training.collector._rows, "write", lambda t, row: written.append(row["obs"]) or write(t, row))
    first = training.collector.state.obs
    for number, wanted in enumerate(expected):
        for record in (crossed, columns, made, written):
            record.clear()
        got = training.collector.collect(ticks).trajectory
        for name in ("obs", "action", "start", "reward", "last_obs"):
            assert getattr(got, name).equal(getattr(wanted, name)), name
        assert successors(got).equal(successors(wanted))
        observations = [id(array) for array in crossed if array.dtype == np.float32 and array.shape[1:] == (3,)]
        whole = [id(each.obs) for each in made] + ([id(first)] if number == 0 else [])
        assert sorted(set(whole)) == sorted(one for one in observations if one in whole)
        finals = 0 if algo == "dqn" else sum(np.any(each.truncated) for each in made)
        assert len(observations) - len(whole) == finals, "beside them cross final observations only"
        assert all(isinstance(obs, torch.Tensor) for obs in written), "stored from the host, it would cross again"
        others = len(crossed) - len(observations) - finals  # of each final observation its row
        assert others == 1 + (ticks if algo == "ppo, gru" else 0), "memory asks at each tick which episodes start"
        (whole_columns,) = columns
        names = {"reward", "terminated", "truncated"} | ({"next_obs"} if algo == "dqn" else set())
        assert whole_columns.keys() == names
        assert all(len(column) == ticks for column in whole_columns.values())


@pytest.mark.parametrize("dummies", [False, True])
def test_each_episodes_info_lies_beside_its_length(dummies):
    _, collector = start(ClockEnv(3, dummies=dummies, lengths=lambda i, episode: (4, 5, 9 if dummies else 8)[i]))
    ended = collector.collect(20).episodes
    found = [pair for episodes in ended for pair in zip(episodes.lengths, episodes.infos, strict=True)]
    assert [length for length, info in found if info] == [info["length"] for _, info in found if info]
    assert 0 < sum(info == {} for _, info in found) < len(found)
    assert any(len({info["length"] for info in episodes.infos if info}) > 1 for episodes in ended), "of one tick"
