"""`python -m agents.compare` as it is typed: interrupted, killed or crashed, nothing is done twice and nothing lost."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.compare import main
from agents.lab.comparison import report
from agents.lab.comparison.pool import exclusive
from agents.run import children, registry
from envs.errors import UserError
from tests.lab.comparison.running import result
from tests.printed import printed_json
from tests.waiting import HANGS, wait_for

SMALL = ["--env-kwargs", "max_episode_steps=20", "--eval-episodes", "2", "--final-eval-episodes", "4"]
WORDS = ["--env", "CartPole-v1", *SMALL]


@pytest.fixture
def no_report(monkeypatch):
    """Its drawing takes longer than these runs."""
    monkeypatch.setattr(report, "report", lambda *_: {})


def test_from_start_to_end_and_what_is_done_is_kept(tmp_path, capsys, monkeypatch, sketched):
    out = tmp_path / "out"
    words = [*WORDS, "--seeds", "1", "-n", "512", "--out", str(out), "--json"]
    assert main([*words, "--list"]) == 0
    assert "CartPole-v1 ppo sb3: 512 steps, 1 seed, 0 done" in capsys.readouterr().out
    assert not out.exists()
    assert main(words) == 0
    found = printed_json(capsys)
    assert (found["runs"], found["reused"], found["trained"], found["failed"]) == (2, 0, 2, 0)
    assert found["headlines"] == ["Too few seeds to tell ours from SB3 on CartPole-v1, PPO."]
    assert Path(found["report"]).is_file()
    record = json.loads((out / "comparison.json").read_text())
    (task,) = record["pairs"]
    assert (task["labels"], task["seeds"], task["budget"], task["hyper"]) == (["ours", "sb3"], [0], 512, "tuned")
    assert task["settings"]["sb3"]["n_envs"] == 8
    assert 9 < record["references"]["CartPole-v1"]["random"] <= 20
    assert record["references"]["CartPole-v1"]["threshold"] == 475.0
    assert record["failures"] == []
    assert record["commands"] == [f"python -m agents.compare {' '.join(words)}"]
    assert {"cpu", "cores", "memory_gb"} <= record["machine"].keys()
    assert record["versions"]["torch"]

    monkeypatch.setattr(report, "report", lambda *_: {})
    times = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/*/*")}
    assert main(words) == 0
    assert printed_json(capsys)["reused"] == 2
    assert {file: file.stat().st_mtime_ns for file in out.glob("runs/*/*/*")} == times
    assert main([*words, "-n", "600"]) == 2
    assert "budget is 512 there, 600 here" in capsys.readouterr().err


def start(words: list[str], held: Path) -> subprocess.Popen[bytes]:
    """Start a comparison one of whose runs stays in the middle of its training."""
    program = "import sys; from agents import compare; from agents.lab.comparison import pool, report; "
    program += "begin = pool.start_child; held = 'tests.lab.comparison.held_child'; "
    program += "pool.start_child = lambda words, *more, **how: begin([held, *words[1:]], *more, **how); "
    program += "from agents.run import children; children.cores, children.SECONDS_TO_SAVE = lambda: 1, 600; "
    program += "report.report = lambda *_: {}; sys.exit(compare.main())"
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL, env=os.environ | {"HELD": str(held)}
    )


def test_stopped_and_killed_it_goes_on_where_it_stood(tmp_path, no_report, monkeypatch):
    monkeypatch.setattr(children, "cores", lambda: 1)
    out, other = tmp_path / "out", tmp_path / "other.yaml"
    other.write_text("n_epochs: 4")
    words = [*WORDS, "--against", str(other), "--seeds", "1", "-n", "20000", "--eval-freq", "5000"]
    words += ["--workers", "1", "--out", str(out)]
    first, second = (out / "runs" / label / "CartPole-v1__ppo__s0" for label in ("ours", "other"))

    stopped = start(words, first)
    wait_for(lambda: list(first.glob("checkpoints/0*/state.json")))
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(HANGS) == 130
    assert json.loads((first / "summary.json").read_text())["interrupted"], "it saved what it had learnt"
    assert not list(out.glob("runs/*/*/result.json"))

    killed = start(words, second)
    wait_for(lambda: list(second.glob("checkpoints/0*/state.json")))
    killed.kill()
    killed.wait()
    with exclusive(out):
        pass  # nobody holds the lock any more: the child died with its parent
    assert not (second / "result.json").exists()
    kept = (first / "result.json").read_bytes()

    assert main(words) == 0
    assert (first / "result.json").read_bytes() == kept, "a finished run is left as it was"
    for folder in (first, second):
        assert result(folder)["steps"] == 20_480
        assert len(json.loads((folder / "parts.json").read_text())) == 2
        assert len((folder / "command.txt").read_text().splitlines()) == 2, "it was resumed, not begun anew"
        with (folder / "evaluations.csv").open(newline="") as stream:
            assert [row["step"] for row in csv.DictReader(stream)] == ["5120", "10240", "15360", "20480"]


ENVIRONMENT = """
import sys
import gymnasium as gym
import numpy as np


