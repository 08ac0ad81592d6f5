"""One vector for all parameters, and optimisers on it beside PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.learning.optim import FlatParameters, Optimizer, clipped

KINDS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


def squares(called, x):
    output = called(x)
    return output.square().sum(), output.detach()


def test_the_network_and_the_vector_are_one():
    plain, net = network(), network()
    flat = FlatParameters(net)
    assert flat.vector.shape == (3 * 5 + 5 + 5 * 2 + 2,)
    x = torch.randn(4, 3)
    assert net(x).equal(plain(x))
    flat.vector.zero_()
    assert not net(x).any()
    net.load_state_dict(plain.state_dict())
    assert flat.vector.equal(torch.cat([parameter.detach().flatten() for parameter in plain.parameters()]))
    assert {name: view.shape for name, view in flat.views(flat.vector).items()} == {
        name: parameter.shape for name, parameter in plain.named_parameters()
    }


def test_the_gradient_is_that_of_the_parameters_in_their_order():
    plain, net = network(), network()
    x = torch.randn(4, 3)
    gradient, output = FlatParameters(net).gradient(squares, x)
    squares(plain, x)[0].backward()
    assert gradient.equal(torch.cat([parameter.grad.flatten() for parameter in plain.parameters()]))
    assert output.equal(plain(x).detach())
    assert not output.requires_grad


@pytest.mark.parametrize("name", KINDS)
def test_steps_are_those_of_pytorch(name):
    plain, net = network(), network()
    flat = FlatParameters(net)
    optimizer = Optimizer(name, flat.vector, eps=1e-5)
    reference = KINDS[name](plain.parameters(), lr=0.0, **({} if name == "sgd" else {"eps": 1e-5}))
    x = torch.randn(4, 3)
    for learning_rate in (0.01, 0.01, 0.03, 0.0, 0.001):
        reference.param_groups[0]["lr"] = learning_rate
        reference.zero_grad()
        squares(plain, x)[0].backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        reference.step()
        gradient, _ = flat.gradient(squares, x)
        (rates,) = optimizer.rates(learning_rate)
        optimizer.step(clipped(gradient, 0.5), rates)
        optimizer.steps += 1
        expected = torch.cat([parameter.detach().flatten() for parameter in plain.parameters()])
        torch.testing.assert_close(flat.vector, expected, atol=1e-6, rtol=1e-5)


def test_rates_of_many_steps_are_those_of_one_after_the_other():
    optimizer = Optimizer("adam", torch.zeros(3), eps=1e-8)
    many = optimizer.rates(0.1, 4)
    for row in many:
        assert optimizer.rates(0.1).equal(row[None])
        optimizer.steps += 1


def test_small_gradients_are_not_scaled_up():
    gradient = torch.tensor([0.3, -0.4])
    torch.testing.assert_close(clipped(gradient, 10.0), gradient)
    torch.testing.assert_close(clipped(gradient, 0.05), gradient / 10)


@pytest.mark.parametrize("name", KINDS)
def test_a_loaded_optimiser_goes_on_bit_for_bit(name):
    def step(optimizer, seed):
        (rates,) = optimizer.rates(0.01)
        optimizer.step(torch.randn(6, generator=torch.Generator().manual_seed(seed)), rates)
        optimizer.steps += 1

    one, other = (Optimizer(name, torch.ones(6), eps=1e-8) for _ in range(2))
    for seed in range(3):
        step(one, seed)
    other.vector.copy_(one.vector)
    other.load_state_dict(one.state_dict())
    for seed in range(3, 6):
        step(one, seed)
        step(other, seed)
    assert one.vector.equal(other.vector)
    assert one.steps == other.steps == 6


def test_an_unknown_name_is_refused():
    with pytest.raises(KeyError, match="adamax"):
        Optimizer("adamax", torch.zeros(1), 1e-8)
