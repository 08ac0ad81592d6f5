from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space, spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from envs.actions import ActionCodec, Hybrid, legal_sample
from envs.errors import UserError
from envs.space_json import space_from_json, space_to_json
from envs.spaces import BadData, ObservationCodec

NESTED = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (4, 4, 3), np.uint8),
        "joints": spaces.Tuple((spaces.Box(-1, 1, (2,), np.float64), spaces.Discrete(3, start=-2))),
        "deep": spaces.Dict({"grid": spaces.MultiDiscrete([[3, 4], [2, 5]], start=[[1, 0], [0, -5]])}),
        "flags": spaces.MultiBinary((2, 2)),
    }
)
OBSERVATIONS: list[tuple[Space, Space]] = [
    (spaces.Box(-1, 1, (3,), np.float64), spaces.Box(-1, 1, (3,), np.float32)),
    (spaces.Box(-1, 1, (3,), np.float16), spaces.Box(-1, 1, (3,), np.float32)),
    (spaces.Box(-5, 5, (2, 2), np.int32), spaces.Box(-5, 5, (2, 2), np.float32)),
    (spaces.Box(0, 255, (4, 4, 3), np.uint8), spaces.Box(0, 255, (4, 4, 3), np.uint8)),
    (spaces.Box(-1, 1, ()), spaces.Box(-1, 1, (1,))),
    (spaces.Box(0, 9, (), np.uint8), spaces.Box(0, 9, (1,), np.uint8)),
    (spaces.Box(0, 1, (3,), np.bool_), spaces.Box(0, 1, (3,), np.float32)),
    (spaces.Discrete(3), spaces.Discrete(3)),
    (spaces.Discrete(3, start=5), spaces.Discrete(3)),
    (spaces.Discrete(200, start=7, dtype=np.uint8), spaces.Discrete(200)),
    (spaces.MultiDiscrete([3, 4], start=[-1, 7]), spaces.MultiDiscrete([3, 4])),
    (spaces.MultiDiscrete([[3, 4], [5, 6]]), spaces.MultiDiscrete([3, 4, 5, 6])),
    (spaces.MultiBinary(3), spaces.Box(0, 1, (3,), np.float32)),
    (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(5, start=1))), None),
    (NESTED, None),
]
HYBRID = spaces.Dict(
    move=spaces.MultiDiscrete([2, 3]),
    arm=spaces.Tuple((spaces.Box(-2, 2, (2,)), spaces.Discrete(3, start=5))),
    keys=spaces.MultiBinary(2),
)
IDS = [str(raw)[:30] for raw, _ in OBSERVATIONS]


def draw(space: Space, count: int) -> list[Any]:
    space.seed(0)
    return [space.sample() for _ in range(count)]


