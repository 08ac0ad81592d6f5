"""Encoders: every canonical observation space becomes one float vector."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn.utils import prune

from agents.core.config import NetworkConfig
from agents.core.user_code import is_user_code, user_class
from agents.networks.encoders import ENCODERS, multiply_adds
from agents.networks.pictures import CodesCNN, ImpalaCNN, NatureCNN, PictureEncoder, SmallCNN
from agents.run.notation import notation
from envs.errors import UserError
from tests.networks.encoding import EVERYTHING, HWC, SPACES, made, observations


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("norm_obs", [False, True])
@pytest.mark.parametrize("name", SPACES)
def test_features_of_every_space(name, norm_obs, batch):
    space, features = SPACES[name]
    encoder = made(space, norm_obs=norm_obs)
    assert encoder.features == features
    obs = observations(space, batch)
    encoder.update_statistics(obs)
    out = encoder(obs)
    assert out.shape == (batch, features)
    assert out.dtype == torch.float32
    assert out.isfinite().all()


def test_one_hot_vectors_stand_side_by_side():
    out = made(spaces.MultiDiscrete([2, 3]))(torch.tensor([[1, 0], [0, 2]]))
    assert out.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert made(spaces.Discrete(3))(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_a_one_hot_vector_of_any_length_is_refused_beyond_the_longest():
    assert made(spaces.Discrete(100_000)).features == 100_000
    for space in (spaces.Discrete(1_000_000), spaces.MultiDiscrete([50_000, 950_000])):
        with pytest.raises(UserError, match=r"^an observation of 1,000,000 values .* at most 100,000 are allowed"):
            made(space)


def test_floats_pass_unchanged_without_normalisation():
    obs = observations(SPACES["matrix"][0], 4)
    assert made(SPACES["matrix"][0])(obs).equal(obs.reshape(4, 6))


def test_leaves_of_a_dict_are_found_by_key_not_by_order():
    space = spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(-1, 1, (1,), np.float32)})
    encoder = made(space)
    obs = {"a": torch.tensor([[0.5]]), "b": torch.tensor([1])}
    swapped = {"b": obs["b"], "a": obs["a"]}
    assert encoder(obs).equal(encoder(swapped))
    assert sorted(encoder(obs).flatten().tolist()) == [0.0, 0.5, 1.0]


def test_statistics_are_those_of_the_raw_numbers():
    space = spaces.Dict({"a": SPACES["matrix"][0], "b": spaces.Box(0, 255, (2,), np.uint8)})
    encoder = made(space, norm_obs=True)
    obs = observations(space, 50)
    encoder.update_statistics(obs)
    out = encoder(obs)
    torch.testing.assert_close(out[:, :6].mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:, :6].std(dim=0, correction=0), torch.ones(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[:, 6:], obs["b"] / 255)


def test_other_spaces_are_refused():
    with pytest.raises(UserError, match="no network takes observations of Text"):
        made(spaces.Text(3))


@pytest.mark.parametrize(
    ("low", "high", "raw", "expected"),
    [
        (0, 1, [0, 1, 1], [0.0, 1.0, 1.0]),
        (0, 10, [0, 5, 10], [0.0, 0.5, 1.0]),
        (0, 255, [0, 51, 255], [0.0, 0.2, 1.0]),
        (2, 6, [2, 3, 6], [0.0, 0.25, 1.0]),
        (0, [1, 4, 255], [1, 1, 51], [1.0, 0.25, 0.2]),
        (0, [1, 0, 2], [1, 0, 1], [1.0, 0.0, 0.5]),
    ],
)
@pytest.mark.parametrize("encoder", ["auto", "flat"])
def test_bytes_are_scaled_by_their_own_bounds(low, high, raw, expected, encoder):
    low, high = (np.broadcast_to(np.uint8(bound), (3,)) for bound in (low, high))
    space = spaces.Box(low, high, (3,), np.uint8)
    encoded = made(space, encoder=encoder, norm_obs=True)(torch.tensor([raw], dtype=torch.uint8))
    torch.testing.assert_close(encoded, torch.tensor([expected]))
    assert not made(space).state_dict(), "bounds follow from the space"


def test_a_one_hot_vector_of_bytes_is_what_it_is_as_floats():
    one_hot = np.eye(8)
    as_bytes, as_floats = (
        made(spaces.Box(0, 1, (8,), dtype))(torch.from_numpy(one_hot.astype(dtype))) for dtype in (np.uint8, np.float32)
    )
    assert as_bytes.equal(as_floats)


def test_a_mask_of_actions_is_not_read():
    leaves = {"action_mask": spaces.Box(0, 1, (3,), np.float32), "obs": spaces.Box(-1, 1, (2,), np.float32)}
    encoder = made(spaces.Dict(leaves), norm_obs=True)
    assert (encoder.keys, encoder.features) == (["obs"], 2)
    obs = {"obs": torch.rand(4, 2), "action_mask": torch.ones(4, 3)}
    encoder.update_statistics(obs)
    assert encoder(obs).shape == (4, 2)
    assert encoder(obs).equal(encoder(obs | {"action_mask": torch.zeros(4, 3)}))
    with pytest.raises(UserError, match="nothing but 'action_mask'"):
        made(spaces.Dict({"action_mask": leaves["action_mask"]}))


def test_every_leaf_says_what_was_understood():
    assert made(EVERYTHING, norm_obs=True).description.splitlines() == [
        "camera: picture 36 x 40, 3 channels (first axis), uint8 / 255 -> nature CNN",
        "joints/0: vector of 6 numbers (2 x 3), float32, normalised by running statistics",
        "joints/1: vector of 1 number, float32, normalised by running statistics",
        "mode: one of 4 values, one-hot",
        "switches: 2 of 2 to 3 values, one-hot",
    ]


@pytest.mark.parametrize(
    ("name", "kind", "features"),
    [
        ("auto", NatureCNN, 512),
        ("nature", NatureCNN, 512),
        ("small", SmallCNN, 128),
        ("codes", CodesCNN, 128),
        ("impala", ImpalaCNN, 256),
    ],
)
def test_a_named_encoder_reads_the_pictures_and_nothing_else(name, kind, features):
    encoder = made(EVERYTHING, encoder=name)
    assert isinstance(encoder.leaves[0], kind)
    assert encoder.features == features + 16
    assert not any(isinstance(leaf, PictureEncoder) for leaf in list(encoder.leaves)[1:])
    assert encoder(observations(EVERYTHING, 3)).shape == (3, features + 16)


def test_flat_makes_vectors_of_pictures_too():
    encoder = made(spaces.Dict({"bytes": HWC, "floats": spaces.Box(-1, 1, (8, 8), np.float32)}), encoder="flat")
    obs = {"bytes": torch.full((1, 36, 40, 3), 51, dtype=torch.uint8), "floats": torch.full((1, 8, 8), -1.0)}
    assert encoder.features == 36 * 40 * 3 + 64
    torch.testing.assert_close(encoder(obs), torch.tensor([[0.2] * 36 * 40 * 3 + [-1.0] * 64]))


def test_names_of_code_are_told_from_names_of_ours():
    own = ["file.py:Class", "folder/file.py", "package.module:Class"]
    assert [name for name in ("auto", *ENCODERS, *own) if is_user_code(name)] == own


def test_help_names_every_encoder():
    assert notation(NetworkConfig.model_fields["encoder"].annotation) == "|".join(["auto", *ENCODERS, "file.py:Class"])


def test_names_that_do_not_fit_are_refused_in_words():
    with pytest.raises(UserError, match=r"at least 36 pixels a side, and this is a picture 10 x 10, 4 channels"):
        made(spaces.Box(0, 255, (10, 10, 4), np.uint8), encoder="nature")
    with pytest.raises(UserError, match=r"impala reads pictures, and there are none(.|\n)*vector of 3 numbers"):
        made(spaces.Box(0, 255, (3,), np.uint8), encoder="impala")


@pytest.mark.parametrize(
    ("space", "setting", "message"),
    [
        (spaces.Box(-1, 1, (3,)), {"picture_axes": "hwc"}, "picture_axes hwc is for Boxes of 3 axes"),
        (spaces.Box(-1, 1, (3,)), {"text_encoder": "gru"}, "text_encoder gru reads texts, sequences and MultiDiscrete"),
        (
            spaces.Dict({"a": spaces.Discrete(3)}),
            {"text_encoder": str(Path(__file__).parent)},
            "reads texts, and there",
        ),
    ],
)
def test_settings_for_what_is_not_observed_are_refused(space, setting, message):
    with pytest.raises(UserError, match=message):
        made(space, **setting)


def test_a_normaliser_without_floats_is_said():
    for space in (spaces.Discrete(3), spaces.Box(0, 1, (10, 10, 4), np.uint8)):
        assert made(space, norm_obs=True).description.endswith("(norm_obs normalises vectors of floats alone)")
        assert "norm_obs" not in made(space).description
    assert (
        "alone" not in made(spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1)}), norm_obs=True).description
    )


@pytest.mark.parametrize("name", ["nature", "small", "codes", "impala"])
def test_multiply_adds_are_those_of_the_layers(name):
    space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    encoder = made(spaces.Dict({"a": space, "b": spaces.Discrete(3)}), encoder=name)
    total, shapes = 0, []
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda layer, _, out: shapes.append((layer, out.shape)))
    encoder({"a": torch.zeros(1, 84, 84, 4, dtype=torch.uint8), "b": torch.zeros(1, dtype=torch.int64)})
    for layer, shape in shapes:
        positions = shape[2] * shape[3] if isinstance(layer, nn.Conv2d) else 1
        total += layer.weight.numel() * positions
    assert encoder.flops == total
    if name == "nature":
        assert total == 20 * 20 * 32 * 4 * 64 + 9 * 9 * 64 * 32 * 16 + 7 * 7 * 64 * 64 * 9 + 3136 * 512


def test_counting_leaves_a_module_as_it_was():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2).eval())
    before, generator = {key: value.clone() for key, value in module.state_dict().items()}, torch.get_rng_state()
    out, count = multiply_adds(module, torch.ones(5, 3))
    assert (count, out.shape, out.requires_grad) == (3 * 4 + 4 * 2, (5, 2), False)
    assert [part.training for part in module.modules()] == [True, True, True, True, False]
    assert all(value.equal(before[key]) for key, value in module.state_dict().items())
    assert torch.get_rng_state().equal(generator)
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("name", ["nature", "small", "codes", "impala"])
def test_every_layer_is_called_as_a_module(name):
    encoder = made(EVERYTHING, encoder=name, norm_obs=True)
    obs = observations(EVERYTHING, 2)
    called = set()
    parts = [part for part in encoder.modules() if not isinstance(part, nn.ModuleList)]
    for part in parts:
        part.register_forward_hook(lambda part, *_: called.add(part))
    encoder(obs)
    assert called == set(parts)


def test_pruning_and_parametrisation_act():
    encoder = made(HWC)
    obs, (leaf,) = observations(HWC, 2), encoder.leaves
    plain = encoder(obs)
    nn.utils.parametrizations.spectral_norm(leaf.convolutions[0])
    assert not encoder(obs).equal(plain)
    prune.l1_unstructured(leaf.linear[0], "weight", amount=1.0)
    bias = leaf.linear[0].bias.relu().expand(2, -1)
    assert encoder(obs).equal(bias)


@pytest.mark.parametrize("name", ["auto", "impala"])
def test_encoders_compile_in_one_piece(name):
    space = spaces.Dict({"picture": spaces.Box(-1, 1, (4, 36, 36, 3)), "bytes": spaces.Box(0, 9, (2, 3), np.uint8)})
    encoder, obs = made(space, encoder=name), observations(space, 2)
    assert torch.compile(encoder, backend="eager", fullgraph=True)(obs).equal(encoder(obs))


OWN = """
import torch
from torch import nn
from agents.networks.pictures import PictureEncoder

