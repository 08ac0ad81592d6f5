"""Short trainings compared with stored numbers, so that a refactor that changes any is noticed.

After a change that is meant to alter the numbers: `UPDATE_GOLDEN=1 pytest tests/golden`, and say why in the commit.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from gymnasium import spaces

from agents.algos.dqn.config import DQNConfig
from agents.algos.iql.config import IQLConfig
from agents.algos.ppo.config import PPOConfig
from agents.algos.pqn.config import PQNConfig
from agents.algos.sac.config import SACConfig
from agents.core.by_numpy.program import NumpyProgram
from agents.core.runtime import Runtime
from agents.data.dataset import Builder
from agents.run import imitation
from envs.actions import Hybrid
from envs.adapters.stacking import StackedVecEnv
from envs.words import Tokens, Written
from tests.fakes import ClockEnv, training_on

FILE = Path(__file__).with_name("traces.json")

PPO_SMALL = {"n_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 2, "net_arch": (8,), "total_timesteps": 256}
DQN_SMALL = {"n_envs": 2, "learning_starts": 32, "buffer_size": 64, "batch_size": 16, "net_arch": (8,)} | {
    "train_freq": 8,
    "target_update_interval": 40,
    "total_timesteps": 128,
    "learning_rate": 0.01,
}
SAC_SMALL = {"n_envs": 2, "learning_starts": 32, "buffer_size": 64, "batch_size": 16, "net_arch": (8,)} | {
    "train_freq": 8,
    "total_timesteps": 128,
    "learning_rate": 0.01,
}

OFFLINE = {"data": "recorded", "online_fraction": 0.25}


def recorded(env, params):
    """Return recorded episodes in which larger actions, or later ones, earn more."""
    rng, builder = np.random.default_rng(0), Builder(env.own_spaces)
    for length in (7, 5, 9, 4):
        obs = rng.normal(size=(length + 1, 3)).astype(np.float32)
        drawn = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        action = drawn if isinstance(env.action_space, spaces.Box) else rng.integers(0, 3, length)
        ends = np.arange(length) == length - 1
        builder.add(obs, action, action.reshape(length, -1).sum(1), ends & (length % 2 > 0), ends)
    return builder.finish(), []


class PictureClock(ClockEnv):
    """Shows the clock's three numbers as rows of pixels."""

    observation_space = spaces.Box(0, 255, (6, 6), np.uint8)

    def _obs(self):
        rows = np.rint(super()._obs() * 8).astype(np.uint8)
        return (20 * rows)[:, [0, 0, 1, 1, 2, 2], None].repeat(6, axis=2)


class WordyClock(ClockEnv):
    """Says the clock's three numbers, beside a sequence of symbols."""

    observation_space = spaces.Dict(said=Written(12), symbols=Tokens(4, 5))

    def _obs(self):
        rows = np.rint(super()._obs() * 8).astype(np.int64)
        texts = [f"{place} of {episode} {t}".encode().ljust(12, b"\0")[:12] for place, episode, t in rows]
        symbols = np.pad(1 + rows % 5, [(0, 0), (0, 1)])
        return {"said": np.array([list(text) for text in texts], np.uint8), "symbols": symbols}


