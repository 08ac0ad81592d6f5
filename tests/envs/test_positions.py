"""Saving in the middle of an episode and going on: bit for bit, and said where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from envs.actions import ActionCodec
from envs.adapters import episodes
from envs.adapters.checks import flag_dummies
from envs.adapters.episodes import EpisodeLog, EpisodeRecord, replay
from envs.adapters.sync import SyncVecEnv
from envs.adapters.vector import adapt
from envs.adapters.workers import WorkersVecEnv
from envs.api import Step, VecEnv
from envs.errors import EnvError, UserError
from envs.make import make
from tests.envs.small_envs import Drift, Walk

N = 3


def drifts(**kwargs: Any) -> SyncVecEnv:
    return SyncVecEnv([Drift(**kwargs) for _ in range(N)])


def actions_for(env: VecEnv, count: int, seed: int) -> list[np.ndarray]:
    env.action_space.seed(seed)
    return [np.stack([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(count)]


def leaves(obs: Any) -> list[np.ndarray]:
    return [obs[name] for name in sorted(obs)] if isinstance(obs, dict) else [obs]


def assert_same(one: Step, other: Step) -> None:
    for name in ("obs", "reward", "terminated", "truncated", "next_obs"):
        for a, b in zip(leaves(getattr(one, name)), leaves(getattr(other, name)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert one.valid is None
    assert other.valid is None


def copied(state: Any) -> Any:
    """A deep copy that also checks what a saved position is made of."""
    if isinstance(state, dict):
        assert all(type(name) is str for name in state)
        return {name: copied(value) for name, value in state.items()}
    if isinstance(state, list):
        return [copied(value) for value in state]
    assert type(state) in (int, str, np.ndarray)
    return state.copy() if isinstance(state, np.ndarray) else state


MAKERS: dict[str, tuple[Callable[[], VecEnv], Callable[[], VecEnv]]] = {
    "sync": (drifts, drifts),
    "async": (lambda: WorkersVecEnv([Drift] * N), lambda: WorkersVecEnv([Drift] * N)),
    "sync to async": (drifts, lambda: WorkersVecEnv([Drift] * N)),
    "async to sync": (lambda: WorkersVecEnv([Drift] * N), drifts),
    "rescaled": (partial(make, "Pendulum-v1", N, vec="sync", rescale_action=True),) * 2,
    "native CartPole": (partial(make, "CartPole-v1", N),) * 2,
    "native Pendulum": (partial(make, "Pendulum-v1", N, rescale_action=True),) * 2,
    "native Bricks": (partial(make, "Bricks-v0", N),) * 2,
    **{
        f"native {name}": (partial(make, f"{name}-v0", N),) * 2
        for name in ("Treasure", "Crossing", "Submarine", "Invaders")
    },
    "native Corridor": (partial(make, "Corridor-v0", N),) * 2,
    "Taxi": (partial(make, "Taxi-v4", N, vec="sync"), partial(make, "Taxi-v4", N, vec="async")),
    "Blackjack": (partial(make, "Blackjack-v1", N, vec="sync"),) * 2,
    "CartPole": (partial(make, "CartPole-v1", N, vec="sync"),) * 2,
}


@pytest.mark.parametrize(
    ("name", "before"),
    [
        (name, before)
        for name in MAKERS
        for before in (0, 1, 31)
        if before == 31 or not ("async" in name or name == "Taxi")  # processes take long
    ],
)
def test_a_restored_environment_goes_on_bit_for_bit(name, before):
    first, second = (maker() for maker in MAKERS[name])
    try:
        first.reset(seed=4)
        actions = actions_for(first, before + 30, seed=1)
        for action in actions[:before]:
            first.step(action)
        state = copied(first.state_dict())
        expected = [first.step(action) for action in actions[before:]]
        assert second.load_state_dict(state) == []
        for action, step in zip(actions[before:], expected, strict=True):
            assert_same(second.step(action), step)
        third = copied(second.state_dict())  # saving what was restored restores too
        assert first.load_state_dict(third) == []
        assert_same(first.step(actions[0]), second.step(actions[0]))
    finally:
        first.close()
        second.close()


def test_seeds_decide_everything_and_differ():
    for maker in (drifts, partial(make, "CartPole-v1", N), partial(make, "CartPole-v1", N, vec="vector")):
        env = maker()
        one, two, other = env.reset(seed=1), env.reset(seed=1), env.reset(seed=2)
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, other)
        assert len(np.unique(one, axis=0)) == N


def test_an_episode_does_not_depend_on_the_other_environments():
    env, alone = drifts(), SyncVecEnv([Drift()])
    np.testing.assert_array_equal(env.reset(seed=3)[:1], alone.reset(seed=3))
    for action in actions_for(env, 40, seed=0):
        together, single = env.step(action), alone.step(action[:1])
        np.testing.assert_array_equal(together.obs[:1], single.obs)
        np.testing.assert_array_equal(together.next_obs[:1], single.next_obs)


def test_what_cannot_be_replayed_is_said_and_its_first_transition_marked():
    env = SyncVecEnv([Drift(), Drift(seeded=False), Drift()])
    env.reset(seed=0)
    actions = actions_for(env, 10, seed=0)
    for action in actions[:3]:
        env.step(action)
    state = copied(env.state_dict())
    after = env.step(actions[3])
    told = env.load_state_dict(state)
    assert len(told) == 1
    assert told[0].startswith("environment 1 could not be put back where it was and begins a new episode")
    again = env.load_state_dict(copied(env.state_dict()))  # saved and loaded before the marked transition
    step = env.step(actions[3])
    assert len(again) == 1
    assert step.valid.tolist() == [True, False, True]
    assert step.reward[1] == 0
    assert not step.terminated[1]
    assert not step.truncated[1]
    np.testing.assert_array_equal(step.obs[[0, 2]], after.obs[[0, 2]])
    assert env.step(actions[4]).valid is None


def test_what_a_made_up_transition_says_of_itself_is_left_out():
    obs, flags, rewards = np.arange(2.0), np.ones(2, bool), np.array([3, 4], np.float32)
    step = flag_dummies(
        Step(obs, rewards, flags, flags, obs, infos={0: {"a": 1}, 1: {"a": 2}}), np.array([False, True])
    )
    assert step.valid is not None
    for found in (step.valid, step.terminated, step.truncated):
        assert found.tolist() == [True, False]
    assert step.reward.tolist() == [3.0, 0.0]
    assert step.infos == {0: {"a": 1}}


@pytest.mark.parametrize(("action", "ended"), [(5, 3), (6, 2)], ids=["time limit", "termination"])
def test_an_episode_that_ends_earlier_as_it_is_replayed_was_not_reached(action, ended):
    env = Walk()
    env.reset()
    reached = replay(env, EpisodeRecord(0, np.full(5, action)))
    assert isinstance(reached, EnvError)
    assert str(reached) == f"replayed, its episode ended after {ended} of 5 steps"
    env.reset()
    assert not isinstance(replay(env, EpisodeRecord(0, np.full(1, action))), EnvError)


def test_a_vector_environment_begins_anew_and_says_so():
    for maker in (partial(make, "CartPole-v1", N, vec="vector"), lambda: adapt(SyncVectorEnv([Drift] * N))):
        env = maker()
        env.reset(seed=0)
        actions = actions_for(env, 8, seed=0)
        for action in actions[:3]:
            env.step(action)
        (told,) = env.load_state_dict(copied(env.state_dict()))
        assert "begin new episodes" in told
        assert not env.step(actions[3]).valid.any()
        assert env.step(actions[4]).valid is None


def test_a_manual_vector_environment_says_what_it_cannot():
    env = adapt(SyncVectorEnv([Walk] * N, autoreset_mode="Disabled"))
    env.reset(seed=0)
    (told,) = env.load_state_dict(env.state_dict())
    assert told.startswith("environments 0, 1 and 2 could not be put back where they were and begin new episodes")
    assert not env.step(np.zeros(N, np.int64)).valid.any()


DAMAGE: dict[str, Any] = {
    "seed": -1,
    "episodes": np.zeros(N, np.float32),
    "starts": np.full(N, 99),
    "actions": np.zeros((4, N + 1, 1), np.float32),
    "obs": [np.zeros((N, 4), np.float32)],
    "dummy": np.zeros(N + 1, bool),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_position_is_refused(name):
    env = drifts()
    env.reset(seed=0)
    state = env.state_dict()
    with pytest.raises(UserError, match="saved"):
        env.load_state_dict({**state, name: DAMAGE[name]})
    with pytest.raises(UserError, match="saved"):
        env.load_state_dict({key: value for key, value in state.items() if key != name})


@pytest.mark.parametrize("vec", ["native", "sync"])
def test_another_number_of_environments_is_refused(vec):
    env = make("CartPole-v1", 2, vec=vec)
    env.reset(seed=0)
    with pytest.raises(UserError, match="does not fit these environments"):
        make("CartPole-v1", 3, vec=vec).load_state_dict(env.state_dict())


@pytest.mark.parametrize("name", ["state", "steps", "generator"])
def test_a_damaged_native_position_is_refused(name):
    env = make("CartPole-v1", 2)
    env.reset(seed=0)
    state = env.state_dict()
    for broken in ({**state, name: None}, {**state, name: {"state": 3}}):
        with pytest.raises(UserError, match="saved environment position"):
            env.load_state_dict(broken)


def test_each_episode_of_each_environment_has_a_seed_of_its_own():
    """The same ones however many processes share the environments."""
    whole, rest = EpisodeLog(3, Drift().action_space), EpisodeLog(2, Drift().action_space, first=1)
    seeds = []
    for log in (whole, rest):
        log.begin(7)
        begun = [[log.seed_of(index) for index in range(log._num_envs)]]
        begun += [[log.next_episode(index) for index in range(log._num_envs)] for _ in range(3)]
        seeds.append(np.array(begun))
    assert len(np.unique(seeds[0])) == 4 * 3
    np.testing.assert_array_equal(seeds[1], seeds[0][:, 1:])
    whole.begin(8)
    assert whole.seed_of(0) not in seeds[0]


def test_the_log_keeps_what_replaying_needs_and_no_more():
    log = EpisodeLog(2, ActionCodec(Drift().action_space).space)
    log.begin(7)
    actions = np.random.default_rng(0).standard_normal((3000, 2, 1)).astype(np.float32)
    for tick, action in enumerate(actions):
        log.record(action, action[:, 0])
        if tick % 10 == 9:
            log.next_episode(0)
        if tick == 1700:
            log.next_episode(1)
    short, long = log.records()
    np.testing.assert_array_equal(short.actions, actions[3000:, 0])
    np.testing.assert_array_equal(long.actions, actions[1701:, 1])
    assert len(log.state_dict()["actions"]) == 3000 - 1701
    assert short.return_ == 0
    assert long.return_ == pytest.approx(actions[1701:, 1].sum(dtype=np.float64))
    copy = EpisodeLog(2, ActionCodec(Drift().action_space).space)
    copy.load_state_dict(log.state_dict())
    for one, other in zip(copy.records(), log.records(), strict=True):
        assert (one.seed, one.return_) == (other.seed, other.return_)
        np.testing.assert_array_equal(one.actions, other.actions)


FEW = 150  # actions, float32, that are kept of an episode where `few_bytes` holds


@pytest.fixture
def few_bytes(monkeypatch):
    monkeypatch.setattr("envs.adapters.episodes.MOST_BYTES", FEW * 4)


def drift(horizon: int) -> Drift:
    """Build a Drift where few bytes are kept, in a worker too."""
    episodes.MOST_BYTES = FEW * 4
    return Drift(horizon)


ENDLESS = [partial(drift, horizon) for horizon in (12, 10**9, 12)]


def test_an_episode_that_never_ends_takes_no_more_than_its_bytes(few_bytes):
    """As many bytes after 40,000 ticks as after 2,000, saved and in memory; the others' episodes are kept whole."""
    space = ActionCodec(Drift().action_space).space
    log = EpisodeLog(3, space)
    log.begin(0)
    rng = np.random.default_rng(0)
    actions = rng.standard_normal((40_000, 3, 1)).astype(np.float32)
    sizes = []
    for tick, action in enumerate(actions):
        log.record(action, action[:, 0])
        if tick % 100 == 99:
            log.next_episode(0)
        if tick % FEW == FEW - 1:
            log.next_episode(1)
        if tick in (2_000, 39_999):
            sizes.append((log._actions.nbytes, log.state_dict()["actions"].nbytes))
        assert log.steps_of(2) == tick + 1
    assert max(memory for memory, _ in sizes) <= 4 * 3 * FEW * 4
    assert max(saved for _, saved in sizes) <= 3 * FEW * 4
    one, two, lost = log.records()
    np.testing.assert_array_equal(one.actions, actions[40_000:, 0])
    np.testing.assert_array_equal(two.actions, actions[40_000 - 40_000 % FEW :, 1])
    assert lost.actions is None
    copy = EpisodeLog(3, space)
    copy.load_state_dict(log.state_dict())
    assert [copy.steps_of(row) for row in range(3)] == [log.steps_of(row) for row in range(3)]
    assert copy.records()[2].actions is None
    np.testing.assert_array_equal(copy.records()[1].actions, two.actions)


