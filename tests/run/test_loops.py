"""The loops: what falls due when, what they hand over, and that they can be taken up again."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.acting.collector import TickCollector
from agents.acting.state import ActorState
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.core.schedules import crossings
from agents.core.types import Acted
from agents.data.replay import ReplayBuffer
from agents.data.samplers import UniformSampler
from agents.learning.results import UpdateResult
from agents.run.loops import YIELD_TICKS, off_policy, on_policy
from tests.fakes import ClockEnv, decode_clock, training_on
from tests.marks import pairs

CPU = torch.device("cpu")


class Ones:
    """Acts 1, and notes the progress that noise was drawn for."""

    device, recurrent = CPU, False

    def initial_carry(self, num_envs):
        return ()

    def draw_noise(self, shape, progress, generator):
        self.drawn = list(progress)
        return torch.zeros(shape)

    def actor(self):
        def act(obs, carry, noise):
            action = torch.ones(len(obs), dtype=torch.int64)
            return Acted(action, action, carry)

        return act


class Notes:
    """Stands in for a learner, and for its algorithm: notes at which step (as `clock` says) it was asked for what."""

    device = CPU

    def __init__(self, clock, priorities=False):
        self.clock, self.priorities, self.algorithm = clock, priorities, self
        self.updates, self.data, self.rounds, self.checked, self.latest_of = [], [], [], [], []

    def update(self, data, progress):
        self.updates.append((self.clock(), progress))
        self.data.append(copy.deepcopy(data))
        loss = torch.tensor(float(len(self.updates)))
        priority = torch.full((len(data.action),), len(self.updates)) if self.priorities else None
        return UpdateResult({"train/loss": loss}, priority, torch.zeros(()))

    def after_round(self, before, after):
        self.rounds.append((self.clock(), before, after))

    def refuse_divergence(self, result, step):
        self.checked.append((result.metrics["train/loss"].item(), step))

    def latest(self, progress):
        self.latest_of.append(progress)
        return {"train/learning_rate": progress}


def collector_of(env, ticks, total, **options):
    state = ActorState.begin(env, Ones(), 0, torch.Generator())
    return TickCollector(env, Ones(), state, ticks=ticks, schedule_steps=total, **options)


def on(env, total, n_steps):
    collector = collector_of(env, n_steps, total)
    learner = Notes(lambda: collector.state.step)
    config = PPOConfig(n_envs=env.num_envs, n_steps=n_steps, total_timesteps=total)
    return learner, collector, on_policy(collector, learner, config)


def test_nothing_happens_until_it_is_pulled_and_it_stops_when_it_is_not():
    env = ClockEnv(2)
    learner, collector, loop = on(env, 1000, 5)
    assert env.actions == []
    assert next(loop).step == collector.state.step == 10
    assert len(env.actions) == 5
    assert len(learner.updates) == 1
    loop.close()
    assert len(env.actions) == 5
    assert collector.state.step == 10


@pytest.mark.parametrize(("total", "n_steps", "steps"), [(20, 5, [10, 20]), (21, 5, [10, 20, 30]), (1, 4, [8])])
def test_whole_rollouts_until_the_budget_is_spent(total, n_steps, steps):
    learner, _, loop = on(ClockEnv(2), total, n_steps)
    assert [iteration.step for iteration in loop] == steps
    begun = [step / total for step in [0, *steps[:-1]]]
    assert learner.updates == list(zip(steps, begun, strict=True)), (
        "an update's rates are those of its data's beginning"
    )
    assert learner.latest_of == begun
    assert learner.checked == list(zip(range(1, len(steps) + 1), steps, strict=True))


class Paid(ClockEnv):
    """Pays by the time: -2, 0.25, 0, over and over."""

    def receive(self):
        step = super().receive()
        t = decode_clock(step.next_obs)[:, 2]
        return dataclasses.replace(step, reward=np.array([-2, 0.25, 0], np.float32)[t % 3])


@pytest.mark.parametrize("clip_reward", [False, True])
def test_what_is_learnt_from_is_the_sign_of_rewards_if_asked_for_and_scores_are_not(clip_reward):
    config = PPOConfig(n_envs=2, n_steps=6, total_timesteps=36, clip_reward=clip_reward)
    collector = collector_of(Paid(2), 6, 36)
    learner = Notes(lambda: 0)
    episodes = [one for iteration in on_policy(collector, learner, config) for one in iteration.episodes]
    rewards = {value for data in learner.data for value in data.reward.flatten().tolist()}
    assert rewards == ({-1.0, 1.0, 0.0} if clip_reward else {-2.0, 0.25, 0.0})
    assert any(value % 1 for one in episodes for value in one.returns.tolist()), "returns have the quarters"

    config = DQNConfig(n_envs=2, total_timesteps=36, learning_starts=100, clip_reward=clip_reward)
    replay = ReplayBuffer(100, 2, CPU)
    collector = collector_of(Paid(2), YIELD_TICKS, 36, successors=True, carries=True)
    loop = off_policy(
        collector._env, collector, replay, UniformSampler(replay, 0.9, 1, torch.Generator()), learner, config
    )
    episodes = [one for iteration in loop for one in iteration.episodes]
    assert {*replay.store["reward"][:18].flatten().tolist()} == rewards
    assert any(value % 1 for one in episodes for value in one.returns.tolist())


def test_a_finished_training_takes_no_step():
    env = ClockEnv(2)
    learner, collector, loop = on(env, 10, 5)
    list(loop)
    assert list(on_policy(collector, learner, PPOConfig(n_envs=2, n_steps=5, total_timesteps=10))) == []
    assert len(env.actions) == 5


@pytest.mark.parametrize("dummies", [False, True])
def test_an_update_gets_the_whole_rollout_and_an_iteration_says_what_happened(dummies):
    env = ClockEnv(3, dummies=dummies)
    learner, _, loop = on(env, 10**6, 30)
    clean, lengths = ClockEnv(3, dummies=dummies), []
    obs, taken, t = clean.reset(0), 0, 0
    for number in (1, 2):
        before, iteration = taken, next(loop)
        trajectory = learner.data[-1]
        assert trajectory.reward.shape == (30, 3)
        for row in range(30):
            np.testing.assert_array_equal(trajectory.obs[row], obs)
            step = clean.step(env.actions[t])
            valid = np.ones(3, bool) if step.valid is None else step.valid
            taken, t, obs = taken + int(valid.sum()), t + 1, step.obs
            np.testing.assert_array_equal(trajectory.reward[row], step.reward)
            lengths += [int(np.rint(step.next_obs[n, 2] * 8)) for n in (step.terminated | step.truncated).nonzero()[0]]
        assert iteration.step == taken
        assert (taken < 90 * number) == dummies
        assert [length for ended in iteration.episodes for length in ended.read()[1].tolist()] == lengths
        lengths.clear()
        assert set(iteration.seconds) == {"act", "env", "learn"}
        assert all(seconds >= 0 for seconds in iteration.seconds.values())
        assert {name: float(value) for name, value in iteration.metrics.items()} == {"train/loss": number}
        assert iteration.latest == {"train/learning_rate": before / 10**6}


def off(num_envs, dummies=False, priorities=False, **options):
    """Return environment, learner, collector, memory and the loop over them."""
    config = DQNConfig(**{"buffer_size": 500, "learning_starts": 0, "batch_size": 8, "n_envs": num_envs, **options})
    env = ClockEnv(num_envs, dummies=dummies)
    collector = collector_of(env, YIELD_TICKS, config.total_timesteps, successors=True, carries=True)
    learner = Notes(lambda: collector.state.step, priorities)
    replay = ReplayBuffer(config.replay.buffer_size, num_envs, CPU)
    sampler = UniformSampler(replay, config.gamma, 1, torch.Generator().manual_seed(0))
    return env, learner, collector, (replay, sampler), off_policy(env, collector, replay, sampler, learner, config)


@pytest.mark.parametrize(
    ("num_envs", "train_freq", "gradient_steps", "dummies"), pairs([1, 3, 8, 64], [1, 4, 5], [1, 2, -1], [False, True])
)
def test_intervals_count_environment_steps(num_envs, train_freq, gradient_steps, dummies):
    total, starts, sync = 400, 37, 30
    intervals = {"train_freq": train_freq, "gradient_steps": gradient_steps, "learning_starts": starts}
    env, learner, collector, _, loop = off(num_envs, dummies, total_timesteps=total, **intervals)
    steps = [iteration.step for iteration in loop]
    assert steps[-1] == collector.state.step >= total
    assert (len(env.actions) * num_envs > collector.state.step) == dummies

    # One step at a time: what falls due at a step happens at the end of its tick.
    clean = ClockEnv(num_envs, dummies=dummies)
    clean.reset(0)
    step, updates = 0, []
    for action in env.actions:
        before, valid = step, clean.step(action).valid
        step += num_envs if valid is None else int(valid.sum())
        if step >= starts:
            for each in range(before + 1, step + 1):
                if each % train_freq == 0:
                    updates += [(step, before / total)] * (train_freq if gradient_steps == -1 else gradient_steps)
    assert learner.updates == updates

    # What else falls due does so after each round, and rounds leave out no step and count none twice.
    assert all(at == after for at, _, after in learner.rounds)
    assert all(one[2] == other[1] for one, other in itertools.pairwise(learner.rounds))
    assert learner.rounds[0][1] <= starts <= learner.rounds[0][2]
    assert learner.rounds[-1][2] == steps[-1]
    targets = [at for at, before, after in learner.rounds if crossings(before, after, sync)]
    made = {due: next(at for at in targets if at >= due) for due in range(sync, steps[-1] + 1, sync) if due >= starts}
    for due, at in made.items():
        assert not [other for other, _ in updates if due <= other < at], "a round of updates came between"
    assert set(targets[1:]) <= set(made.values()), "none that was not due; the first may be from before learning began"


def test_warm_up_makes_no_update_and_still_yields():
    options = {"learning_starts": 10**6, "buffer_size": 10**6}
    _, learner, _, _, loop = off(2, total_timesteps=10**6, **options)
    iteration = next(loop)
    assert iteration.step == 2 * YIELD_TICKS
    assert dict(iteration.metrics) == {}
    assert sum(episodes.count for episodes in iteration.episodes) > 5
    assert learner.updates == learner.rounds == learner.checked == []


def test_exploration_follows_the_steps_taken():
    _, _, collector, _, loop = off(4, total_timesteps=400, train_freq=20)
    for number in range(20):
        next(loop)
        assert collector._policy.drawn == [step / 400 for step in range(20 * number, 20 * number + 20, 4)]


def test_nothing_happens_off_policy_either_until_it_is_pulled():
    env, learner, collector, (replay, _), loop = off(2, total_timesteps=1000, train_freq=6)
    assert env.actions == []
    iteration = next(loop)
    assert iteration.step == collector.state.step == len(replay) == 6
    assert len(learner.updates) == 1
    assert iteration.metrics["train/loss"].item() == 1.0
    assert iteration.latest == {"train/learning_rate": 4 / 1000}  # that of its update
    assert learner.checked == [(1.0, 6)]
    assert set(iteration.seconds) == {"act", "env", "copy", "learn"}
    loop.close()
    assert len(env.actions) == 3


def test_the_last_iteration_ends_at_the_budget():
    _, _, collector, _, loop = off(3, total_timesteps=10, train_freq=7)
    assert [iteration.step for iteration in loop] == [9, 12]
    assert collector.state.step == 12


def test_priorities_go_back_to_the_sampler_with_the_indices_they_belong_to():
    _, learner, _, (_, sampler), loop = off(2, priorities=True, total_timesteps=200, train_freq=10, gradient_steps=12)
    told = []
    sampler.update_priorities = lambda *given: told.append(given)
    list(loop)
    assert len(told) == len(learner.updates) == 20 * 12
    for number, ((indices, priorities), batch) in enumerate(zip(told, learner.data, strict=True), start=1):
        assert indices.equal(batch.indices)
        assert priorities.tolist() == [number] * 8


def test_a_round_is_as_healthy_as_the_worst_of_its_updates():
    _, learner, _, _, loop = off(2, total_timesteps=20, learning_starts=0, train_freq=10, gradient_steps=3)
    healths = iter([0.0, math.inf, 0.0, 0.0, 0.0, 0.0])
    update, checked = learner.update, []
    learner.update = lambda *given: update(*given)._replace(health=torch.tensor(next(healths)))
    learner.refuse_divergence = lambda result, step: checked.append(math.isfinite(result.health))
    list(loop)
    assert checked == [False, True]


@pytest.mark.parametrize("dummies", [False, True])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_memory_holds_every_real_transition_with_its_true_successor(num_envs, dummies):
    env, _, collector, (replay, sampler), loop = off(num_envs, dummies, total_timesteps=200, batch_size=400)
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
    assert len(replay) == collector.state.step == len(real)
    batch = sampler.sample(8000, 0.0)
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
    env, learner, _, _, loop = off(num_envs, total_timesteps=160, train_freq=4)
    env.overlaps = True
    order, send, receive, update = [], env.send, env.receive, learner.update
    env.send = lambda action: order.append("send") or send(action)
    env.receive = lambda: order.append("receive") or receive()
    learner.update = lambda *given: order.append("learn") or update(*given)
    assert next(loop).step == 32 if num_envs == 1 else 64
    list(loop)
    assert len(learner.updates) == 160 // 4
    learnt = [before for before, what in itertools.pairwise(order) if what == "learn" and before != "learn"]
    assert learnt.count("send") == 7 * learnt.count("receive") if num_envs == 1 else learnt.count("send") > 15
    assert order.count("send") == order.count("receive") == 160 // num_envs
    assert [at for at, _ in learner.updates] == sorted(at for at, _ in learner.updates)


def numbers(iteration):
    episodes = [[part.tolist() for part in ended.read()] for ended in iteration.episodes]
    return (
        iteration.step,
        {key: float(value) for key, value in iteration.metrics.items()},
        dict(iteration.latest),
        episodes,
    )


def assert_half_and_half_is_the_whole(make, pulls):
    """`make(seed)` returns a training; one broken off after so many yields and gone on with is like an unbroken one."""
    whole = make(0)
    expected = [numbers(iteration) for iteration in whole.iterations()]
    first, second = make(0), make(1)
    seen = [numbers(iteration) for iteration in itertools.islice(first.iterations(), pulls)]
    assert second.load_state_dict(copy.deepcopy(first.state_dict())) == []
    seen += [numbers(iteration) for iteration in second.iterations()]
    assert seen == expected
    assert sum(bool(metrics) for _, metrics, _, _ in expected) >= 5
    theirs = whole.algorithm.state_dict()
    assert all(value.equal(theirs[name]) for name, value in second.algorithm.state_dict().items())
    assert second.step == whole.step
    for name in ("returns", "lengths"):
        np.testing.assert_array_equal(*(getattr(each.collector.state.tracker, name) for each in (second, whole)))


@pytest.mark.parametrize(
    ("action_space", "memory", "dummies", "pulls"),
    pairs([spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32)], [None, "gru"], [False, True], [0, 3]),
    ids=str,
)
def test_half_and_half_on_policy_is_the_whole_bit_for_bit(action_space, memory, dummies, pulls):
    params = PPOConfig(
        n_envs=3, n_steps=8, batch_size=12, n_epochs=2, net_arch=(8,), norm_obs=True, norm_reward=True, memory=memory,
        memory_size=5, total_timesteps=24 * 6, learning_rate="lin_0.01",
    )  # fmt: skip

    def make(seed):
        return training_on(ClockEnv(3, action_space, dummies=dummies), params, seed=seed)

    assert_half_and_half_is_the_whole(make, pulls)


@pytest.mark.parametrize(
    ("kind", "overlaps", "pulls"),  # before learning starts, and when the ring has wrapped
    pairs([(1, False, 1), (3, True, 1), (3, True, 3)], [False, True], [0, 1, 4]),
)
def test_half_and_half_off_policy_is_the_whole_bit_for_bit(kind, overlaps, pulls):
    num_envs, dummies, n_step_returns = kind
    params = DQNConfig(
        n_envs=num_envs, total_timesteps=150, learning_starts=20, buffer_size=45, batch_size=16, train_freq=3,
        target_update_interval=25, net_arch=(8,), learning_rate="lin_0.01", norm_obs=True, tau=0.5,
        exploration_fraction=0.8, n_step_returns=n_step_returns,
    )  # fmt: skip

    def make(seed):
        env = ClockEnv(num_envs, dummies=dummies)
        env.overlaps = overlaps
        return training_on(env, params, seed=seed)

    assert_half_and_half_is_the_whole(make, pulls)