def leaves(value: Any) -> list[Any]:
    """The arrays of a nested observation, depth first."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key])]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, tuple) else [value]


def rows(space: Space, encoded: Any) -> list[Any]:
    count = len(next(iter(encoded.values())) if isinstance(encoded, dict) else encoded)
    if isinstance(space, spaces.Dict):
        return [{key: leaf[row] for key, leaf in encoded.items()} for row in range(count)]
    return [encoded[row] for row in range(count)]


@pytest.mark.parametrize(("raw", "canonical"), OBSERVATIONS, ids=IDS)
def test_every_observation_lands_in_the_canonical_space(raw, canonical):
    codec = ObservationCodec(raw)
    if canonical is not None:
        assert codec.space == canonical
        assert codec.space.dtype == canonical.dtype
    encoded = codec.encode(draw(raw, 5))
    for row in rows(codec.space, encoded):
        assert codec.space.contains(row)
    for leaf in codec.arrays(encoded):
        assert leaf.dtype in (np.float32, np.uint8, np.int64)
        assert len(leaf) == 5


@pytest.mark.parametrize(("raw", "canonical"), OBSERVATIONS, ids=IDS)
def test_observations_keep_their_values(raw, canonical):
    drawn = draw(raw, 4)
    encoded = ObservationCodec(raw).encode(drawn)
    starts = [getattr(leaf, "start", 0) for leaf in leaves_of_space(raw)]
    for row, observation in enumerate(drawn):
        got = [np.ravel(leaf[row]) for leaf in leaves(encoded)]
        want = [np.ravel(np.asarray(leaf) - start) for leaf, start in zip(leaves(observation), starts, strict=True)]
        # The flat keys are sorted as whole paths, so compare as multisets of leaves.
        key = [tuple(np.float32(leaf).tolist()) for leaf in want]
        assert sorted(key) == sorted(tuple(np.float32(leaf).tolist()) for leaf in got)


def leaves_of_space(space: Space) -> list[Space]:
    if isinstance(space, spaces.Dict):
        return [leaf for child in space.spaces.values() for leaf in leaves_of_space(child)]
    return [leaf for child in space for leaf in leaves_of_space(child)] if isinstance(space, spaces.Tuple) else [space]


@pytest.mark.parametrize(("raw", "canonical"), OBSERVATIONS, ids=IDS)
def test_a_batch_encodes_as_its_rows_do(raw, canonical):
    drawn = draw(raw, 3)
    batch = concatenate(raw, drawn, create_empty_array(raw, 3))
    codec = ObservationCodec(raw)
    by_rows, at_once = codec.encode(drawn), codec.encode_batch(batch)
    for one, other in zip(codec.arrays(by_rows), codec.arrays(at_once), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    for leaf in codec.arrays(at_once):
        assert not any(np.shares_memory(leaf, given) for given in leaves(batch))


def test_nested_keys_are_paths():
    assert set(ObservationCodec(NESTED).space.spaces) == {"camera", "joints/0", "joints/1", "deep/grid", "flags"}


def test_two_leaves_of_one_path_are_refused():
    clash = spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)}), "a/b": spaces.Discrete(2)})
    with pytest.raises(UserError, match="two leaves of one path"):
        ObservationCodec(clash)
    with pytest.raises(UserError, match="no leaves"):
        ObservationCodec(spaces.Dict({}))


@pytest.mark.parametrize("space", [spaces.Sequence(spaces.Box(0, 1)), spaces.Graph(spaces.Box(0, 1), None)])
def test_other_observation_spaces_are_refused_by_name(space):
    with pytest.raises(UserError, match=r"'inner/0' is .*must be made of Box, Discrete"):
        ObservationCodec(spaces.Dict({"inner": spaces.Tuple((space,))}))


@pytest.mark.parametrize(
    ("space", "bad", "message"),
    [
        (spaces.Box(-1, 1, (2,)), np.array([0, np.nan]), "contains NaN"),
        (spaces.Box(-1, 1, (2,)), np.array([0, np.inf]), "not finite"),
        (spaces.Box(-1, 1, (2,)), np.zeros(3), r"shape \(3,\), but its space says \(2,\)"),
        (spaces.Box(-1, 1, (2,)), [0.0, [1.0]], "not one array"),
        (spaces.Box(-1, 1, (2,)), "up", "not numbers"),
        (spaces.Box(-1, 1, (2,)), None, "not numbers"),
        (spaces.Box(0, 255, (2,), np.uint8), np.zeros(2), "dtype float64, but its space says uint8"),
        (spaces.Box(0, 255, (2,), np.uint8), np.zeros(2, int), "dtype int64, but its space says uint8"),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([300, 5], np.uint16), "dtype uint16, but its space says uint8"),
        (spaces.Box(-1, 1, (2,)), torch.zeros(2, requires_grad=True), "not one array"),
        (spaces.Discrete(3), 1.0, "dtype float64, but its space says int64"),
        (spaces.Discrete(3, start=1), 0, r"is 0 \(int\), which is not in Discrete"),
        (spaces.Discrete(3, start=1), 4, r"is 4 \(int\), which is not in Discrete"),
        (spaces.MultiDiscrete([3, 4]), np.array([2, 4]), "not in MultiDiscrete"),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"b": 1}, "observation 'a' is missing"),
        (spaces.Tuple((spaces.Discrete(2),)), 1, "observation '0' is missing"),
    ],
)
def test_what_does_not_fit_is_named_with_its_row(space, bad, message):
    good = draw(space, 3)
    codec = ObservationCodec(space)
    codec.encode(good)
    with pytest.raises(BadData, match=message) as caught:
        codec.encode([*good[:2], bad])
    assert caught.value.row == 2


def test_a_bad_row_of_a_batch_is_named():
    codec = ObservationCodec(spaces.Dict({"a": spaces.Box(-1, 1, (2,))}))
    batch = {"a": np.zeros((4, 2))}
    batch["a"][3, 1] = np.nan
    with pytest.raises(BadData, match="observation 'a' contains NaN") as caught:
        codec.encode_batch(batch)
    assert caught.value.row == 3
    with pytest.raises(BadData, match="is missing"):
        codec.encode_batch({})


def test_float64_bounds_beyond_float32_are_none_and_values_beyond_it_are_refused():
    codec = ObservationCodec(spaces.Box(-1e300, 1e300, (1,), np.float64))
    assert codec.space == spaces.Box(-np.inf, np.inf, (1,))
    with pytest.raises(BadData, match="not finite in float32"):
        codec.encode([np.array([1e299])])


def test_float64_is_welcome_in_a_float32_space_and_so_are_large_values():
    codec = ObservationCodec(spaces.Box(-np.inf, np.inf, (2,)))
    encoded = codec.encode([np.array([1e30, 2.0]), np.array([1, 2])])
    np.testing.assert_array_equal(encoded, np.array([[1e30, 2], [1, 2]], np.float32))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Discrete(3, start=5),
        spaces.MultiDiscrete([3, 4], start=[1, -2]),
        spaces.MultiDiscrete([[3, 4]]),
        spaces.MultiBinary((2, 3)),
        spaces.Box(-2, 3, (2, 2), np.float64),
        spaces.Box(np.array([-1, 0.1]), np.array([0.1, 2]), dtype=np.float64),
        spaces.Box(-np.inf, np.inf, (2,)),
        spaces.Box(-3, 3, (2,), np.int8),
        spaces.Tuple((spaces.Discrete(2),)),
        HYBRID,
    ],
)
def test_actions_reach_the_environment_as_its_own(space):
    codec = ActionCodec(space)
    decoded = codec.decode(np.stack(draw(codec.space, 20)))
    assert batch_space(space, 20).contains(decoded)
    each = codec.each(decoded)
    assert len(each) == 20
    for action in each:
        assert space.contains(action)
    (one,) = codec.each(codec.decode(np.stack([codec.space.sample()]).astype(codec.space.dtype)))
    if space.shape:
        assert np.shape(one) == space.shape
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


def test_the_parts_of_hybrid_actions_are_one_row_in_the_order_of_their_paths():
    codec = ActionCodec(HYBRID)
    assert codec.space.parts == {
        "arm/0": spaces.Box(-2, 2, (2,)),
        "arm/1": spaces.Discrete(3),
        "keys": spaces.MultiBinary(2),
        "move": spaces.MultiDiscrete([2, 3]),
    }
    rows = np.array([[9, -1, 2, 0, 1, 1, 2], [0.5, 0, 0, 1, 1, 0, 0]], np.float32)
    assert [part.tolist() for part in codec.space.split(rows)] == [
        [[9, -1], [0.5, 0]],
        [2, 0],
        [[0, 1], [1, 1]],
        [[1, 2], [0, 0]],
    ]
    decoded = codec.decode(rows)
    assert decoded["arm"][0].tolist() == [[2, -1], [0.5, 0]], "a Box is clipped to its bounds"
    assert decoded["arm"][1].tolist() == [7, 5], "and what does not count from 0 is moved"
    assert [(one["arm"][1], one["keys"].tolist(), one["move"].tolist()) for one in codec.each(decoded)] == [
        (7, [0, 1], [1, 2]),
        (5, [1, 1], [0, 0]),
    ]
    rescaled = ActionCodec(HYBRID, rescale=True)
    assert rescaled.space.parts["arm/0"] == spaces.Box(-1, 1, (2,))
    assert rescaled.decode(rows)["arm"][0].tolist() == [[2, -2], [1, 0]]


def test_hybrid_actions_are_equal_with_equal_parts_in_one_order():
    space = ActionCodec(HYBRID).space
    again = ActionCodec(space_from_json(space_to_json(HYBRID))).space
    assert again == space
    assert Hybrid(dict(reversed(space.parts.items()))) != space
    assert Hybrid(space.parts | {"arm/1": spaces.Discrete(4)}) != space
    row = np.array([0, 0, 2, 0, 1, 1, 2], np.float32)
    assert space.contains(row)
    for place, wrong in ((2, 3), (2, 0.5), (3, 2), (5, 2), (6, -1), (0, np.nan)):
        broken = row.copy()
        broken[place] = wrong
        assert not space.contains(broken)


def test_legal_samples_are_legal():
    space = Hybrid({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (1,)), "c": spaces.MultiDiscrete([2, 3])})
    mask = np.array([1, 0, 1, 0, 1, 1, 1, 0])
    space.seed(0)
    drawn = np.stack([legal_sample(space, mask) for _ in range(200)])
    assert [set(drawn[:, i].tolist()) for i in (0, 2, 3)] == [{0, 2}, {1}, {0, 1}]
    assert np.unique(drawn[:, 1]).size == 200
    every = np.stack([legal_sample(space) for _ in range(200)])
    assert [set(every[:, i].tolist()) for i in (0, 2, 3)] == [{0, 1, 2}, {0, 1}, {0, 1, 2}]
    assert {legal_sample(spaces.Discrete(3), mask[:3]) for _ in range(50)} == {0, 2}


def test_what_hybrid_actions_cannot_be_is_said():
    with pytest.raises(UserError, match="action space 'b/1' is Text"):
        ActionCodec(spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple((spaces.Discrete(2), spaces.Text(3)))))
    with pytest.raises(UserError, match="has no parts"):
        ActionCodec(spaces.Dict({}))
    with pytest.raises(UserError, match="two parts of one path"):
        ActionCodec(spaces.Dict({"a/b": spaces.Discrete(2), "a": spaces.Dict(b=spaces.Discrete(2))}))
    with pytest.raises(UserError, match="the policy has diverged"):
        ActionCodec(HYBRID).decode(np.array([[np.nan, 0, 0, 0, 0, 0, 0]], np.float32))


def test_discrete_actions_cover_the_whole_range():
    decoded = ActionCodec(spaces.Discrete(3, start=5)).decode(np.arange(3))
    assert decoded.tolist() == [5, 6, 7]
    multi = ActionCodec(spaces.MultiDiscrete([2, 2], start=[3, 9])).decode(np.array([[0, 1], [1, 0]]))
    assert multi.tolist() == [[3, 10], [4, 9]]


def test_box_actions_are_clipped_or_rescaled():
    space = spaces.Box(np.array([-2, 0], np.float32), np.array([3, 1], np.float32))
    given = np.array([[-9, 0.5], [9, 7], [1, -1]], np.float32)
    np.testing.assert_array_equal(ActionCodec(space).decode(given), [[-2, 0.5], [3, 1], [1, 0]])
    rescaled = ActionCodec(space, rescale=True)
    assert rescaled.space == spaces.Box(-1, 1, (2,))
    np.testing.assert_allclose(rescaled.decode(given), [[-2, 0.75], [3, 1], [3, 0]])
    assert given[0, 0] == -9  # what was given is not written to


def test_integer_box_actions_are_rounded():
    decoded = ActionCodec(spaces.Box(-3, 3, (3,), np.int8)).decode(np.array([[0.6, -1.4, 9.0]], np.float32))
    assert decoded.tolist() == [[1, -1, 3]]
    assert decoded.dtype == np.int8


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 2**63 - 1, np.int64),
        (-(2**63), 2**63 - 1, np.int64),
        (-(2**63) + 1, 2**62 + 1, np.int64),
        (2**63 - 1, 2**63 - 1, np.int64),
        (0, 2**64 - 1, np.uint64),
        (2**60 + 1, 2**60 + 3, np.uint64),
        (-(2**31), 2**31 - 1, np.int32),
    ],
)
@pytest.mark.parametrize("rescale", [False, True])
def test_whole_actions_stay_within_bounds_that_no_float_has(low, high, dtype, rescale):
    space = spaces.Box(np.array([low], dtype), np.array([high], dtype), (1,), dtype)
    with np.errstate(invalid="raise"):
        lowest, highest = ActionCodec(space, rescale).decode(np.array([[-1e30], [1e30]], np.float32))
    assert space.contains(lowest)
    assert space.contains(highest)
    assert int(lowest[0]) == low
    assert int(highest[0]) >= max(low, high - 2048), "as near as a float comes"


def test_unbounded_actions_cannot_be_rescaled():
    with pytest.raises(UserError, match="infinite bounds"):
        ActionCodec(spaces.Box(0, np.inf, (2,)), rescale=True)


def test_a_nan_action_is_the_policys_fault():
    with pytest.raises(UserError, match="the policy has diverged"):
        ActionCodec(spaces.Box(-1, 1, (2,))).decode(np.array([[0, np.nan]], np.float32))


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Tuple((spaces.Discrete(2), spaces.Text(3)))])
def test_other_action_spaces_are_refused(space):
    with pytest.raises(UserError, match="must be Discrete, Box, MultiDiscrete and MultiBinary, and Dict and"):
        ActionCodec(space)


@pytest.mark.parametrize(
    "space",
    [
        *(raw for raw, _ in OBSERVATIONS),
        *(ObservationCodec(raw).space for raw, _ in OBSERVATIONS),
        spaces.MultiBinary(4),
        spaces.MultiBinary([2, 3]),
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, -7]]),
        spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64),
        spaces.Box(-1e300, 1e300, (1,), np.float64),
        spaces.Box(-1, 1, (), np.float32),
        spaces.Dict(inner=spaces.Tuple((spaces.Discrete(2), spaces.Dict(deep=spaces.Box(0, 255, (3,), np.uint8))))),
        spaces.Box(np.array([-np.inf, 0.1], np.float32), np.array([1, np.inf], np.float32)),
        spaces.Box(np.zeros(2, np.uint64), np.array([5, 2**64 - 1], np.uint64), dtype=np.uint64),
    ],
)
def test_spaces_survive_json(space):
    text = json.dumps(space_to_json(space), allow_nan=False)
    back = space_from_json(json.loads(text))
    assert back == space
    assert back.dtype == space.dtype


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"type": "Text"},
        {"type": "Discrete", "n": 0},
        {"type": "Discrete", "n": True},
        {"type": "Discrete", "n": 2, "start": 1.5},
        {"type": "Discrete", "n": 2, "first": 1},
        {"type": "MultiDiscrete", "nvec": [2, 0]},
        {"type": "MultiDiscrete", "nvec": [2, 3], "start": [0.5, 1]},
        {"type": "MultiBinary", "n": [10**6, 10**6]},
        {"type": "Tuple", "spaces": []},
        {"type": "Box", "shape": [2], "dtype": "uint8", "low": [0], "high": [256]},
        {"type": "Box", "shape": [2], "dtype": "uint8", "low": [], "high": [1]},
        {"type": "Box", "shape": [2], "dtype": "bool", "low": [0], "high": [1]},
        {"type": "MultiDiscrete", "nvec": []},
        {"type": "MultiBinary", "n": 2.0},
        {"type": "Dict", "spaces": {}},
        {"type": "Dict", "spaces": {"a": {"type": "Dict", "spaces": {"b": {"type": "Discrete", "n": 0}}}}},
        {"type": "Box", "shape": [2], "dtype": "object", "low": [0], "high": [1]},
        {"type": "Box", "shape": [2], "dtype": "float32", "low": [0, 0, 0], "high": [1]},
        {"type": "Box", "shape": [2], "dtype": "float32", "low": ["nan"], "high": [1]},
        {"type": "Box", "shape": [2], "dtype": "float32", "low": [2], "high": [1]},
        {"type": "Box", "shape": [2], "dtype": "float32", "low": 0, "high": 1},
        {"type": "Box", "shape": [10**6, 10**6], "dtype": "float32", "low": [0], "high": [1]},
        {"type": "Box", "shape": [-2], "dtype": "float32", "low": [0], "high": [1]},
    ],
)
def test_what_describes_no_space_is_refused(data):
    with pytest.raises(UserError, match="not the description of a space"):
        space_from_json(data)


def test_a_space_that_no_network_reads_is_not_written():
    with pytest.raises(UserError, match="cannot be saved: it must be made of Box"):
        space_to_json(spaces.Graph(spaces.Box(0, 1), None))


class Vast(spaces.Box):
    """A space of a terabyte, without its bounds."""

    def __init__(self) -> None:
        self._shape, self.dtype = (10**6, 10**6), np.dtype(np.float32)


def test_a_space_of_more_entries_than_fit_is_refused_before_anything_is_made_of_it() -> None:
    with pytest.raises(UserError, match="observation space has 1,000,000,000,000 entries; at most 16,777,216 are all"):
        ObservationCodec(Vast())
    with pytest.raises(UserError, match="observation space 'a/0' has 1,000,000,000,000 entries"):
        ObservationCodec(spaces.Dict(a=spaces.Tuple([Vast()])))
    with pytest.raises(UserError, match="action space has 1,000,000,000,000 entries; at most 16,777,216 are allowed"):
        ActionCodec(Vast())


def test_spaces_that_hold_nothing_are_refused():
    empty = spaces.Box(-1, 1, (0,))
    with pytest.raises(UserError, match=r"observation space 'more' is Box\(.*\), which holds nothing: leave it out"):
        ObservationCodec(spaces.Dict({"x": spaces.Discrete(2), "more": empty}))
    with pytest.raises(UserError, match=r"action space is Box\(.*\), in which there is nothing to do"):
        ActionCodec(empty)