CURIOUS = {"curiosity_arch": (8,), "curiosity_size": 4}
CASES = {
    "ppo": (spaces.Discrete(3), PPOConfig(**PPO_SMALL, learning_rate=0.03)),
    "ppo, continuous, every option": (
        spaces.Box(-1, 1, (2,)),
        PPOConfig(
            **PPO_SMALL,
            learning_rate="lin_0.03",
            clip_range=0.1,
            clip_range_vf=0.2,
            ent_coef=0.01,
            target_kl=0.05,
            norm_obs=True,
            norm_reward=True,
            shared_torso=True,
            state_dependent_std=True,
            squash_output=True,
        ),
    ),
    "ppo, every detail": (
        spaces.Discrete(3),
        PPOConfig(
            **PPO_SMALL,
            **{"learning_rate": 0.01, "desired_kl": 0.01, "clip_range_high": 0.3, "dual_clip": 2.0},
            **{"norm_value": "popart", "norm_value_rate": 0.3, "normalize_over_rollout": True},
        ),
    ),
    "ppo, rnd": (
        spaces.Discrete(3),
        PPOConfig(
            **PPO_SMALL,
            **{"learning_rate": 0.01, "curiosity": "rnd", "curiosity_arch": (8,), "curiosity_size": 4},
            **{"norm_value": "running", "norm_obs": True},
        ),
    ),
    "ppo, icm": (
        spaces.Box(-1, 1, (2,)),
        PPOConfig(
            **PPO_SMALL,
            **{"learning_rate": 0.01, "curiosity": "icm", "curiosity_arch": (8,), "curiosity_size": 4},
            **{"memory": "gru", "memory_size": 4, "curiosity_episodic": True, "curiosity_share": 1.0},
        ),
    ),
    "ppo, gsde": (
        spaces.Box(-1, 1, (2,)),
        PPOConfig(**PPO_SMALL, learning_rate=0.03, use_sde=True, sde_sample_freq=4, log_std_init=-1.0, ent_coef=0.01),
    ),
    "ppo, hybrid": (
        Hybrid({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3), "c": spaces.MultiDiscrete([2, 2])}),
        PPOConfig(**PPO_SMALL, learning_rate=0.03, squash_output=True, state_dependent_std=True, ent_coef=0.01),
    ),
    "dqn": (spaces.Discrete(3), DQNConfig(**DQN_SMALL, double_q=False)),
    "dqn, every option": (
        spaces.Discrete(3),
        DQNConfig(**DQN_SMALL, n_step_returns=3, tau=0.5, norm_obs=True, exploration_fraction=0.5, optimizer="adamw"),
    ),
    "dqn, rainbow": (
        spaces.Discrete(3),
        DQNConfig(
            **DQN_SMALL,
            **{"dueling": True, "noisy": True, "distribution": "c51", "n_atoms": 11, "v_min": -5, "v_max": 9},
            prioritized_replay=True,
            n_step_returns=3,
        ),
    ),
    "dqn, btr": (
        spaces.Discrete(3),
        DQNConfig(
            **DQN_SMALL,
            **{"dueling": True, "distribution": "iqn", "n_quantiles": 4, "layer_norm": True, "munchausen": True},
            prioritized_replay=True,
        ),
    ),
    "dqn, quantiles": (spaces.Discrete(3), DQNConfig(**DQN_SMALL, distribution="qr", n_quantiles=5)),
    "dqn, memory": (
        spaces.Discrete(3),
        DQNConfig(
            **DQN_SMALL,
            **{"memory": "lstm", "memory_size": 4, "sequence_length": 4, "burn_in": 2, "n_step_returns": 3},
            **{"norm_obs": True, "dueling": True, "rescale_values": True, "prioritized_replay": True},
        ),
    ),
    "ppo, scan": (
        spaces.Discrete(3),
        PPOConfig(**PPO_SMALL, learning_rate=0.03, memory="scan", memory_size=4, memory_layers=2),
    ),
    "ppo, lstm": (spaces.Discrete(3), PPOConfig(**PPO_SMALL, learning_rate=0.03, memory="lstm", memory_size=4)),
    "pqn, gtrxl": (
        spaces.Discrete(3),
        PQNConfig(**PPO_SMALL, memory="gtrxl", memory_size=4, memory_heads=2, memory_window=3, norm_obs=True),
    ),
    "dqn, bounded and conservative": (
        spaces.Discrete(3),
        DQNConfig(**DQN_SMALL, dueling=True, spectral_norm=True, cql_alpha=0.5),
    ),
    "dqn, recorded, of likely actions": (
        spaces.Discrete(3),
        DQNConfig(**DQN_SMALL, **OFFLINE, bcq_threshold=0.7, dueling=True),
    ),
    "dqn, rescaled": (spaces.Discrete(3), DQNConfig(**DQN_SMALL, rescale_values=True)),
    "sac": (spaces.Box(-1, 1, (2,)), SACConfig(**SAC_SMALL)),
    "sac, tqc, every option": (
        spaces.Box(-1, 1, (2,)),
        SACConfig(
            **SAC_SMALL,
            **{"truncated_quantiles": True, "n_quantiles": 5, "n_critics": 3, "ent_coef": "auto_0.1", "tau": 0.5},
            **{"n_step_returns": 3, "prioritized_replay": True, "norm_obs": True, "target_entropy": -1.0},
        ),
    ),
    "sac, gsde": (
        spaces.Box(-1, 1, (2,)),
        SACConfig(**SAC_SMALL, use_sde=True, sde_sample_freq=2, target_update_interval=2),
    ),
    "sac, crossq": (spaces.Box(-1, 1, (2,)), SACConfig(**SAC_SMALL, batch_norm=True, ent_coef=0.1)),
    "iql": (spaces.Box(-1, 1, (2,)), IQLConfig(**SAC_SMALL, **OFFLINE, norm_obs=True)),
    "iql, choices, every option": (
        spaces.Discrete(3),
        IQLConfig(
            **SAC_SMALL,
            **OFFLINE,
            **{"expectile": 0.9, "weight_temp": 1.0, "max_weight": 1.2, "tau": 0.5, "n_critics": 3},
            **{"n_step_returns": 3, "prioritized_replay": True, "shared_torso": True},
        ),
    ),
    "pqn": (
        spaces.Discrete(3),
        PQNConfig(**PPO_SMALL, learning_rate=0.03, exploration_fraction=0.5, norm_obs=True),
    ),
    "pqn, icm": (
        spaces.Discrete(3),
        PQNConfig(**PPO_SMALL, **CURIOUS, learning_rate=0.03, curiosity="icm"),
    ),
    "dqn, rnd": (spaces.Discrete(3), DQNConfig(**DQN_SMALL, **CURIOUS, curiosity="rnd")),
    "ppo, augmented": (
        spaces.Discrete(3),
        PPOConfig(**PPO_SMALL, learning_rate=0.01, encoder="small", augment=("shift", "scale", "colour")),
        PictureClock,
    ),
    "pqn, augmented": (
        spaces.Discrete(3),
        PQNConfig(**PPO_SMALL, learning_rate=0.01, encoder="small", augment=("crop", "flip", "rotate")),
        PictureClock,
    ),
    "dqn, stacked and augmented": (
        spaces.Discrete(3),
        DQNConfig(**DQN_SMALL, frame_stack=3, encoder="small", augment=("shift",)),
        PictureClock,
    ),
    "ppo, stacked": (spaces.Discrete(3), PPOConfig(**PPO_SMALL, learning_rate=0.03, frame_stack=2, norm_obs=True)),
    "ppo, texts": (spaces.Discrete(3), PPOConfig(**PPO_SMALL, learning_rate=0.01), WordyClock),
    "dqn, texts by a gru": (spaces.Discrete(3), DQNConfig(**DQN_SMALL, text_encoder="gru"), WordyClock),
}