class Walk(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        CRASH
        return np.zeros(2, np.float32), 1.0, self.steps > 5, False, {}
"""


def test_a_crash_is_reported_the_rest_goes_on_and_only_what_failed_is_done_again(tmp_path, capsys, no_report):
    out, other, env = tmp_path / "out", tmp_path / "other.yaml", tmp_path / "walk.py"
    other.write_text("n_epochs: 1")
    env.write_text(ENVIRONMENT.replace("CRASH", "assert '/other/' not in ' '.join(sys.argv), 'a trap'"))
    words = ["--env", f"{env}:Walk", "--against", str(other), "--seeds", "1", "-n", "512", "--out", str(out), "--json"]
    assert main(words) == 1
    told = capsys.readouterr().out
    assert "other seed 0 FAILED: failed with exit code 1: " in told
    assert json.loads(told.splitlines()[-1])["failed"] == 1
    (failure,) = json.loads((out / "comparison.json").read_text())["failures"]
    assert (failure["label"], failure["seed"], failure["env"]) == ("other", 0, f"{env}:Walk")
    assert "a trap" in failure["error"]
    ours = out / "runs" / "ours" / "Walk__ppo__s0" / "result.json"
    kept = ours.read_bytes()

    env.write_text(ENVIRONMENT.replace("CRASH", "pass"))
    assert main(words) == 0
    assert printed_json(capsys) == {"out": str(out), "runs": 2, "reused": 1, "trained": 1, "failed": 0}
    assert json.loads((out / "comparison.json").read_text())["failures"] == []
    assert ours.read_bytes() == kept


def test_a_folder_in_which_something_leads_elsewhere_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "out" / "runs").mkdir(parents=True)
    (tmp_path / "out" / "runs" / "ours").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="ours is a symbolic link, which is not followed"), exclusive(tmp_path / "out"):
        pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["runs"]


def test_two_comparisons_do_not_write_in_one_place(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with exclusive(tmp_path), pytest.raises(UserError, match="another comparison is writing in"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path) as lock:
        assert os.get_inheritable(lock) is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seeds 2", "which environments?"),
        ("--env CartPole-v1 --seeds 0", "--seeds: 0 given, at least 1 expected"),
        ("--env CartPole-v1 -n 0", "--total-timesteps: 0 given"),
        ("--env CartPole-v2", "there is no environment 'CartPole-v2'. Did you mean CartPole-v1?"),
        ("--env CartPole-v1 --algos sca", f"'sca' given, {'|'.join(registry.names())} expected"),
        ("--env CartPole-v1 --against sb4", "Did you mean sb3?"),
        (
            "--env CartPole-v1 --against --seeds 2",
            "--against: nothing given, sb3|sb3:ALGO|FILE.yaml|RUN|MODEL.zip ... ",
        ),
        ("--env CartPole-v1 --no-video", "--no-video changes nothing here, as videos are made of finished runs"),
        ("--env CartPole-v1 --vec-normalize x", "--vec-normalize changes nothing here, as it goes with a MODEL.zip"),
        ("--env CartPole-v1 --worker 2", "unknown flag. Did you mean --workers"),
    ],
)
def test_what_cannot_be_compared_is_told(words, message, capsys):
    assert main([*words.split(), "--list"]) == 2
    assert message in capsys.readouterr().err


def test_quick_is_small_and_flags_go_over_it(tmp_path, capsys):
    assert main(["--quick", "--list", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("CartPole-v1 ppo ours: 50,000 steps, 3 seeds")
    assert main(["--quick", "--algos", "dqn", "--seeds", "2", "--list", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("CartPole-v1 dqn sb3: 50,000 steps, 2 seeds")
