"""Texts and sequences become arrays that say the same, in every backend, and what is none is refused in words."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from gymnasium import spaces

from agents.core.saved import within
from envs.adapters.sync import SyncVecEnv
from envs.adapters.workers import WorkersVecEnv
from envs.errors import EnvError, UserError
from envs.space_json import space_from_json, space_to_json
from envs.spaces import BadData, ObservationCodec
from envs.words import MOST_BYTES, MOST_SYMBOLS, Tokens, Written, text_of
from tests.envs.told_env import Told

SPACE = spaces.Dict(
    {"said": spaces.Text(40), "seen": spaces.Sequence(spaces.Discrete(5, start=2)), "x": spaces.Box(-1, 1, (2,))}
)


def observation(said, seen):
    return {"said": said, "seen": seen, "x": np.zeros(2, np.float32)}


@pytest.mark.parametrize("text", ["", "go left", "größer 走", "a" * 40])
def test_a_text_can_be_read_back(text):
    obs = ObservationCodec(SPACE).encode([observation(text, ())])
    assert obs["said"].dtype == np.uint8
    assert text_of(obs["said"][0]) == text


def test_of_a_long_text_whole_characters_are_kept():
    codec = ObservationCodec(spaces.Text(10_000))
    assert codec.space == Written(MOST_BYTES)
    assert text_of(codec.encode(["a" + "ö" * 300])[0]) == "a" + "ö" * ((MOST_BYTES - 1) // 2)


def test_a_sequence_counts_from_one_and_ends_with_zeros():
    codec = ObservationCodec(SPACE)
    assert codec.space["seen"] == Tokens(MOST_SYMBOLS, 5)
    seen = codec.encode([observation("", (2, 6, 3)), observation("", np.arange(200) % 5 + 2)])["seen"]
    assert seen[0].tolist() == [1, 5, 2] + [0] * (MOST_SYMBOLS - 3)
    assert seen[1].tolist() == [n % 5 + 1 for n in range(200 - MOST_SYMBOLS, 200)]
    for row in seen:
        assert codec.space["seen"].contains(row)
    within(seen, codec.space["seen"], "seen")
    with pytest.raises(ValueError, match="does not have"):
        within(seen + 3, codec.space["seen"], "seen")


def test_one_and_many_are_told_apart_and_read_alike():
    codec = ObservationCodec(SPACE)
    one, two = observation("red", (2,)), observation("blue", (6, 6))
    many = {"said": ("red", "blue"), "seen": ((2,), (6, 6)), "x": np.zeros((2, 2), np.float32)}
    assert codec.is_one(one)
    assert not codec.is_one(many)
    for a, b in zip(codec.arrays(codec.encode([one, two])), codec.arrays(codec.encode_batch(many)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (observation(5, ()), r"'said' is 5 \(int\), which is not text"),
        (observation("", (1,)), r"'seen' is \(1,\) \(tuple\), which is not in Discrete\(5, start=2\)"),
        (observation("", (7,)), r"which is not in Discrete"),
        (observation("", "ab"), r"which is not a sequence of numbers"),
        (observation("", ((2,), (3,))), r"which is not a sequence of numbers"),
    ],
)
def test_what_is_no_text_or_sequence_is_refused_in_words(bad, message):
    codec = ObservationCodec(SPACE)
    with pytest.raises(BadData, match=message) as caught:
        codec.encode([observation("", ()), bad])
    assert caught.value.row == 1


def test_spaces_of_texts_and_sequences_are_written_and_read():
    for space in (SPACE, spaces.Text(7, charset="ba"), spaces.Sequence(spaces.Discrete(2), stack=True)):
        read = space_from_json(space_to_json(space))
        assert ObservationCodec(read).space == ObservationCodec(space).space
        assert space_to_json(read) == space_to_json(space)


@pytest.mark.parametrize(
    "data",
    [
        {"type": "Text"},
        {"type": "Text", "max_length": 0},
        {"type": "Text", "max_length": 2**40},
        {"type": "Text", "max_length": 5, "characters": "aa"},
        {"type": "Text", "max_length": 5, "characters": 7},
        {"type": "Text", "max_length": 5, "more": 1},
        {"type": "Sequence", "of": {"type": "Discrete", "n": 0}, "stack": False},
        {"type": "Sequence", "of": {"type": "Discrete", "n": 2}},
    ],
)
def test_a_spoilt_description_of_a_text_is_refused(data):
    with pytest.raises(UserError, match="not the description of a space"):
        space_from_json(data)


def test_a_space_of_text_that_is_gymnasiums_no_more_is_kept_as_one_of_text():
    space = Told().observation_space["said"]
    assert not isinstance(space, spaces.Text)
    read = space_from_json(space_to_json(space))
    assert ObservationCodec(read).space == ObservationCodec(space).space == Written(MOST_BYTES)


def test_backends_show_the_same_texts_and_go_on_from_a_saved_position():
    with closing(SyncVecEnv([Told(), Told()])) as sync, closing(WorkersVecEnv([Told, Told], workers=2)) as workers:
        for env in (sync, workers):
            env.reset(3)
        for _ in range(5):
            one, other = (env.step(np.array([0, 1])) for env in (sync, workers))
            for a, b in ((one.obs, other.obs), (one.next_obs, other.next_obs)):
                for key, leaf in a.items():
                    np.testing.assert_array_equal(leaf, b[key])
        saved = sync.state_dict()
        assert workers.load_state_dict(saved) == []
        np.testing.assert_array_equal(
            sync.step(np.array([1, 0])).obs["said"], workers.step(np.array([1, 0])).obs["said"]
        )


def test_an_environment_that_says_no_text_is_named():
    env = SyncVecEnv([Told(broken=True)])
    with pytest.raises(EnvError, match=r"environment 0 returned bad data .*'said' is None .*which is not text"):
        env.reset(0)
