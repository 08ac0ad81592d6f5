"""Optimisers by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.core.optim import make_optimizer, set_learning_rate

KINDS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


@pytest.mark.parametrize("name", KINDS)
def test_each_name_gives_its_optimiser_with_its_settings(name):
    optimizer = make_optimizer(name, [nn.Parameter(torch.ones(3))], learning_rate=0.125, eps=1e-5)
    assert type(optimizer) is KINDS[name]
    (group,) = optimizer.param_groups
    assert group["lr"] == 0.125
    assert group.get("eps", 1e-5) == 1e-5
    assert ("eps" in group) == (name != "sgd")


@pytest.mark.parametrize("name", KINDS)
def test_a_step_is_that_of_the_plain_optimiser(name):
    def trained(optimizer_of):
        parameter = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        optimizer = optimizer_of([parameter])
        for _ in range(3):
            optimizer.zero_grad()
            parameter.square().sum().backward()
            optimizer.step()
        return parameter.detach()

    settings = {"lr": 0.01} if name == "sgd" else {"lr": 0.01, "eps": 1e-5}
    plain = trained(lambda parameters: KINDS[name](parameters, foreach=False, **settings))
    torch.testing.assert_close(trained(lambda p: make_optimizer(name, p, 0.01, 1e-5)), plain)


def test_a_new_learning_rate_holds_from_the_next_step_on():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer("sgd", [parameter], 1.0, 1e-8)
    for learning_rate in (1.0, 0.25, 0.0):
        set_learning_rate(optimizer, learning_rate)
        before = parameter.item()
        optimizer.zero_grad()
        parameter.sum().backward()
        optimizer.step()
        assert parameter.item() == before - learning_rate


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="adamax"):
        make_optimizer("adamax", [nn.Parameter(torch.zeros(1))], 1e-3, 1e-8)