# which NumPy does not take on: with rows made up by autoresets, with convolutions or texts; of the last two it
# assembles DQN's batches
AS_THEY_ARE = {
    *("pqn", "pqn, gtrxl", "ppo, continuous, every option", "ppo, rnd", "ppo, stacked"),
    *("ppo, augmented", "pqn, augmented", "ppo, texts"),
}


def trace(action_space, config, clock=ClockEnv, *, mode="off"):
    """Return the numbers of the updates, and at the end those of the network and the rewards collected."""
    env = clock(config.n_envs, action_space, dummies=config.network.norm_obs)
    if config.observations.frame_stack > 1:
        env = StackedVecEnv(env, config.observations.frame_stack)
    with mock.patch.object(imitation, "learnt_from", recorded):
        training = training_on(env, config, runtime=Runtime(mode))
    updates, total = defaultdict(list), 0.0
    for iteration in training.iterations():
        total += sum(episodes.read()[0].sum() for episodes in iteration.episodes)
        numbers = {key.removeprefix("train/"): float(value) for key, value in iteration.metrics.items()}
        assert not numbers or numbers.pop("grad_norm") > 0  # all others follow from it
        for metric, value in numbers.items():
            updates[metric].append(value)
    norms = {name: tensor.double().norm().item() for name, tensor in training.algorithm.model.state_dict().items()}
    return {"updates": dict(updates), "norms": norms, "episodes' returns": total, "steps": training.step}


@pytest.mark.parametrize("mode", ["off", "numpy"])
@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_the_stored_ones(name, mode, monkeypatch):
    called, call = set(), NumpyProgram.__call__

    def noted(program, *args):
        called.add(program._function.__module__)
        return call(program, *args)

    monkeypatch.setattr(NumpyProgram, "__call__", noted)
    result = trace(*CASES[name], mode=mode)
    if mode == "numpy":
        assert trace(*CASES[name], mode=mode) == result, "two runs give the same bits"
    assert bool(called - {"agents.acting.numpy_inference"}) == (mode == "numpy" and name not in AS_THEY_ARE)
    assert len(result["updates"]["loss" if "loss" in result["updates"] else "critic_loss"]) >= 4
    if os.environ.get("UPDATE_GOLDEN"):
        stored = json.loads(FILE.read_text()) if FILE.exists() else {}
        rounded = json.loads(json.dumps(result), parse_float=lambda text: float(f"{float(text):.6g}"))
        lines = [f"{json.dumps(case)}: {json.dumps(numbers)}" for case, numbers in (stored | {name: rounded}).items()]
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        pytest.skip("written")
    stored = json.loads(FILE.read_text())[name]
    assert result["steps"] == stored["steps"]
    assert result["episodes' returns"] == stored["episodes' returns"]
    assert result["norms"] == pytest.approx(stored["norms"], rel=1e-3, abs=2e-5)
    assert result["updates"].keys() == stored["updates"].keys()
    for metric, values in result["updates"].items():
        assert values == pytest.approx(stored["updates"][metric], rel=1e-3, abs=2e-5), metric


def test_nothing_is_stored_that_no_case_checks():
    assert json.loads(FILE.read_text()).keys() == CASES.keys()
    assert FILE.stat().st_size < 40_000
