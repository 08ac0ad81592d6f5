"""A run's folder: unique, complete, found again, and nothing else taken for one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from agents.run import folder as module
from agents.run.config import FLAGS, Layer, RunConfig, resolve
from agents.run.folder import RunFolder, find_latest_run, runs_in
from envs.errors import UserError


def config(**values: object) -> RunConfig:
    return resolve([Layer(FLAGS, {"env": "native/CartPole-v1", "seed": 3, **values})], packaged=False)


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    datetime.strptime("2026", "%Y")  # its first call asks strftime for the names of days
    monkeypatch.setattr(module.time, "strftime", lambda _: "20260102-030405")


@pytest.mark.usefixtures("stopped_clock")
def test_names_are_telling_and_unique_within_a_second(tmp_path: Path) -> None:
    made = [RunFolder.create(tmp_path / "a" / "runs", config()).path for _ in range(3)]
    label = module.env_label("native/CartPole-v1")
    assert [path.name for path in made] == [f"{label}__ppo__s3__20260102-030405{end}" for end in ("", "-2", "-3")]
    assert all(path.parent == tmp_path / "a" / "runs" for path in made)


def test_a_new_run_holds_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["python", "-m", "agents.train", "--env", "a b"]
    monkeypatch.setattr(sys, "orig_argv", command)
    run = RunFolder.create(tmp_path, config(device="cpu"), threads=1)
    assert run.config() == config(device="cpu")
    assert shlex.split((run.path / "command.txt").read_text()) == command
    versions = json.loads((run.path / "versions.json").read_text())
    assert {"python", "platform", "torch", "numpy", "gymnasium", "git", "device", "threads"} <= versions.keys()
    assert (versions["device"], versions["threads"]) == ("cpu", 1)
    assert versions["numpy"].count(".") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_words_that_are_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word = os.fsdecode(b"a\xff")
    monkeypatch.setattr(sys, "orig_argv", ["python", "--replays-dir", word])
    run = RunFolder.create(tmp_path, config())
    assert (run.path / "command.txt").read_bytes() == b"python --replays-dir 'a\xff'\n"
    with pytest.raises(UserError, match="this path is not UTF-8"):
        RunFolder.create(tmp_path / word, config())
    assert not (tmp_path / word).exists()
    for setting in ({"action_names": ["left", word]}, {"env_kwargs": {"file": word}}):
        with pytest.raises(UserError, match=r"given, text in UTF-8 expected"):
            config(**setting)


def test_git_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "agents" / "run" / "folder.py"
    source.parent.mkdir(parents=True)
    source.write_text("x")
    monkeypatch.setattr(module, "__file__", str(source))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # a user's settings may sign commits, or run hooks
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    assert module.versions.__wrapped__()["git"] is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "v1")
    assert module.versions.__wrapped__()["git"] == git("rev-parse", "HEAD")
    source.write_text("y")
    assert module.versions.__wrapped__()["git"] == git("rev-parse", "HEAD") + "+"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.versions.__wrapped__()["git"] is None


def test_runs_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match=r"cannot create .*/runs/.*: not a directory"):
        RunFolder.create(tmp_path / "runs", config())


def test_checkpoints_are_sorted_by_step_and_nothing_else_counts(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, config())
    assert run.checkpoints() == []
    steps = [0, 900, 1_000, 20_000, 10**11, 10**13]
    for step in reversed(steps):
        run.checkpoint(step).mkdir(parents=True)
    for other in (".000000000007.tmp-1", "7x", "latest", "²"):
        (run.path / "checkpoints" / other).mkdir()
    (run.path / "checkpoints" / "8").write_text("a file")
    assert run.checkpoints() == [(step, run.checkpoint(step)) for step in steps]
    names = [run.checkpoint(step).name for step in steps[:-1]]
    assert names == sorted(names)


def test_open_again(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, config())
    assert RunFolder.open(run.path) == run


@pytest.mark.usefixtures("stopped_clock")
def test_what_is_no_run(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, config())
    run.checkpoint(5).mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    misspelt = run.path.with_name(run.path.name.replace("CartPole", "CartPool"))
    for path, message in [
        (misspelt, rf"is no run folder: it does not exist.*config.yaml.*Did you mean {run.path.name}\?"),
        (tmp_path / "empty", rf"it has no config.yaml.*Beside it: {run.path.name}\."),
        (tmp_path / "file", "it is a file"),
        (tmp_path, rf"it has no config.yaml.*It holds {run.path.name}\."),
        (run.checkpoint(5), f"It lies in the run {run.path}"),
        (run.config_file, f"It lies in the run {run.path}"),
        (tmp_path / "far" / "away", "it does not exist"),
    ]:
        with pytest.raises(UserError, match=message):
            RunFolder.open(path)


def test_a_spoilt_config_is_told(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, config())
    run.config_file.write_text(run.config_file.read_text().replace("gamma: 0.99", "gamma: 7"))
    with pytest.raises(UserError, match=r"config.yaml: gamma: 7 is out of range"):
        run.config()


def test_resume_notes_the_command_and_tidies(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, config())
    run.checkpoint(5).mkdir(parents=True)
    (run.path / ".best.tmp-1").mkdir()
    (run.path / ".best.previous").mkdir()
    (run.path / "checkpoints" / ".000000000006.tmp-1").mkdir()
    run.tidy()
    run.resume(config(total_timesteps=7))
    assert run.config().params.total_timesteps == 7
    assert len((run.path / "command.txt").read_text().splitlines()) == 2
    assert run.best.is_dir()
    assert sorted(path.name for path in run.path.iterdir() if path.name.startswith(".")) == []
    assert [step for step, _ in run.checkpoints()] == [5]


def test_the_latest_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="holds no run"):
            find_latest_run(nothing)
    made = []
    for env, moment in (("Zebra-v0", "20260101-000000"), ("Ape-v0", "20260101-000001"), ("Cat-v0", "20251231-235959")):
        monkeypatch.setattr(module.time, "strftime", lambda _, moment=moment: moment)
        made.append(RunFolder.create(tmp_path, config(env=env)).path)
    assert find_latest_run(tmp_path) == made[1]
    assert runs_in(tmp_path) == [made[2], made[0], made[1]]
    made[0].rename(tmp_path / ".pulled.tmp-0123456789ab")  # as one that is being pulled
    assert runs_in(tmp_path) == [made[2], made[1]]


def test_summary(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, config())
    run.write_summary({"eval_mean": 1.5, "solved": None})
    assert json.loads((run.path / "summary.json").read_text()) == {"eval_mean": 1.5, "solved": None}
