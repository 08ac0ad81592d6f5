"""Logs of others are read by their names, and hostile ones end in one sentence."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO

from agents.doctor import main
from agents.lab.checkup import logs
from agents.lab.checkup.logs import read_events, read_history
from agents.run.doctor.illnesses import diagnose_all
from agents.run.tensorboard import TensorBoardSink
from envs.errors import UserError
from tests.lab.run_folders import write_folder
from tests.marks import long_test

CLEANRL = """|param|value|
|-|-|
|exp_name|dqn|
|total_timesteps|5000|
|buffer_size|100|
|batch_size|64|
|target_network_frequency|500|
|start_e|1|
|end_e|0.05|
|exploration_fraction|0.5|
|learning_starts|nan.e|
"""


def test_cleanrls_names_and_settings(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.text("hyperparameters", CLEANRL)
    for i in range(1, 301):
        sink.write(10 * i, {"charts/episodic_return": float(i), "charts/episodic_length": 3.0})
        sink.write(10 * i, {"losses/entropy": 0.5, "losses/td_loss": 2.0, "losses/q_values": 7.0, "charts/SPS": 9.0})
    sink.close()
    history = read_history(tmp_path)
    assert history.facts == {
        **{"total_timesteps": 5_000, "buffer_size": 100, "batch_size": 64, "target_update_interval": 500},
        **{"exploration_initial_eps": 1, "exploration_final_eps": 0.05, "exploration_fraction": 0.5},
    }
    assert history.step == 3_000
    assert history.now("rollout/ep_rew_mean", 1) == pytest.approx(np.mean(range(201, 301)), abs=20), "a mean of 100"
    assert [point.value for point in history.points("rollout/ep_rew_mean")][-1] == 250.5
    assert history.now("train/entropy_loss") == -0.5
    assert (history.now("train/loss"), history.now("train/q_mean")) == (2.0, 7.0)
    assert [found.illness for found in diagnose_all(history)] == ["replay buffer too small"]


@pytest.mark.parametrize(("name", "known"), [("ppo_continuous_action", True), ("ppo_atari", None)])
def test_the_name_of_cleanrls_script_tells_of_continuous_actions(tmp_path: Path, name: str, known: bool | None) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.text("hyperparameters", CLEANRL.replace("|dqn|", f"|{name}|"))
    sink.write(1, {"losses/entropy": 0.5})
    sink.close()
    assert read_history(tmp_path).facts.get("continuous_actions") is known


def test_numbers_that_are_tensors(tmp_path: Path) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto

    sink = TensorBoardSink(tmp_path)
    tensors = [TensorProto(dtype=1, float_val=[3.0]), TensorProto(dtype=1, tensor_content=struct.pack("<f", 4.0))]
    tensors.append(TensorProto(dtype=1, float_val=[1.0, 2.0]))
    for step, tensor in enumerate(tensors, 1):
        sink._add_summary(step, Summary(value=[Summary.Value(tag="a", tensor=tensor)]))
    sink.close()
    assert read_events(tmp_path).all("a") == [(1, 3.0), (2, 4.0)]


def events(folder: Path) -> Path:
    sink = TensorBoardSink(folder)
    sink.write(1, {"train/loss": math.nan})
    sink.write(2, {"train/loss": 1.0})
    sink.close()
    (file,) = folder.glob("*.tfevents.*")
    return file


def test_a_torn_end_is_as_a_killed_process_leaves_it(tmp_path: Path) -> None:
    file = events(tmp_path)
    whole = file.read_bytes()
    for cut in (1, 8, 20, 40):
        file.write_bytes(whole[:-cut])
        assert next(point.step for point in read_events(tmp_path).all("train/loss")) == 1


def test_large_records_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.text("picture", "x" * 5_000)
    sink.write(3, {"a": 1.0})
    sink.close()
    monkeypatch.setattr(logs, "MOST_RECORD", 1_000)
    assert read_events(tmp_path).all("a") == [(3, 1.0)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"x" * 500, "is no event file"),
        (struct.pack("<Q", 2**63) + b"0" * 99, "is no event file"),
        (struct.pack("<QI", 40, 0) + b"\xff" * 44, "is no event file of TensorBoard's, or is torn"),
    ],
)
def test_what_is_no_event_file(content: bytes, told: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    assert main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_other_things_that_lie_there(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(UserError, match=r"holds no training: a run folder has config.yaml"):
        read_history(tmp_path / "gone")
    inner = tmp_path / "PPO_1"
    inner.mkdir()
    file = events(inner)
    with pytest.raises(UserError, match=r"There are some in .*PPO_1\."):
        read_history(tmp_path)
    (tmp_path / "events.out.tfevents.1").symlink_to(file)
    with pytest.raises(UserError, match="is a symbolic link"):
        read_history(tmp_path)
    assert main([str(inner), "--json"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    (found,) = json.loads(last)["illnesses"]
    assert (found["illness"], "from step 1 on" in found["evidence"]) == ("not finite", True)


def test_an_endless_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events(tmp_path)
    monkeypatch.setattr(logs, "LIMIT", 50)
    with pytest.raises(UserError, match="is foreign: it has"):
        read_history(tmp_path)


def test_a_run_of_ours(tmp_path: Path) -> None:
    run = write_folder(tmp_path, algo="dqn", buffer_size=500, batch_size=64, learning_starts=100)
    (run / "progress.csv").write_text(
        "step,rollout/ep_len_mean,train/loss\n1000,20.0,0.5\n2000,20.0,\n3000,oops,1.0\n9"
    )
    history = read_history(run)
    assert history.facts["buffer_size"] == 500
    assert history.all("rollout/ep_len_mean") == [(1_000, 20.0), (2_000, 20.0)]
    assert history.all("eval/mean_reward") == [(100, 10.0), (200, 30.0), (300, 20.0)]
    assert [found.illness for found in diagnose_all(history)] == ["replay buffer too small"]
    (run / "config.yaml").write_text("[")
    with pytest.raises(UserError):
        read_history(run)


class Endless(gym.Env):
    """One number, two actions; by its arguments large rewards, or no end, or an end at once."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: float = 20, reward: float = 1.0) -> None:
        self.length, self.reward = length, reward

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        obs = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return obs, self.reward * float(action), self.t >= self.length, False, {}


