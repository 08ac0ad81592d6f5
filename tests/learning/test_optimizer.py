"""Optimisers on one vector of parameters beside PyTorch's."""

from __future__ import annotations

import re
from typing import get_args

import pytest
import torch
from torch import nn

from agents.core.settings import OptimizerName
from agents.learning.optimizer import Optimizer
from agents.learning.parameters import FlatParameters, clipped
from envs.errors import UserError
from tests.algos.making import weights

KINDS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


@pytest.mark.parametrize(
    ("name", "near"),
    [("adma", " Did you mean adam"), ("SGD", r" Did you mean sgd\?"), ("lion", ""), (None, ""), (["adam"], "")],
)
def test_another_name_is_refused_in_words(name, near):
    message = rf"^optimizer: {re.escape(repr(name))} given, adam\|adamw\|sgd\|rmsprop expected\.{near}"
    with pytest.raises(UserError, match=message):
        made(name)


def test_every_name_that_settings_allow_is_there():
    assert KINDS.keys() == set(get_args(OptimizerName))


def squares(called, x):
    output = called(x)
    return output.square().sum(), output.detach()


def made(name, net=None, eps=1e-8):
    return Optimizer(name, FlatParameters(net or network()), eps)


def take_step(optimizer, gradient, learning_rate=0.01):
    (rates,) = optimizer.rates(learning_rate)
    optimizer.step(gradient, rates)
    optimizer.steps += 1


def random_gradient(optimizer, seed):
    return torch.randn(optimizer.parameters.vector.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", KINDS)
def test_steps_are_those_of_pytorch(name):
    plain, net = network(), network()
    flat = FlatParameters(net)
    optimizer = Optimizer(name, flat, eps=1e-5)
    reference = KINDS[name](plain.parameters(), lr=0.0, **({} if name == "sgd" else {"eps": 1e-5}))
    x = torch.randn(4, 3)
    for learning_rate in (0.01, 0.01, 0.03, 0.0, 0.001):
        reference.param_groups[0]["lr"] = learning_rate
        reference.zero_grad()
        squares(plain, x)[0].backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        reference.step()
        gradient, _, _ = flat.gradient(squares, x)
        take_step(optimizer, clipped(gradient, gradient.norm(), 0.5), learning_rate)
        torch.testing.assert_close(flat.vector, weights(plain), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_scaled_steps_are_those_of_pytorch_with_groups(name):
    plain, net = network(), network()
    optimizer = made(name, net, eps=1e-5)
    optimizer.parameters.set_scale("2.", 0.1)
    optimizer.parameters.set_scale("0.bias", 0.0)
    groups = [([plain[0].weight], 0.01), ([plain[0].bias], 0.0), ([*plain[2].parameters()], 0.001)]
    reference = KINDS[name](
        [{"params": params, "lr": rate} for params, rate in groups], **({} if name == "sgd" else {"eps": 1e-5})
    )
    still = plain[0].bias.detach().clone()
    x = torch.randn(4, 3)
    for _ in range(4):
        reference.zero_grad()
        squares(plain, x)[0].backward()
        reference.step()
        take_step(optimizer, optimizer.parameters.gradient(squares, x)[0])
        torch.testing.assert_close(optimizer.parameters.vector, weights(plain), atol=1e-6, rtol=1e-5)
    assert net[0].bias.equal(still)


def test_rates_of_many_steps_are_those_of_one_after_the_other():
    optimizer = made("adam")
    for row in optimizer.rates(0.1, 4):
        assert optimizer.rates(0.1).equal(row[None])
        optimizer.steps += 1


def test_small_gradients_are_not_scaled_up():
    gradient = torch.tensor([0.3, -0.4])
    torch.testing.assert_close(clipped(gradient, gradient.norm(), 10.0), gradient)
    torch.testing.assert_close(clipped(gradient, gradient.norm(), 0.05), gradient / 10)


@pytest.mark.parametrize("name", KINDS)
def test_a_loaded_optimiser_goes_on_bit_for_bit(name):
    one, other = made(name), made(name)
    for seed in range(3):
        take_step(one, random_gradient(one, seed))
    other.parameters.vector.copy_(one.parameters.vector)
    other.load_state_dict(one.state_dict())
    for seed in range(3, 6):
        for optimizer in (one, other):
            take_step(optimizer, random_gradient(one, seed))
    assert one.parameters.vector.equal(other.parameters.vector)
    assert one.steps == other.steps == 6


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_moments_follow_their_parameters_by_name(name):
    net = network()
    optimizer = made(name, net)
    take_step(optimizer, random_gradient(optimizer, 0))
    before = [{key: view.clone() for key, view in optimizer.parameters.views(m).items()} for m in optimizer.moments]
    net[0].weight.requires_grad_(False)
    net[2] = nn.Linear(5, 4)
    assert optimizer.parameters.refresh()
    optimizer.refresh()
    for moment, old in zip(optimizer.moments, before, strict=True):
        views = optimizer.parameters.views(moment)
        assert views["0.bias"].equal(old["0.bias"])
        assert not views["2.weight"].any()
        assert not views["2.bias"].any()
        assert views.keys() == {"0.bias", "2.weight", "2.bias"}
