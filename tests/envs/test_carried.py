"""What an environment carries over its resets: seen when an episode is played again, or mended where it is known."""

from __future__ import annotations

import copy
import importlib.util
import random
from collections import deque
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.adapters.carried import checksums
from envs.adapters.sync import SyncVecEnv
from envs.adapters.workers import WorkersVecEnv
from envs.api import VecEnv
from envs.errors import UserError
from envs.make import make
from envs.single import make_single
from tests.envs.small_envs import Drift
from tests.run.carrying_envs import Dice, Lucky, Tired, Walk

box2d = pytest.mark.skipif(importlib.util.find_spec("Box2D") is None, reason="Box2D is not installed")
SEEN = {
    "nothing": (Walk, ""),
    "a global stream": (
        Lucky,
        "replayed, its actions led to other rewards; Lucky draws from the global stream of numpy.random, which its "
        "seed does not decide",
    ),
    "another global stream": (
        partial(Lucky, "python"),
        "replayed, its actions led to other rewards; Lucky draws from the global stream of random, which its seed does "
        "not decide",
    ),
    "a global stream that the reset seeds": (partial(Lucky, reseeds=True), ""),
    "a generator of its own": (Dice, "replayed, its actions led to other rewards; Dice.dice is not as it was"),
    "a counter": (Tired, "replayed, its actions led to other rewards; Tired.total is not as it was"),
    "a counter without effect yet": (partial(Tired, 10**6), "Tired.total is not as it was"),
}


def played(env: VecEnv, seed: int, ticks: int = 40) -> VecEnv:
    """Step from a reset on, into the middle of an episode."""
    env.reset(seed)
    env.action_space.seed(seed)
    for _ in range(ticks):
        step = env.step(np.stack([env.action_space.sample() for _ in range(env.num_envs)]))
    while (step.terminated | step.truncated).any():
        step = env.step(np.stack([env.action_space.sample() for _ in range(env.num_envs)]))
    return env


@pytest.mark.parametrize("kind", [SyncVecEnv, WorkersVecEnv])
@pytest.mark.parametrize("name", SEEN)
def test_what_is_carried_over_is_said_with_its_cause(name: str, kind: Any) -> None:
    maker, why = SEEN[name]
    built = [(lambda: SyncVecEnv([maker()])) if kind is SyncVecEnv else (lambda: WorkersVecEnv([maker]))][0]
    first, second = built(), built()
    try:
        state = played(first, 3).state_dict()
        told = second.load_state_dict(state)
        said = f"environment 0 may go on otherwise than in an unbroken run: resuming is not exact ({why})"
        assert told == ([said] if why else [])
        expected = first.step(np.array([1]))
        np.testing.assert_array_equal(second.step(np.array([1])).obs, expected.obs)  # it goes on where it was
        assert second.doubts() == (why or None)
    finally:
        first.close()
        second.close()


def test_alike_reasons_are_one_sentence_and_others_their_own() -> None:
    makers = [Tired, Walk, Tired, Dice, *[Tired] * 5]
    for first, second in (
        (SyncVecEnv([maker() for maker in makers]), SyncVecEnv([maker() for maker in makers])),
        (SyncVecEnv([maker() for maker in makers]), WorkersVecEnv(makers, workers=3)),
    ):
        told = second.load_state_dict(played(first, 0).state_dict())
        assert [sentence.partition(" may")[0] for sentence in told] == ["7 environments, 0 to 8,", "environment 3"]
        second.close()


def test_a_position_of_an_earlier_version_is_taken_without_a_word() -> None:
    state = played(SyncVecEnv([Tired()]), 0).state_dict()
    del state["returns"], state["checksums"]
    for env in (SyncVecEnv([Tired()]), WorkersVecEnv([Tired])):
        assert env.load_state_dict(state) == []
        env.close()


