"""A run tried out says what it would take, and leaves nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from agents.core.types import Iteration
from agents.run import dry
from agents.run.config import FLAGS, Layer, resolve
from agents.train import main
from tests.marks import long_test

PPO = "--env CartPole-v1 --n-envs 4 --n-steps 16 --batch-size 32 --n-epochs 1 -n 4096 --net-arch 8 --device cpu"
DQN = "--env CartPole-v1 --algo dqn --n-envs 2 -n 100000 --learning-starts 50000 --buffer-size 60000 --device cpu"


def tried(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in an empty folder; return what it printed and its JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry, "SECONDS", 0.0)
    assert main([*words.split(), "--dry-run", "--json"]) == 0
    assert list(tmp_path.iterdir()) == []
    *lines, last = capsys.readouterr().out.splitlines()
    return "\n".join(lines), json.loads(last)


def test_what_a_run_would_be_is_said_and_nothing_written(tmp_path, monkeypatch, capsys):
    said, found = tried(PPO, tmp_path, monkeypatch, capsys)
    parameters = 2 * (4 * 8 + 8) + (8 * 2 + 2) + (8 + 1)
    assert found["parameters"] == parameters
    assert found["multiply_adds"] == 2 * 4 * 8 + 8 * 2 + 8
    assert found["network_bytes"] == 4 * 4 * parameters
    assert found["data_bytes"] == 4 * 16 * (4 * 4 + 8 + 6)
    assert found["steps_per_s"] > 0
    assert found["seconds"] == pytest.approx(4096 / found["steps_per_s"], rel=0.02, abs=0.06)
    assert "observation: vector of 4 numbers, float32" in said
    assert "policy_torso.layers.0" in said
    assert re.search(r"^4,096 steps would take \d+:\d\d at ", said, re.MULTILINE)
    assert "nothing was written" in said


def test_every_network_that_learns_counts(tmp_path, monkeypatch, capsys):
    small = "--curiosity-arch 6 --curiosity-size 5"
    features = 4 * 6 + 6 * 5  # of RND's random network; the other has a layer more
    said, found = tried(f"{PPO} --curiosity rnd {small}", tmp_path, monkeypatch, capsys)
    assert found["multiply_adds"] == 2 * 4 * 8 + 8 * 2 + 2 * 8 + 2 * features + 6 * 6
    assert found["data_bytes"] == 4 * 16 * (2 * 4 * 4 + 8 + 6), "the true successors too"
    assert "curiosity.predictor" in said
    sac = "--env Pendulum-v1 --algo sac --net-arch 8 --learning-starts 20 --batch-size 16 --buffer-size 100"
    _, found = tried(f"{sac} -n 200 --device cpu", tmp_path, monkeypatch, capsys)
    assert found["multiply_adds"] == 3 * 8 + 8 * 2 + 2 * (4 * 8 + 8)


@pytest.mark.parametrize("memory", ["", "--memory gru --memory-size 4 --batch-size 8"])
def test_curiosity_of_sequences_counts_too(tmp_path, monkeypatch, capsys, memory):
    words = "--algo pqn --curiosity icm --curiosity-arch 6 --curiosity-size 5"
    _, found = tried(f"{PPO} {words} {memory}", tmp_path, monkeypatch, capsys)
    _, plain = tried(f"{PPO} --algo pqn {memory}", tmp_path, monkeypatch, capsys)
    of_features, inverse, dynamics = 4 * 6 + 6 * 5, 10 * 6 + 6 * 2, 7 * 6 + 6 * 5
    assert found["multiply_adds"] - plain["multiply_adds"] == 2 * of_features + inverse + dynamics


def test_a_run_that_learns_nothing_is_tried_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--env", "CartPole-v1", "--algo", "dqn", "-n", "100", "--dry-run"]) == 0
    assert "100 steps would take 0:00" in capsys.readouterr().out


def test_a_replayed_run_is_tried_as_soon_as_it_can_learn(tmp_path, monkeypatch, capsys):
    said, found = tried(f"{DQN} --replay-storage disk", tmp_path, monkeypatch, capsys)
    assert found["data_bytes"] == 60_000 * (2 * 16 + 8 + 6)
    assert "replay buffer: 60,000 transitions" in said
    assert found["seconds"] > 0


def test_the_time_is_that_of_acting_alone_and_then_of_learning(monkeypatch):
    values = {"env": "CartPole-v1", "algo": "dqn", "n_envs": 2, "total_timesteps": 100_000, "device": "cpu"}
    values |= {"learning_starts": 50_000, "buffer_size": 60_000, "net_arch": [8], "replay_storage": "disk"}
    config = resolve([Layer(FLAGS, values)])
    assert dry.shortened(config).params.replay.replay_storage == "memory"
    assert dry.shortened(config).params.replay.learning_starts < 1_000
    clock = iter(range(10_000))
    monkeypatch.setattr(dry, "perf_counter", lambda: float(next(clock)))
    acting = [Iteration(step) for step in (400, 800)]  # a second each, as all that follow
    learning = [Iteration(step, {"train/loss": 0.0}) for step in range(1_000, 9_000, 50)]
    training = SimpleNamespace(iterations=lambda: iter([*acting, *learning]), step=0)
    rate, seconds = dry.timed(training, config.params)
    assert rate == 50
    assert seconds == 50_000 / 400 + 50_000 / 50


def test_two_rounds_are_enough_where_they_take_long(monkeypatch):
    config = resolve([Layer(FLAGS, {"env": "CartPole-v1", "total_timesteps": 100_000, "device": "cpu"})])
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(dry, "perf_counter", lambda: float(next(clock)))
    rounds = iter([Iteration(step, {"train/loss": 0.0}) for step in (100, 300, 500)])
    rate, seconds = dry.timed(SimpleNamespace(iterations=lambda: rounds, step=0), config.params)
    assert (rate, seconds) == (10, 10_000)
    assert next(rounds).step == 500


@pytest.mark.parametrize("more", ["--resume runs/none", "--seeds 2"])
def test_it_is_of_one_run_that_begins(more, capsys):
    words = ["--dry-run", *more.split()] if "resume" in more else [*PPO.split(), "--dry-run", *more.split()]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error: ")


@long_test
@pytest.mark.parametrize("algo", ["ppo", "dqn", "pqn", "sac"])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_each_algorithm_can_be_tried(algo, memory, tmp_path, monkeypatch, capsys):
    if (algo, memory) == ("sac", "gru"):
        pytest.skip("SAC has no memory")
    env = "Pendulum-v1" if algo == "sac" else "CartPole-v1"
    said, found = tried(f"--env {env} --algo {algo} --memory {memory} --device cpu", tmp_path, monkeypatch, capsys)
    assert found["seconds"] > 0
    assert "would take" in said
