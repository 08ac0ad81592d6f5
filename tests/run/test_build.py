"""A configuration becomes the parts it names, seeded, and their state goes out and comes back."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from agents.algos.dqn.algorithm import DQN
from agents.algos.ppo.algorithm import PPO
from agents.run.build import Training, build
from agents.run.config import FLAGS, Layer, resolve
from envs.errors import UserError
from tests.run.running import USER_ENVS, assert_same

PPO_VALUES = {"env": "CartPole-v1", "n_envs": 2, "n_steps": 8, "batch_size": 16, "n_epochs": 1, "device": "cpu"}
DQN_VALUES = {"env": "CartPole-v1", "algo": "dqn", "n_envs": 3, "learning_starts": 9, "batch_size": 4, "device": "cpu"}


def built(values: dict[str, Any], **more: Any) -> Training:
    return build(resolve([Layer(FLAGS, values | more)], packaged=False))


def advance(training: Training, step: int) -> Training:
    for progress in training.progress():
        if progress.step >= step:
            break
    return training


def test_the_parts() -> None:
    training = built(PPO_VALUES)
    assert isinstance(training.agent, PPO)
    assert (training.env.backend, training.env.num_envs, training.position.step) == ("native", 2, 0)
    training = built(DQN_VALUES, vec="sync", buffer_size=60)
    assert isinstance(training.agent, DQN)
    assert (training.env.backend, training.env.num_envs) == ("sync", 3)
    assert (training.replay.rows, training.replay.num_envs) == (20, 3)


def test_the_seed_is_all_that_matters() -> None:
    one, same, other = (built(PPO_VALUES, seed=seed) for seed in (1, 1, 2))
    assert_same(one.state_dict(), same.state_dict())
    assert not np.array_equal(one.position.obs, other.position.obs)
    weights = [training.agent.network.state_dict() for training in (one, other)]
    assert any(not torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("values", [PPO_VALUES, DQN_VALUES])
def test_state_goes_out_and_comes_back(values: dict[str, Any]) -> None:
    training = advance(built(values), 40)
    state = deepcopy(training.state_dict())  # as from the disk, not to share the memory of the optimiser
    copy = built(values, seed=0)
    assert copy.load_state_dict(state) == []
    assert_same(copy.state_dict(), state)
    step = training.position.step
    assert_same(advance(training, step + 30).state_dict(), advance(copy, step + 30).state_dict())


@pytest.mark.parametrize("values", [PPO_VALUES, DQN_VALUES])
def test_without_the_environments_new_episodes_begin(values: dict[str, Any]) -> None:
    training = advance(built(values), 40)
    state = training.state_dict(with_env=False)
    assert state["env"] is None
    copies = [built(values), built(values)]
    for copy in copies:
        (said,) = copy.load_state_dict(state)
        assert "begin new episodes" in said
        assert copy.position.step == training.position.step
        assert not copy.position.tracker.lengths.any()
        assert not np.array_equal(copy.position.obs, training.position.obs)
    assert_same(copies[0].state_dict(), copies[1].state_dict())
    assert_same(copies[0].agent.state_dict(), training.agent.state_dict())


def test_no_window_of_returns_spans_the_break() -> None:
    """What was stored last before the break is the end of its episode as far as n-step returns go."""
    training = advance(built(DQN_VALUES, env=f"{USER_ENVS}:Signs", n_step_returns=3), 42)
    copy = built(DQN_VALUES, env=f"{USER_ENVS}:Signs", n_step_returns=3)
    copy.load_state_dict(training.state_dict(with_env=False))
    replay = copy.replay.state_dict()
    assert (replay["head"] == 14).all()
    assert replay["store"]["truncated"][13].all()
    assert not replay["store"]["truncated"][:13].any()
    assert not training.replay.state_dict()["store"]["truncated"].any()


def test_a_device_is_chosen_and_the_choice_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    training = built(PPO_VALUES, device="auto")
    assert (training.agent.device.type, training.device_reason) == ("cpu", "no GPU was found")
    with pytest.raises(UserError, match="--device cuda"):
        built(PPO_VALUES, device="cuda")
    assert built(PPO_VALUES).device_reason == "as asked"
