"""Parts of a network by name: held still, slowed, and given the weights of another network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from agents.core.config import ActorCriticConfig
from agents.networks import parts as module
from agents.networks.models import ActorCritic
from agents.networks.parts import begin_with, hold_still, parts, renamed, scales
from envs.errors import UserError

ACTIONS = spaces.Discrete(3)


def network(inputs: int = 4, seed: int = 0) -> ActorCritic:
    torch.manual_seed(seed)
    config = ActorCriticConfig(net_arch=(8, 8), norm_obs=True)
    return ActorCritic(spaces.Box(-1, 1, (inputs,), np.float32), ACTIONS, config)


def layer_equal(one: nn.Module, other: nn.Module, name: str) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    names = [each for each in mine if each.rpartition(".")[0] == name]
    assert names
    return all(mine[each].shape == theirs[each].shape and mine[each].equal(theirs[each]) for each in names)


def test_parts_are_modules_and_parameters():
    found = parts(network())
    assert [name for name in found if "." not in name] == [
        *("encoder", "policy_torso", "value_torso", "policy_head", "value_head")
    ]
    assert {"policy_torso.layers.1", "policy_torso.layers.1.weight", "encoder.leaves.0.norm"} <= set(found)


def test_a_layer_is_taken_whole_or_not_at_all():
    here, there = network(6), network(4, seed=1)
    there.encoder.update_statistics(torch.randn(16, 4))
    before = {name: tensor.clone() for name, tensor in here.state_dict().items()}
    rows = {row.part: row for row in begin_with(here, there.state_dict(), ["value_head"])}
    assert not rows["policy_torso.layers.0"].loaded
    assert rows["policy_torso.layers.0"].why == "weight is 8 x 4 there, 8 x 6 here"
    assert here.state_dict()["policy_torso.layers.0.bias"].equal(before["policy_torso.layers.0.bias"])
    assert rows["encoder.leaves.0.norm"].why == "mean is 4 there, 6 here"
    assert int(here.state_dict()["encoder.leaves.0.norm.count"]) == 0  # no count of rows that are not in the mean
    assert rows["value_head"].why == "reset (value_head)"
    assert here.value_head.weight.equal(before["value_head.weight"])
    for layer in ("policy_torso.layers.1", "value_torso.layers.1", "policy_head"):
        assert rows[layer].loaded
        assert layer_equal(here, there, layer)
    assert rows["policy_torso.layers.1"].parameters == 8 * 8 + 8


def test_statistics_are_taken_too_or_reset():
    there = network(seed=1)
    there.encoder.update_statistics(torch.randn(16, 4))
    kept, reset = network(), network()
    begin_with(kept, there.state_dict(), [])
    begin_with(reset, there.state_dict(), ["encoder"])
    assert layer_equal(kept, there, "encoder.leaves.0.norm")
    assert layer_equal(reset, network(), "encoder.leaves.0.norm")


def test_part_names_are_whole_words():
    made = network()
    made.policy_head_of_more = nn.Linear(2, 2)
    hold_still(made, ["policy_head"])
    assert made.policy_head_of_more.weight.requires_grad
    assert not made.policy_head.weight.requires_grad
    assert dict(scales(made, {"policy_torso": 0.5, "value_head.bias": 2.0})) == {
        "policy_torso.": 0.5,
        "value_head.bias": 2.0,
    }


def test_frozen_normalisers_take_nothing_in_unless_another_part_has_them_too():
    made = network()
    hold_still(made, ["encoder"])
    made.encoder.update_statistics(torch.randn(16, 4))
    assert layer_equal(made, network(), "encoder.leaves.0.norm")
    both = nn.Module()
    both.one, both.two = network().encoder, nn.Module()
    both.two.norm = both.one.leaves[0].norm
    hold_still(both, ["two"])
    both.one.update_statistics(torch.randn(16, 4))
    assert int(both.one.leaves[0].norm.count) == 16


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda made: hold_still(made, ["policy_tors"]), "freeze: .*no part 'policy_tors'.*Did you mean policy_torso"),
        (lambda made: begin_with(made, made.state_dict(), ["head"]), "reset: .*no part 'head'"),
        (lambda made: list(scales(made, {"heads": 1.0})), "lr_scale: .*no part 'heads'"),
        (lambda made: begin_with(made, {"x": torch.zeros(1)}, []), "none of its layers fits: encoder"),
    ],
)
def test_mistakes_are_said(call, words):
    with pytest.raises(UserError, match=words):
        call(network())


def test_a_rate_for_a_part_that_is_frozen_is_refused():
    made = network()
    hold_still(made, ["policy_torso"])
    with pytest.raises(UserError, match="nothing is trained in 'policy_torso'"):
        list(scales(made, {"policy_torso": 0.1}))


def test_whole_numbers_do_not_become_weights():
    made = network()
    other = {name: tensor.to(torch.int32) for name, tensor in made.state_dict().items() if "head" in name}
    with pytest.raises(UserError, match="none of its layers fits"):
        begin_with(made, other, [])
    half = {name: tensor.half() for name, tensor in made.state_dict().items() if tensor.is_floating_point()}
    begin_with(made, half, [])
    assert made.policy_head.weight.dtype == torch.float32


def test_a_backbone_is_found_by_its_shapes_whatever_its_names_begin_with():
    made, backbone = network(), nn.Module()
    backbone.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8)])
    weights = {f"model.net.{name}": tensor for name, tensor in backbone.state_dict().items()}
    weights["model.classifier.weight"] = torch.zeros(10, 8)
    found, how = renamed(made, weights)
    assert how == "model.net. there is policy_torso here"
    begin_with(made, found, [])
    assert made.policy_torso.layers[1].weight.equal(backbone.layers[1].weight)
    assert renamed(made, made.state_dict())[1] == ""


def test_many_layers_of_another_program_are_gone_through_once(monkeypatch):
    made, looked = network(), []
    weights = {f"blocks.{i}.fc.weight": torch.zeros(8, 8) for i in range(500)}
    weights |= {f"deep.net.{name}": tensor for name, tensor in made.state_dict().items()}
    beginnings = module._beginnings
    monkeypatch.setattr(module, "_beginnings", lambda names: looked.append(1) or beginnings(names))
    found, how = renamed(made, weights)
    assert how == "deep.net. there is the network here"
    assert found.keys() >= made.state_dict().keys()
    assert len(looked) == len(weights) + 1
