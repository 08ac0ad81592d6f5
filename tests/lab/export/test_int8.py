"""Weights in bytes: what they are, what they cost, and that the files act as the rounded policy does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from agents.export import main
from agents.lab.export.c import c_program, c_runner, write_c
from agents.lab.export.check import check
from agents.lab.export.int8 import Bytes, in_bytes
from agents.lab.export.module import Exported
from agents.lab.export.web import web_runner, write_web
from tests.lab.export.test_export import ABOUT, CASES, needs_cc, policy
from tests.marks import long_test
from tests.run.test_models import DQN_SMALL, PPO_SMALL


def test_a_layers_weights_are_whole_multiples_of_a_factor_of_each_output():
    layer = nn.Linear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -0.25], [0.0, 0.0], [-6.35, 2.0]]))
    made = Bytes(layer)
    assert made.weight.tolist() == [[127, -32], [0, 0], [-127, 40]]
    assert made.scale.tolist() == pytest.approx([1 / 127, 1.0, 0.05])
    x = torch.tensor([[1.0, 2.0]])
    wanted = torch.tensor([127 / 127 - 64 / 127, 0.0, -6.35 + 4.0]) + layer.bias
    assert torch.allclose(made(x)[0], wanted, atol=1e-6)


def test_no_weight_is_farther_off_than_half_a_step():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    made, x = Bytes(layer), torch.randn(2, 3, 8, 8)
    step = made.scale.view(-1, 1, 1, 1)
    assert ((made.weight * step - layer.weight).abs() <= step / 2 + 1e-7).all()
    bound = nn.functional.conv2d(x.abs(), (step / 2).expand_as(layer.weight), None, 2, 1)
    assert ((made(x) - layer(x)).abs() <= bound + 1e-5).all()


@needs_cc
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(PPO_SMALL | {"env": "Bricks-v0", "encoder": "small"}, id="convolutions", marks=long_test),
        pytest.param(CASES["rescaled Box"], id="continuous", marks=long_test),
        pytest.param(DQN_SMALL | {"env": "CartPole-v1", "layer_norm": True}, id="normalised layers"),
    ],
)
def test_a_header_acts_as_the_rounded_policy(values, tmp_path: Path) -> None:
    loaded = policy(values, tmp_path / "model")
    before = {name: tensor.clone() for name, tensor in loaded.policy.model.state_dict().items()}
    rounded, count, total = in_bytes(loaded)
    assert 0 < count < total
    exported, path = Exported(rounded), tmp_path / "policy.h"
    write_c(exported, ABOUT, path)
    runner = c_runner(exported, path)
    assert runner is not None
    found = check(exported, runner, rounded, 100, 4, lambda done, total: None)
    assert found.differing == 0
    assert found.largest < 1e-5
    assert "static const int8_t" in path.read_text()
    assert all(tensor.equal(before[name]) for name, tensor in loaded.policy.model.state_dict().items())
    assert c_program(exported).held < 0.7 * c_program(Exported(loaded)).held


@needs_cc
def test_constants_are_counted_of_what_acts_alone(tmp_path: Path) -> None:
    loaded = policy(PPO_SMALL | {"env": "CartPole-v1"}, tmp_path / "model")
    weights, outputs = 4 * 8 + 8 * 8 + 8 * 2, 8 + 8 + 2
    assert c_program(Exported(loaded)).held == 4 * (weights + outputs) + 8  # and the first action
    assert c_program(Exported(in_bytes(loaded)[0])).held == weights + 2 * 4 * outputs + 8


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_a_page_acts_as_the_rounded_policy(tmp_path: Path) -> None:
    rounded, _, _ = in_bytes(policy(PPO_SMALL | {"env": "CartPole-v1"}, tmp_path / "model"))
    exported, path = Exported(rounded), tmp_path / "policy.html"
    write_web(exported, ABOUT, path, rounded)
    runner = web_runner(exported, path)
    assert runner is not None
    assert check(exported, runner, rounded, 100, 4, lambda done, total: None).differing == 0
    assert "Int8Array" in path.read_text()


def test_onnx_in_bytes_is_refused(capsys) -> None:
    assert main(["nowhere", "--int8"]) == 2
    assert "--int8 is for --to c and --to web" in capsys.readouterr().err
