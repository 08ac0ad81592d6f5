"""Runs that begin with the weights of others: what is loaded, frozen, slowed, kept over a resume, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from safetensors.torch import save_file

from agents import DQN, PPO, load
from agents.algos.dqn.config import DQNConfig
from agents.algos.iql.config import IQLConfig
from agents.algos.sac.config import SACConfig
from agents.core.runtime import Runtime
from agents.networks.target import make_target
from agents.run.folder import RunFolder
from agents.run.transfer import read_weights
from agents.run.trees import read_tree, write_tree
from agents.train import main
from envs.errors import UserError
from tests.algos.making import BOX, make, make_batch, weights
from tests.run.running import assert_same, resume, train

QUIET = "--target-reward none --eval-freq 0 --save-freq 0 --final-eval-episodes 0 --device cpu"
PPO_WORDS = "--env CartPole-v1 --n-envs 2 --n-steps 16 --batch-size 32 --n-epochs 1 --net-arch 8 8 --norm-obs"
PPO_WORDS += " --activation tanh"
DQN_WORDS = "--env CartPole-v1 --algo dqn --n-envs 2 --net-arch 8 8 --learning-starts 20 --batch-size 16 --norm-obs"
SAC_WORDS = "--env Pendulum-v1 --algo sac --net-arch 8 8 --learning-starts 20 --batch-size 16 --norm-obs"
NORM = "encoder.leaves.0.norm"


def state(run: Path) -> dict[str, Any]:
    return read_tree(run, "model")[0]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("source"), f"{PPO_WORDS} {QUIET} -n 96")


@pytest.mark.parametrize(
    ("words", "frozen", "learns"),
    [
        (PPO_WORDS, ["policy_torso", "encoder"], "policy_head.weight"),
        (f"{PPO_WORDS} --norm-value popart", ["value_head"], "policy_head.weight"),
        (DQN_WORDS, ["torso", "encoder"], "head.weight"),
        (SAC_WORDS, ["torso", "critics.layers.0"], "head.weight"),
    ],
)
def test_what_is_frozen_ends_as_it_began(words: str, frozen: list[str], learns: str, tmp_path: Path) -> None:
    before = train(tmp_path / "source", f"{words} {QUIET} -n 96")
    after = train(tmp_path / "new", f"{words} {QUIET} -n 160 --from {before} --freeze {' '.join(frozen)} --seed 1")
    was, now = state(before), state(after)
    held = [name for name in was if any(name == part or name.startswith(f"{part}.") for part in frozen)]
    assert len(held) >= 2
    assert_same({name: was[name] for name in held}, {name: now[name] for name in held})
    assert not was[learns].equal(now[learns])
    origin = json.loads((after / "origin.json").read_text())
    assert origin["from"] == str(before.absolute())
    assert origin["frozen"] == frozen
    assert all(row["loaded"] for row in origin["layers"])


def test_what_began_elsewhere_goes_on_bit_for_bit_without_it(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    words = f"{PPO_WORDS} {QUIET} --from {copy} --freeze value_torso --reset policy_head --lr-scale policy_torso=0.25"
    words += " --schedule-total 192"
    whole = train(tmp_path / "whole", f"{words} -n 192")
    half = train(tmp_path / "half", f"{words} -n 96")
    shutil.rmtree(copy)
    resume(half, "-n 192")
    assert_same(state(whole), state(half))


def test_a_part_learns_at_its_own_rate(source: Path, tmp_path: Path) -> None:
    words = f"{PPO_WORDS} {QUIET} -n 32 --optimizer sgd --learning-rate 100 --from {source}"
    was, plain = state(source), state(train(tmp_path / "plain", words))
    scaled = state(train(tmp_path / "scaled", f"{words} --lr-scale policy_torso=0.25 value_head=0"))
    for name in (f"policy_torso.layers.{i}.weight" for i in range(2)):
        moved, less = plain[name] - was[name], scaled[name] - was[name]
        assert moved.abs().max() > 1e-4
        assert torch.allclose(less, 0.25 * moved, rtol=1e-3, atol=1e-6)
    assert scaled["value_head.weight"].equal(was["value_head.weight"])
    assert torch.allclose(scaled["policy_head.weight"], plain["policy_head.weight"], atol=1e-5)


def test_of_another_environment_what_fits_is_loaded(source: Path, tmp_path: Path, capsys) -> None:
    places = ["--runs-dir", str(tmp_path), "--no-record"]
    words = PPO_WORDS.replace("CartPole", "Acrobot")
    assert main([*f"{words} {QUIET} -n 32 --learning-rate 0 --from {source}".split(), *places]) == 0
    said = capsys.readouterr().out
    (run,) = tmp_path.iterdir()
    was, now = state(source), state(run)
    assert now["policy_torso.layers.1.weight"].equal(was["policy_torso.layers.1.weight"])
    assert "policy_torso.layers.0  new: weight is 8 x 4 there, 8 x 6 here" in said
    assert "policy_torso.layers.1  loaded" in said
    assert f"{NORM}  new: mean is 4 there, 6 here" in said


def test_a_network_of_values_takes_what_decides_in_a_policy(source: Path, tmp_path: Path, capsys) -> None:
    was, said = state(source), []
    for activation in ("tanh", "relu"):
        words = f"{DQN_WORDS} {QUIET} -n 32 --learning-starts 32 --learning-rate 0 --activation {activation}"
        places = ["--runs-dir", str(tmp_path / activation), "--no-record"]
        assert main([*f"{words} --from {source}".split(), *places]) == 0
        said.append(capsys.readouterr().out)
        (run,) = (tmp_path / activation).iterdir()
        now = state(run)
        assert {name for name in now if not name.startswith("encoder")} > {"head.weight", "torso.layers.1.weight"}
        for name in (name for name in now if not name.startswith("encoder")):
            assert now[name].equal(was[f"policy_{name}"]), name
        assert all(row["loaded"] for row in json.loads((run / "origin.json").read_text())["layers"])
        assert "policy_torso there is torso here, policy_head there is head here" in " ".join(said[-1].split())
    assert ["activation is tanh there and relu here" in " ".join(text.split()) for text in said] == [False, True]


def test_a_dry_run_names_the_parts_and_loads(source: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("agents.run.dry.SECONDS", 0.0)
    places = ["--runs-dir", str(tmp_path / "runs"), "--dry-run"]
    assert main([*f"{PPO_WORDS} -n 64 --device cpu --from {source}".split(), *places]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "encoder, policy_torso, value_torso, policy_head, value_head" in said
    assert "policy_head loaded" in said


ENCODER = """
from torch import nn


