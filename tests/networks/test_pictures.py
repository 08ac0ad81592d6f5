"""Pictures: every layout and range, and the networks that read them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from agents.networks.encoders import Flat
from agents.networks.pictures import CodesCNN, ImpalaCNN, NatureCNN, Rescale, SmallCNN, find_layout
from envs.errors import UserError
from tests.networks.encoding import CHW, HWC, made, observations


@pytest.mark.parametrize("cnn", [NatureCNN, SmallCNN, ImpalaCNN])
def test_images_mean_the_same_in_either_layout(cnn):
    torch.manual_seed(0)
    last, first = cnn(HWC), cnn(CHW)
    first.load_state_dict(last.state_dict())
    image = observations(HWC, 2)
    torch.testing.assert_close(first(image.permute(0, 3, 1, 2)), last(image))
    assert not torch.allclose(last(image)[0], last(image)[1])


def convolved(encoder, obs):
    """Return what the convolutions of a picture encoder are given."""
    seen = []
    (leaf,) = encoder.leaves
    leaf.convolutions.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    encoder(obs)
    return seen[0]


LAYOUTS = {  # shape -> the axis of the height, channels, what is said of them
    (84, 80): (0, 1, "1 channel"),
    (36, 36): (0, 1, "1 channel"),
    (84, 84, 1): (0, 1, "1 channel (last axis)"),
    (84, 80, 3): (0, 3, "3 channels (last axis)"),
    (3, 84, 80): (1, 3, "3 channels (first axis)"),
    (4, 96, 96, 3): (1, 12, "4 x 3 channels (first and last axis)"),
    (4, 3, 84, 80): (2, 12, "4 x 3 channels (first two axes)"),
    (84, 80, 3, 4): (0, 12, "3 x 4 channels (last two axes)"),
    (8, 8, 12): (0, 12, "12 channels (last axis, equal sides taken for the picture's)"),
    (12, 8, 8): (1, 12, "12 channels (first axis, equal sides taken for the picture's)"),
    (4, 8, 8, 12): (1, 48, "4 x 12 channels (first and last axis, equal sides taken for the picture's)"),
    (12, 36, 40): (1, 12, "12 channels (first axis, longer sides taken for the picture's)"),
    (36, 40, 12): (0, 12, "12 channels (last axis, longer sides taken for the picture's)"),
    (6, 7, 6): (0, 6, "6 channels (last axis, the first axis could be, too)"),
    (7, 7, 7): (0, 7, "7 channels (last axis, the first axis could be, too)"),
}


@pytest.mark.parametrize("shape", LAYOUTS)
def test_every_layout_becomes_channels_height_and_width(shape):
    side, channels, said = LAYOUTS[shape]
    height, width = shape[side : side + 2]
    encoder = made(spaces.Box(0, 255, shape, np.uint8))
    raw = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    others = [axis + 1 for axis in range(len(shape)) if axis not in (side, side + 1)]
    expected = raw.transpose(0, *others, side + 1, side + 2).reshape(2, channels, height, width)
    np.testing.assert_allclose(convolved(encoder, torch.from_numpy(raw))[:, :channels], expected / 255, rtol=1e-6)
    how = "-> nature CNN" if min(height, width) >= 36 else "and as codes of 8 bits -> small CNN"
    assert encoder.description == f"observation: picture {height} x {width}, {said}, uint8 / 255 {how}"


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_stack_of_frames_keeps_time_before_colour(channels_last):
    def frame(env, t):  # environment and time in the pixels, the colour in the last digit
        image = np.broadcast_to(np.arange(3, dtype=np.uint8) + 100 * env + 10 * t, (36, 36, 3))
        return image if channels_last else image.transpose(2, 0, 1)

    stacks = np.array([[frame(env, t) for t in range(4)] for env in range(2)])
    encoder = made(spaces.Box(0, 255, stacks.shape[1:], np.uint8))
    pixels = (convolved(encoder, torch.from_numpy(stacks)) * 255).round()
    assert pixels.shape == (2, 12, 36, 36)
    assert pixels.amin(dim=(2, 3)).equal(pixels.amax(dim=(2, 3)))
    for env in range(2):
        assert pixels[env, :, 0, 0].tolist() == [100 * env + 10 * t + colour for t in range(4) for colour in range(3)]


@pytest.mark.parametrize(
    ("low", "high", "dtype", "said"),
    [
        (0, 255, np.uint8, "uint8 / 255"),
        (0, 1, np.uint8, "uint8 as it is"),
        (0, 10, np.uint8, "uint8 / 10"),
        (0, 1, np.float32, "float32 as it is"),
        (0, 255, np.float32, "float32 / 255"),
        (-1, 1, np.float32, "float32 from [-1, 1] to [0, 1]"),
    ],
)
@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 3), (36, 36, 3)])
def test_pictures_are_scaled_to_0_to_1_by_their_bounds(shape, low, high, dtype, said):
    encoder = made(spaces.Box(low, high, shape, dtype))
    obs = torch.from_numpy(np.stack([np.full(shape, value, dtype) for value in (low, high)]))
    seen = convolved(encoder, obs)[:, : math.prod(shape[2:])]
    assert seen[0].eq(0).all()
    torch.testing.assert_close(seen[1], torch.ones_like(seen[1]))
    assert f", {said} " in encoder.description


@pytest.mark.parametrize(("low", "high", "bits"), [(0, 255, 8), (0, 10, 4), (3, 10, 3), (200, 255, 6)])
def test_small_pictures_of_bytes_are_read_as_codes_too(low, high, bits):
    encoder = made(spaces.Box(low, high, (5, 6, 2), np.uint8))
    assert (encoder.name, type(encoder.leaves[0])) == ("codes", CodesCNN)
    assert f"as codes of {bits} bits -> small CNN" in encoder.description
    raw = np.random.default_rng(0).integers(low, high, (3, 5, 6, 2), dtype=np.uint8, endpoint=True)
    seen = convolved(encoder, torch.from_numpy(raw))
    assert seen.shape == (3, 2 + 2 * bits, 5, 6)
    code = raw.astype(int) - low
    for channel, bit in itertools.product(range(2), range(bits)):
        np.testing.assert_array_equal(seen[:, 2 + channel * bits + bit], code[..., channel] >> bit & 1)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (spaces.Box(0, 255, (36, 36, 3), np.uint8), "nature"),
        (spaces.Box(0, 1, (7, 7, 3), np.uint8), "small"),
        (spaces.Box(0, 255, (7, 7, 3), np.float32), "small"),
    ],
)
def test_other_pictures_are_no_codes_unless_they_are_said_to_be(space, name):
    encoder = made(space)
    assert encoder.name == name
    said = made(space, encoder="codes")
    assert ("codes" in said.description) == (space.dtype == np.uint8)
    assert said(observations(space, 2)).shape == (2, 128)


@pytest.mark.parametrize(
    ("low", "high", "shape", "dtype"),
    [
        (0, 255, (35, 4), np.uint8),
        (0, 255, (84, 3, 84), np.uint8),
        (0, 255, (1, 1, 3), np.uint8),
        (0, 255, (10,), np.uint8),
        (0, 255, (2, 2, 8, 8, 3), np.uint8),
        (-np.inf, np.inf, (84, 84, 3), np.float32),
        (-10, 10, (20, 8), np.float32),
        (-3e38, 3e38, (20, 8), np.float32),
        (0, np.array([[1.0] * 8] * 19 + [[2.0] * 8]), (20, 8), np.float32),
        (0, 1, (4, 20), np.float32),
    ],
)
def test_what_is_no_picture_is_a_vector(low, high, shape, dtype):
    low, high = (np.broadcast_to(np.asarray(bound, dtype), shape) for bound in (low, high))
    encoder = made(spaces.Box(low, high, shape, dtype))
    assert isinstance(encoder.leaves[0], Flat)
    assert encoder.features == np.prod(shape)
    assert encoder.flops == 0
    size = f"observation: vector of {encoder.features} numbers"
    assert encoder.description.startswith(size)
    assert ("as a picture" in encoder.description) == (shape == (84, 84, 3))


def test_the_layout_of_three_axes_follows_one_rule():
    """The channels are the axis that leaves equal sides, else the shorter of first and last, else the last."""
    sides = (1, 3, 5, 8, 12, 36)
    for a, b, c in itertools.product(sides, repeat=3):
        first = (b == c) if (a == b) != (b == c) else a < c
        expected = (b, c) if first else (a, b)
        layout = find_layout((a, b, c))
        if min(expected) >= 5:
            assert (layout.size, layout.side) == (expected, int(first))
        elif min(a, b) < 5 and min(b, c) < 5:
            assert layout is None


@pytest.mark.parametrize("side", [36, 37, 43, 84])
def test_the_smallest_images_still_fit_the_convolutions(side):
    space = spaces.Box(0, 255, (1, side, side), np.uint8)
    assert NatureCNN(space)(torch.zeros(1, 1, side, side, dtype=torch.uint8)).shape == (1, 512)


@pytest.mark.parametrize("shape", [(10, 10, 4), (4, 10, 10), (5, 5, 1), (6, 7, 6), (35, 35, 3), (84, 3, 84), (9, 9)])
def test_small_pictures_of_every_shape_fit_their_encoder(shape):
    space = spaces.Box(0, 255, shape, np.uint8)
    encoder = made(space)
    assert isinstance(encoder.leaves[0], SmallCNN) == (shape != (84, 3, 84))
    out = encoder(observations(space, 2))
    assert out.shape == (2, encoder.features)
    assert not torch.allclose(out[0], out[1])


def test_the_small_network_is_minatars():
    sizes = [tuple(weight.shape) for weight in SmallCNN(spaces.Box(0, 255, (10, 10, 4), np.uint8)).parameters()]
    assert sizes == [(16, 4, 3, 3), (16,), (128, 16 * 8 * 8), (128,)]


def test_pictures_larger_than_needed_come_with_their_price():
    raw = made(spaces.Box(0, 255, (210, 160, 3), np.uint8))
    size = sum(parameter.numel() for parameter in raw.parameters())
    assert f"{size / 1e6:.1f}M parameters: consider resizing" in raw.description
    assert 11e6 < size < 12e6
    assert "resizing" not in made(spaces.Box(0, 255, (100, 100, 3), np.uint8)).description


def test_the_residual_network_is_impalas():
    encoder = ImpalaCNN(spaces.Box(0, 255, (3, 72, 96), np.uint8))
    convolutions = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [16] * 5 + [32] * 10  # figure 3 of the paper
    assert encoder.linear[0].in_features == 32 * 9 * 12
    assert encoder.linear[0].out_features == 256
    block = encoder.convolutions[2]
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 16, 5, 5)
    assert block(x).equal(x), "the input is added to what the block computes"


@pytest.mark.parametrize(
    ("axes", "shape", "said"),
    [
        ("chw", (8, 8, 8), "picture 8 x 8, 8 channels (first axis, as set)"),
        ("hwc", (8, 8, 8), "picture 8 x 8, 8 channels (last axis, as set)"),
        ("chw", (20, 6, 30), "picture 6 x 30, 20 channels (first axis, as set)"),
        ("nhwc", (7, 8, 9, 10), "picture 8 x 9, 7 x 10 channels (first and last axis, as set)"),
        ("hw", (6, 7), "picture 6 x 7, 1 channel (as set)"),
    ],
)
def test_axes_that_are_set_count_whatever_the_numbers(axes, shape, said):
    for space in (spaces.Box(0, 255, shape, np.uint8), spaces.Box(-np.inf, np.inf, shape), spaces.Box(-3, 9, shape)):
        encoder = made(space, picture_axes=axes)
        assert said in encoder.description
        x = observations(spaces.Box(0, 1, shape) if space.dtype == np.float32 else space, 3)
        folded = encoder.leaves[0].layout.fold(x)
        side = axes.index("h")
        assert folded.shape == (3, int(np.prod(shape)) // (shape[side] * shape[side + 1]), shape[side], shape[side + 1])
        assert encoder(x).shape == (3, 128)


def test_numbers_without_bounds_stay_as_they_are():
    x = torch.tensor([[-3.0, 0.5, 2.0]])
    whole = Rescale(spaces.Box(-np.inf, np.inf, (3,)))
    assert whole(x).equal(x)
    assert whole.description == "float32 as it is"
    low, high = np.array([-np.inf, 0, -2], np.float32), np.array([np.inf, 1, np.inf], np.float32)
    assert Rescale(spaces.Box(low, high))(x).equal(x)
    assert Rescale(spaces.Box(-4, 4, (3,)))(x).tolist() == [[0.125, 0.5625, 0.75]]


def test_pictures_can_be_read_as_numbers_and_others_stay_as_they_are():
    space = spaces.Dict(a=spaces.Box(0, 255, (8, 8, 3), np.uint8), b=spaces.Box(0, 1, (6, 6)))
    assert "picture" not in made(space, picture_axes="none").description
    mixed = made(space, picture_axes="hwc").description.splitlines()
    assert "as set" in mixed[0]
    assert mixed[1].startswith("b: picture 6 x 6")
    assert "as set" not in mixed[1]


def test_axes_that_leave_no_picture_are_refused():
    with pytest.raises(UserError, match=r"picture_axes chw makes .* a picture of 8 x 3 pixels, and at least 5"):
        made(spaces.Box(0, 255, (8, 8, 3), np.uint8), picture_axes="chw")


@pytest.mark.parametrize("training", [True, False])
def test_channels_are_last_in_updates_alone_and_the_numbers_are_the_same(training):
    torch.manual_seed(0)
    network = NatureCNN(spaces.Box(0, 255, (4, 84, 84), np.uint8)).train(training)
    pictures = torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8)
    plain = network.linear(network.convolutions(pictures / 255))
    seen = []
    network.convolutions[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    torch.testing.assert_close(network(pictures), plain)
    assert seen[0].is_contiguous(memory_format=torch.channels_last) is training
    assert (seen[0].shape, seen[0].is_contiguous()) == ((3, 4, 84, 84), not training)
