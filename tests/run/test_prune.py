"""Fewer weights: which, that they stay away, and what is kept as the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.prune import main
from agents.run.config import Layer
from agents.run.models import LoadedPolicy, load_policy
from agents.run.prune import Pruning, prune, pruned, smaller
from agents.train import main as train_command
from envs.errors import UserError
from tests.run.running import assert_same, evaluations
from tests.run.test_distil import teacher
from tests.run.test_models import DQN_SMALL, PPO_SMALL

PPO = PPO_SMALL | {"env": "CartPole-v1", "norm_obs": True, "eval_episodes": 2, "final_eval_episodes": 0}
DQN = DQN_SMALL | {"env": "CartPole-v1", "eval_episodes": 2, "final_eval_episodes": 0}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    """A run of PPO's, to be read alone."""
    return teacher(PPO, tmp_path_factory.mktemp("before"))


def zeros(loaded: LoadedPolicy) -> tuple[int, int]:
    """Return how many of the layers' weights are 0, and how many there are."""
    weights = [p for name, p in loaded.policy.model.named_parameters() if name.endswith("weight") and p.ndim == 2]
    return sum(int((weight == 0).sum()) for weight in weights), sum(weight.numel() for weight in weights)


@pytest.mark.parametrize("values", [PPO, DQN], ids=["ppo", "dqn"])
def test_weights_that_went_stay_at_zero_and_the_best_has_as_few(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = teacher(values, tmp_path / "before")
    evaluations({"evaluation": [float(score) for score in range(100, 0, -1)]}, monkeypatch)  # the first is the best
    how: dict[str, Any] = {
        "finetune": 640,
        "settings": [Layer("prune", {"eval_freq": 64})],
        "runs_dir": tmp_path / "runs",
    }
    run = Path(prune(loaded, 0.75, quiet=True, **how).run)
    best, last = load_policy(run, "best", trust=True), load_policy(run, "latest", trust=True)
    for one in (best, last):
        count, total = zeros(one)
        assert count == round(0.75 * total)
    assert 320 <= best.step < last.step
    was, now = (one.policy.model.state_dict() for one in (loaded, last))
    moved = [name for name in was if name.endswith("bias") and not was[name].equal(now[name])]
    assert moved
    origin = json.loads((run / "origin.json").read_text())
    assert (origin["how"], origin["method"], origin["sparsity"]) == ("pruning", "magnitude", 0.75)


def test_without_training_only_the_least_change(tmp_path: Path) -> None:
    loaded = teacher(DQN, tmp_path / "before")
    training = pruned(loaded, 0.5, "magnitude", 0)
    try:
        assert isinstance(training, Pruning)
        assert list(training.iterations()) == []
        was, now = loaded.policy.model.state_dict(), training.algorithm.model.state_dict()
        assert_same(dict(training.algorithm.target.state_dict()), dict(now))
        for name, tensor in now.items():
            kept = tensor != 0 if name.endswith("weight") else torch.ones_like(tensor, dtype=torch.bool)
            assert tensor[kept].equal(was[name][kept])
    finally:
        training.env.close()
    run = Path(prune(loaded, 0.5, runs_dir=tmp_path / "runs", quiet=True).run)
    count, total = zeros(load_policy(run, trust=True))
    assert count == total // 2


@pytest.mark.parametrize("values", [PPO, PPO | {"shared_torso": True}, DQN | {"layer_norm": False}])
def test_a_network_without_idle_units_says_the_same(values: dict[str, Any], tmp_path: Path) -> None:
    loaded = teacher(values, tmp_path / "before")
    model = loaded.policy.model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            reads = name.endswith("weight") and ("layers.1" in name or "head" in name)
            if reads:
                parameter[:, ::2] = 0  # half of what they read leads nowhere
    state, shape = smaller(model, 0.75)
    widths = {"pi": [4, 4], "vf": [4, 4]} if "value_torso.layers.0.weight" in state else [4, 4]
    assert shape == {"net_arch": widths}
    training = pruned(loaded, 0.75, "structured", 64)
    try:
        assert sum(p.numel() for p in training.algorithm.model.parameters()) < sum(
            p.numel() for p in model.parameters()
        )
        obs = torch.randn(16, 4)
        mine, theirs = (one.act(obs, ())[0] for one in (training.algorithm.model, model))
        assert torch.allclose(mine, theirs, atol=1e-5)
    finally:
        training.env.close()


def test_layers_are_normalised_over_what_is_left(tmp_path: Path) -> None:
    loaded = teacher(DQN | {"layer_norm": True}, tmp_path / "before")
    state, _ = smaller(loaded.policy.model, 0.75)
    assert state["torso.norms.0.weight"].shape == (4,)
    run = Path(prune(loaded, 0.75, method="structured", runs_dir=tmp_path / "runs", quiet=True).run)
    assert load_policy(run, trust=True).policy.model.torso.layers[1].weight.shape == (4, 4)


def test_the_command_measures_and_the_run_does_not_go_on(before: LoadedPolicy, tmp_path: Path, capsys) -> None:
    words = f"{before.path} --sparsity 0.5 --episodes 3 --runs-dir {tmp_path / 'runs'} --json"
    assert main(words.split()) == 0
    shown = capsys.readouterr()
    assert "run folder" in shown.out
    assert "steps/s" not in shown.out, "no step was made"
    found = json.loads(shown.out.splitlines()[-1])
    assert found["after"]["nonzero"] < 0.6 * found["before"]["nonzero"]
    assert train_command(["--resume", found["run"], "-n", "999", "--quiet", "--no-record"]) == 2
    assert "was made by pruning" in capsys.readouterr().err


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -1.0, float("nan")])
def test_a_part_is_between_none_and_all(sparsity: float, before: LoadedPolicy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a number between 0 and 1 expected"):
        prune(before, sparsity, runs_dir=tmp_path / "runs")


@pytest.mark.parametrize(("words", "seed"), [("", 0), ("--set seed=7", 7), ("--set seed=7 --seed 0", 0)])
def test_a_seed_that_is_set_counts_over_the_default(
    words: str, seed: int, before: LoadedPolicy, tmp_path: Path
) -> None:
    more = ["--episodes", "0", "--quiet", "--runs-dir", str(tmp_path / "runs")]
    assert main([str(before.path), *words.split(), *more]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert load_policy(run, trust=True).config.seed == seed


def test_units_of_other_layers_cannot_be_taken_out(tmp_path: Path) -> None:
    loaded = teacher(DQN | {"dueling": True}, tmp_path / "before")
    with pytest.raises(UserError, match="plain hidden layers before plain heads: use --method magnitude"):
        prune(loaded, 0.5, method="structured", runs_dir=tmp_path / "runs")
