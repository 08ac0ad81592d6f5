"""The algorithm of one's own in docs/examples: trained, evaluated, watched, resumed bit for bit, as any other."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import pytest

from agents.evaluate import main as evaluate
from agents.run.folder import RunFolder
from agents.train import main as train
from agents.watch import main as watch
from tests.run.running import assert_same_run, resume, signals_at
from tests.run.running import train as train_in

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "examples" / "reinforce.py"
WORDS = f"--env CartPole-v1 --algo {FILE}:Reinforce --n-envs 4 --n-steps 16 -n 512 --eval-freq 128 --eval-episodes 2"
WORDS += " --final-eval-episodes 4 --save-freq 128"


def test_it_is_short():
    assert len(FILE.read_text().splitlines()) <= 100


def test_it_is_trained_evaluated_and_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert train([*shlex.split(WORDS), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    run = summary["run"]
    assert Path(run).name.startswith("CartPole-v1__Reinforce__s0__")
    assert summary["steps"] == 512
    assert list(Path("replays").rglob("*.mp4"))
    assert evaluate([run, "--episodes", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["episodes"] == 3
    assert watch([run, "--record", "play.gif", "--episodes", "1"]) == 0
    assert Path("play.gif").read_bytes()[:3] == b"GIF"


@pytest.mark.parametrize("memory", ["", "--memory gru"])
def test_it_goes_on_bit_for_bit(memory: str, tmp_path: Path) -> None:
    words = f"{WORDS} {memory}"
    unbroken = train_in(tmp_path / "unbroken", words)
    with signals_at(200, signal.SIGINT):
        run = train_in(tmp_path / "broken", words, code=130)
    assert RunFolder(run).checkpoints()[-1][0] < 512
    resume(run)
    assert_same_run(unbroken, run)
