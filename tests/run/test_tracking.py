"""Experiment trackers are told what the run's own tables hold; a module with the same calls stands in for them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agents.run.evaluator import Evaluator
from agents.run.sinks import CsvSink
from agents.train import main
from tests.run.running import resume, rows, train

WORDS = "--env CartPole-v1 -n 256 --n-envs 2 --n-steps 32 --batch-size 64 --eval-episodes 1 --final-eval-episodes 2"


class Fake(ModuleType):
    """Notes what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.fault = ""

    def init(self, **given: Any) -> Fake:
        if self.fault:
            raise RuntimeError(self.fault)
        self.begun.append(given)
        print("a tracker says where to look")
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake(getattr(request, "param", "wandb"))
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.mark.parametrize("library", ["wandb", "trackio"], indirect=True)
def test_settings_scalars_and_scores(library: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, f"{WORDS} --track --tracker {library.__name__} --wandb-project-name mine")
    (begun,) = library.begun
    assert (begun["project"], begun["name"], begun["resume"]) == ("mine", run.name, "allow")
    assert ("id" in begun) == (library.__name__ == "wandb")
    assert (begun["config"]["env"], begun["config"]["n_steps"]) == ("CartPole-v1", 32)
    told = [(step, values) for step, values in library.logged if "train/loss" in values]
    table = rows(run, "progress.csv")
    assert [(step, values["train/loss"]) for step, values in told] == [
        (int(row["step"]), float(row["train/loss"])) for row in table
    ]
    evaluated = [(step, values["eval/mean_reward"]) for step, values in library.logged if "eval/mean_reward" in values]
    assert evaluated == [(int(row["step"]), float(row["eval/mean_reward"])) for row in rows(run, "evaluations.csv")]
    assert {"Score/best_mean_reward", "Score/final_mean_reward"} == library.logged[-1][1].keys()
    assert library.finished == 1
    assert capsys.readouterr() == ("", "a tracker says where to look\n")


def test_a_resumed_run_goes_on_under_its_name(library: Fake, tmp_path: Path) -> None:
    run = train(tmp_path, f"{WORDS} --track")
    resume(run, "-n 512 --track")
    assert [begun["id"] for begun in library.begun] == [run.name] * 2
    assert (library.logged[-1][0], library.finished) == (512, 2)


def test_what_is_missing_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert main(f"{WORDS} --track --tracker trackio --runs-dir {tmp_path}".split()) == 2
    assert capsys.readouterr().err == 'error: --track needs the package trackio: pip install -e ".[trackio]"\n'
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_refuses(library: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library.fault = "no API key\nconfigured"
    assert main(f"{WORDS} --track --runs-dir {tmp_path}".split()) == 2
    assert capsys.readouterr().err.startswith("error: --track: wandb does not begin: no API key configured")
    assert not list(tmp_path.iterdir()), "no run that has no model"
    library.fault = ""
    run = train(tmp_path, WORDS)
    before = {file: file.read_bytes() for file in (run / "summary.json", run / "config.yaml", run / "progress.csv")}
    library.fault = "no API key"
    resume(run, "-n 512 --track", code=2)
    assert before == {file: file.read_bytes() for file in before}


@pytest.mark.parametrize("call", ["log", "finish"])
def test_a_tracker_that_fails_later_takes_nothing_with_it(
    call: str, library: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        calls.append(call)
        raise ConnectionError("the network is\ngone")

    calls: list[str] = []
    monkeypatch.setattr(Fake, call, failing)
    assert main(f"{WORDS} --track --no-record --runs-dir {tmp_path}".split()) == 0
    said = "--track: nothing more is sent to wandb: ConnectionError: the network is gone"
    assert capsys.readouterr().out.count(said) == len(calls) == 1
    (run,) = tmp_path.iterdir()
    assert (run / "summary.json").is_file()
    assert library.finished == 0


def test_what_raises_as_it_is_closed_keeps_nothing_else_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Evaluator] = []
    monkeypatch.setattr(CsvSink, "close", lambda _: 1 / 0)
    monkeypatch.setattr(Evaluator, "close", lambda self: closed.append(self))
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, WORDS)
    assert closed


def test_without_the_flag_nothing_is_sent(library: Fake, tmp_path: Path) -> None:
    train(tmp_path, WORDS)
    assert not library.begun