class Own(nn.Module):
    def __init__(self, space):
        super().__init__()
        self.linear = nn.Linear(space["a"].shape[0], 7)
        self.features = 7
        self.seen = space

    def forward(self, obs):
        return self.linear(obs["a"]) + obs["b"][:, None]

class Declared(Own):
    flops = 1234

class NoFeatures(nn.Module):
    def __init__(self, space):
        super().__init__()

class Wide(Own):
    def forward(self, obs):
        return torch.zeros(2, 8)

class Tuples(Own):
    def forward(self, obs):
        return (1, 2)

class Raises(Own):
    def forward(self, obs):
        return obs["c"]

class TwoArguments(Own):
    def __init__(self, space, width):
        super().__init__(space)

class NoModule:
    features = 7

class Tiny(PictureEncoder):
    title, width = "tiny CNN", 3

    def layers(self, channels):
        yield nn.Conv2d(channels, 2, 3)

class NoWidth(PictureEncoder):
    title, layers = "no width", Tiny.layers

class NoTitle(PictureEncoder):
    width = 3

class Nothing(PictureEncoder):
    pass
"""
OWN_SPACE = spaces.Dict({"a": spaces.Box(-1, 1, (3,), np.float32), "b": spaces.Discrete(2)})


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return the name of a class in a file of the user's own."""
    path = tmp_path / "my_encoders.py"
    path.write_text(OWN)
    monkeypatch.setattr("sys.path", [*sys.path])
    return lambda name: f"{path}:{name}"