@pytest.mark.parametrize(
    "damage",
    [{"returns": np.zeros(2)}, {"returns": "x"}, {"checksums": {}}, {"checksums": [{}, {}]}, {"checksums": [3]}],
)
def test_damage_is_refused(damage: dict[str, Any]) -> None:
    state = played(SyncVecEnv([Walk()]), 0).state_dict()
    for env in (SyncVecEnv([Walk()]), WorkersVecEnv([Walk])):
        with pytest.raises(UserError, match="saved environment position"):
            env.load_state_dict({**state, **damage})
        env.close()


def test_where_the_seed_does_not_reach_the_observation_either() -> None:
    env = SyncVecEnv([Drift(seeded=False)])
    assert str(env.doubts()).startswith("replayed, its ")  # and ended sooner, or was another episode
    (told,) = env.load_state_dict(played(env, 0).state_dict())
    assert told.startswith("environment 0 could not be put back where it was and begins a new episode (replayed, its ")


class Attributes(gymnasium.Env):
    """Only has attributes."""

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)


PLAIN = [
    (1, 2),
    (1, True),
    (1.5, 1.25),
    ("a", "b"),
    (b"a", "a"),
    (None, 0),
    (np.zeros(3), np.ones(3)),
    (np.zeros(3), np.zeros(3, np.float32)),
    (np.zeros((2, 3)), np.zeros((3, 2))),
    ([1, [2, 3]], [1, [2, 4]]),
    ([1, 2], (1, 2)),
    (["1", "2"], ["12"]),
    ({"a": 1}, {"a": 2}),
    ({1, 2}, {1, 3}),
    (deque([1]), deque([2])),
    (np.random.default_rng(0), np.random.default_rng(1)),
    (random.Random(0), random.Random(1)),
    (np.random.RandomState(0), np.random.RandomState(1)),
]


@pytest.mark.parametrize(("one", "other"), PLAIN)
def test_plain_attributes_are_told_apart_by_value(one: Any, other: Any) -> None:
    found = [checksums(Attributes(x=value))["Attributes.x"] for value in (one, copy.deepcopy(one), other)]
    assert found[0] == found[1] != found[2]


def test_what_is_no_plain_data_or_too_much_of_it_is_left_out() -> None:
    endless: list[Any] = []
    endless.append(endless)
    given = {"object": object(), "huge": np.zeros(2**18), "objects": np.array([object()]), "endless": endless}
    given |= {"items": list(range(1_001)), "bytes": [np.zeros(2**16)] * 3, "function": len, "small": 1}
    assert [name for name in checksums(Attributes(**given)) if "." in name] == ["Attributes.small", "numpy.random"]


@box2d
@pytest.mark.parametrize(("env_id", "seeds"), [("BipedalWalker-v3", 12), ("LunarLander-v3", 6)])
def test_an_episode_does_not_depend_on_those_before_it(env_id: str, seeds: int) -> None:
    """In a world kept over its resets, BipedalWalker works contacts out in another order from the third episode on."""

    def episode(env: gymnasium.Env, seed: int) -> list[np.ndarray]:
        observation, _ = env.reset(seed=seed)
        env.action_space.seed(seed)
        seen = [np.asarray(observation)]
        for _ in range(300):
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            seen += [np.asarray(observation), np.asarray(reward)]
            if terminated or truncated:
                break
        return seen

    used = make_single(env_id)
    for seed in range(seeds):
        for one, other in zip(episode(used, seed), episode(make_single(env_id), seed), strict=True):
            np.testing.assert_array_equal(one, other)


def test_standard_environments_raise_no_doubts() -> None:
    for env_id in ("CartPole-v1", "Taxi-v4", "Blackjack-v1", "FrozenLake-v1", "Bricks-v0"):
        first, second = (make(env_id, 2, vec="sync") for _ in range(2))
        assert first.doubts() is None, env_id
        assert second.load_state_dict(played(first, 1).state_dict()) == [], env_id
    assert make("CartPole-v1", 2).doubts() is None
