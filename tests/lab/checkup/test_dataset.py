"""The check-up of recorded data: planted faults are named, and nothing else."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from agents.__main__ import main as agents
from agents.data.dataset import Builder, Dataset
from agents.lab.checkup.dataset import check_dataset
from agents.run.datasets.experts import Random
from agents.run.datasets.reading import load_dataset
from agents.run.datasets.recorder import Recording, RecordingWrapper, record
from envs.make import make


def pendulum(shift: int = 0, episodes: int = 3) -> Dataset:
    """Random episodes of Pendulum-v1 with their seeds, of which rewards are moved by so many steps."""
    env = gymnasium.make("Pendulum-v1")
    builder = Builder((env.observation_space, env.action_space), "Pendulum-v1")
    for seed in range(episodes):
        env.action_space.seed(seed)
        obs, actions, rewards = [env.reset(seed=seed)[0]], [], []
        for _ in range(200):
            actions.append(env.action_space.sample())
            seen, reward, *_ = env.step(actions[-1])
            obs.append(seen)
            rewards.append(reward)
        ends = np.arange(200) == 199
        builder.add(np.array(obs), np.array(actions), np.roll(rewards, shift), ends & False, ends, seed)
    return builder.finish()


def bad(data: Dataset, env: str | None = None) -> dict[str, str]:
    return {one.name: one.evidence for one in check_dataset(data, env) if one.level != "ok"}


def test_true_data_are_without_fault() -> None:
    assert bad(pendulum(), "Pendulum-v1") == {}


@pytest.mark.parametrize("shift", [1, -1])
def test_rewards_that_are_shifted_are_named(shift: int) -> None:
    found = bad(pendulum(shift), "Pendulum-v1")
    assert found.keys() == {"replay"}  # its rewards change too little from step to step for the data to tell
    assert f"row t has the reward of step t {'-' if shift > 0 else '+'} 1" in found["replay"]


def test_rewards_that_look_moved_at_the_ends_of_episodes_are_a_warning() -> None:
    data = pendulum(episodes=5)
    data.reward = np.roll(data.reward, 1)
    data.reward[data.starts] = 0
    (found,) = [one for one in check_dataset(data) if one.level != "ok"]
    assert (found.name, found.level) == ("rewards", "warning")
    assert "first rewards of all episodes are the same number" in found.evidence


def test_another_environment_is_told() -> None:
    data = pendulum()
    data.obs[50] += 1
    found = bad(data, "Pendulum-v1")
    assert "after step 49 another observation comes" in found["replay"]
    data = pendulum()
    data.reward[7] += 1
    assert "the rewards differ: step 7" in bad(data, "Pendulum-v1")["replay"]
    env = gymnasium.make("CartPole-v1")
    builder = Builder((env.observation_space, env.action_space), "CartPole-v1")
    obs = [env.reset(seed=0)[0], *(env.step(action)[0] for action in (0, 1))]
    builder.add(np.array(obs), np.array([0, 1]), np.ones(2), np.zeros(2, bool), np.array([False, True]), 0)
    data = builder.finish()
    data.action[1] = 64
    assert "step 1 has an action that the environment has not" in bad(data, "CartPole-v1")["replay"]


def test_actions_that_are_never_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"observations": np.random.default_rng(0).normal(size=(4, 4)), "actions": np.array([0, 2, 2, 0])}
    np.savez(tmp_path / "d.npz", **columns, rewards=np.ones(4), dones=np.array([0, 1, 0, 0]))
    assert agents(["check", "--data", str(tmp_path / "d.npz"), "--json"]) == 0
    said = capsys.readouterr().out
    verdicts = {one["name"]: one for one in json.loads(said.splitlines()[-1])["verdicts"]}
    assert verdicts["actions"]["fix"].startswith("never taken: 1;")
    assert verdicts["unended"]["level"] == "warning"
    assert "1 episodes, 1 transitions; first in episode 1, step 0" in verdicts["unended"]["evidence"]


def test_choices_without_end_take_no_memory(tmp_path: Path) -> None:
    actions = np.array([0, 2_000_000_000, 0, 0])
    np.savez(tmp_path / "d.npz", observations=np.eye(4), actions=actions, rewards=np.ones(4), dones=np.eye(4)[3])
    (found,) = [one for one in check_dataset(load_dataset(tmp_path / "d.npz")) if one.name == "actions"]
    assert found.evidence == "0: 75.0%, 2000000000: 25.0%"
    assert found.fix.startswith("never taken: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10;")


WRAPPER = """
import gymnasium

class Ten(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 10 * reward
"""


def test_what_was_recorded_with_wrappers_is_played_again_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tens.py").write_text(WRAPPER)
    wrapper, out = f"{tmp_path / 'tens.py'}:Ten", tmp_path / "set"
    noted: list[RecordingWrapper] = []

    def around(env: gymnasium.Env) -> RecordingWrapper:
        noted.append(RecordingWrapper(env))
        return noted[0]

    with closing(make("CartPole-v1", vec="sync", wrappers=[wrapper], around=around)) as env:
        recording = Recording("random", "CartPole-v1", {}, [wrapper], exploration=(1.0,))
        record([Random(env.action_space)], env, noted[0], recording, 2, out)
    assert agents(["check", "--data", str(out)]) == 2  # code that a file names
    assert "tens.py:Ten' is code outside the package" in capsys.readouterr().err
    played = "ok       replay: 2 episodes played again from their seeds: the same to the end"
    for words in (["--trust"], ["--wrappers", wrapper], ["--env", "CartPole-v1", "--wrappers", wrapper]):
        agents(["check", "--data", str(out), *words])
        assert played in capsys.readouterr().out
    assert agents(["check", "--data", str(out), "--env", "CartPole-v1"]) == 1
    assert "the rewards differ" in capsys.readouterr().out


def test_what_was_recorded_with_masks_is_played_again_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "taxi")
    assert agents(["record", "random", "--env", "Taxi-v4", "--episodes", "2", "--out", out]) == 0
    for words in ([], ["--env", "Taxi-v4"]):
        agents(["check", "--data", out, *words])
        said = capsys.readouterr().out
        assert "ok       replay: 2 episodes played again from their seeds: the same to the end" in said


def test_an_environment_that_raises_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(env: gymnasium.Env, action: np.ndarray) -> None:
        raise RuntimeError("stuck")

    data = pendulum()
    monkeypatch.setattr("gymnasium.envs.classic_control.PendulumEnv.step", stuck)
    assert bad(data, "Pendulum-v1")["replay"] == "RuntimeError: stuck"
