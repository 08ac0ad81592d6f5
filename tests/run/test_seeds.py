"""Names of run folders, and several seeds by one command."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agents.learning.results import Diverged
from agents.run import children, seeds
from agents.run import folder as module
from agents.run.build import build
from agents.run.children import Child, ended_at_last, start_child
from agents.run.config import Layer, RunConfig, resolve
from agents.run.folder import RunFolder, begun, runs_in
from agents.run.seeds import rest_command, rest_commands
from agents.run.shared import SharedSeeds
from agents.run.sinks import ConsoleSink
from agents.run.summary import Summary
from agents.train import main
from envs.errors import UserError
from tests.printed import printed_json
from tests.run import user_envs
from tests.run.running import assert_same_run, signals_at, train
from tests.waiting import HANGS

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
    assert called(tmp_path, "--seed 3 --seeds 2 --workers 1 --name two --json") == 0
    found = printed_json(capsys)
    assert [one["seed"] for one in found] == [3, 4]
    runs = runs_in(tmp_path / "runs")
    assert {str(run) for run in runs} == {one["run"] for one in found}
    assert all("__two__" in run.name for run in runs)
    assert_same_run(Path(found[1]["run"]), train(tmp_path / "alone", f"{SMALL} --seed 4 --name two"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    """Return the processes that are started beside this one, which waits until each has taken a seed."""
    found = list[Child]()

    def starting(module: list[str], errors: Path, beside: int) -> Child:
        found.append(start_child(module, errors, beside))
        (place,) = module[module.index("--beside") + 1 :]
        while str(found[-1].process.pid) not in [file.read_text() for file in Path(place).glob("*.taken")]:
            assert not found[-1].ended
            time.sleep(0.05)
        return found[-1]

    monkeypatch.setattr(seeds, "start_child", starting)
    return found


@pytest.mark.parametrize(
    ("given", "beside", "threads"),
    [(None, 2, "4"), ("1", 2, "1"), ("6", 2, "4"), ("0", 2, "4"), ("2,1", 2, "2"), ("3", 16, "1")],
)
def test_a_child_has_its_share_of_cores_and_no_more_threads_than_the_environment_allows(
    given: str | None, beside: int, threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "cores", lambda: 8)
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    asked = dict[str, str]()
    monkeypatch.setattr(children.subprocess, "Popen", lambda *_, env, **__: asked.update(env))
    start_child(["x"], tmp_path / "errors", beside)
    assert (asked["OMP_NUM_THREADS"], asked["MKL_NUM_THREADS"]) == (threads, threads)


def test_by_default_as_many_as_pay_and_each_is_like_one_trained_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, started: list[Child]
) -> None:
    asked = []
    monkeypatch.setattr(seeds, "useful", lambda training, count: asked.append((training.step, count)) or (2, ""))
    assert called(tmp_path, "--seed 3 --seeds 3 --name two --json") == 0
    assert {*asked} == {(0, 3)}, "before the first step of each run of this process"
    found = printed_json(capsys)
    assert [one["seed"] for one in found] == [3, 4, 5]
    assert len(runs_in(tmp_path / "runs")) == 3
    assert len(started) == 1, "it has trained the first"
    for one in found[:2]:  # the second is the other process's
        alone = train(tmp_path / f"alone-{one['seed']}", f"{SMALL} --seed {one['seed']} --name two")
        assert_same_run(Path(one["run"]), alone)


def test_one_that_diverges_leaves_the_others_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = seeds.runner.train

    def diverging(config: RunConfig, **how: Any) -> Summary:
        if config.seed == 0:
            error = Diverged("the training diverged")
            error.add_note("a note of it")
            raise error
        return really(config, **how)

    monkeypatch.setattr(seeds.runner, "train", diverging)
    assert called(tmp_path, "--seeds 3 --workers 1 --json") == 2
    assert [RunFolder(run).config().seed for run in runs_in(tmp_path / "runs")] == [1, 2]
    told = capsys.readouterr()
    assert "seed 0 failed: the training diverged\na note of it" in told.err
    assert [one["seed"] for one in json.loads(told.out.splitlines()[-1])] == [1, 2]


def test_an_error_that_all_would_end_in_ends_the_first_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def failing(config: RunConfig, **_: Any) -> Summary:
        tried.append(config.seed)
        raise UserError("no such thing")

    monkeypatch.setattr(seeds.runner, "train", failing)
    assert called(tmp_path, "--seeds 3 --workers 1") == 2
    assert tried == [0]
    assert "error: no such thing" in capsys.readouterr().err


def test_a_process_that_dies_loses_its_seed_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def dying(module: list[str], errors: Path, beside: int) -> Child:
        (place,) = module[module.index("--beside") + 1 :]
        started.append(start_child(["tests.run.dying", place, "0", "3"], errors, beside))
        while not (Path(place) / "0.taken").exists():
            time.sleep(0.05)
        return started[-1]

    monkeypatch.setattr(seeds, "start_child", dying)
    assert called(tmp_path, "--seeds 3 --workers 2") == 2
    assert [RunFolder(run).config().seed for run in runs_in(tmp_path / "runs")] == [1, 2]
    assert "seed 0 failed: its process failed with exit code 9" in capsys.readouterr().err
    assert len(started) == 1


@pytest.mark.parametrize(
    ("place", "name", "value", "why"),
    [
        (None, "overlaps", True, "its environments take other cores"),
        (seeds.torch, "get_num_threads", lambda: 2, "its updates take several threads"),
        (seeds, "free_bytes", lambda _: 5_000, "memory is short"),
    ],
)
def test_it_pays_where_one_core_is_enough(
    monkeypatch: pytest.MonkeyPatch, place: Any, name: str, value: Any, why: str
) -> None:
    params = {"total_timesteps": 64, "n_envs": 2, "n_steps": 16, "batch_size": 16}
    training = build(resolve([Layer("test", {"env": "CartPole-v1", "algo": "ppo", **params})]))
    monkeypatch.setattr(seeds, "cores", lambda: 4)
    monkeypatch.setattr(seeds, "free_bytes", lambda _: 8 * training.data_bytes)
    assert [seeds.useful(training, count)[0] for count in (1, 3, 10)] == [1, 3, 4]
    monkeypatch.setattr(training.env if place is None else place, name, value, raising=False)
    assert seeds.useful(training, 10) == (1, why)


def test_why_there_is_one_at_a_time_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "useful", lambda training, count: (1, "so it is"))
    places = ["--runs-dir", str(tmp_path), "--no-record"]
    assert main([*SMALL.split(), "--seeds", "2", *places]) == 0
    assert capsys.readouterr().out.count("one seed after the other, as so it is (--workers N: N at a time)") == 1


def test_each_process_takes_another_seed(tmp_path: Path) -> None:
    one, other = SharedSeeds(tmp_path, range(3, 6)), SharedSeeds(tmp_path, range(3, 6))
    assert [one.take(), other.take(), one.take(), other.take()] == [3, 4, 5, None]
    assert one.left() == []


def test_side_by_side_what_fails_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = f"{user_envs.__file__}:Faulty"
    words = f"--env {env} --env-kwargs fault=raises at=20 --seeds 2 --workers 2 --vec sync --no-record --quiet"
    assert main([*words.split(), "--runs-dir", str(tmp_path)]) == 2
    assert "the ball left the field" in capsys.readouterr().err


def test_side_by_side_a_stop_saves_all(tmp_path: Path) -> None:
    words = f"{SMALL} -n 100000000 --target-reward none --seeds 3 --workers 2 --no-record --runs-dir {tmp_path} --json"
    program = "import sys; from agents import train; from agents.run import children; "
    program += f"children.SECONDS_TO_SAVE = {HANGS}; sys.exit(train.main())"
    process = subprocess.Popen([sys.executable, "-c", program, *words.split()], stdout=subprocess.PIPE)
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
    seeds.train_seeds(run.config(), 3, [], workers=1, quiet=False)
    told = capsys.readouterr().out
    assert "30.0 over 3 seeds" in told
    assert "standard deviation 26.5, 10.0 to 60.0" in told
    assert "agents.compare" not in told, "runs of the same settings are one side"


def test_a_stop_ends_all_and_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--runs-dir", str(tmp_path), "--replays-dir", str(tmp_path / "replays"), "--no-record"]
    with signals_at(300, signal.SIGINT):
        assert main([*SMALL.split(), "--seeds", "3", "--workers", "1", "--json", *places]) == 130
    (run,) = runs_in(tmp_path)
    told = capsys.readouterr().out
    assert [one["interrupted"] for one in json.loads(told.splitlines()[-1])] == [True]
    assert f"python -m agents.train --resume {run}" in told
    (line,) = [line for line in told.splitlines() if "the seeds left" in line]
    assert line.split(maxsplit=3)[3] == rest_command([*SMALL.split(), "--workers", "1", "--json", *places], 1, 2)


def test_at_once_stopped_the_seeds_left_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with signals_at(300, signal.SIGINT, signal.SIGINT):
        assert called(tmp_path, "--seeds 2 --workers 1") == 130
    assert len(runs_in(tmp_path / "runs")) == 1
    told = capsys.readouterr().err
    assert "The seeds that were not begun: python -m agents.train" in told
    assert "--seed 1 --seeds 1" in told


def test_a_process_that_came_too_late_is_not_waited_for(tmp_path: Path) -> None:
    shared = SharedSeeds(tmp_path, range(2))
    helpers = seeds.Helpers(tmp_path, [], ConsoleSink(1, quiet=True))
    sleeping = ["timeit", "-n1", "-r1", "__import__('time').sleep(10**6)"]
    helpers.running[0] = start_child(sleeping, tmp_path / "errors.txt", 2)
    with ended_at_last(helpers.running):
        for seed in (0, 1):
            shared.fail(seed, UserError("over"))
        helpers.wait(shared)
        assert list(helpers.running) == [0]


def test_the_seeds_left_are_those_that_nobody_has(tmp_path: Path) -> None:
    shared = SharedSeeds(tmp_path, range(7))
    assert [shared.take() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert shared.abandoned(os.getpid()) == 0
    for seed in (1, 2):
        shared.release(seed)
    assert shared.left() == [1, 2, 5, 6]
    assert [command[-18:] for command in rest_commands([], shared.left())] == [
        "--seed 1 --seeds 2",
        "--seed 5 --seeds 2",
    ]


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


def test_seeds_that_no_run_may_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(tmp_path, f"--seed {2**64 - 1} --seeds 2") == 2
    said = f"error: --seeds: 2 given, but from --seed {2**64 - 1} on there are 1 below 2^64.\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, SMALL)
    assert main(["--resume", str(run), "--seeds", "2"]) == 2
    assert "--seeds: 2 given, on --resume there is one run." in capsys.readouterr().err
