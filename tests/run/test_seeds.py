"""Names of run folders, and several seeds by one command."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from agents.run import folder as module
from agents.run import seeds
from agents.run.config import RunConfig
from agents.run.folder import RunFolder, begun, runs_in
from agents.run.seeds import rest_command
from agents.run.summary import Summary
from agents.train import main
from tests.run import user_envs
from tests.run.running import assert_same_run, signals_at, train

SMALL = "--env CartPole-v1 -n 512 --n-envs 4 --n-steps 64 --eval-freq 256 --eval-episodes 2 --final-eval-episodes 3"


def called(folder: Path, words: str) -> int:
    places = ["--runs-dir", str(folder / "runs"), "--replays-dir", str(folder / "replays"), "--no-record", "--quiet"]
    return main([*SMALL.split(), *words.split(), *places])


def test_the_folders_name_has_the_name_and_none_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunFolder(train(tmp_path / "x", f"{SMALL} --name lr-1e-4")).config()
    assert config.name == "lr-1e-4"
    monkeypatch.setattr(module.time, "strftime", lambda _: "20260102-030405")
    made = [RunFolder.create(tmp_path / "runs", config).path for _ in range(2)]
    stem = "CartPole-v1__ppo__lr-1e-4__s0__20260102-030405"
    assert [run.name for run in made] == [stem, f"{stem}-2"]
    monkeypatch.undo()  # reading times takes the same clock
    assert [str(begun(run)) for run in made] == ["2026-01-02 03:04:05"] * 2
    mine = tmp_path / "mine"
    mine.mkdir()
    os.utime(mine, (1_000_000_000, 1_000_000_000))
    assert begun(mine) == datetime.fromtimestamp(1_000_000_000), "a name without a time"


def test_each_seed_is_a_run_like_one_trained_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(tmp_path, "--seed 3 --seeds 2 --name two --json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["seed"] for one in found] == [3, 4]
    runs = runs_in(tmp_path / "runs")
    assert {str(run) for run in runs} == {one["run"] for one in found}
    assert all("__two__" in run.name for run in runs)
    assert_same_run(Path(found[1]["run"]), train(tmp_path / "alone", f"{SMALL} --seed 4 --name two"))


def test_side_by_side_each_is_like_one_trained_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(tmp_path, "--seed 3 --seeds 3 --workers 2 --name two --json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["seed"] for one in found] == [3, 4, 5]
    assert_same_run(Path(found[1]["run"]), train(tmp_path / "alone", f"{SMALL} --seed 4 --name two"))


def test_side_by_side_what_fails_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = f"{user_envs.__file__}:Faulty"
    words = f"--env {env} --env-kwargs fault=raises at=20 --seeds 2 --workers 2 --vec sync --no-record --quiet"
    assert main([*words.split(), "--runs-dir", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert re.search("seed [01] failed with exit code 2: .*the ball left the field", told)


def test_side_by_side_a_stop_saves_all(tmp_path: Path) -> None:
    words = f"{SMALL} -n 100000000 --seeds 3 --workers 2 --no-record --runs-dir {tmp_path} --json"
    process = subprocess.Popen([sys.executable, "-m", "agents.train", *words.split()], stdout=subprocess.PIPE)
    while len(list(tmp_path.glob("*/progress.csv"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    told = process.communicate()[0].decode()
    assert process.returncode == 130
    assert [one["interrupted"] for one in json.loads(told.splitlines()[-1])] == [True, True]
    for run in runs_in(tmp_path):
        assert RunFolder(run).resumable() is not None
        assert f"python -m agents.train --resume {run}" in told
    assert "--seed 2 --seeds 1" in told


def test_the_summary_has_mean_and_spread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(config: RunConfig, **_: object) -> Summary:
        mean = [10.0, 20.0, 60.0][config.seed]
        return replace(one, run="r", seed=config.seed, eval_mean=mean)

    run = RunFolder(train(tmp_path, SMALL))
    one = Summary(**json.loads((run.path / "summary.json").read_text()))
    monkeypatch.setattr(seeds.runner, "train", reached)
    seeds.train_seeds(run.config(), 3, [], quiet=False)
    told = capsys.readouterr().out
    assert "30.0 over 3 seeds" in told
    assert "standard deviation 26.5, 10.0 to 60.0" in told
    assert "python -m agents.compare r r r" in told


def test_a_stop_ends_all_and_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--runs-dir", str(tmp_path), "--replays-dir", str(tmp_path / "replays"), "--no-record"]
    with signals_at(300, signal.SIGINT):
        assert main([*SMALL.split(), "--seeds", "3", "--json", *places]) == 130
    (run,) = runs_in(tmp_path)
    told = capsys.readouterr().out
    assert [one["interrupted"] for one in json.loads(told.splitlines()[-1])] == [True]
    assert f"python -m agents.train --resume {run}" in told
    (line,) = [line for line in told.splitlines() if "the seeds left" in line]
    assert line.split(maxsplit=3)[3] == rest_command([*SMALL.split(), "--json", *places], 1, 2)


def test_at_once_stopped_the_seeds_left_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with signals_at(300, signal.SIGINT, signal.SIGINT):
        assert called(tmp_path, "--seeds 2") == 130
    assert len(runs_in(tmp_path / "runs")) == 1
    told = capsys.readouterr().err
    assert "The seeds that were not begun: python -m agents.train" in told
    assert "--seed 1 --seeds 1" in told


def test_the_command_for_the_rest_keeps_all_other_flags() -> None:
    argv = shlex.split("--seed 5 --env 'a b' --seeds=3 --name x --seeds 4 -n 10 --seed=2")
    assert shlex.split(rest_command(argv, 7, 1))[3:] == shlex.split("--env 'a b' --name x -n 10 --seed 7 --seeds 1")


@pytest.mark.parametrize(
    ("words", "said"),
    [("--seeds 0", "0 given"), ("--seeds -2", "-2 given"), ("--seeds 1000000000", "1000000000 given")],
)
def test_too_few_or_too_many_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    assert called(tmp_path, words) == 2
    assert f"--seeds: {said}, from 1 to 10000 expected." in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, SMALL)
    assert main(["--resume", str(run), "--seeds", "2"]) == 2
    assert "--seeds: 2 given, on --resume there is one run." in capsys.readouterr().err
