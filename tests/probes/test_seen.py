"""Tasks that only a text, a sequence or a picture tells how to solve are solved."""

from __future__ import annotations

from contextlib import closing

import pytest

from agents.acting.evaluation import evaluate
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from envs.adapters.stacking import StackedVecEnv
from envs.adapters.sync import SyncVecEnv
from tests.envs.grain_env import Moved
from tests.envs.told_env import Told
from tests.fakes import training_on
from tests.marks import long_test
from tests.probes.picture_env import FORMS, Coded, Pictures

PPO = {"n_envs": 8, "n_steps": 16, "batch_size": 64, "n_epochs": 4, "gamma": 0.5, "net_arch": (16,)}
DQN = {"n_envs": 8, "learning_starts": 64, "buffer_size": 1_000, "batch_size": 32, "train_freq": 8, "gamma": 0.5}
DQN |= {"target_update_interval": 64, "net_arch": (16,)}


def score(make, params):
    """Train to the end of the budget; return the mean of greedy episodes."""
    with closing(
        StackedVecEnv(SyncVecEnv([make() for _ in range(params.n_envs)]), params.observations.frame_stack)
    ) as env:
        training = training_on(env, params)
        for _ in training.iterations():
            pass
        return evaluate(env, training.policy, 40, seed=5).mean


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        ("words", "transformer"),
        *(pytest.param(leaf, kind, marks=long_test) for leaf, kind in (("words", "gru"), ("symbols", "gru"))),
        pytest.param("symbols", "transformer", marks=long_test),
    ],
)
def test_what_is_said_is_understood(kind, leaf):
    params = PPOConfig(**PPO, learning_rate=3e-3, total_timesteps=1_152, text_encoder=kind)
    assert score(lambda: Told(words=leaf == "words", symbols=leaf == "symbols"), params) == 1.0


@long_test
def test_replayed_texts_are_learnt_from():
    params = DQNConfig(**DQN, learning_rate=1e-3, total_timesteps=1_200, exploration_fraction=0.5)
    assert score(Told, params) == 1.0


def test_what_moves_is_seen_by_stacked_pictures_alone():
    params = PPOConfig(**PPO, learning_rate=3e-3, total_timesteps=2_048, frame_stack=2)
    assert score(Moved, params) > 0.9
    alone = PPOConfig(**PPO, learning_rate=3e-3, total_timesteps=1_024)
    assert score(Moved, alone) < 0.9


@pytest.mark.parametrize(
    "form",
    [pytest.param(form, marks=[] if form in ("colours first", "floats to 1") else long_test) for form in FORMS],
)
def test_pictures_of_every_form_are_seen(form):
    params = PPOConfig(**PPO, learning_rate=3e-3, total_timesteps=768)
    training = training_on(Pictures(8, form), params)
    assert "small CNN" in training.algorithm.model.encoder.description
    for _ in training.iterations():
        pass
    assert evaluate(Pictures(8, form), training.policy, 40, seed=5).mean == 1.0


def test_codes_are_told_apart():
    assert score(Coded, PPOConfig(**PPO, learning_rate=3e-3, total_timesteps=5_120)) > 0.9


@pytest.mark.parametrize("params", [PPOConfig(**PPO, learning_rate=3e-3, total_timesteps=1_024, augment=["shift"])])
def test_augmented_pictures_are_seen(params):
    training = training_on(Pictures(8), params)
    for _ in training.iterations():
        pass
    assert evaluate(Pictures(8), training.policy, 40, seed=5).mean == 1.0
