"""Each change of a picture is the one that a loop over its pixels makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.ops.augment import BRIGHTNESS, CONTRAST, PLACED, Places, coloured, cropped, scaled, taken

H, W = 21, 42  # a shift is of one pixel up and down, and of two to the sides


def grid(rows, height=H, width=W):
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return Places(row.expand(rows, -1, -1), column.expand(rows, -1, -1))


def changed(name, picture, u):
    """Change one picture `[H, W]` by a row of numbers."""
    x = torch.as_tensor(picture)[None]
    places = PLACED[name](grid(1, *x.shape[1:]), torch.tensor(u)[:, None])
    return taken(x, places, 1)[0].numpy()


PICTURE = np.random.default_rng(0).integers(0, 256, (H, W)).astype(np.uint8)


@pytest.mark.parametrize(("u", "down", "right"), [(0.0, -1, -2), (0.5, 0, 0), (0.999, 1, 2), (0.3, -1, -1)])
def test_a_shift_pads_with_the_edge_and_crops(u, down, right):
    padded = np.pad(PICTURE, 2, mode="edge")
    wanted = padded[2 + down : 2 + down + H, 2 + right : 2 + right + W]
    assert (changed("shift", PICTURE, [u, u]) == wanted).all()


def test_all_shifts_are_as_likely():
    u = (torch.arange(3 * 5 * 7) + 0.5) / (3 * 5 * 7)
    places = PLACED["shift"](grid(len(u)), torch.stack([u, u]))
    counts = np.unique((places.row[:, 10, 0]).numpy(), return_counts=True)
    assert counts[0].tolist() == [9, 10, 11]
    assert set(counts[1].tolist()) == {35}
    assert set(np.unique(places.column[:, 0, 20].numpy(), return_counts=True)[1].tolist()) == {21}


def test_flips_are_left_to_right_in_half_of_the_pictures():
    assert (changed("flip", PICTURE, [0.5, 0.0]) == PICTURE[:, ::-1]).all()
    assert (changed("flip", PICTURE, [0.49, 0.0]) == PICTURE).all()


@pytest.mark.parametrize("turns", range(4))
def test_rotations_are_by_quarters(turns):
    square = PICTURE[:, :H]
    assert (changed("rotate", square, [turns / 4, 0.0]) == np.rot90(square, turns)).all()


def slow_zoom(picture, share, down, right):
    height, width = picture.shape
    found = np.zeros_like(picture)
    for i in range(height):
        for j in range(width):
            row = np.floor((1 - share) * height * down + (i + 0.5) * share)
            column = np.floor((1 - share) * width * right + (j + 0.5) * share)
            found[i, j] = picture[int(np.clip(row, 0, height - 1)), int(np.clip(column, 0, width - 1))]
    return found


def test_a_crop_is_a_window_as_large_as_the_picture():
    for u in ([0.0, 0.0], [0.99, 0.3]):
        x = torch.from_numpy(PICTURE)[None]
        found = taken(x, cropped(grid(1), torch.tensor(u)[:, None]), 1)[0].numpy()
        assert (found == slow_zoom(PICTURE, 7 / 8, *u)).all()


@pytest.mark.parametrize(("u", "share"), [(0.0, 0.8), (0.5, 1.0), (0.99, 1.196)])
def test_scaling_is_around_the_centre(u, share):
    found = taken(torch.from_numpy(PICTURE)[None], scaled(grid(1), torch.tensor([[u], [0.0]])), 1)[0].numpy()
    assert (found == slow_zoom(PICTURE, np.float32(share), 0.5, 0.5)).mean() > 0.99  # a pixel may round otherwise
    if share == 1:
        assert (found == PICTURE).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_colours_are_contrast_and_brightness_within_the_bounds(dtype):
    x = PICTURE.astype(dtype)
    for u in ([0.5, 0.5], [0.0, 0.9], [0.9, 0.2]):
        found = coloured(torch.from_numpy(x)[None], 0.0, 255.0, torch.tensor(u)[:, None])[0].numpy()
        contrast, brightness = 1 + CONTRAST * (2 * u[0] - 1), BRIGHTNESS * (2 * u[1] - 1)
        wanted = 255 * np.clip((x / 255 - 0.5) * contrast + 0.5 + brightness, 0, 1)
        assert found.dtype == dtype
        np.testing.assert_allclose(
            found, np.rint(wanted) if dtype == np.uint8 else wanted, atol=1.01 if dtype == np.uint8 else 1e-2
        )


def test_pictures_with_channels_in_any_place_change_alike():
    x = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (5, H, W, 3)).astype(np.uint8))
    places = PLACED["shift"](grid(5), torch.rand(2, 5, generator=torch.Generator().manual_seed(0)))
    last = taken(x, places, 1)
    first = taken(x.movedim(3, 1), places, 2)
    assert last.equal(first.movedim(1, 3))
    for channel in range(3):
        assert last[..., channel].equal(taken(x[..., channel], places, 1))