def ppo(env: Any, folder: Path, steps: int = 512, **options: Any) -> None:
    settings = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [16]}} | options
    PPO("MlpPolicy", env, tensorboard_log=str(folder), device="cpu", seed=0, **settings).learn(steps)


def dqn(env: Any, folder: Path, steps: int = 3_000, **options: Any) -> None:
    settings = {"learning_starts": 100, "train_freq": 50, "policy_kwargs": {"net_arch": [16]}} | options
    DQN("MlpPolicy", env, tensorboard_log=str(folder), device="cpu", seed=0, **settings).learn(steps)


SB3: dict[str, Callable[[Path], None]] = {
    "KL spikes": lambda folder: ppo(gym.make("CartPole-v1"), folder, learning_rate=3.0),
    "reward scale far from 1": lambda folder: ppo(Endless(reward=1e6), folder),
    "episodes end at once": lambda folder: ppo(Endless(length=1), folder),
    "epsilon ends too early": lambda folder: dqn(Endless(), folder, exploration_fraction=0.001, learning_starts=0),
    "episodes never end": lambda folder: ppo(
        Endless(length=np.inf), folder, 10_240, n_steps=2048, batch_size=256, n_epochs=1
    ),
    "a plateau at a learning rate of 0": lambda folder: ppo(
        Endless(), folder, 1_024, learning_rate=lambda left: max(left - 0.5, 0.0) * 1e-3
    ),
}


@long_test
@pytest.mark.parametrize("illness", SB3)
def test_illnesses_in_logs_of_sb3(illness: str, tmp_path: Path) -> None:
    SB3[illness](tmp_path)
    (folder,) = tmp_path.iterdir()
    assert illness in [found.illness for found in diagnose_all(read_history(folder))]


@long_test
def test_a_healthy_training_of_sb3_has_none(tmp_path: Path) -> None:
    ppo(gym.make("CartPole-v1"), tmp_path, 4_096, n_steps=256, n_epochs=4)
    dqn(gym.make("CartPole-v1"), tmp_path, exploration_fraction=0.5)  # which has no time to learn much
    folders = list(tmp_path.iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert not diagnose_all(read_history(folder)), folder
