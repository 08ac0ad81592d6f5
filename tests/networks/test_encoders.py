"""Encoders: every canonical observation space becomes one float vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from agents.networks.encoder import Encoder, NatureCNN, SmallCNN, has_image, is_image
from envs.errors import UserError

HWC = spaces.Box(0, 255, (36, 40, 3), np.uint8)
CHW = spaces.Box(0, 255, (3, 36, 40), np.uint8)
EVERYTHING = spaces.Dict(
    {
        "camera": CHW,
        "joints/0": spaces.Box(-1, 1, (2, 3), np.float32),
        "joints/1": spaces.Box(-np.inf, np.inf, (1,), np.float32),
        "mode": spaces.Discrete(4),
        "switches": spaces.MultiDiscrete([2, 3]),
    }
)
SPACES = {
    "vector": (spaces.Box(-1, 1, (5,), np.float32), 5),
    "matrix": (spaces.Box(-1, 1, (2, 3), np.float32), 6),
    "bytes": (spaces.Box(0, 255, (7,), np.uint8), 7),
    "small picture": (spaces.Box(0, 255, (10, 10, 3), np.uint8), 128),
    "small picture, channels first": (spaces.Box(0, 255, (3, 5, 6), np.uint8), 128),
    "too small for a picture": (spaces.Box(0, 255, (4, 10, 3), np.uint8), 120),
    "image, channels last": (HWC, 512),
    "image, channels first": (CHW, 512),
    "discrete": (spaces.Discrete(4), 4),
    "multidiscrete": (spaces.MultiDiscrete([2, 3, 4]), 9),
    "dict": (EVERYTHING, 512 + 6 + 1 + 4 + 5),
}


def observations(space, batch, seed=0):
    """Return a batch of canonical observations as tensors."""
    batched = batch_space(space, batch)
    batched.seed(seed)
    sample = batched.sample()
    if isinstance(sample, dict):
        return {key: torch.from_numpy(leaf) for key, leaf in sample.items()}
    return torch.from_numpy(sample)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("norm_obs", [False, True])
@pytest.mark.parametrize("name", SPACES)
def test_features_of_every_space(name, norm_obs, batch):
    space, features = SPACES[name]
    encoder = Encoder(space, norm_obs)
    assert encoder.features == features
    obs = observations(space, batch)
    encoder.update_statistics(obs)
    out = encoder(obs)
    assert out.shape == (batch, features)
    assert out.dtype == torch.float32
    assert out.isfinite().all()


def test_one_hot_vectors_stand_side_by_side():
    out = Encoder(spaces.MultiDiscrete([2, 3]), False)(torch.tensor([[1, 0], [0, 2]]))
    assert out.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert Encoder(spaces.Discrete(3), False)(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_bytes_are_scaled_to_0_to_1():
    out = Encoder(spaces.Box(0, 255, (3,), np.uint8), norm_obs=True)(torch.tensor([[0, 51, 255]], dtype=torch.uint8))
    torch.testing.assert_close(out, torch.tensor([[0.0, 0.2, 1.0]]))


def test_floats_pass_unchanged_without_normalisation():
    obs = observations(SPACES["matrix"][0], 4)
    assert Encoder(SPACES["matrix"][0], False)(obs).equal(obs.reshape(4, 6))


def test_leaves_of_a_dict_are_found_by_key_not_by_order():
    space = spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(-1, 1, (1,), np.float32)})
    encoder = Encoder(space, False)
    obs = {"a": torch.tensor([[0.5]]), "b": torch.tensor([1])}
    swapped = {"b": obs["b"], "a": obs["a"]}
    assert encoder(obs).equal(encoder(swapped))
    assert sorted(encoder(obs).flatten().tolist()) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("cnn", [NatureCNN, SmallCNN])
def test_images_mean_the_same_in_either_layout(cnn):
    torch.manual_seed(0)
    last, first = cnn(HWC.shape), cnn(CHW.shape)
    first.load_state_dict(last.state_dict())
    image = observations(HWC, 2)
    torch.testing.assert_close(first(image.permute(0, 3, 1, 2)), last(image))
    assert not torch.allclose(last(image)[0], last(image)[1])


def test_images_are_scaled_to_0_to_1():
    cnn = NatureCNN(CHW.shape)
    seen = []
    cnn.convolutions.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    cnn(torch.full((1, 3, 36, 40), 255, dtype=torch.uint8))
    torch.testing.assert_close(seen[0], torch.ones(1, 3, 36, 40))


@pytest.mark.parametrize(
    ("shape", "dtype", "image"),
    [
        ((84, 84, 1), np.uint8, True),
        ((4, 84, 84), np.uint8, True),
        ((210, 160, 3), np.uint8, True),
        ((36, 36, 3), np.uint8, True),
        ((35, 36, 3), np.uint8, False),
        ((84, 3, 84), np.uint8, False),
        ((10, 10, 4), np.uint8, False),
        ((84, 84), np.uint8, False),
        ((84, 84, 3), np.float32, False),
    ],
)
def test_what_counts_as_an_image(shape, dtype, image):
    space = spaces.Box(0, 255, shape, dtype)
    assert is_image(space) is has_image(space) is image
    assert has_image(spaces.Dict({"x": spaces.Discrete(2), "y": space})) is image


@pytest.mark.parametrize("side", [36, 37, 43, 84])
def test_the_smallest_images_still_fit_the_convolutions(side):
    assert NatureCNN((1, side, side))(torch.zeros(1, 1, side, side, dtype=torch.uint8)).shape == (1, 512)


@pytest.mark.parametrize("shape", [(10, 10, 4), (4, 10, 10), (5, 5, 1), (6, 7, 6), (35, 35, 3), (84, 3, 84)])
def test_small_pictures_of_every_shape_fit_their_encoder(shape):
    space = spaces.Box(0, 255, shape, np.uint8)
    encoder = Encoder(space, norm_obs=False)
    assert isinstance(encoder.leaves[0], SmallCNN) == (shape != (84, 3, 84))
    out = encoder(observations(space, 2))
    assert out.shape == (2, encoder.features)
    assert not torch.allclose(out[0], out[1])


def test_the_small_network_is_minatars():
    sizes = [tuple(weight.shape) for weight in SmallCNN((10, 10, 4)).parameters()]
    assert sizes == [(16, 4, 3, 3), (16,), (128, 16 * 8 * 8), (128,)]


def test_statistics_are_those_of_the_raw_numbers():
    space = spaces.Dict({"a": SPACES["matrix"][0], "b": spaces.Box(0, 255, (2,), np.uint8)})
    encoder = Encoder(space, norm_obs=True)
    obs = observations(space, 50)
    encoder.update_statistics(obs)
    out = encoder(obs)
    torch.testing.assert_close(out[:, :6].mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:, :6].std(dim=0, correction=0), torch.ones(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[:, 6:], obs["b"] / 255)


def test_other_spaces_are_refused():
    with pytest.raises(UserError, match="no network takes observations of Text"):
        Encoder(spaces.Text(3), False)
