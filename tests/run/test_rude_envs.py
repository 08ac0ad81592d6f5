"""Environments that misbehave towards the process that they are in: no run is lost to them, and none differs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.run import seeds
from agents.run.folder import RunFolder
from agents.train import main
from tests.printed import printed_json
from tests.run.running import USER_ENVS, assert_same, read_tree, rows, signals_at, train
from tests.waiting import HANGS

WORDS = "--n-envs 2 --n-steps 32 --batch-size 32 -n 512 --eval-freq 128 --eval-episodes 2 --final-eval-episodes 2"
WORDS += " --device cpu --target-reward none"
RUDE = f"--env {USER_ENVS}:Rude {WORDS}"
HARMLESS = "chdir print seed signals"


def rude(manners: str) -> list[str]:
    return ["--env-kwargs", f"manners='{manners}'"]


@pytest.mark.parametrize("vec", ["sync", "async"])
@pytest.mark.filterwarnings("ignore:environment . raised ConnectionResetError when it was closed")
def test_a_finished_run_is_whole(
    vec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    manners = rude(f"{HARMLESS} close")
    assert main([*RUDE.split(), *manners, "--vec", vec, "--quiet", "--json", "--record-steps", "20"]) == 0
    assert Path.cwd() == tmp_path
    summary = printed_json(capsys)
    assert signal.getsignal(signal.SIGINT) == before
    assert summary["run"].startswith("runs/"), "as it was typed"
    run = tmp_path / summary["run"]
    assert RunFolder(run).concluded() == 512
    assert len(list((tmp_path / "replays").rglob("*.mp4"))) == 1
    quiet = train(tmp_path / "polite", f"{RUDE} --env-kwargs manners='' --vec {vec}")
    assert_same(read_tree(quiet, "model")[0], read_tree(run, "model")[0])
    for name in ("progress.csv", "evaluations.csv"):
        assert rows(quiet, name) == rows(run, name)


@pytest.mark.filterwarnings("ignore:environment . raised ConnectionResetError when it was closed")
def test_ctrl_c_reaches_a_run_whose_environment_took_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with signals_at(300, signal.SIGINT):
        assert main([*RUDE.split(), *rude(HARMLESS), "--vec", "sync", "--quiet", "--no-record"]) == 130
    (run,) = Path("runs").iterdir()
    assert 300 <= RunFolder(run).checkpoints()[-1][0] < 512


def test_every_seed_begins_where_the_command_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    starting = seeds.start_child
    begun: list[Path] = []
    monkeypatch.setattr(seeds, "start_child", lambda *given: (begun.append(Path.cwd()), starting(*given))[1])
    monkeypatch.setattr(seeds, "useful", lambda *_: (2, ""))
    words = [*RUDE.split(), *rude("chdir"), "--vec", "sync", "--quiet", "--no-record", "--seeds", "3"]
    assert main(words) == 0
    assert begun == [tmp_path]
    assert len(list(Path("runs").iterdir())) == 3


@pytest.mark.parametrize("vec", ["sync", "async"])
def test_an_error_without_words_is_told(vec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, f"--env {USER_ENVS}:Speechless {WORDS} --vec {vec}", code=2)
    error, note = capsys.readouterr().err.splitlines()
    assert error.startswith("error: environment 0 raised Silent at step ")
    assert error.endswith("(its text cannot be read: ValueError)")
    assert note.startswith("What was learnt is saved.")


def test_a_thread_that_an_environment_leaves_does_not_keep_the_command_from_ending(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agents.train", *RUDE.split(), *rude("thread"), "--vec", "sync", "--no-record"]
    environ = os.environ | {"PYTHONPATH": str(USER_ENVS.parents[2])}
    done = subprocess.run(
        [*command, "--quiet", "--json"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=HANGS
    )
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["steps"] == 512
    assert "'left by an environment'" in done.stderr
