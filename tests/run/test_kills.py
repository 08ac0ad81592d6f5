"""Kill a training again and again: little is lost, nothing is left behind, and it ends as one that nobody killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agents.lab.comparison.job import RESULT_FILE
from agents.run import storage
from agents.run.folder import RunFolder
from tests.marks import long_test
from tests.run.running import USER_ENVS, assert_same_run, killed_after, resume, signals_at, steps, train
from tests.run.test_resume import BUDGET, DQN, PPO, SCENARIOS, assert_killed, in_child
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks at processes in /proc")
MARK = "TEST_OF_KILLS"
SAVE = 40  # steps between checkpoints
ROUND = 102  # the most steps from one round to the next: 34 ticks of 3 environments, before DQN begins to learn
KILLED = {
    "ppo native": SCENARIOS["ppo native"],
    "dqn native": SCENARIOS["dqn native"],
    "ppo sync": SCENARIOS["ppo sync dict"],
    "dqn sync": SCENARIOS["dqn sync"],
    "ppo async": SCENARIOS["ppo async multidiscrete"],
    "dqn async": SCENARIOS["dqn async"],
}


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A word in the environment variables of all that this test starts."""
    word = f"{MARK}={uuid.uuid4().hex}"
    monkeypatch.setenv(*word.split("="))
    yield word
    for pid in processes(word):
        os.kill(pid, 9)


def processes(word: str) -> list[int]:
    """Return the processes with this word in the environment variables that they were started with."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            if not ended and word.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def kill_until_it_ends(
    words: str, folder: Path, chance: random.Random, seconds: float, marked: str
) -> tuple[Path, int]:
    """Train, killed at random within so many seconds of each start; return the run, and how often it was killed."""
    kills, run = 0, None
    while True:
        if run is None:
            command = [*words.split(), "--runs-dir", str(folder / str(kills)), "--no-record", "--quiet"]
        else:
            command = ["--resume", str(run), "--no-record", "--quiet"]
        child = in_child(command, folder.with_suffix(".said"))
        child.join(chance.uniform(0.0, seconds))
        alive = child.is_alive()
        if not alive and child.exitcode in (0, 2) and run is not None and RunFolder(run).concluded() is not None:
            return run, kills
        child.kill()
        child.join()
        wait_for(lambda: not processes(marked))
        if not alive:
            assert child.exitcode == 0, folder.with_suffix(".said").read_text()
            run = run or next((folder / str(kills)).iterdir())
            return run, kills
        if run is None:
            found = [path for path in (folder / str(kills)).glob("*") if RunFolder(path).resumable()]
            run = found[0] if found else None
        kills += 1
        if run is not None:
            saved = RunFolder(run).resumable()
            assert saved is not None, "what was saved once stays"
            assert max([0, *steps(run, "progress.csv")]) - saved[0] <= SAVE + ROUND


def assert_killed_runs_end_alike(scenario: str, least: int, folder: Path, marked: str) -> None:
    words = f"{KILLED[scenario]} {BUDGET} --save-freq {SAVE} --eval-freq 100"
    began = time.monotonic()
    unbroken = train(folder / "unbroken", words)
    seconds = time.monotonic() - began
    chance, kills = random.Random(scenario), 0
    for attempt in range(1_000):
        run, more = kill_until_it_ends(words, folder / f"killed-{attempt}", chance, seconds, marked)
        kills += more
        assert_same_run(unbroken, run)
        assert not list(run.rglob(".*")), "nothing half written is left"
        if kills >= least:
            break
    print(f"{scenario}: {kills} kills, {attempt + 1} runs")
    assert kills >= least


@long_test
@pytest.mark.parametrize("scenario", KILLED)
def test_killed_a_hundred_times_all_runs_end_as_an_unbroken_one(scenario: str, tmp_path: Path, marked: str) -> None:
    assert_killed_runs_end_alike(scenario, 17, tmp_path, marked)  # of each of the six: 102


def test_killed_with_workers_a_run_ends_as_an_unbroken_one(tmp_path: Path, marked: str) -> None:
    words = f"{KILLED['ppo async']} {BUDGET} --save-freq {SAVE} --eval-freq 100"
    unbroken = train(tmp_path / "unbroken", words)
    command = f"{words} --runs-dir {tmp_path / 'killed'}"
    for kill in (
        signals_at(130, signal.SIGKILL),
        killed_after(8, storage, "_sync"),
        signals_at(300, signal.SIGKILL),
    ):
        assert_killed([*command.split(), "--no-record", "--quiet"], kill, tmp_path / "said")
        wait_for(lambda: not processes(marked))
        (run,) = (tmp_path / "killed").iterdir()
        command = f"--resume {run}"
        saved = RunFolder(run).resumable()
        assert saved is not None
        assert max(steps(run, "progress.csv")) - saved[0] <= SAVE + ROUND
    resume(run)
    assert_same_run(unbroken, run)
    assert not list(run.rglob(".*")), "nothing half written is left"


@pytest.mark.parametrize("algorithm", [PPO, pytest.param(DQN, marks=long_test)], ids=["ppo", "dqn"])
def test_killed_while_an_environment_sleeps_nothing_is_left_behind(algorithm: str, tmp_path: Path, marked: str) -> None:
    bed = tmp_path / "bed"
    words = f"--env {USER_ENVS}:Sleeper --env-kwargs bed={bed} --vec async {algorithm} {BUDGET} --save-freq {SAVE}"
    unbroken = train(tmp_path / "unbroken", words)
    bed.touch()
    child = in_child([*words.split(), "--runs-dir", str(tmp_path / "killed"), "--no-record", "--quiet"])
    wait_for(lambda: not bed.exists())
    assert len(processes(marked)) > 1, "workers are found"
    child.kill()
    child.join()
    wait_for(lambda: not processes(marked))
    (run,) = (tmp_path / "killed").iterdir()
    resume(run)
    assert_same_run(unbroken, run)


@long_test
@pytest.mark.parametrize("starting", [0, 1, 2])
def test_a_killed_comparison_leaves_nothing_running_and_goes_on(starting: int, tmp_path: Path, marked: str) -> None:
    """Killed while its run number `starting` trains, 0 being the first."""
    small = "-n 1500 --eval-episodes 2 --final-eval-episodes 5 --seeds 2 --workers 1"
    words = [sys.executable, "-m", "agents.compare", "--env", "CartPole-v1", *small.split(), "--out", str(tmp_path)]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = f"runs/*/*/{RESULT_FILE}"
    wait_for(lambda: len(list(tmp_path.glob("runs/*/*/progress.csv"))) > starting)
    child.kill()
    child.wait()
    wait_for(lambda: not processes(marked))
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.glob(done)}
    assert len(kept) in (starting, starting + 1)
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert len(list(tmp_path.glob(done))) == 4
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "what was done is not done again"


@long_test
def test_a_killed_benchmark_leaves_nothing_running(tmp_path: Path, marked: str) -> None:
    words = [sys.executable, "-m", "agents.bench", "--cases", "ppo-64", "--rounds", "1"]
    child = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(processes(marked)) > 1)
    child.kill()
    child.wait()
    wait_for(lambda: not processes(marked))
