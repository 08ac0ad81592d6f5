"""What the panel says the agent sees."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from agents.view.observation import pictures, readings
from envs.names import Names


def test_numbers_have_their_names_or_their_place():
    space = spaces.Box(-1, 1, (2,))
    obs = np.array([0.25, -1.5], np.float32)
    assert readings(obs, space, Names(observations={"": ("depth", "width")})) == [
        ("depth", "0.250", 0),
        ("width", "-1.50", 0),
    ]
    assert readings(obs, space, Names()) == [("0", "0.250", 0), ("1", "-1.50", 0)]


def test_parts_are_named_by_their_path_and_masks_are_no_part():
    space = spaces.Dict(
        action_mask=spaces.MultiBinary(3), place=spaces.Discrete(9), wind=spaces.Box(-1, 1, (2,)), eye=EYE
    )
    obs = {
        "action_mask": np.ones(3, np.int8),
        "place": np.array(4),
        "wind": np.array([0.5, 1.0], np.float32),
        "eye": np.zeros((12, 12), np.uint8),
    }
    names = Names(observations={"wind": ("north", "east")})
    assert readings(obs, space, names) == [("place", "4", 0), ("north", "0.500", 0), ("east", "1.00", 0)]
    assert readings(obs, space, Names())[1:] == [("wind 0", "0.500", 0), ("wind 1", "1.00", 0)]
    assert [picture.shape for picture in pictures(obs, space)] == [(12, 12, 3)]


def test_stacked_numbers_say_how_long_ago_they_were_seen():
    obs, names = np.array([1.0, 2.0, 3.0, 4.0], np.float32), Names(observations={"": ("x", "y")}, frame_stack=2)
    found = readings(obs, spaces.Box(-9, 9, (4,)), names)
    assert [reading[:2] for reading in found] == [("x -1", "1.00"), ("y -1", "2.00"), ("x", "3.00"), ("y", "4.00")]


def test_what_the_user_says_are_pictures_is_shown_as_such():
    space, obs = spaces.Box(-np.inf, np.inf, (2, 5, 6)), np.arange(60, dtype=np.float32).reshape(2, 5, 6)
    assert len(readings(obs, space, Names())) == 60
    assert readings(obs, space, Names(), axes="chw") == []
    first, second = pictures(obs, space, axes="chw")
    assert first.shape == (5, 6, 3)
    assert (first[0, 0, 0], second[-1, -1, 0]) == (0, 255)
    grey = spaces.Box(0, 255, (8, 9), np.uint8)
    assert pictures(np.zeros((8, 9), np.uint8), grey, axes="none") == []
    assert len(readings(np.zeros((8, 9), np.uint8), grey, Names(), axes="none")) == 72


EYE = spaces.Box(0, 255, (12, 12), np.uint8)


def test_stacked_pictures_lie_side_by_side():
    stack = np.arange(4, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(9, 2)
    seen = pictures(stack, spaces.Box(0, 255, (4, 8, 9), np.uint8))
    assert [(picture.shape, int(picture[0, 0, 0])) for picture in seen] == [((8, 9, 3), k) for k in range(4)]
    seen = pictures(np.moveaxis(stack, 0, -1), spaces.Box(0, 255, (8, 9, 4), np.uint8))
    assert [int(picture[0, 0, 0]) for picture in seen] == [0, 1, 2, 3]


def test_colours_stay_together_in_either_order_of_axes():
    red = np.zeros((8, 9, 3), np.uint8)
    red[..., 0] = 200
    for obs in (red, red.transpose(2, 0, 1), np.stack([red, red])):
        for picture in pictures(obs, spaces.Box(0, 255, obs.shape, np.uint8)):
            np.testing.assert_array_equal(picture, red)
    assert len(pictures(np.stack([red, red]), spaces.Box(0, 255, (2, 8, 9, 3), np.uint8))) == 2


def test_the_bounds_of_floats_are_black_and_white():
    obs = np.array([[-1.0, 0.0, 1.0, 1.0, 1.0]] * 5, np.float32)
    (picture,) = pictures(obs, spaces.Box(-1, 1, (5, 5)))
    assert picture[0, :3, 0].tolist() == [0, 128, 255]
