"""SB3 with our settings: each argument arrives, and what SB3 lacks is named."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
import torch

from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.lab.baselines import evaluate_sb3, steady_rate, train_sb3
from agents.lab.sb3_settings import translate_settings
from envs.errors import UserError

CARTPOLE = {"env_id": "CartPole-v1", "env_kwargs": {"max_episode_steps": 12}}
PPO = PPOConfig(
    n_envs=2,
    n_steps=8,
    batch_size=4,
    n_epochs=3,
    learning_rate="lin_1e-3",
    clip_range="lin_0.3",
    clip_range_vf=0.4,
    gamma=0.9,
    gae_lambda=0.8,
    ent_coef=0.01,
    vf_coef=0.7,
    max_grad_norm=0.6,
    target_kl=9.0,
    normalize_advantage=False,
    net_arch=(5, 6),
    activation="silu",
    optimizer="rmsprop",
)
DQN = DQNConfig(
    n_envs=2,
    batch_size=4,
    buffer_size=60,
    learning_starts=8,
    train_freq=4,
    gradient_steps=3,
    target_update_interval=16,
    tau=0.5,
    exploration_fraction=0.5,
    exploration_initial_eps=0.8,
    exploration_final_eps=0.2,
    n_step_returns=3,
    net_arch=(7,),
    double_q=False,
)


def test_every_ppo_setting_arrives():
    arguments, missing = translate_settings("ppo", PPO)
    assert not missing
    model, points = train_sb3(**json.loads(json.dumps(arguments)), **CARTPOLE, total_timesteps=30, seed=0)
    assert (points[-1][0], model.n_envs, model.n_steps, model.batch_size, model.n_epochs) == (32, 2, 8, 4, 3)
    assert (model.gamma, model.gae_lambda, model.ent_coef, model.vf_coef) == (0.9, 0.8, 0.01, 0.7)
    assert (model.max_grad_norm, model.target_kl, model.normalize_advantage) == (0.6, 9.0, False)
    assert [model.lr_schedule(left) for left in (1.0, 0.25)] == [1e-3, 0.25e-3]
    assert model.clip_range(0.5) == pytest.approx(0.15)
    assert model.clip_range_vf(0.5) == pytest.approx(0.4)
    widths = [layer.out_features for layer in model.policy.mlp_extractor.value_net if hasattr(layer, "out_features")]
    assert widths == [5, 6]
    assert isinstance(model.policy.mlp_extractor.policy_net[1], torch.nn.SiLU)
    assert isinstance(model.policy.optimizer, torch.optim.RMSprop)
    assert model.policy.optimizer.param_groups[0]["eps"] == 1e-5
    assert model.get_vec_normalize_env() is None


def test_every_dqn_setting_arrives():
    arguments, missing = translate_settings("dqn", DQN)
    assert not missing
    model, _ = train_sb3(**arguments, **CARTPOLE, total_timesteps=40, seed=0)
    assert (model.batch_size, model.learning_starts, model.tau, model.gamma) == (4, 8, 0.5, 0.99)
    assert (model.train_freq.frequency, model.gradient_steps, model.target_update_interval) == (2, 3, 16)
    assert (model.exploration_fraction, model.exploration_initial_eps, model.exploration_final_eps) == (0.5, 0.8, 0.2)
    assert model.replay_buffer.buffer_size * 2 == 60
    assert model.n_steps == 3
    assert model.q_net.q_net[0].out_features == 7
    assert model._n_updates == 3 * (40 - 8) // 4


def test_points_go_from_the_start_to_the_end_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _, points = train_sb3(
        48,
        algo="ppo",
        env_id="CartPole-v1",
        n_envs=2,
        hyperparameters={"n_steps": 8, "batch_size": 8, "n_epochs": 1},
        seed=0,
    )
    assert [step for step, _ in points] == [0, 16, 32, 48]
    seconds = [second for _, second in points]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0
    assert not list(tmp_path.iterdir())


def test_a_normalised_policy_is_measured_by_raw_returns():
    params = PPOConfig(**(PPO.model_dump() | {"norm_obs": True, "norm_reward": True}))
    arguments, _ = translate_settings("ppo", params)
    model, _ = train_sb3(**arguments, **CARTPOLE, total_timesteps=64, seed=0)
    before = model.get_vec_normalize_env().obs_rms.mean.copy()
    returns, lengths = evaluate_sb3(model, "CartPole-v1", 3, 5, CARTPOLE["env_kwargs"])
    assert returns == lengths  # CartPole pays 1 a step
    assert all(0 < length <= 12 for length in lengths)
    assert (model.get_vec_normalize_env().obs_rms.mean == before).all()
    assert evaluate_sb3(model, "CartPole-v1", 3, 5, CARTPOLE["env_kwargs"]) == (returns, lengths)


@pytest.mark.parametrize(
    ("algo", "params", "names"),
    [
        ("dqn", DQNConfig(), ["double_q"]),
        ("ppo", PPOConfig(shared_torso=True, squash_output=True), ["shared_torso", "squash_output"]),
        (
            "ppo",
            PPOConfig(encoder="impala", memory="gru"),
            ["encoder", "memory", "memory_size", "memory_layers"],
        ),
        ("ppo", PPOConfig(), []),
    ],
)
def test_what_sb3_lacks_is_named(algo, params, names):
    assert translate_settings(algo, params)[1] == names


@pytest.mark.parametrize(
    ("n_envs", "train_freq", "gradient_steps", "ticks", "updates"),
    [(1, 4, 1, 4, 1), (8, 16, 4, 2, 4), (32, 16, 4, 1, 8), (4, 8, -1, 2, 8), (3, 4, 4, 1, 3)],
)
def test_rounds_of_updates_are_as_many(n_envs, train_freq, gradient_steps, ticks, updates):
    params = DQNConfig(n_envs=n_envs, train_freq=train_freq, gradient_steps=gradient_steps)
    found = translate_settings("dqn", params)[0]["hyperparameters"]
    assert (found["train_freq"], found["gradient_steps"]) == (ticks, updates)


def test_gradients_that_are_not_clipped_are_not_clipped_by_sb3():
    arguments, left_out = translate_settings("ppo", PPOConfig(max_grad_norm=None))
    norm = json.loads(json.dumps(arguments))["hyperparameters"]["max_grad_norm"]
    parameter = torch.zeros(3, requires_grad=True)
    parameter.grad = torch.tensor([1e6, -2e6, 3.0])
    torch.nn.utils.clip_grad_norm_([parameter], norm)
    assert (parameter.grad.tolist(), left_out) == ([1e6, -2e6, 3.0], [])


def test_an_algorithm_that_sb3_lacks_is_told():
    with pytest.raises(UserError, match=r"has no algorithm known to match 'Reinforce'.*sb3:ppo or sb3:dqn"):
        translate_settings("mine.py:Reinforce", PPOConfig())


def test_rounds_that_sb3_cannot_make_are_refused():
    with pytest.raises(UserError, match="train_freq 10 with gradient_steps 1 and n_envs 8"):
        translate_settings("dqn", DQNConfig(n_envs=8, train_freq=10))


def test_the_steady_rate_leaves_the_first_tenth_out():
    points = [(0, 0.0), (50, 10.0), (100, 11.0), (550, 11.5), (1000, 12.0)]
    assert steady_rate(points) == pytest.approx(900 / 1.0)
    assert steady_rate([(0, 0.0), (1000, 4.0)]) == pytest.approx(250)
    assert math.isfinite(steady_rate([(0, 0.0), (8, 0.0)]))
