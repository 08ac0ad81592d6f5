"""SB3's tuned settings: every file is for an environment that is there, and builds a model with its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from agents.lab.baselines import make_sb3
from agents.lab.sb3_settings import load_tuned, translate_settings, tuned_settings
from agents.run.config import CONFIGS, FLAGS, Layer, resolve
from agents.run.yaml_files import load_config_file
from envs.errors import UserError

FILES = sorted((CONFIGS / "sb3").glob("*/*.yaml"))
PROMISED = {
    "ppo": "CartPole-v1 Acrobot-v1 MountainCar-v0 LunarLander-v3 Pendulum-v1 MountainCarContinuous-v0 "
    "BipedalWalker-v3 HalfCheetah-v5 Hopper-v5",
    "dqn": "CartPole-v1 Acrobot-v1 MountainCar-v0 LunarLander-v3",
    "sac": "Pendulum-v1 HalfCheetah-v5 Hopper-v5",
    "recurrentppo": "CartPoleNoVel-v1 PendulumNoVel-v1 MountainCarContinuousNoVel-v0",
}


def test_what_is_promised_is_there():
    for algo, names in PROMISED.items():
        assert {file.stem for file in FILES if file.parent.name == algo} == set(names.split())


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(CONFIGS)) for file in FILES])
def test_a_file_builds_a_model_with_its_values(file: Path):
    algo, env = file.parent.name, file.stem
    assert "rl-zoo3" in file.read_text().splitlines()[0]
    if file.stem in ("HalfCheetah-v5", "Hopper-v5"):
        pytest.importorskip("mujoco")
    if algo in ("qrdqn", "recurrentppo"):
        pytest.importorskip("sb3_contrib")
    arguments, budget = load_tuned(file, algo)
    assert tuned_settings(algo, env) == (arguments, budget)
    written = load_config_file(file)
    model = make_sb3(env_id=env, seed=0, **arguments)
    assert budget == written.pop("total_timesteps")
    assert model.n_envs == written.pop("n_envs", 1)
    assert (model.get_vec_normalize_env() is not None) == written.pop("normalize", False)
    networks = written.pop("policy_kwargs", {})
    for name, value in written.items():
        found: Any = getattr(model, name)
        if name == "train_freq":
            found = found.frequency
        if name in ("learning_rate", "clip_range"):
            found = getattr(model, "lr_schedule" if name == "learning_rate" else name)(1.0)
            value = float(str(value).removeprefix("lin_"))
        assert found == value, name
    widths = [layer.out_features for layer in model.policy.modules() if isinstance(layer, torch.nn.Linear)]
    assert set(widths[:2]) == set(networks.get("net_arch", [256, 256] if algo == "sac" else [64, 64]))
    assert (model.policy.activation_fn is torch.nn.ReLU) == (
        networks.get("activation_fn") == "relu" or algo not in ("ppo", "recurrentppo")
    )
    if "log_std_init" in networks:
        assert model.policy.log_std.unique().item() == pytest.approx(networks["log_std_init"])
    if (statistics := model.get_vec_normalize_env()) is not None:
        assert statistics.gamma == written["gamma"]
    model.get_env().close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("total_timesteps: 1\nnsteps: 5", r"x.yaml: nsteps: unknown setting. Did you mean n_steps"),
        ("n_steps: 5", "x.yaml: total_timesteps is missing"),
        ("total_timesteps: 1\nn_steps: 0", r"x.yaml: n_steps: 0 is out of range; it must be > 0"),
        ("total_timesteps: 1\nuse_sde: 1", r"x.yaml: use_sde: 1 given, true\|false expected"),
        ("total_timesteps: 1\nlearning_rate: fast", "x.yaml: learning_rate: 'fast' given, but it must be a number"),
        ("total_timesteps: 1\npolicy_kwargs: 3", "x.yaml: policy_kwargs: 3 given, names with values expected"),
        ("total_timesteps: 1\npolicy_kwargs:\n  netarch: [1]", r"policy_kwargs: netarch: .* Did you mean net_arch\?"),
        ("total_timesteps: 1\npolicy_kwargs:\n  net_arch: [0]", "policy_kwargs: net_arch: .*out of range"),
        ("total_timesteps: 1\nbuffer_size: 5", "buffer_size: unknown setting"),
    ],
)
def test_a_mistake_is_named(text: str, message: str, tmp_path: Path):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        load_tuned(file, "ppo")


def test_the_initialisation_belongs_to_ppo(tmp_path: Path):
    file = tmp_path / "x.yaml"
    file.write_text("total_timesteps: 1\npolicy_kwargs:\n  ortho_init: false")
    with pytest.raises(UserError, match="ortho_init: unknown setting"):
        load_tuned(file, "dqn")


def test_widths_of_policy_and_value_function_apart_are_sb3s_too() -> None:
    params = resolve([Layer(FLAGS, {"env": "CartPole-v1", "net_arch": ["pi=32,16", "vf=8"]})]).params
    settings, _ = translate_settings("ppo", params)
    assert settings["hyperparameters"]["policy_kwargs"]["net_arch"] == {"pi": [32, 16], "vf": [8]}
