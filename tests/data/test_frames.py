"""Frames stored once each: what is drawn is what was put in, beside a buffer that stores every observation whole."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.stats
import torch

from agents.data.batch import gather
from agents.data.frames import ring_size
from agents.data.replay import ReplayBuffer
from agents.data.samplers import PrioritizedSampler, UniformSampler
from tests.data.test_replay import GAMMA

CPU = torch.device("cpu")
SIDE = 3


class Film:
    """Environments whose frames say (environment, episode, t) + 1 in their pixels, and two buffers that see them.

    Args:
        stack: frames in an observation; 0 for observations that are a frame each, which no axis stacks.
        padding: what a first observation holds before its only frame: "zero", "repeat", or "other" frames.
        length: of episodes, at the most.
    """

    def __init__(self, capacity, num_envs, stack=4, axis=0, padding="zero", length=9, dummies=0.0, seed=0):
        self.stack, self.axis, self.padding, self.length, self.dummies = stack, axis, padding, length, dummies
        self.num_envs, self.rng = num_envs, np.random.default_rng(seed)
        self.whole = ReplayBuffer(capacity, num_envs, CPU)
        self.once = ReplayBuffer(capacity, num_envs, CPU, {"": axis})
        self.others = []  # that see the same
        self.episode, self.t = np.zeros(num_envs, int), np.zeros(num_envs, int)
        self.left = self.rng.integers(1, length + 1, num_envs)
        self.frames = [self.first(env) for env in range(num_envs)]

    def frame(self, env, t):
        frame = np.zeros((SIDE, SIDE), np.uint8)
        frame[0] = env + 1, self.episode[env] % 250 + 1, t + 1
        return frame

    def first(self, env):
        frame, older = self.frame(env, 0), np.zeros((SIDE, SIDE), np.uint8)
        if self.padding == "repeat":
            older = frame
        pad = [older if self.padding != "other" else self.frame(env, 100 + i) for i in range(max(self.stack, 1) - 1)]
        return [*pad, frame]

    def obs(self):
        stacks = np.stack([np.stack(frames) for frames in self.frames])
        return np.moveaxis(stacks, 1, self.axis + 1).copy() if self.stack else stacks[:, 0].copy()

    def tick(self):
        obs, n = self.obs(), self.num_envs
        self.t += 1
        for env in range(n):
            self.frames[env] = [*self.frames[env][1:], self.frame(env, self.t[env])]
        next_obs = self.obs()
        self.left -= 1
        done = self.left <= 0
        terminated = done & (self.rng.random(n) < 0.5)
        for env in np.flatnonzero(done):
            self.episode[env] += 1
            self.t[env], self.left[env] = 0, self.rng.integers(1, self.length + 1)
            self.frames[env] = self.first(env)
        valid = self.rng.random(n) >= self.dummies if self.dummies else None
        return {
            "obs": obs,
            "action": self.rng.integers(0, 4, n),
            "reward": self.rng.normal(size=n).astype(np.float32),
            "terminated": terminated,
            "truncated": done & ~terminated,
            "next_obs": next_obs,
        }, valid

    def add(self, ticks=1):
        for _ in range(ticks):
            tick, valid = self.tick()
            for replay in (self.whole, self.once, *self.others):
                replay.add({key: value.copy() for key, value in tick.items()}, valid)
        return self

    def extend(self, ticks):
        rows = [self.tick()[0] for _ in range(ticks)]
        for replay in (self.whole, self.once):
            replay.extend({key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]})

    def held(self):
        every = torch.arange(self.once.rows * self.num_envs)
        return every[self.once.holds(every)]

    def check(self):
        """All that is held is what was put in."""
        held = self.held()
        assert len(held) == len(self.once)
        assert len(held)
        for key in ("obs", "next_obs", "action", "reward", "terminated", "truncated"):
            one, other = (gather(replay.flat, key, held) for replay in (self.once, self.whole))
            assert one.dtype == other.dtype
            assert one.equal(other), key


CASES = [
    {"padding": "zero"},
    {"padding": "repeat", "axis": 2},
    {"padding": "other"},
    {"padding": "repeat", "dummies": 0.3},
    {"stack": 2, "length": 1},
    {"stack": 0, "axis": None},
    {"stack": 0, "axis": 0},
    {"length": 400},
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(("capacity", "num_envs"), [(40, 1), (61, 3), (3, 2), (1, 1)])
def test_what_is_held_is_what_was_put_in(capacity, num_envs, case):
    film = Film(capacity, num_envs, **case).add()
    while not len(film.once):
        film.add()
    for _ in range(25):  # several laps
        film.check()
        film.add(int(film.rng.integers(1, 9)))


@pytest.mark.parametrize("n", [1, 3])
def test_stacks_cross_neither_an_episodes_start_nor_the_write_head(n):
    film = Film(50, 2, length=12, seed=3).add(83)
    sampler = UniformSampler(film.once, GAMMA, n, torch.Generator().manual_seed(0))
    batch = sampler.sample(2_000, 0.0)
    for obs in (batch.obs, batch.next_obs):
        env, episode, t = (obs[:, :, 0, i].int() for i in range(3))  # [B, S]
        blank = t == 0
        newest = t[:, -1:]
        assert not blank[:, -1].any(), "the newest frame is real"
        expected = newest - torch.arange(3, -1, -1)
        assert t.equal(expected.clamp(min=0)), "frames follow one another, and before the first there is nothing"
        for which in (env, episode):
            assert torch.where(blank, which[:, -1:], which).equal(which[:, -1:].expand(-1, 4))
    assert (batch.next_obs[:, -1, 0, 1] == batch.obs[:, -1, 0, 1]).all(), "windows stay in their episode"
    assert (batch.next_obs[:, -1, 0, 2] > batch.obs[:, -1, 0, 2]).all()


def test_long_episodes_are_drawn_as_from_a_buffer_of_whole_observations():
    film = Film(640, 2, length=400).add(500)
    assert len(film.once) == len(film.whole) == 640
    one, other = (
        UniformSampler(replay, GAMMA, 3, torch.Generator().manual_seed(5)).sample(300, 0.0)
        for replay in (film.once, film.whole)
    )
    for name in ("obs", "action", "return_", "discount", "next_obs", "indices"):
        assert getattr(one, name).equal(getattr(other, name)), name


def test_short_episodes_leave_fewer_transitions_and_each_is_as_likely():
    film = Film(200, 2, length=4, padding="other").add(333)
    held = film.held()
    assert 200 // 4 < len(held) < 200
    draws = film.once.draw(20_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(draws, minlength=200)
    assert counts.nonzero().flatten().equal(held)
    assert scipy.stats.chisquare(counts[held]).pvalue > 1e-3


def test_what_is_forgotten_is_not_drawn_by_priority_either():
    film = Film(120, 2, length=3, padding="other", seed=1)
    sampler = PrioritizedSampler(film.once, GAMMA, 1, torch.Generator().manual_seed(0), alpha=0.6, beta0=0.4, eps=1e-6)
    for _ in range(60):
        film.add(3)
        batch = sampler.sample(64, 0.5)
        assert film.once.holds(batch.indices).all()
        sampler.update_priorities(batch.indices, 0.1 + torch.rand(64))  # none so small that 9,000 draws may miss it
    assert set(sampler.sample(9_000, 0.5).indices.tolist()) == set(film.held().tolist())


def test_pictures_that_do_not_move_on_by_a_frame_are_stored_whole_but_once():
    film = Film(64, 1, stack=0, axis=0)
    film.add(3)
    assert film.once.frames[""].stack == 1
    assert film.once.frames[""].frames.shape[1:] == (SIDE, SIDE)


def test_many_ticks_at_once_are_stored_as_one_by_one():
    film = Film(30, 2)
    for count in (3, 25, 40):
        film.extend(count)
        film.check()


def test_observations_by_name_are_stored_beside_others():
    once = ReplayBuffer(20, 1, CPU, {"camera": 0})
    no, one = np.zeros(1, bool), np.ones(1, np.float32)
    frames = np.arange(1, 31, dtype=np.uint8).repeat(4).reshape(30, 2, 2)
    for t in range(25):
        obs, following = ({"camera": frames[None, i : i + 3], "place": np.array([i])} for i in (t, t + 1))
        once.add({"obs": obs, "action": no, "reward": one, "terminated": no, "truncated": no, "next_obs": following})
    batch = UniformSampler(once, GAMMA, 1, torch.Generator().manual_seed(0)).sample(50, 0.0)
    for obs, more in ((batch.obs, 0), (batch.next_obs, 1)):
        assert obs["camera"].shape == (50, 3, 2, 2)
        assert obs["camera"][:, 0, 0, 0].equal((obs["place"] + 1).to(torch.uint8))
        assert obs["place"].equal(batch.obs["place"] + more)


def test_a_transition_of_pictures_takes_one_frame():
    rows = 640
    assert ring_size(rows, 4) == rows + rows // 64 + 16
    film = Film(rows, 1, length=400).add(3 * rows)
    assert len(film.once) == rows
    assert film.once.frames[""].frames.nbytes == (ring_size(rows, 4) + 1) * SIDE * SIDE


@pytest.mark.parametrize("ticks", [1, 9, 40, 77])
@pytest.mark.parametrize("case", [{}, {"padding": "other", "length": 2}, {"stack": 0, "axis": 0}], ids=str)
def test_a_loaded_buffer_goes_on_exactly(ticks, case):
    film = Film(40, 2, **case).add(ticks)
    loaded = ReplayBuffer(40, 2, CPU, {"": film.axis})
    loaded.load_state_dict(copy.deepcopy(film.once.state_dict()), film.tick()[0])
    film.others.append(loaded)
    for _ in range(20):
        draws = [replay.draw(50, torch.Generator().manual_seed(1)) for replay in (film.once, loaded)]
        assert draws[0].equal(draws[1])
        for key in ("obs", "next_obs"):
            one, other = (gather(replay.flat, key, draws[0]) for replay in (film.once, loaded))
            assert one.equal(other)
        film.add(3)
    assert loaded.state_dict()["store"]["obs"].equal(film.once.state_dict()["store"]["obs"]), "the same names"


def spoilt(change):
    film = Film(40, 2).add(30)
    state = copy.deepcopy(film.once.state_dict())
    change(state)
    return film, state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state["store"]["obs"].fill_(10**6), "name frames that are not there"),
        (lambda state: state["store"]["next_obs"].fill_(-1), "name frames that are not there"),
        (lambda state: state["frames"][""].update(axis=1), "lie along another axis"),
        (lambda state: state["frames"][""].update(axis=None), "expected"),
        (lambda state: state["frames"][""]["counts"].fill_(10**9), "point outside them"),
        (lambda state: state["frames"][""]["first"].fill_(-5), "point outside them"),
        (lambda state: state["frames"][""]["kept"].fill_(10**9), "contradict"),
        (lambda state: state["frames"][""]["written"].add_(1), "expected|other transitions"),
        (lambda state: state["frames"][""].update(frames=torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)), "expected"),
        (lambda state: state["frames"].clear(), "frames has other parts"),
        (lambda state: state.update(filled=10**12), "point outside it"),
    ],
)
def test_a_spoilt_state_is_refused(change, said):
    film, state = spoilt(change)
    with pytest.raises(ValueError, match=said):
        ReplayBuffer(40, 2, CPU, {"": 0}).load_state_dict(state, film.tick()[0])
