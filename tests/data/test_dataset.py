"""Recorded episodes in memory, and what is found wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from agents.data.dataset import Builder, Dataset, concatenated
from agents.data.inspection import (
    bad_actions,
    cleaned,
    clipped,
    constants,
    duplicated,
    faults_of,
    no_choices,
    reward_edges,
    reward_shift,
)
from envs.actions import ActionCodec
from envs.errors import UserError

SPACES = spaces.Box(-5, 5, (2,), np.float32), spaces.Discrete(3, start=1)
RULES = {"nan": "refuse", "bounds": "keep", "broken": "refuse", "duplicates": "drop", "unended": "keep"}


def made(lengths: list[int], seed: int = 0) -> Dataset:
    """Episodes of random walks, whose reward is how far a step went upwards."""
    rng, builder = np.random.default_rng(seed), Builder(SPACES, "Walk-v0")
    for index, length in enumerate(lengths):
        action = rng.integers(1, 4, length)
        steps = np.stack([0.1 * (action - 2), rng.normal(size=length) / 10], axis=1)
        obs = np.vstack([rng.normal(size=(1, 2)), np.zeros((length, 2))])
        obs = obs.cumsum(0) + np.vstack([np.zeros((1, 2)), steps.cumsum(0)])
        ends = np.arange(length) == length - 1
        builder.add(obs.astype(np.float32), action, steps.sum(1), ends, np.zeros(length, bool), index)
    return builder.finish()


def test_rows_lead_to_observations_and_their_successors() -> None:
    data = made([2, 3])
    assert data.rows.tolist() == [0, 1, 3, 4, 5]
    assert data.episode.tolist() == [0, 0, 1, 1, 1]
    assert data.starts.tolist() == [0, 2]
    went = (data.at(data.rows + 1) - data.at(data.rows)).sum(1)
    assert went == pytest.approx(data.reward, abs=1e-5)
    assert data.action.min() >= 0
    assert data.returns == pytest.approx([data.reward[:2].sum(), data.reward[2:].sum()])


def test_episodes_are_taken_whole() -> None:
    data = made([2, 3, 4])
    some = data.take([2, 0])
    assert some.lengths.tolist() == [4, 2]
    assert some.seeds == [2, 0]
    assert some.reward.tolist() == [*data.reward[5:], *data.reward[:2]]
    assert some.at(some.rows).tolist() == [*data.at(data.rows[5:]).tolist(), *data.at(data.rows[:2]).tolist()]
    assert concatenated([data.take([0, 1]), data.take([2])]).fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("episodes", "share", "held"), [(10, 0.2, 2), (10, 0.0, 0), (2, 0.1, 1), (1, 0.5, 0), (3, 1.0, 2)]
)
def test_a_split_is_of_whole_episodes(episodes: int, share: float, held: int) -> None:
    data = made([3] * episodes)
    learnt, kept = data.split(share, seed=1)
    assert (kept.episodes, learnt.episodes) == (held, episodes - held)
    assert sorted([*learnt.seeds, *kept.seeds]) == list(range(episodes))  # type: ignore[type-var]
    assert data.split(share, seed=1)[0].seeds == learnt.seeds


def test_splits_follow_from_their_seed() -> None:
    data = made([3] * 20)
    assert len({tuple(data.split(0.3, seed)[1].seeds) for seed in range(5)}) == 5


def test_statistics() -> None:
    data = made([50, 50])
    mean, deviation = data.statistics()[""]
    assert mean == pytest.approx(data.obs.mean(0), abs=1e-5)
    assert deviation == pytest.approx(data.obs.std(0), abs=1e-5)


def test_clean_data_have_no_fault() -> None:
    data = made([20, 30])
    assert not any(flags.any() for flags in faults_of(data).values())
    assert cleaned(data, RULES) == (data, [])
    assert constants(data) == {}


def spoilt(data: Dataset, name: str) -> int:
    """Plant a fault in the second episode; return how many transitions have it."""
    at = int(data.starts[1])
    if name == "nan":
        data.obs[data.rows[at + 1], 0] = np.nan
        return 2
    if name == "bounds":
        data.action[at + 1] = 3
        return 1
    if name == "broken":
        data.broken[at + 1] = True
        return 1
    if name == "unended":
        data.terminated[at + data.lengths[1] - 1] = False
        return 1
    rows, first = slice(data.rows[at], data.rows[at] + 21), slice(0, 21)
    data.obs[rows], data.action[at : at + 20], data.reward[at : at + 20] = (
        data.obs[first],
        data.action[:20],
        data.reward[:20],
    )
    return 20


@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.parametrize("rule", ["keep", "drop", "refuse"])
def test_each_fault_is_found_and_dealt_with(name: str, rule: str) -> None:
    data = made([20, 20, 20])
    count = spoilt(data, name)
    flags = faults_of(data)
    assert {other: int(found.sum()) for other, found in flags.items() if found.any()} == {name: count}
    assert set(data.episode[flags[name]]) == {1}
    if rule == "refuse":
        with pytest.raises(UserError, match=f"1 of 3 episodes.*--data-{name}"):
            cleaned(data, RULES | {name: rule})
        return
    left, said = cleaned(data, RULES | {name: rule})
    assert left.seeds == ([0, 2] if rule == "drop" else [0, 1, 2])
    assert len(said) == 1


def test_nan_in_actions_and_rewards() -> None:
    builder = Builder((SPACES[0], spaces.Box(-1, 1, (1,))))
    builder.add(np.zeros((3, 2)), np.array([[np.nan], [0]]), np.zeros(2), [0, 1], [0, 0])
    builder.add(np.zeros((3, 2)), np.array([[0], [0]]), np.array([0, np.inf]), [0, 1], [0, 0])
    assert faults_of(builder.finish())["nan"].tolist() == [1, 0, 0, 1]


def test_clipping_takes_numbers_to_their_bounds() -> None:
    builder = Builder((SPACES[0], spaces.Box(-1, 1, (1,))))
    builder.add(np.full((3, 2), 7.0), np.array([[2.0], [-3.0]]), np.zeros(2), [0, 1], [0, 0])
    data, _ = cleaned(builder.finish(), RULES | {"bounds": "clip"})
    assert data.action.tolist() == [[1], [-1]]
    assert data.obs.max() == 5


def test_a_duplicate_is_the_later_one() -> None:
    data = made([4, 5])
    assert duplicated(concatenated([data, data])).tolist() == [0, 0, 1, 1]


def test_constant_numbers_are_named() -> None:
    data = made([20, 20])
    data.obs[:, 1] = 3
    assert constants(data) == {"": [1]}


@pytest.mark.parametrize("shift", [0, 1, -1])
def test_rewards_that_are_shifted_are_seen(shift: int) -> None:
    data = made([100] * 5)
    data.reward = np.roll(data.reward, shift)
    assert reward_shift(data) == shift


def test_rewards_that_tell_nothing_are_not_called_shifted() -> None:
    data = made([100] * 5)
    data.reward[:] = 1
    assert reward_shift(data) == 0
    data.reward = np.random.default_rng(0).normal(size=len(data)).astype(np.float32)
    assert reward_shift(data) == 0


@pytest.mark.parametrize(("shift", "found"), [(1, 1), (-1, -1), (0, 0)])
def test_rewards_that_are_all_the_same_show_at_the_ends_of_episodes_that_they_were_moved(
    shift: int, found: int
) -> None:
    """As CartPole's: a 1 for each step; in what became free is a 0."""
    data = made([20] * 12)
    data.reward[:] = 1
    cut = np.repeat(np.arange(12) < 6, 20) & data.terminated
    data.terminated, data.truncated = data.terminated & ~cut, cut
    free = {1: data.starts, -1: data.starts + data.lengths - 1, 0: []}[shift]
    data.reward[free] = 0
    assert reward_edges(data) == found
    data.reward[5] = 0  # an environment that pays so elsewhere, too
    assert reward_edges(data) == 0