def test_an_encoder_of_the_users_own_takes_the_observation_whole(own):
    encoder = made(OWN_SPACE, encoder=own("Own"), norm_obs=True)
    (leaf,) = encoder.leaves
    assert leaf.seen is OWN_SPACE
    assert (encoder.features, encoder.keys, encoder.flops) == (7, None, 21)
    assert encoder.description == f"observation: read by {own('Own')} (norm_obs is left to it)"
    obs = {"a": torch.rand(5, 3), "b": torch.tensor([0, 1, 0, 1, 0])}
    encoder.update_statistics(obs)
    assert encoder(obs).equal(leaf.linear(obs["a"]) + obs["b"][:, None])
    assert list(encoder.state_dict()) == ["leaves.0.linear.weight", "leaves.0.linear.bias"]
    assert made(OWN_SPACE, encoder=own("Declared")).flops == 1234


def test_any_encoder_can_be_a_row(own, monkeypatch):
    monkeypatch.setitem(ENCODERS, "small", user_class(own("Own"), nn.Module, "an encoder"))
    encoder = made(OWN_SPACE, encoder="small", norm_obs=True)
    (leaf,) = encoder.leaves
    assert leaf.seen is OWN_SPACE
    assert (encoder.features, encoder.keys, encoder.flops) == (7, None, 21)
    assert encoder.description == "observation: read by small (norm_obs is left to it)"
    monkeypatch.setitem(ENCODERS, "small", user_class(own("NoFeatures"), nn.Module, "an encoder"))
    with pytest.raises(UserError, match=r"encoder small must have an attribute `features`.*it has None"):
        made(OWN_SPACE, encoder="small")


