"""What becomes of whatever render() returns: the right picture, or a message with its shape and the remedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from envs.adapters.checks import picture
from envs.errors import EnvError

COLOURS = np.array([[[0, 51, 255], [102, 204, 153]]], np.uint8)  # [1, 2, 3], each a multiple of 255 / 5
GREY = np.array([[0, 51, 255], [102, 204, 153]], np.uint8)
AS_COLOURS = GREY[:, :, None].repeat(3, axis=2)


@pytest.mark.parametrize(
    ("rendered", "shown"),
    [
        (COLOURS, COLOURS),
        (COLOURS.astype(np.int64), COLOURS),
        (COLOURS.astype(np.float64), COLOURS),
        (COLOURS / 255, COLOURS),
        ((COLOURS / 255).astype(np.float32), COLOURS),
        ((COLOURS / 255).astype(np.float16), COLOURS),
        (COLOURS.tolist(), COLOURS),
        (torch.from_numpy(COLOURS), COLOURS),
        (np.asfortranarray(COLOURS), COLOURS),
        (np.concatenate([COLOURS, np.full((1, 2, 1), 7, np.uint8)], axis=2), COLOURS),
        (np.concatenate([COLOURS / 255, np.ones((1, 2, 1))], axis=2), COLOURS),
        (GREY, AS_COLOURS),
        (GREY[:, :, None], AS_COLOURS),
        (GREY / 255, AS_COLOURS),
        (GREY > 100, (AS_COLOURS > 100) * np.uint8(255)),
    ],
)
def test_what_can_be_shown_is_shown_with_the_right_colours(rendered, shown):
    found = picture(rendered)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous, "as videos and windows take it"
    np.testing.assert_array_equal(found, shown)


@pytest.mark.parametrize(
    ("rendered", "message"),
    [
        (None, r"returned None.*must keep render_mode as self.render_mode"),
        ("a picture", r"str of <U9, not a picture"),
        ([np.zeros((2, 2, 3)), np.zeros((3, 2, 3))], r"returned list"),
        (np.zeros((64, 48, 5), np.uint8), r"uint8 \[64, 48, 5\], not a picture \[height, width, 3\]"),
        (np.zeros((3, 64, 48)), r"float64 \[3, 64, 48\].*picture\.transpose\(1, 2, 0\)"),
        ([np.zeros((64, 48, 3))], r"list of float64 \[1, 64, 48, 3\].*return one picture"),
        (np.zeros((0, 48, 3)), r"\[0, 48, 3\]"),
        (np.float64(3), r"float64 \[\]"),
        (np.full((4, 4, 3), 256), r"from 256 to 256: they must be from 0 to 255, or 0 to 1"),
        (np.full((4, 4, 3), -0.5), r"from -0\.5 to -0\.5"),
        (np.full((4, 4, 3), np.nan), r"from nan to nan"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_shape_and_the_remedy(rendered, message):
    with pytest.raises(EnvError, match=message):
        picture(rendered)