class Seen(nn.Module):
    def __init__(self, space):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))
        self.features = 5

    def forward(self, obs):
        return self.backbone(obs)
"""


def test_weights_of_another_program_reach_the_part_they_fit(tmp_path: Path) -> None:
    (tmp_path / "seen.py").write_text(ENCODER)
    backbone = {"0.weight": torch.randn(6, 4), "0.bias": torch.randn(6), "2.weight": torch.randn(5, 6)}
    backbone |= {"2.bias": torch.randn(5)}
    named = {f"model.{name}": tensor for name, tensor in backbone.items()} | {"classifier.weight": torch.zeros(9, 5)}
    folder = tmp_path / "hub"
    folder.mkdir()
    shards = {"model-1.safetensors": list(named)[:2], "model-2.safetensors": list(named)[2:]}
    for file, names in shards.items():
        save_file({name: named[name] for name in names}, folder / file)
    index = {"weight_map": {name: file for file, names in shards.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file(named, tmp_path / "one.safetensors")
    words = f"--env CartPole-v1 --n-envs 2 --n-steps 16 --batch-size 32 --encoder {tmp_path / 'seen.py'}:Seen {QUIET}"
    for place in (folder, tmp_path / "one.safetensors"):
        run = train(tmp_path / place.stem, f"{words} -n 64 --from {place} --freeze encoder")
        found = state(run)
        (first,) = [name for name in found if name.endswith("backbone.0.weight")]
        assert found[first].equal(backbone["0.weight"])
        assert "classifier.weight" in json.loads((run / "origin.json").read_text())["unused"][0]


def test_a_checkpoint_and_a_file_of_a_run_are_runs(source: Path) -> None:
    (_, folder) = RunFolder(source).checkpoints()[-1]
    for place in (folder, source / "model.safetensors", source / "model.json", source):
        found = read_weights(place)
        assert found.own
        assert found.step == 96
    assert read_weights(source).name == "latest"


def hostile_index(folder: Path, content: Any) -> Path:
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda at: at / "nothing", "is not there: a run folder"),
        (lambda at: (at / "x.zip").write_bytes(b"PK") and at / "x.zip", "x.zip is none: a run folder"),
        (lambda at: (at / "x.safetensors").write_bytes(b"no") and at / "x.safetensors", "malformed"),
        (lambda at: at, "holds no weights, but nothing"),
        (lambda at: hostile_index(at / "a", {"weight_map": {"x": "../x.safetensors"}}), "must name files beside it"),
        (lambda at: hostile_index(at / "b", {"weight_map": ["x"]}), "must name files beside it"),
        (lambda at: hostile_index(at / "c", {"weight_map": {"x": "model-1.safetensors"}}), "cannot read"),
    ],
)
def test_what_cannot_be_read_is_said(make: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_weights(make(tmp_path))


def test_too_many_tensors_and_spoilt_ones_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("agents.run.transfer.MOST_TENSORS", 3)
    save_file({f"x{i}": torch.zeros(1) for i in range(4)}, tmp_path / "many.safetensors")
    monkeypatch.setattr("agents.run.trees.MOST_HEADER", 50)
    with pytest.raises(UserError, match=r"its header is \d+ bytes long, at most 50 expected"):
        read_weights(tmp_path / "many.safetensors")
    monkeypatch.setattr("agents.run.trees.MOST_HEADER", 2**22)
    with pytest.raises(UserError, match="holds 4 tensors, and at most 3"):
        read_weights(tmp_path / "many.safetensors")
    model = PPO("CartPole-v1", net_arch=[4])
    spoilt = model.get_parameters()["policy"]
    spoilt["policy_head.weight"][0, 0] = torch.nan
    with pytest.raises(UserError, match=r"policy_head.weight holds NaN"):
        model.set_parameters(spoilt)
    model.close()


def test_tensors_of_types_that_are_not_read_and_whole_numbers_as_names(tmp_path: Path) -> None:
    model = PPO("CartPole-v1", net_arch=[4])
    own = model.get_parameters()["policy"]
    with pytest.raises(UserError, match=r"\w+ is float8_e4m3fn, which is not read"):
        model.set_parameters({name: tensor.to(torch.float8_e4m3fn) for name, tensor in own.items()})
    halves = torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    with pytest.raises(UserError, match=r"policy_torso.layers.0.bias is float4_e2m1fn_x2, which is not read"):
        model.set_parameters(own | {"policy_torso.layers.0.bias": halves})
    with pytest.raises(UserError, match="tensors by name expected"):
        model.set_parameters(dict(enumerate(own.values())))
    model.close()
    write_tree(tmp_path, "model", {0: torch.zeros(2), "a": torch.ones(2)}, {"step": 3})
    assert list(read_weights(tmp_path).tensors) == ["a"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--freeze policy_tors", "freeze: the network has no part 'policy_tors'"),
        ("--reset policy_head", "give pretrained (--from)"),
        ("--lr-scale policy_head", "must be PART=FACTOR"),
        ("--lr-scale policy_head=-1", "out of range"),
        ("--from nowhere", "nowhere is not there"),
    ],
)
def test_mistakes_of_flags(words: str, said: str, tmp_path: Path, capsys) -> None:
    places = ["--runs-dir", str(tmp_path), "--no-record", "--quiet"]
    assert main([*f"{PPO_WORDS} {QUIET} -n 32 {words}".split(), *places]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


SMALL: dict[str, Any] = {
    "n_envs": 2,
    "net_arch": [8],
    "device": "cpu",
    "learning_starts": 20,
    "train_freq": 8,
    "batch_size": 16,
}


def test_from_python_a_model_begins_with_a_run(source: Path, tmp_path: Path) -> None:
    small = {"n_envs": 2, "n_steps": 16, "batch_size": 32, "net_arch": [8, 8], "norm_obs": True, "device": "cpu"}
    model = PPO("CartPole-v1", pretrained=source, freeze=["policy_torso"], seed=3, **small)
    assert_same(model.get_parameters()["policy"], state(source))
    model.learn(64, quiet=True, runs_dir=tmp_path)
    now = model.get_parameters()["policy"]
    assert now["policy_torso.layers.0.weight"].equal(state(source)["policy_torso.layers.0.weight"])
    assert not now["policy_head.weight"].equal(state(source)["policy_head.weight"])
    (run,) = tmp_path.iterdir()
    assert json.loads((run / "origin.json").read_text())["how"] == "transfer"
    model.close()


def test_parameters_are_set_as_sb3_sets_them(tmp_path: Path) -> None:
    one, other = DQN("CartPole-v1", seed=1, **SMALL), DQN("CartPole-v1", seed=2, **SMALL)
    given = one.get_parameters()
    other.set_parameters(given)
    assert_same(other.get_parameters(), given)
    training = other._training
    assert training is not None
    assert_same(dict(training.algorithm.target.state_dict()), given["policy"])
    other.learn(64, quiet=True)
    assert given["policy"]["head.weight"].equal(one.get_parameters()["policy"]["head.weight"])
    del given["policy"]["head.bias"]
    with pytest.raises(UserError, match=r"head.bias is not there; exact_match=False"):
        other.set_parameters(given)
    other.set_parameters(given, exact_match=False)
    found = other.get_parameters()["policy"]
    assert found["torso.layers.0.weight"].equal(given["policy"]["torso.layers.0.weight"])
    assert not found["head.weight"].equal(given["policy"]["head.weight"])
    wide = DQN("CartPole-v1", n_envs=2, net_arch=[9], device="cpu").get_parameters()
    with pytest.raises(UserError, match=r"torso.layers.0.weight has shape \[9, 4\], and \[8, 4\]"):
        other.set_parameters(wide)
    with pytest.raises(UserError, match="tensors by name expected"):
        other.set_parameters({"policy": [1]})
    one.save(tmp_path / "one")
    again = load(tmp_path / "one")
    again.set_parameters(tmp_path / "one")
    assert_same(again.get_parameters(), one.get_parameters())
    one.close()
    other.close()


@pytest.mark.parametrize("kind", [DQNConfig, SACConfig, IQLConfig], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("another_target", [False, True])
def test_what_repeats_an_update_reads_the_target_that_is_there_now(kind: Any, another_target: bool) -> None:
    """Other weights under way: the update noted before goes on with the target's, whether it is a new module or not."""
    config = kind.model_validate({"net_arch": (16,), "optimizer": "sgd", "learning_rate": 0.05, "tau": 0.5})
    space = spaces.Discrete(4) if kind is DQNConfig else BOX
    batch = make_batch()
    if space is BOX:
        batch = batch._replace(action=torch.rand(32, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    found = []
    for mode in ("off", "numpy"):
        made = make(config, space, runtime=Runtime(mode))
        made.update(batch)
        target = made.algorithm.target
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in [*made.model.parameters(), *target.parameters()]:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
            next(target.parameters()).fill_(torch.nan)  # a copy leaves nothing of what was there
        if another_target:
            made.algorithm.target = make_target(made.model if kind is DQNConfig else made.model.critics)
            made.algorithm.follow_model()
        else:
            made.algorithm.copy_model()
            assert made.algorithm.target is target
        for _ in range(3):
            made.update(batch)
            if kind is DQNConfig:
                made.algorithm.update_target()
        found.append(torch.cat([weights(made.model), weights(made.algorithm.target)]))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