def test_a_last_reward_of_episodes_that_terminated_is_no_sign_of_rewards_that_were_moved() -> None:
    data = made([20] * 12)
    data.reward[:] = 1
    data.reward[data.starts + 19] = 0  # as MountainCar's goal could
    assert reward_edges(data) == 0
    assert reward_edges(made([20] * 12)) == 0


ACTIONS: list[Any] = [
    spaces.Discrete(4, start=-2),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiBinary((2, 2)),
    spaces.Box(-3, np.array([[4.0, 5.0]], np.float32)),
    spaces.Dict(
        {"b": spaces.Discrete(3, start=1), "a": spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.MultiBinary(2)])}
    ),
]


@pytest.mark.parametrize("space", ACTIONS)
@pytest.mark.parametrize("rescale", [False, True])
def test_actions_are_encoded_as_they_were_decoded(space: Any, rescale: bool) -> None:
    codec = ActionCodec(space, rescale)
    codec.space.seed(0)
    rows = np.array([codec.space.sample() for _ in range(8)])
    back = codec.encode(codec.decode(rows))
    assert back.dtype == rows.dtype or back.dtype == np.int64
    assert back == pytest.approx(rows, abs=1e-6)


def test_actions_of_another_form_are_refused() -> None:
    for space, given in (
        (ACTIONS[0], np.zeros((3, 1), int)),
        (ACTIONS[0], np.zeros(3)),
        (ACTIONS[4], {"b": np.zeros(2)}),
    ):
        with pytest.raises(ValueError, match="actions have"):
            ActionCodec(space).encode(given)


def test_numbers_among_choices_have_bounds_too() -> None:
    own = spaces.Dict(arm=spaces.Box(-1, 1, (1,)), go=spaces.Discrete(3, start=1))
    builder = Builder((SPACES[0], own), "Walk-v0")
    action = {"arm": np.array([[0.5], [9.0], [0.1]], np.float32), "go": np.array([1, 2, 3])}
    ends = np.array([False, False, True])
    builder.add(np.zeros((4, 2), np.float32), action, np.ones(3), ends, np.zeros(3, bool), 0)
    data = builder.finish()
    assert bad_actions(data).tolist() == [False, True, False]
    assert not no_choices(data).any()
    assert clipped(data).action[:, 0].tolist() == pytest.approx([0.5, 1.0, 0.1])
    with pytest.raises(UserError, match="out of their declared bounds"):
        cleaned(data, {**RULES, "bounds": "refuse"})
    data.action[0, 1] = 7
    assert no_choices(data).tolist() == [True, False, False]
