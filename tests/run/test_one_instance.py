"""A simulator of which only one instance may run at a time: all take turns with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.evaluate import main as evaluate
from agents.run.config import FLAGS, Layer, resolve
from agents.run.evaluator import Evaluator
from agents.run.folder import RunFolder
from agents.run.trees import read_tree
from agents.run.yaml_files import load_config_file
from agents.train import main
from envs.errors import UserError
from envs.locate import load_file
from tests.printed import printed_json
from tests.run.running import assert_same_run, resume, rows, signals_at, train

FILE = """
import gymnasium, numpy as np

class Port(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    open, most, made = 0, 0, 0
    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        if Port.open: raise RuntimeError("port 11345 is already in use")
        Port.open, Port.made = 1, Port.made + 1
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}
    def step(self, action):
        self.t += 1
        return self.look(), 1.0, False, self.t >= 20, {}
    def look(self): return self.np_random.uniform(-1, 1, 2).astype(np.float32)
    def render(self): return np.full((32, 32, 3), 90, np.uint8)
    def close(self):
        assert Port.open == 1
        Port.open = 0
"""
ALONE = "-n 400 --n-steps 30 --batch-size 30 --eval-freq 100 --eval-episodes 2 --final-eval-episodes 3"
DQN = "--algo dqn -n 400 --n-envs 1 --learning-starts 50 --eval-freq 100 --eval-episodes 2 --final-eval-episodes 3"


@pytest.fixture
def port(tmp_path: Path) -> str:
    (tmp_path / "port.py").write_text(FILE)
    return str(tmp_path / "port.py")


@pytest.mark.parametrize("words", [f"--one-instance {ALONE}", f"--n-envs 1 {ALONE}", f"{DQN} --n-step-returns 3"])
def test_it_is_asked_for_or_found_out(
    words: str, port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--runs-dir", str(tmp_path), "--replays-dir", str(tmp_path / "replays"), "--json"]
    assert main(["--env", f"{port}:Port", *words.split(), *places]) == 0
    lines = capsys.readouterr().out.splitlines()
    summary = json.loads(lines[-1])
    (said,) = [line for line in lines if "One environment does all in turn" in line]
    assert ("no second copy of the environment: Port could not be built" in said) == ("--one-instance" not in words)
    assert summary["eval_mean"] == 20.0
    run = Path(summary["run"])
    evaluations = rows(run, "evaluations.csv")
    assert len(evaluations) == 4
    assert {float(row["eval/mean_reward"]) for row in evaluations} == {20.0}
    # an evaluation breaks the running episode off: what is reported of training are whole episodes alone
    assert {float(row["rollout/ep_len_mean"]) for row in rows(run, "progress.csv") if row["rollout/ep_len_mean"]} == {
        20.0
    }
    assert load_config_file(run / "config.yaml")["one_instance"] is True
    assert list((tmp_path / "replays").rglob("*.mp4"))

    assert evaluate([str(run), "--episodes", "5", "--json"]) == 0
    assert printed_json(capsys)["mean"] == 20.0
    assert load_file(Path(port)).Port.open == 0


def test_a_run_that_needs_several_says_what_to_do(
    port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--env", f"{port}:Port", "--runs-dir", str(tmp_path)]) == 2
    assert "already in use (the first copy could be built, a further one not; " in capsys.readouterr().err
    run = train(tmp_path, f"--env {port}:Port --n-envs 1 {ALONE} --eval-freq 0 --final-eval-episodes 0")
    assert evaluate([str(run), "--episodes", "5"]) == 2
    assert "if only one may run at a time, add --one-instance" in capsys.readouterr().err
    assert evaluate([str(run), "--episodes", "5", "--one-instance"]) == 0
    resume(run, "--one-instance -n 480 --final-eval-episodes 2")
    assert evaluate([str(run), "--episodes", "5"]) == 0


def test_it_goes_on_bit_for_bit(port: str, tmp_path: Path) -> None:
    import signal

    words = f"--env {port}:Port --one-instance {ALONE}"
    unbroken = train(tmp_path / "unbroken", words)
    with signals_at(190, signal.SIGINT):
        run = train(tmp_path / "broken", words, code=130)
    resume(run)
    assert_same_run(unbroken, run)


def test_a_break_within_an_evaluation_is_saved_without_the_environments_position(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Evaluator.evaluate

    def breaking(*given: Any, **options: Any) -> Any:
        whole(*given, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "evaluate", breaking)
        run = train(tmp_path, f"--env {port}:Port --one-instance {ALONE}", code=130)
    state, _ = read_tree(RunFolder(run).checkpoints()[-1][1], "state")
    assert state["training"]["env"] is None
    resume(run)
    # as the running episode is not gone on with, no episode is longer than all are
    found = {row["rollout/ep_len_mean"] for row in rows(run, "progress.csv")}
    assert {float(mean) for mean in found if mean} == {20.0}


def test_there_is_one_environment_and_a_rollout_keeps_its_size() -> None:
    def params(**values):
        return resolve([Layer(FLAGS, {"env": "Some-v0", "one_instance": True, **values})]).params

    usual = resolve([Layer(FLAGS, {"env": "Some-v0"})]).params
    alone = params()
    assert (alone.n_envs, alone.n_steps) == (1, usual.n_envs * usual.n_steps)
    assert (params(n_steps=512).n_envs, params(n_steps=512).n_steps) == (1, 512)
    assert params(algo="dqn").n_envs == 1
    with pytest.raises(UserError, match="--n-envs: 4 given, but with one_instance it is 1"):
        params(n_envs=4)
