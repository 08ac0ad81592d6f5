"""One vector for all parameters: what it is part of, and that it follows every change of the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from agents.core.tracing import Tracer
from agents.learning.parameters import FlatParameters, clipped
from envs.errors import UserError
from tests.algos.making import weights
from tests.learning.test_optimizer import network, squares


def test_the_network_and_the_vector_are_one():
    plain, net = network(), network()
    flat = FlatParameters(net)
    assert flat.vector.shape == (3 * 5 + 5 + 5 * 2 + 2,)
    x = torch.randn(4, 3)
    assert net(x).equal(plain(x))
    flat.vector.zero_()
    assert not net(x).any()
    net.load_state_dict(plain.state_dict())
    assert flat.vector.equal(weights(plain))
    assert not flat.refresh(), "loading weights is no change of structure"
    assert {name: view.shape for name, view in flat.views(flat.vector).items()} == {
        name: parameter.shape for name, parameter in plain.named_parameters()
    }


def test_the_gradient_is_that_of_the_parameters_in_their_order():
    plain, net = network(), network()
    x = torch.randn(4, 3)
    gradient, loss, output = FlatParameters(net).gradient(squares, x)
    squares(plain, x)[0].backward()
    assert gradient.equal(torch.cat([parameter.grad.flatten() for parameter in plain.parameters()]))
    assert output.equal(plain(x).detach())
    assert loss.equal(output.square().sum())
    assert not output.requires_grad
    assert not loss.requires_grad


@pytest.mark.parametrize("max_norm", [0.1, 4.9, 5.1, 1e6])
def test_a_gradient_is_clipped_as_torch_does(max_norm):
    gradient = torch.tensor([3.0, 0.0, -4.0])
    leaf = nn.Parameter(torch.zeros(3))
    leaf.grad = gradient.clone()
    norm = nn.utils.clip_grad_norm_([leaf], max_norm)
    found = clipped(gradient, norm, max_norm)
    torch.testing.assert_close(found, leaf.grad)
    assert found.equal(gradient) == (max_norm > 5), "a smaller one stays as it is"


def test_unused_parameters_get_zeros():
    net = network()
    net.register_parameter("unused", nn.Parameter(torch.ones(4)))
    flat = FlatParameters(net)
    gradient, _, _ = flat.gradient(squares, torch.randn(4, 3))
    views = flat.views(gradient)
    assert not views["unused"].any()
    assert views["0.weight"].any()


def test_what_is_noted_is_noted_once_where_a_parameter_is_unused():
    counts = []
    for unused in (False, True):
        net = network()
        if unused:
            net.register_parameter("unused", nn.Parameter(torch.ones(4)))
        flat = FlatParameters(net)
        with Tracer() as tracer:
            flat.gradient(squares, torch.randn(4, 3))
        counts.append(sum("mm" in str(operation.func) for operation in tracer.noted))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.double().float(),
        lambda net: setattr(net[0], "weight", nn.Parameter(torch.ones(5, 3))),
        lambda net: net.register_module("2", nn.Linear(5, 7)),
        lambda net: net.append(nn.Linear(2, 2)),
        lambda net: net[0].requires_grad_(False),
        lambda net: net[0].register_forward_hook(lambda *_: None),
        lambda net: net[0].register_forward_pre_hook(lambda *_: None),
        lambda net: net.eval(),
        lambda net: prune.random_unstructured(net[0], "weight", 0.5),
        lambda net: nn.utils.parametrizations.spectral_norm(net[0]),
    ],
    ids=lambda change: "",
)
def test_every_change_is_noticed_once_and_followed(change):
    net = network()
    flat = FlatParameters(net)
    before = flat.version
    change(net)
    assert flat.refresh()
    assert flat.version != before
    assert not flat.refresh()
    assert flat.vector.equal(torch.cat([p.detach().flatten() for p in net.parameters() if p.requires_grad]))
    flat.vector.zero_()
    assert not any(parameter.any() for parameter in net.parameters() if parameter.requires_grad)


def test_a_hook_in_place_of_another_is_a_change():
    net = network()
    handle = net[0].register_forward_hook(lambda *_: None)
    flat = FlatParameters(net)
    handle.remove()
    net[0].register_forward_hook(lambda *_: None)
    assert flat.refresh()


def test_training_mode_for_an_update_is_no_change():
    net = network()
    flat = FlatParameters(net)
    flat.train(False)
    assert not any(module.training for module in net.modules())
    flat.train(True)
    assert not flat.refresh()


@pytest.mark.parametrize("change", [lambda net: net.double(), lambda net: net.half(), lambda net: net[2].bfloat16()])
def test_other_numbers_are_refused_in_words(change):
    net = network()
    flat = FlatParameters(net)
    change(net)
    with pytest.raises(UserError, match=r"parameter .*weight is torch\.\w+: training takes float32 \(network.float"):
        flat.refresh()
    net.float()
    assert flat.refresh()
    assert flat.vector.dtype == torch.float32


def test_nothing_to_train_is_refused_in_words():
    net = network()
    flat = FlatParameters(net)
    net.requires_grad_(False)
    with pytest.raises(UserError, match="no parameter that requires a gradient"):
        flat.refresh()
    with pytest.raises(UserError, match="no parameter that requires a gradient"):
        FlatParameters(net)


def test_scales_follow_the_parameters_and_unknown_names_are_refused():
    net = network()
    flat = FlatParameters(net)
    before = flat.version
    flat.set_scale("2.", 0.5)
    assert flat.version != before
    net[2] = nn.Linear(5, 4)
    flat.refresh()
    assert flat.scale is not None
    assert {name: set(view.flatten().tolist()) for name, view in flat.views(flat.scale).items()} == {
        "0.weight": {1.0},
        "0.bias": {1.0},
        "2.weight": {0.5},
        "2.bias": {0.5},
    }
    with pytest.raises(UserError, match=r"no trainable parameter begins with 'heads'; there are 0\.weight"):
        flat.set_scale("heads", 0.0)


def test_what_is_held_at_zero_stays_there_beside_scales_and_new_layers():
    net = network()
    flat = FlatParameters(net)
    before, where = flat.version, torch.zeros_like(net[0].weight, dtype=torch.bool)
    where[0] = True
    flat.set_scale("0.", 0.5)
    flat.hold_at_zero({"0.weight": where})
    assert flat.version != before
    net[2] = nn.Linear(5, 4)
    flat.refresh()
    assert not net[0].weight[0].any()
    assert net[0].weight[1:].all()
    assert flat.scale is not None
    scale = flat.views(flat.scale)
    assert set(scale["0.weight"][0].tolist()) == {0.0}
    assert set(scale["0.weight"][1:].flatten().tolist()) == {0.5}
    assert set(scale["2.weight"].flatten().tolist()) == {1.0}
