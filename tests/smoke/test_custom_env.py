"""A user's own environment, in a file outside the package: trained, evaluated and filmed from the command line."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import pytest

from agents.evaluate import main as evaluate
from agents.train import main as train
from agents.watch import main as watch
from tests.printed import printed_json
from tests.run.running import USER_ENVS

PPO = "--n-envs 4 --n-steps 64 --batch-size 64 --learning-rate 3e-3 -n 2560"
DQN = "--algo dqn --n-envs 4 --learning-starts 200 --learning-rate 3e-3 --exploration-fraction 0.4 --gamma 0 -n 1600"
EVALUATION = "--eval-freq 0 --final-eval-episodes 10"


@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=["ppo", "dqn"])
def test_it_learns_is_measured_and_filmed(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "signs.py").write_text(USER_ENVS.read_text())
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
