"""`python -m agents.train` as a user types it, in a folder of their own, with Ctrl-C and `kill`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.__main__ import main as agents
from agents.train import main
from tests.waiting import HANGS, wait_for

SMALL = "--env-kwargs max_episode_steps=25 -n 512 --n-envs 4 --eval-freq 256 --eval-episodes 2 --final-eval-episodes 4"
PPO = f"--env CartPole-v1 {SMALL} --n-steps 64 --batch-size 64"
DQN = f"--env CartPole-v1 {SMALL} --algo dqn --learning-starts 100"
SUMMARY = {
    *("run", "env", "algo", "seed", "steps", "wall_s", "train_s", "steps_per_s"),
    *("eval_mean", "eval_std", "eval_episodes", "solved"),
}


@pytest.mark.parametrize("words", [PPO, DQN])
def test_a_run_from_start_to_last_screen(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert agents(["train", *words.split(), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    summary = json.loads(out.splitlines()[-1])
    assert summary.keys() >= SUMMARY
    assert (summary["env"], summary["seed"], summary["steps"], summary["eval_episodes"]) == ("CartPole-v1", 0, 512, 4)
    run = tmp_path / summary["run"]
    assert run.parent == tmp_path / "runs"
    names = {file.name for file in run.iterdir() if not file.name.startswith("events.out.tfevents.")}
    assert names - {"doctor.jsonl"} == {  # as of 512 steps there may be something to say
        *("config.yaml", "command.txt", "versions.json", "progress.csv", "evaluations.csv"),
        *("checkpoints", "best", "model.safetensors", "model.json", "summary.json", "final_episodes.json"),
        *("training.lock", "doctor.csv"),
    }
    assert sorted(file.suffix for file in (tmp_path / "replays" / "CartPole-v1" / run.name).iterdir()) == [
        ".json",
        ".json",
        ".mp4",
    ]
    assert sorted(os.listdir(tmp_path)) == ["replays", "runs"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_files_of_a_run_all_have_the_mode_that_the_user_wishes(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        places = f"--runs-dir {tmp_path / 'runs'} --replays-dir {tmp_path / 'replays'}"
        assert main(f"{DQN} --save-freq 256 --quiet {places}".split()) == 0
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert len(modes) > 20
    assert {path: mode for path, mode in modes.items() if mode != (0o777 if path.is_dir() else 0o666) & ~mask} == {}


def test_quiet_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = f"--runs-dir {tmp_path / 'a'} --replays-dir {tmp_path / 'b'}"
    assert main(f"{PPO} --quiet {places}".split()) == 0
    assert capfd.readouterr() == ("", "")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_ctrl_c_in_a_terminal_reaches_every_process_and_prints_no_traceback(tmp_path: Path) -> None:
    """A terminal sends SIGINT to the whole group, those processes included that the environments run in."""
    (tmp_path / "mine.py").write_text((Path(__file__).parents[1] / "run" / "user_envs.py").read_text())
    words = "--env mine.py:Signs --vec async --n-envs 2 -n 50000 --n-steps 32 --batch-size 32 --eval-freq 0"
    command = [sys.executable, "-m", "agents.train", *words.split(), "--no-record", "--json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_for(
            lambda: (
                process.poll() is not None
                or any(file.stat().st_size > 600 for file in tmp_path.glob("runs/*/progress.csv"))
            )
        )
        assert process.poll() is None, process.communicate()[1]
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=HANGS)
    finally:
        process.kill()
    (run,) = (tmp_path / "runs").iterdir()
    assert process.returncode == 130
    assert err == "\nStopping after this round, to save it whole. Again to stop at once.\n"
    summary = json.loads(out.splitlines()[-1])
    assert summary["interrupted"]
    assert f"python -m agents.train --resume {run.relative_to(tmp_path)}" in out
    assert (run / "checkpoints" / f"{summary['steps']:012d}" / "state.json").exists()
