"""DQN's loop: intervals in environment steps, what reaches the memory, and that it can be taken up again."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from agents.loops.off_policy import YIELD_TICKS, off_policy
from agents.loops.position import Position

from agents.algos.dqn.algorithm import DQN
from agents.algos.dqn.config import DQNConfig
from agents.core.runtime import Compiler
from agents.data.replay import ReplayBuffer
from envs.native import DYNAMICS, NativeVecEnv, TorchArrays
from tests.algos.test_dqn import flat
from tests.core.test_runtime import Tape
from tests.fakes import ClockEnv, decode_clock

CPU = torch.device("cpu")


class Counter:
    """Acts 1 and notes at which step (as `clock` says) it was asked for what."""

    device = CPU

    def __init__(self, clock):
        self.clock = clock
        self.asked = 0
        self.updates, self.targets, self.batches = [], [], []

    def exploration(self, progress, num_envs):
        self.drawn = list(progress)
        forced = torch.full((len(progress), num_envs), -1)
        forced[0::2] = 1  # every second tick is blind
        return forced

    def act(self, obs):
        self.asked += 1
        return torch.ones(len(obs), dtype=torch.int64)

    def update(self, batch, progress):
        self.updates.append((self.clock(), progress))
        self.batches.append(batch)
        return {"train/loss": torch.tensor(float(len(self.updates)))}

    def update_target(self):
        self.targets.append(self.clock())


def start(num_envs, dummies=False, **options):
    """Return environment, counting agent, position, memory and the loop over them."""
    config = DQNConfig(**{"buffer_size": 500, "learning_starts": 0, "batch_size": 8, "n_envs": num_envs, **options})
    env = ClockEnv(num_envs, dummies=dummies)
    position = Position.start(env, 0)
    agent = Counter(lambda: position.step)
    replay = ReplayBuffer(config.buffer_size, num_envs, CPU)
    sampling = torch.Generator().manual_seed(0)
    return env, agent, position, replay, off_policy(env, agent, position, replay, sampling, config)


@pytest.mark.parametrize("dummies", [False, True])
@pytest.mark.parametrize("num_envs", [1, 3, 8, 64])
@pytest.mark.parametrize("train_freq", [1, 4, 5])
@pytest.mark.parametrize("gradient_steps", [1, 2, -1])
def test_intervals_count_environment_steps(num_envs, train_freq, gradient_steps, dummies):
    total, starts, sync = 400, 37, 30
    env, agent, position, _, loop = start(
        num_envs,
        dummies,
        total_timesteps=total,
        learning_starts=starts,
        train_freq=train_freq,
        gradient_steps=gradient_steps,
        target_update_interval=sync,
    )
    steps = [progress.step for progress in loop]
    assert steps[-1] == position.step >= total
    assert (len(env.actions) * num_envs > position.step) == dummies

    # One step at a time: what falls due at a step happens at the end of its tick.
    clean = ClockEnv(num_envs, dummies=dummies)
    clean.reset(0)
    step, updates, targets = 0, [], []
    for action in env.actions:
        before, valid = step, clean.step(action).valid
        step += num_envs if valid is None else int(valid.sum())
        if step >= starts:
            for each in range(before + 1, step + 1):
                if each % train_freq == 0:
                    updates += [step] * (train_freq if gradient_steps == -1 else gradient_steps)
            if any(each % sync == 0 for each in range(before + 1, step + 1)):
                targets.append(step)
    assert [at for at, _ in agent.updates] == updates
    assert agent.targets == targets
    assert all(progress == min(at / total, 1.0) for at, progress in agent.updates)


def test_warm_up_makes_no_update_and_still_yields():
    _, agent, _, _, loop = start(2, total_timesteps=10**6, learning_starts=10**6)
    progress = next(loop)
    assert progress.step == 2 * YIELD_TICKS
    assert dict(progress.metrics) == {}
    assert len(progress.episodes) > 5
    assert agent.updates == agent.targets == []


def test_the_exploration_rate_follows_the_steps_taken():
    _, agent, _, _, loop = start(4, total_timesteps=400, train_freq=20)
    for round_ in range(20):
        next(loop)
        first = 20 * round_
        assert agent.drawn == [step / 400 for step in range(first, first + 20, 4)]


def test_nothing_happens_until_it_is_pulled_and_it_stops_when_it_is_not():
    env, agent, position, replay, loop = start(2, total_timesteps=1000, train_freq=6)
    assert env.actions == []
    progress = next(loop)
    assert progress.step == position.step == len(replay) == 6
    assert len(agent.updates) == 1
    assert progress.metrics["train/loss"].item() == 1.0
    assert set(progress.seconds) == {"act", "env", "copy", "learn"}
    loop.close()
    assert len(env.actions) == 3
    assert agent.asked == 1, "a tick of nothing but exploration asks no network"


def test_the_last_progress_is_at_the_budget():
    _, _, position, _, loop = start(3, total_timesteps=10, train_freq=7)
    assert [progress.step for progress in loop] == [9, 12]
    assert position.step == 12


@pytest.mark.parametrize("dummies", [False, True])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_memory_holds_every_real_transition_with_its_true_successor(num_envs, dummies):
    env, _, position, replay, loop = start(num_envs, dummies, total_timesteps=200, batch_size=400)
    list(loop)
    clean = ClockEnv(num_envs, dummies=dummies)
    obs = clean.reset(0)
    real = {}
    for action in env.actions:
        step = clean.step(action)
        for n in range(num_envs):
            if step.valid is None or step.valid[n]:
                discount = 0.0 if step.terminated[n] else 0.99
                key = tuple(decode_clock(obs[n]))
                real[key] = (1, step.reward[n], discount, *decode_clock(step.next_obs[n]))
        obs = step.obs
    assert len(replay) == position.step == len(real)
    batch = replay.sample(8000, 0.99, 1, torch.Generator().manual_seed(0))
    drawn = {
        tuple(key): (action, reward, discount, *following)
        for key, action, reward, discount, following in zip(
            decode_clock(batch.obs).tolist(),
            batch.action.tolist(),
            batch.return_.tolist(),
            batch.discount.tolist(),
            decode_clock(batch.next_obs).tolist(),
            strict=True,
        )
    }
    assert drawn.keys() == real.keys()
    for key, transition in drawn.items():
        assert transition == pytest.approx(real[key]), key


@pytest.mark.parametrize("num_envs", [1, 8])
def test_what_fell_due_is_learnt_while_environments_step_elsewhere(num_envs):
    env, agent, *_, loop = start(num_envs, total_timesteps=160, train_freq=4)
    env.overlaps = True
    order, send, receive, update = [], env.send, env.receive, agent.update
    env.send = lambda action: order.append("send") or send(action)
    env.receive = lambda: order.append("receive") or receive()
    agent.update = lambda *given: order.append("learn") or update(*given)
    assert next(loop).step == 32 if num_envs == 1 else 64
    list(loop)
    assert len(agent.updates) == 160 // 4
    learnt = [before for before, what in itertools.pairwise(order) if what == "learn" and before != "learn"]
    assert learnt.count("send") == 7 * learnt.count("receive") if num_envs == 1 else learnt.count("send") > 15
    assert order.count("send") == order.count("receive") == 160 // num_envs
    assert [at for at, _ in agent.updates] == sorted(at for at, _ in agent.updates)


def make_training(seed, num_envs, dummies, n_step_returns, overlaps):
    config = DQNConfig(
        n_envs=num_envs, total_timesteps=150, learning_starts=20, buffer_size=45, batch_size=16, train_freq=3,
        target_update_interval=25, net_arch=(8,), learning_rate="lin_0.01", norm_obs=True, tau=0.5,
        exploration_fraction=0.8, n_step_returns=n_step_returns,
    )  # fmt: skip
    env = ClockEnv(num_envs, dummies=dummies)
    env.overlaps = overlaps
    agent = DQN(env.observation_space, env.action_space, config, CPU, seed)
    replay = ReplayBuffer(config.buffer_size, num_envs, CPU)
    return [env, agent, Position.start(env, seed), replay], torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("num_envs", "dummies", "n_step_returns"), [(1, False, 1), (3, True, 1), (3, True, 3)])
@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("pulls", [0, 1, 4])  # before learning starts, and when the ring has wrapped
def test_half_and_half_is_the_whole_bit_for_bit(num_envs, dummies, n_step_returns, pulls, overlaps):
    def loop_of(parts, sampling):
        return off_policy(*parts, sampling, parts[1].config)

    def numbers(progress):
        return progress.step, {key: value.item() for key, value in progress.metrics.items()}, progress.episodes

    whole, sampling = make_training(0, num_envs, dummies, n_step_returns, overlaps)
    expected = [numbers(progress) for progress in loop_of(whole, sampling)]

    first, sampling = make_training(0, num_envs, dummies, n_step_returns, overlaps)
    loop = loop_of(first, sampling)
    seen = [numbers(next(loop)) for _ in range(pulls)]
    states = copy.deepcopy([part.state_dict() for part in first])
    second, other = make_training(1, num_envs, dummies, n_step_returns, overlaps)
    for part, state in zip(second, states, strict=True):
        part.load_state_dict(state)
    other.set_state(sampling.get_state())
    seen += [numbers(progress) for progress in loop_of(second, other)]

    assert seen == expected
    assert any(metrics for _, metrics, _ in expected)
    for name in ("network", "target"):
        saved = getattr(second[1], name).state_dict()
        assert all(saved[key].equal(value) for key, value in getattr(whole[1], name).state_dict().items())


NATIVE = DQNConfig(
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


def native_training(config, compiler=None, at_once=True):
    """Train on native environments on tensors; return the agent, the memory and what was yielded."""
    env = NativeVecEnv(DYNAMICS["CartPole-v1"](max_episode_steps=25), config.n_envs, TorchArrays("cpu"))
    agent = DQN(env.observation_space, env.action_space, config, CPU, compiler=compiler)
    position, replay = Position.start(env, 0), ReplayBuffer(config.buffer_size, config.n_envs, CPU)
    env = env if at_once else OneByOne(env)
    loop = off_policy(env, agent, position, replay, torch.Generator().manual_seed(0), config, compiler)
    return agent, replay, [(step.step, dict(step.metrics), step.episodes) for step in loop]


class OneByOne:
    """Hides from the loop that the environments are native ones."""

    def __init__(self, env):
        self._env = env

    def __getattr__(self, name):
        return getattr(self._env, name)


@pytest.mark.parametrize("changed", [{}, {"n_envs": 16}, {"train_freq": 7}, {"total_timesteps": 150}])
def test_ticks_at_once_are_ticks_one_by_one(changed):
    config = NATIVE.model_copy(update=changed)
    agent, replay, seen = native_training(config)
    twin, other, expected = native_training(config, at_once=False)
    assert seen == expected
    assert agent.parameters.vector.equal(twin.parameters.vector)
    assert flat(agent.target).equal(flat(twin.target))
    assert agent.n_updates == twin.n_updates
    assert bool(agent.n_updates) == (config.total_timesteps > config.learning_starts)
    saved, wanted = replay.state_dict(), other.state_dict()
    assert saved["even"]
    assert saved["head"].equal(wanted["head"])
    for key, store in wanted["store"].items():
        assert saved["store"][key].equal(store)


def test_captured_ticks_are_the_plain_ones():
    tape = Tape()
    agent, _, seen = native_training(NATIVE, Compiler("auto", record=tape))
    plain, _, expected = native_training(NATIVE, Compiler("off"))
    assert seen == expected
    assert agent.parameters.vector.equal(plain.parameters.vector)
    assert tape.recorded == 1, "one graph, for as many ticks as there are between updates"
    assert tape.replayed > 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_captured_ticks_on_cuda_follow_the_plain_ones():
    seen = []
    for mode in ("off", "auto"):
        device = torch.device("cuda")
        env = NativeVecEnv(DYNAMICS["CartPole-v1"](max_episode_steps=25), NATIVE.n_envs, TorchArrays("cuda"))
        compiler = Compiler(mode, device)
        agent = DQN(env.observation_space, env.action_space, NATIVE, device, compiler=compiler)
        position, replay = Position.start(env, 0), ReplayBuffer(NATIVE.buffer_size, NATIVE.n_envs, device)
        sampling = torch.Generator(device).manual_seed(0)
        loop = off_policy(env, agent, position, replay, sampling, NATIVE, compiler)
        seen.append([(step.step, step.episodes) for step in loop][:40])
    assert seen[0] == seen[1]