def test_a_picture_encoder_of_the_users_own_reads_the_pictures(own):
    encoder = made(EVERYTHING, encoder=own("Tiny"), norm_obs=True)
    assert type(encoder.leaves[0]).__name__ == "Tiny"
    assert encoder.features == 3 + 16
    assert encoder(observations(EVERYTHING, 2)).shape == (2, 19)
    first, second, *_ = encoder.description.splitlines()
    assert first.endswith("uint8 / 255 -> tiny CNN")
    assert second.endswith("normalised by running statistics")


@pytest.mark.parametrize(
    ("name", "lacking"), [("NoWidth", "width"), ("NoTitle", "title and layers"), ("Nothing", "title, width and layers")]
)
def test_what_a_picture_encoder_lacks_is_said(own, monkeypatch, name, lacking):
    message = (
        rf"^{name} lacks {lacking}: a PictureEncoder has a `title`, a `width` .* and a method `layers\(channels\)`"
    )
    with pytest.raises(UserError, match=message):
        made(HWC, encoder=own(name))
    monkeypatch.setitem(ENCODERS, "small", user_class(own(name), nn.Module, "an encoder"))
    with pytest.raises(UserError, match=message):
        made(HWC, encoder="small")


def test_an_encoder_may_come_from_a_module(own, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    own("Own")
    assert made(OWN_SPACE, encoder="my_encoders:Own").features == 7
    monkeypatch.delitem(sys.modules, "my_encoders")
    with pytest.raises(UserError, match="there is no module 'not_there'"):
        made(OWN_SPACE, encoder="not_there:Own")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Owm", r"has no 'Owm'; it has .*NoFeatures.*Did you mean Own\?"),
        ("NoModule", r"NoModule is not an encoder: derive it from torch\.nn\.modules\.module\.Module"),
        ("NoFeatures", r"must have an attribute `features`.*it has None"),
        ("Wide", r"must return \[B, features\], \(2, 7\) for 2, but gave \(2, 8\)"),
        ("Tuples", r"must return \[B, features\].*but gave tuple"),
        ("Raises", r"fails on Dict\(.*KeyError: 'c'"),
        ("TwoArguments", r"cannot be made for Dict\(.*TypeError: .*'width'"),
    ],
)
def test_what_is_wrong_with_an_encoder_of_ones_own_is_said(own, name, message):
    with pytest.raises(UserError, match=message):
        made(OWN_SPACE, encoder=own(name))


def test_a_file_without_a_class_or_without_being_there_is_refused(own):
    path = own("").removesuffix(":")
    with pytest.raises(UserError, match=r"name the one that is meant, as in .*my_encoders\.py:"):
        made(OWN_SPACE, encoder=path)
    with pytest.raises(UserError, match=r"there is no file .*Did you mean .*my_encoders\.py\?"):
        made(OWN_SPACE, encoder=path.replace("encoders", "encoder") + ":Own")
