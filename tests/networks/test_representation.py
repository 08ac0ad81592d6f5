"""What encoders learn from observations alone, against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gymnasium import spaces

from agents.core.auxiliary import AuxiliaryConfig
from agents.core.config import NetworkConfig
from agents.networks.models import Model
from agents.networks.pictures import find_layout
from agents.networks.representation import (
    SIZE,
    PictureDecoder,
    Reconstruction,
    Representation,
    add_auxiliary,
    auxiliary_loss,
    build_auxiliary,
)
from agents.ops.losses import contrastive_loss
from envs.errors import UserError
from tests.networks.test_curiosity import PICTURE, VECTOR, drawn

BOTH = spaces.Dict({"camera": PICTURE, "place": spaces.Discrete(4), "speed": VECTOR})


def made(space: Any = PICTURE, objective: Any = "autoencoder", tau: float = 0.25, augment: Any = ("shift",)) -> Any:
    torch.manual_seed(0)
    return Representation(space, NetworkConfig(net_arch=(8,)), objective, tau, augment)


@pytest.mark.parametrize("shape", [(5, 7), (10, 10, 3), (3, 33, 40), (84, 84, 4), (2, 25, 96, 3)])
def test_pictures_are_put_together_in_their_own_size(shape: tuple[int, ...]) -> None:
    layout = find_layout(shape)
    assert layout is not None
    decoder = PictureDecoder(6, layout)
    assert decoder(torch.randn(2, 6)).shape == (2, layout.channels, *layout.size)


@pytest.mark.parametrize("space", [VECTOR, PICTURE, BOTH], ids=["vector", "picture", "both"])
def test_the_error_is_in_deviations_of_each_number_and_adds_up_over_arrays(space: Any) -> None:
    auxiliary = Reconstruction(space, "auto", 6)
    obs = drawn(space, 50)
    auxiliary.follow(None, obs)  # type: ignore[arg-type]
    for parameter in auxiliary.decoders.parameters():
        parameter.data.zero_()
    found = auxiliary(torch.randn(50, 6), obs)  # nothing is put together: all is error
    leaves = [obs] if not isinstance(obs, dict) else [obs["camera"], obs["speed"]]
    expected = torch.zeros(50)
    for leaf in leaves:
        x = leaf.float().flatten(1)
        white = (x - x.mean(0)) / x.std(0, unbiased=False)
        expected += white.square().mean(1)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-3)


def test_each_pixel_is_compared_with_its_own_place() -> None:
    auxiliary = Reconstruction(PICTURE, "auto", 6)
    obs = drawn(PICTURE, 4)
    auxiliary.follow(None, obs)  # type: ignore[arg-type]
    picture = auxiliary.whitened(obs).permute(0, 3, 1, 2)  # channels first, as a decoder gives them
    auxiliary.decoders[0] = torch.nn.Identity()
    assert auxiliary(picture, obs).tolist() == [0] * 4
    assert (auxiliary(picture.flip(2), obs) > 0.5).all()


@pytest.mark.parametrize("objective", ["autoencoder", "curl"])
def test_the_encoder_learns(objective: str) -> None:
    model, obs = made(objective=objective), drawn(PICTURE, 16)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(60):
        loss = auxiliary_loss(model.auxiliary, model, {"obs": obs, "augmented": obs})
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
        optimizer.step()
        model.update_statistics(obs)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[1]


def test_keys_follow_slowly_and_get_no_gradient() -> None:
    model, obs = made(objective="curl", tau=0.25), drawn(PICTURE, 6)
    before = [p.clone() for p in model.auxiliary.keys.parameters()]
    auxiliary_loss(model.auxiliary, model, {"obs": obs, "augmented": obs}).backward()
    assert all(p.grad is None for p in model.auxiliary.keys.parameters())
    online = [*model.encoder.parameters(), *model.auxiliary.project.parameters()]
    for p in online:
        p.data += 1.0
    model.update_statistics(obs)
    for was, now in zip(before, model.auxiliary.keys.parameters(), strict=True):
        assert torch.allclose(now, was + 0.25, atol=1e-6)
    model.copy_encoder()
    for mine, now in zip(online, model.auxiliary.keys.parameters(), strict=True):
        assert mine.equal(now)
        assert mine.data_ptr() != now.data_ptr()


def test_the_loss_tells_the_changed_picture_from_those_of_others() -> None:
    model, obs, changed = made(objective="curl"), drawn(PICTURE, 7), drawn(PICTURE, 7, seed=1)
    auxiliary = model.auxiliary
    for p in [*model.encoder.parameters(), *auxiliary.project.parameters()]:
        p.data += 0.01 * torch.randn(p.shape)  # so that keys are another network's
    query = auxiliary.project(model.encoder(changed)) @ auxiliary.bilinear
    expected = contrastive_loss(query, auxiliary.keys(obs)).mean().detach()
    assert auxiliary.keys(obs).shape == (7, SIZE)
    found = auxiliary_loss(auxiliary, model, {"obs": obs, "augmented": changed}).detach()
    assert float(found) == pytest.approx(float(expected), abs=1e-6)
    assert float(found) != pytest.approx(math.log(7), abs=1e-4)


def test_a_replaced_layer_is_copied_whole() -> None:
    model, obs = made(objective="curl"), drawn(PICTURE, 3)
    wide = torch.nn.Sequential(torch.nn.Linear(model.encoder.leaves[0].linear[0].in_features, 128), torch.nn.ELU())
    model.encoder.leaves[0].linear = wide
    model.copy_encoder()
    assert type(model.auxiliary.keys[0].leaves[0].linear[1]) is torch.nn.ELU
    model.update_statistics(obs)


def test_vectors_train_the_hidden_layers_under_every_name_they_have() -> None:
    model = made(VECTOR)
    weights = model.state_dict()
    assert {f"{name}.layers.0.weight" for name in ("torso", "policy_torso", "value_torso")} <= weights.keys()
    assert model(drawn(VECTOR, 5)).shape == (5, 8)
    assert not any("torso" in name for name in made(PICTURE).state_dict())


def test_sequences_and_dummies() -> None:
    model, obs = made(), drawn(PICTURE, 6)
    model.update_statistics(obs)
    valid = torch.tensor([True, True, False, True, True, False])
    expected = model.auxiliary(model(obs), obs)[valid].mean()
    turned = obs.unflatten(0, (3, 2))
    start = torch.zeros(3, 2, dtype=torch.bool)
    found = auxiliary_loss(model.auxiliary, model, {"obs": turned, "start": start, "valid": valid.view(3, 2)})
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_what_is_learnt_beside_has_its_weight() -> None:
    torch.manual_seed(0)
    model, obs = Model(PICTURE, NetworkConfig()), drawn(PICTURE, 6)
    config = AuxiliaryConfig(auxiliary="autoencoder", auxiliary_coef=0.5)
    model.auxiliary = build_auxiliary(PICTURE, config, NetworkConfig(), model, ())
    alone = auxiliary_loss(model.auxiliary, model.encoder, {"obs": obs})
    loss, said = add_auxiliary(torch.tensor(2.0), model, {"obs": obs}, config)
    assert float(loss) == pytest.approx(2 + 0.5 * float(alone))
    assert float(said["auxiliary_loss"]) == pytest.approx(float(alone))
    loss, said = add_auxiliary(torch.tensor(2.0), model, {"obs": obs}, AuxiliaryConfig())
    assert (float(loss), said) == (2, {})


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="--augment crop"):
        made(objective="curl", augment=())
    with pytest.raises(UserError, match="puts numbers together again"):
        made(spaces.Discrete(4))
    model = Model(VECTOR, NetworkConfig())
    with pytest.raises(UserError, match="reads pictures and texts, and there are none"):
        build_auxiliary(VECTOR, AuxiliaryConfig(auxiliary="autoencoder"), NetworkConfig(), model, ())
    assert build_auxiliary(VECTOR, AuxiliaryConfig(), NetworkConfig(), model, ()) is None
