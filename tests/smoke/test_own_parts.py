"""The worked examples in docs/examples: parts of one's own are trained, evaluated, watched and resumed as any other."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path

import pytest
import torch

from agents.compare import main as compare
from agents.evaluate import main as evaluate
from agents.run.folder import RunFolder
from agents.run.trees import read_tree
from agents.train import main as train
from agents.watch import main as watch
from envs.locate import load_file
from tests.lab.comparison.running import run_jobs_here
from tests.printed import printed_json
from tests.run.running import assert_same, assert_same_run, last_state, resume, signals_at
from tests.run.running import train as train_in

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
FILE = EXAMPLES / "reinforce.py"
WORDS = f"--env CartPole-v1 --algo {FILE}:Reinforce --n-envs 4 --n-steps 16 -n 512 --eval-freq 128 --eval-episodes 2"
WORDS += " --final-eval-episodes 4 --save-freq 128"


def test_the_algorithm_is_short():
    assert len(FILE.read_text().splitlines()) <= 100


def test_the_algorithm_is_trained_evaluated_and_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train([*shlex.split(WORDS), "--json"]) == 0
    summary = printed_json(capsys)
    run = summary["run"]
    assert Path(run).name.startswith("CartPole-v1__Reinforce__s0__")
    assert summary["steps"] == 512
    assert list(Path("replays").rglob("*.mp4"))
    assert evaluate([run, "--episodes", "3", "--json"]) == 0
    assert printed_json(capsys)["episodes"] == 3
    assert watch([run, "--record", "play.gif", "--episodes", "1"]) == 0
    assert Path("play.gif").read_bytes()[:3] == b"GIF"


ODD = """
from agents.core.algorithm import Algorithm
from agents.core.config import ActorCriticConfig, OptimizerName
from agents.core.user_code import user_class

Reinforce = user_class({file!r}, Algorithm, "an algorithm")

class Network(ActorCriticConfig):
    {network}

class Config(Reinforce.config_class):
    {setting}
    network: Network = Network()

class Odd(Reinforce):
    config_class = Config
"""


@pytest.mark.parametrize(
    ("setting", "network", "message"),
    [
        ("optimizer: str = 'adma'", "pass", "optimizer: 'adma' given, adam|adamw|sgd|rmsprop expected. Did you mean"),
        ("optimizer: OptimizerName = 'sdg'", "pass", "expected. Did you mean sgd"),
        ("pass", "activation: str = 'rleu'", "activation: 'rleu' given, tanh|relu|elu|gelu|silu expected. Did you"),
    ],
)
def test_a_default_that_is_no_option_is_told(
    setting: str, network: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.py").write_text(ODD.format(file=f"{FILE}:Reinforce", setting=setting, network=network))
    assert train(["--env", "CartPole-v1", "--algo", f"{tmp_path / 'odd.py'}:Odd", "--runs-dir", str(tmp_path)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert message in told


@pytest.mark.parametrize("memory", ["", "--memory gru"])
def test_the_algorithm_goes_on_bit_for_bit(memory: str, tmp_path: Path) -> None:
    words = f"{WORDS} {memory}"
    unbroken = train_in(tmp_path / "unbroken", words)
    with signals_at(200, signal.SIGINT):
        run = train_in(tmp_path / "broken", words, code=130)
    assert RunFolder(run).checkpoints()[-1][0] < 512
    resume(run)
    assert_same_run(unbroken, run)


@pytest.mark.parametrize(
    "part",
    [
        f"--env MountainCar-v0 --encoder {EXAMPLES / 'encoder.py'}:Fourier",
        f"--env Corridor-v0 --memory {EXAMPLES / 'memory.py'}:Trace",
        f"--env {EXAMPLES / 'slippery.py'}",
    ],
    ids=["encoder", "memory", "environment"],
)
def test_a_part_of_ones_own(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{part} --n-envs 4 --n-steps 16 --batch-size 32 -n 256 --eval-freq 0 --save-freq 128"
    words += " --final-eval-episodes 0"
    unbroken = train_in(tmp_path / "unbroken", words)
    with signals_at(100, signal.SIGINT):
        run = train_in(tmp_path / "broken", words, code=130)
    resume(run)
    assert_same(last_state(unbroken), last_state(run))
    assert evaluate([str(run), "--episodes", "2", "--json"]) == 0
    assert printed_json(capsys)["episodes"] == 2


def test_a_command_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_in(tmp_path, WORDS)
    command = load_file(EXAMPLES / "command.py")
    assert command.main([str(run), "--json"]) == 0
    weights, _ = read_tree(run, "model")
    assert printed_json(capsys) == {"parameters": sum(map(torch.numel, weights.values()))}
    assert command.main([str(tmp_path / "nothing")]) == 2


@pytest.mark.usefixtures("sketched")
def test_the_algorithm_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agents.lab.comparison.runner.run_jobs", run_jobs_here)
    words = f"--env CartPole-v1 --algos {FILE}:Reinforce --against sb3:ppo --seeds 1 --total-timesteps 600 --json"
    words += f" --eval-freq 600 --eval-episodes 1 --final-eval-episodes 2 --out {tmp_path / 'out'}"
    assert compare(words.split()) == 0
    told = printed_json(capsys)
    assert (told["trained"], told["failed"]) == (2, 0)
    assert "Reinforce" in (tmp_path / "out" / "report" / "report.md").read_text(encoding="utf-8")
    assert compare([*words.replace("--against sb3:ppo ", "").split(), "--list"]) == 2
    assert "stable-baselines3 has no algorithm known to match 'Reinforce'" in capsys.readouterr().err
