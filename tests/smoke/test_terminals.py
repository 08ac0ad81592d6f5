"""On terminals that know ASCII alone, are narrow, or go away, commands go on, and names stay as they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

PICK = """
import gymnasium as gym, numpy as np

class Pick(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps >= 8, False, {}
"""
NAME = "[red].py:Pick"
WORDS = f"-m agents.train --env {NAME} -n 256 --n-envs 2 --n-steps 32 --batch-size 64 --vec sync --eval-freq 128"
TRAIN = [sys.executable, *WORDS.split(), "--eval-episodes", "2", "--final-eval-episodes", "2", "--device", "cpu"]
ENDLESS = [*TRAIN, "-n", "100000000", "--eval-freq", "0"]
posix = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX's")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "[red].py").write_text(PICK, encoding="utf-8")
    return tmp_path


def summary(place: Path) -> dict[str, Any]:
    (file,) = (place / "runs").glob("*/summary.json")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize(
    "variables",
    [
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "cp1252"},
    ],
)
def test_a_terminal_that_knows_few_characters(variables: dict[str, str], place: Path) -> None:
    words = [
        TRAIN[2:],
        ["agents.evaluate", "--episodes", "2"],
        ["agents.train", "--help"],
        ["agents.compare", "--help"],
    ]
    code = f"""if True:
        from agents.__main__ import main

        for module, *words in {words}:
            assert main([module.removeprefix("agents."), *words]) == 0
            print("\\f")
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=place, env=os.environ | variables, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    encoding = "cp1252" if "cp1252" in variables.values() else "ascii"
    trained, evaluated, *helps, _ = done.stdout.decode(encoding).split("\f")
    for name in ("[red]", ".py:Pick: ", "final policy", "python -m agents.evaluate"):
        assert name in trained
    assert f"8.00 {'±' if encoding == 'cp1252' else '+-'} 0.00" in evaluated
    assert ["examples:" in shown for shown in helps] == [True, True]


def on_terminal(command: list[str], place: Path, **variables: str) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; return its code and all that it wrote."""
    import pty

    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "24"} | variables
    child = subprocess.Popen(command, cwd=place, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    read = bytearray()
    with suppress(OSError):  # EIO, once the last that has it open has closed it
        while chunk := os.read(ours, 4096):
            read += chunk
    os.close(ours)
    return child.wait(), read.decode()


@posix
def test_a_narrow_terminal(place: Path) -> None:
    code, shown = on_terminal(TRAIN, place, NO_COLOR="1")
    assert code == 0
    assert re.search(r"\x1b\[(\d+;)*[39]\d", shown) is None, "a colour"
    assert f"{NAME}: " in shown
    table = [line for line in shown.splitlines() if "│" in line]
    assert table
    assert max(map(len, table)) <= 60


@posix
def test_a_terminal_that_only_prints(place: Path) -> None:
    code, shown = on_terminal(TRAIN, place, TERM="dumb")
    assert code == 0
    assert "\x1b" not in shown
    assert "final policy" in shown


def test_a_reader_that_hangs_up_does_not_end_a_training(place: Path) -> None:
    child = subprocess.Popen(TRAIN, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert b"PPO on" in child.stdout.readline()
    child.stdout.close()
    child.stdout = None
    assert child.communicate()[1] == b""
    assert child.returncode == 141
    assert (summary(place)["steps"], summary(place)["eval_episodes"]) == (256, 2)


def leave_terminal(command: list[str], place: Path, *, nohup: bool) -> int:
    """Start a command on a terminal of its own, close that once the command has trained a little; return its code."""
    code = """if True:
        import fcntl, os, pty, signal, subprocess, sys, termios, time
        from pathlib import Path

        ours, theirs = pty.openpty()

        def begin():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "True" else signal.SIG_DFL)

        child = subprocess.Popen(sys.argv[2:], stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=begin)
        os.close(theirs)
        read = b""
        while b"run folder" not in read:
            read += os.read(ours, 4096)
        os.close(ours)
        sys.exit(child.wait() % 256)
    """
    return subprocess.run([sys.executable, "-c", code, str(nohup), *command], cwd=place).returncode


@posix
def test_a_closed_terminal_stops_a_training_as_kill_does(place: Path) -> None:
    assert leave_terminal(ENDLESS, place, nohup=False) == 130
    found = summary(place)
    assert found["interrupted"]
    (run,) = (place / "runs").iterdir()
    assert (run / "checkpoints" / f"{found['steps']:012d}" / "state.json").exists()


@posix
def test_with_nohup_a_training_goes_on_without_its_terminal(place: Path) -> None:
    assert leave_terminal(TRAIN, place, nohup=True) in (0, 141)
    found = summary(place)
    assert not found["interrupted"]
    assert (found["steps"], found["eval_episodes"]) == (256, 2)