@pytest.mark.parametrize(
    ("space", "each"),
    [
        (spaces.Discrete(6), 1),
        (spaces.Discrete(257), 2),
        (spaces.MultiDiscrete([3, 300]), 4),
        (spaces.MultiBinary(5), 5),
        (spaces.Box(-1, 1, (17,)), 68),
        (spaces.Box(-1, 1, (400,)), 1600),
        (spaces.Box(-1, 1, (40_000,)), 160_000),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 8])
def test_what_endless_episodes_take_is_bounded_for_any_action(space, each, num_envs):
    """A position takes at most `MOST_BYTES` for each environment, and memory twice that, or one action."""
    log = EpisodeLog(num_envs, space)
    longest = min(episodes.MOST_BYTES // each, episodes.MOST_STEPS)
    action = np.stack([space.sample()] * num_envs)
    for _ in range(longest):
        log.record(action, np.zeros(len(action), np.float32))
    saved = log.state_dict()["actions"]
    assert saved.nbytes == longest * each * num_envs <= episodes.MOST_BYTES * num_envs
    assert (saved == action).all()
    for _ in range(longest + 2):
        log.record(action, np.zeros(len(action), np.float32))
    assert log._actions.nbytes <= max(2 * episodes.MOST_BYTES, each) * num_envs
    assert log.state_dict()["actions"].nbytes == 0
    assert [record.actions for record in log.records()] == [None] * num_envs


def test_actions_that_earlier_versions_saved_are_read():
    log, action = EpisodeLog(2, spaces.Discrete(4)), np.array([1, 3])
    log.begin(0)
    log.record(action, np.zeros(len(action), np.float32))
    state = log.state_dict()
    log.load_state_dict({**state, "actions": state["actions"].astype(np.int64)})
    assert [record.actions.tolist() for record in log.records()] == [[1], [3]]
    with pytest.raises(UserError, match="'actions' is float32"):
        log.load_state_dict({**state, "actions": state["actions"].astype(np.float32)})


@pytest.mark.parametrize(
    ("steps", "kinds"),
    [
        *((steps, ("sync", "sync")) for steps in (FEW, FEW + 1, 2 * FEW)),
        (FEW, ("async", "sync")),
        (FEW + 1, ("async", "sync")),
        (FEW + 1, ("sync", "async")),
    ],
)
def test_an_episode_too_long_to_keep_is_told_and_begun_anew(few_bytes, steps, kinds):
    build = {"sync": lambda: SyncVecEnv([maker() for maker in ENDLESS]), "async": lambda: WorkersVecEnv(ENDLESS)}
    first, second = (build[kind]() for kind in kinds)
    try:
        first.reset(seed=0)
        actions = actions_for(first, steps + 5, seed=0)
        for action in actions[:steps]:
            first.step(action)
        state = copied(first.state_dict())
        assert state["actions"].shape[0] <= FEW
        told = second.load_state_dict(state)
        step, expected = second.step(actions[steps]), first.step(actions[steps])
        np.testing.assert_array_equal(step.obs[[0, 2]], expected.obs[[0, 2]])
        if steps <= FEW:
            assert told == []
            np.testing.assert_array_equal(step.obs, expected.obs)
        else:
            (sentence,) = told
            assert sentence == (
                "environment 1 could not be put back where it was and begins a new episode "
                "(its episode had become too long to keep its actions)"
            )
            assert step.valid.tolist() == [True, False, True]
            assert second.step(actions[steps + 1]).valid is None
            assert len(second.load_state_dict(copied(second.state_dict()))) == 0  # the new episode is kept again
    finally:
        first.close()
        second.close()


def test_a_position_that_claims_to_be_too_long_must_be(few_bytes):
    env = drifts()
    env.reset(seed=0)
    state = env.state_dict()
    with pytest.raises(UserError, match="damaged"):
        env.load_state_dict({**state, "starts": np.array([0, -FEW, 0])})


@pytest.mark.parametrize("name", ["seed", "ticks"])
def test_a_vector_environment_counts_from_0(name):
    env = adapt(SyncVectorEnv([Walk]))
    env.reset(seed=0)
    with pytest.raises(UserError, match="damaged"):
        env.load_state_dict({**env.state_dict(), name: -1})
