"""A saved model is the trained policy: it acts the same, wherever it is loaded from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.core.tree import tree_map
from agents.run.build import build
from agents.run.config import FLAGS, Layer, resolve
from agents.run.folder import RunFolder
from agents.run.models import load_model, load_policy, save_model
from agents.run.training import Training
from agents.run.trees import read_tree, write_tree
from envs.errors import UserError
from tests.run.running import USER_ENVS, train

SIGNS, LEVERS = f"{USER_ENVS}:Signs", f"{USER_ENVS}:Levers"
SMALL: dict[str, Any] = {"net_arch": [8, 8], "n_envs": 2, "device": "cpu"}
PPO_SMALL = SMALL | {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
DQN_SMALL = SMALL | {"algo": "dqn", "learning_starts": 16, "batch_size": 8}
CASES: dict[str, dict[str, Any]] = {
    "ppo": PPO_SMALL | {"env": "CartPole-v1", "norm_obs": True, "norm_reward": True},
    "ppo dict": PPO_SMALL | {"env": SIGNS, "norm_obs": True, "shared_torso": True},
    "ppo multidiscrete": PPO_SMALL | {"env": LEVERS, "activation": "elu"},
    "ppo box": PPO_SMALL | {"env": "Pendulum-v1", "state_dependent_std": True},
    "ppo squashed": PPO_SMALL | {"env": "Pendulum-v1", "squash_output": True},
    "dqn": DQN_SMALL | {"env": "CartPole-v1"},
    "dqn dict": DQN_SMALL | {"env": SIGNS, "norm_obs": True},
}


def trained(values: dict[str, Any]) -> Training:
    training = build(resolve([Layer(FLAGS, values)], packaged=False))
    for iteration in training.iterations():
        if iteration.step >= 64:
            return training
    raise AssertionError("the budget is larger than that")


@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_a_loaded_model_acts_as_the_trained_one(values: dict[str, Any], tmp_path: Path) -> None:
    training = trained(values)
    policy, obs = training.policy, training.collector.state.obs
    save_model(tmp_path, training.algorithm.model, training.config, training.env.own_spaces, 64)
    loaded = load_model(tmp_path, "x", trust=True)
    for deterministic in (True, False):
        actions = [
            one.predict(obs, deterministic=deterministic, generator=torch.Generator().manual_seed(3))[0]
            for one in (policy, loaded.policy)
        ]
        np.testing.assert_array_equal(*actions)
    carry = policy.initial_carry(training.env.num_envs)
    outputs = [one.inspect(obs, carry) for one in (policy, loaded.policy)]
    assert outputs[0].keys() == outputs[1].keys()
    assert all(torch.equal(value, outputs[1][name]) for name, value in outputs[0].items())
    assert (loaded.observation_space, loaded.action_space) == (
        training.env.observation_space,
        training.env.action_space,
    )
    assert (loaded.config, loaded.step, loaded.path, loaded.name) == (training.config, 64, tmp_path, "x")
    assert (loaded.env, loaded.algo, loaded.seed) == (values["env"], values.get("algo", "ppo"), 0)
    assert loaded.rescale_action is bool(values.get("squash_output"))
    assert type(loaded.policy) is type(policy)


def test_statistics_are_frozen_in_a_loaded_model(tmp_path: Path) -> None:
    training = trained(CASES["ppo"])
    save_model(tmp_path, training.algorithm.model, training.config, training.env.own_spaces, 64)
    loaded = load_model(tmp_path, "x", trust=True)
    before = {name: value.clone() for name, value in loaded.policy.model.state_dict().items()}  # type: ignore
    assert any("count" in name and value > 0 for name, value in before.items()), "statistics travel with the model"
    far = tree_map(lambda leaf: leaf + 100, training.collector.state.obs)
    assert np.isfinite(loaded.policy.predict(far, deterministic=False)[0]).all()
    for name, value in loaded.policy.model.state_dict().items():  # type: ignore
        assert torch.equal(value, before[name]), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = "--env CartPole-v1 --env-kwargs max_episode_steps=25 --n-envs 2 --n-steps 16 --batch-size 16 -n 128"
    evaluated = "--eval-freq 64 --eval-episodes 2 --final-eval-episodes 0 --save-freq 32 --target-reward none"
    return train(tmp_path_factory.mktemp("finished"), f"{words} {evaluated}")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_runs_policies_by_name(run: Path) -> None:
    best = read_tree(run / "best", "model")[1]["step"]
    for name, step, folder in (
        ("best", best, run / "best"),
        ("latest", 128, run),
        ("32", 32, run / "checkpoints" / "000000000032"),
        ("96", 96, run / "checkpoints" / "000000000096"),
    ):
        loaded = load_policy(run, name)
        assert (loaded.name, loaded.step, loaded.path) == (name, step, folder)
    with pytest.raises(UserError, match="no checkpoint '48'; there are best, latest, 32, 64, 96, 128"):
        load_policy(run, "48")
    with pytest.raises(UserError, match="Did you mean latest"):
        load_policy(run, "latst")
    assert [step for step, _ in RunFolder(run).checkpoints()] == [32, 64, 96, 128]


def test_a_model_outside_a_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "best", tmp_path / "alone")
    for path in (tmp_path / "alone", tmp_path / "alone" / "model.json", tmp_path / "alone" / "model.safetensors"):
        assert load_policy(path).path == tmp_path / "alone"
    assert load_policy(run / "best").path == run / "best"
    with pytest.raises(UserError, match="is no run folder"):
        load_policy(tmp_path)


def test_what_is_loaded_where_a_run_was_killed(run: Path) -> None:
    """Its checkpoints may be newer than its model, or all there is, and there may be no best."""
    (_, first), *rest = RunFolder(run).checkpoints()
    for name in ("model.json", "model.safetensors"):
        shutil.copy(first / name, run / name)
    assert (load_policy(run, "latest").step, load_policy(run, "latest").name) == (128, "latest")
    for _, folder in rest:
        shutil.rmtree(folder)
    assert load_policy(run, "latest").path == run
    (run / "model.json").unlink()
    assert load_policy(run, "latest").path == first
    shutil.rmtree(run / "best")
    assert (load_policy(run).path, load_policy(run).name) == (first, "latest")
    shutil.rmtree(first)
    with pytest.raises(UserError, match="has saved no model yet"):
        load_policy(run)


def test_a_model_is_two_files_and_no_pickle(run: Path) -> None:
    for folder in (run, run / "best"):
        weights, description = (folder / "model.safetensors").read_bytes(), (folder / "model.json").read_text()
        header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
        assert all(entry["dtype"] in ("F32", "F64") for name, entry in header.items() if name != "__metadata__")
        assert json.loads(description)["meta"]["config"]["env"] == "CartPole-v1"


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "not a model description this version can read"),
        ({"config": []}, "the configuration is a list"),
        ({"step": "x"}, "not a model description"),
        ({"observation_space": {"type": "Box"}}, "not the description of a space"),
        ({"observation_space": {"type": "Discrete", "n": 5}}, "the weights do not fit model.json"),
        ({"action_space": {"type": "Discrete", "n": 3}}, "the weights do not fit model.json"),
        ({"action_space": {"type": "Dict", "spaces": {}}}, "not the description of a space"),
    ],
)
def test_a_description_is_not_trusted(meta: dict[str, Any], message: str, run: Path) -> None:
    weights, whole = read_tree(run, "model")
    write_tree(run, "model", weights, {**whole, **meta} if meta else {})
    with pytest.raises(UserError, match=message):
        load_policy(run, "latest")
    write_tree(run, "model", dict(list(weights.items())[1:]), whole)
    with pytest.raises(UserError, match=r"model.safetensors: the weights do not fit model.json: .*Missing key"):
        load_policy(run, "latest")
