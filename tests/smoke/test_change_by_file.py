"""Environment, wrappers, network, sizes and metrics by the names of files: trained, evaluated, watched and replayed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.evaluate import main as evaluate
from agents.run.models import load_policy
from agents.run.recording import load_episode
from agents.train import main as train
from agents.watch import main as watch
from tests.printed import printed_json

FILE = """
import gymnasium, numpy as np, torch

def make_env(goal=3, render_mode=None):
    env = gymnasium.make("CartPole-v1", render_mode=render_mode, max_episode_steps=30)
    return gymnasium.wrappers.TransformReward(env, lambda reward: reward * goal)

class Double(gymnasium.RewardWrapper):
    def reward(self, reward): return 2 * reward

class Two(torch.nn.Module):
    features = 2
    def __init__(self, space):
        super().__init__()
        self.layer = torch.nn.Linear(space.shape[0], 2)
    def forward(self, obs): return self.layer(obs)

def log(info, progress): return {"own/steps": info["episode"]["l"]}
"""
YAML = """
env_wrapper:
- mine.Double
net_arch: {pi: [5, 6], vf: [7]}
"""
WORDS = (
    "-n 256 --n-envs 2 --n-steps 64 --batch-size 64 --eval-freq 128 --eval-episodes 2 --final-eval-episodes 2 --json"
)


def test_everything_by_the_name_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "mine.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    parts = "--env mine.py:make_env --env-kwargs goal=5 --config mine.yaml --trust"
    parts += " --network mine.py:Two --metrics mine.py:log"
    assert train([*parts.split(), *WORDS.split()]) == 0
    summary = printed_json(capsys)
    run = tmp_path / summary["run"]
    final = json.loads((run / "final_episodes.json").read_text())
    assert final["returns"] == [10 * length for length in final["lengths"]], "each step is worth 5, doubled"
    model = load_policy(run, "latest").policy.model
    assert [layer.weight.shape for layer in model.policy_torso.layers] == [(5, 2), (6, 5)]
    assert [layer.weight.shape for layer in model.value_torso.layers] == [(7, 2)]
    assert "own/steps" in (run / "progress.csv").read_text().splitlines()[0].split(",")

    assert evaluate([str(run), "--episodes", "3", "--json"]) == 0
    measured = printed_json(capsys)
    assert measured["mean"] == pytest.approx(10 * measured["length_mean"])
    (episode,) = [file for file in (tmp_path / "replays").rglob("*.json") if file.name != "manifest.json"]
    recorded = load_episode(episode)
    assert recorded.wrappers == ["mine.Double"]
    assert recorded.total_reward == 10 * recorded.length
    assert watch(["--replay", str(episode), "--record", "replay.gif"]) == 0
    assert watch([str(run), "--record", "play.gif"]) == 0
