"""A user's own environment, in a file outside the package: trained, evaluated and filmed from the command line."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import pytest

from agents.evaluate import main as evaluate
from agents.train import main as train
from agents.watch import main as watch
from tests.printed import printed_json

ENVIRONMENT = """
import gymnasium as gym
import numpy as np

class Signs(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Dict(
            {"sign": gym.spaces.Discrete(3, start=5), "fog": gym.spaces.Box(-1, 1, (2,), np.float64)}
        )
        self.action_space = gym.spaces.Discrete(3, start=5)

    def observe(self):
        self.sign = int(self.np_random.integers(5, 8))
        return {"sign": self.sign, "fog": self.np_random.uniform(-1, 1, 2)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        assert action in (5, 6, 7)
        reward = float(action == self.sign)
        self.steps += 1
        return self.observe(), reward, False, self.steps == 50, {}

    def render(self):
        return np.full((48, 64, 3), 30 * self.sign, np.uint8)
"""
PPO = "--n-envs 4 --n-steps 64 --batch-size 64 --learning-rate 3e-3 -n 2560"
DQN = "--algo dqn --n-envs 4 --learning-starts 200 --learning-rate 3e-3 --exploration-fraction 0.4 --gamma 0 -n 1600"
EVALUATION = "--eval-freq 0 --final-eval-episodes 10"


@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=["ppo", "dqn"])
def test_it_learns_is_measured_and_filmed(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "signs.py").write_text(ENVIRONMENT)
    monkeypatch.chdir(tmp_path)
    assert train(f"--env signs.py:Signs {algorithm} {EVALUATION} --json".split()) == 0
    summary = printed_json(capsys)
    assert summary["eval_mean"] > 40, "an episode is 50 steps; chance is worth 17"
    (video,) = Path("replays/Signs", Path(summary["run"]).name).glob("*.mp4")

    assert evaluate([summary["run"], "--episodes", "10", "--json"]) == 0
    measured = printed_json(capsys)
    assert measured["mean"] > 40
    assert measured["length_mean"] == 50

    assert watch([summary["run"], "--record", "out.mp4"]) == 0
    for file in (video, Path("out.mp4")):
        frames, _ = imageio_ffmpeg.count_frames_and_secs(str(file))
        assert frames >= 50
