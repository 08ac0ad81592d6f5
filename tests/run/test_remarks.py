"""What is said of runs that most likely cannot learn, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.run.remarks import Remarks, of_actions, of_settings
from agents.train import main

ODD = """
import gymnasium, numpy as np

class Odd(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict(
        near=gymnasium.spaces.Box(-1, 1, (2,)), far=gymnasium.spaces.Box(0, 9, (2, 2), np.int64)
    )
    action_space = gymnasium.spaces.Box(100, 200, (1,))

    def __init__(self, reward=0.0): self.paid = reward

    def _observe(self): return {"near": np.zeros(2, np.float32), "far": np.array([[0, 1], [12, 3]])}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        return self._observe(), self.paid, self.t == 4, False, {}
"""
SMALL = "--n-envs 2 --n-steps 64 --batch-size 64 --eval-freq 0 --final-eval-episodes 0 --no-record"


def said(folder: Path, words: str, capsys: pytest.CaptureFixture[str]) -> str:
    (folder / "odd.py").write_text(ODD)
    command = f"--env {folder / 'odd.py'}:Odd -n 512 {SMALL} --runs-dir {folder / 'runs'} {words}"
    assert main(command.split()) == 0
    return " ".join(capsys.readouterr().out.split())


def test_each_thing_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(tmp_path, "", capsys)
    assert text.count("actions from 100 to 200: a policy begins around 0") == 1
    assert text.count("far[1, 0] is 12, outside its bounds 0 to 9") == 1
    assert text.count("each of the last 100 episodes returned 0") == 1
    text = said(tmp_path, "--rescale-action --env-kwargs reward=1e8", capsys)
    assert "actions from" not in text
    assert text.count("rewards reach 1e+08 a step") == 1
    assert "returned 0" not in text


def test_what_learns_is_not_remarked_upon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"--env Pendulum-v1 -n 512 {SMALL} --runs-dir {tmp_path}".split()) == 0
    text = capsys.readouterr().out
    for words in ("outside", "actions from", "nothing will be learnt", "returned 0", "rewards reach"):
        assert words not in text


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        *((-1, 1, False), (-2, 2, False), (-0.4, 0.4, False), (0, 1, False), (-np.inf, np.inf, False)),
        *((100, 200, True), (-9, -3, True), (-100, 100, True), (-0.01, 0.01, True)),
    ],
)
def test_which_bounds_are_far_from_a_policys_beginning(low: float, high: float, told: bool) -> None:
    space = spaces.Box(low, high, (2,), np.float32)
    assert len(list(of_actions(space, rescaled=False))) == told
    assert not list(of_actions(space, rescaled=True))
    assert not list(of_actions(spaces.Discrete(3), rescaled=False))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (DQNConfig(total_timesteps=500), "nothing will be learnt: learning_starts 1,000 is more than the 500 steps"),
        (DQNConfig(total_timesteps=5_000, train_freq=9_000), "nothing will be learnt: train_freq 9,000"),
        (DQNConfig(total_timesteps=5_000, target_update_interval=9_000), "the target network stays as it begins"),
        (
            DQNConfig(gradient_steps=10**9),
            "gradient_steps 1,000,000,000 after every train_freq 4 steps: more than 400 take",
        ),
        (PPOConfig(total_timesteps=500), "one rollout (n_steps 128 x n_envs 8) is more than the 500 steps"),
        (PPOConfig(eval_freq=200_000), "no evaluation before the end: eval_freq 200,000"),
    ],
)
def test_what_the_budget_is_too_small_for(params, words: str) -> None:
    (line,) = of_settings(params)
    assert line.startswith(words)


def test_what_fits_the_budget() -> None:
    assert not list(of_settings(PPOConfig()))
    assert not list(of_settings(DQNConfig()))


def test_observations_at_their_bounds_are_inside() -> None:
    remarks = Remarks(spaces.Box(0, 1, (3,), np.float32))
    assert not list(remarks.of_observations(np.array([[0, 0.5, 1]], np.float32)))
    assert list(remarks.of_observations(np.array([[0, 0.5, 1], [0, 1.5, 1]], np.float32))) == [
        "observation[1] is 1.5, outside its bounds 0 to 1, which the observation space declares: correct them there, "
        "as networks may scale by them"
    ]
    assert not list(remarks.of_observations(np.full((1, 3), 9, np.float32))), "it has been said"
