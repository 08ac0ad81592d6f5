"""`python -m agents.bench` as it is typed, with programs that only pretend."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

import pytest

from agents.bench import main
from agents.core.signals import handling
from agents.lab.benchmark import catalogue
from agents.lab.benchmark.catalogue import CatalogueEntry
from tests.lab.benchmark.fakes import printing, program
from tests.printed import printed_json


@pytest.fixture
def cases(monkeypatch):
    """A catalogue of two cases and of one that needs a GPU; there is none."""
    fast, slow = printing("ours", {"steps_per_s": 30}), printing("SB3", {"steps_per_s": 10}, baseline=True)
    found = {
        "ppo-same": CatalogueEntry("speed", lambda plan: [fast, slow], quick=True),
        "ppo-64": CatalogueEntry("more speed", lambda plan: [fast, slow]),
        "ppo-cuda": CatalogueEntry("on a GPU", lambda plan: [fast], cuda=True),
    }
    for name in set(catalogue.CATALOGUE) - set(found):
        monkeypatch.delitem(catalogue.CATALOGUE, name)
    for name, entry in found.items():
        monkeypatch.setitem(catalogue.CATALOGUE, name, entry)
    monkeypatch.setattr(catalogue, "worker", lambda task: printing("warm", {"gpu": None}).command)


def test_it_measures_saves_and_prints(cases, tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--json", "--rounds", "2"]) == 0
    printed = printed_json(capsys)
    assert printed == json.loads((tmp_path / "bench.json").read_text())
    assert printed["cases"].keys() == {"ppo-same", "ppo-64"}
    ours, base = printed["cases"]["ppo-64"]["results"]
    assert (ours["ratio"], base["ratio"], len(ours["runs"]), ours["runs"][1]["seed"]) == (3, 1, 2, 1)
    assert (printed["rounds"], printed["machine"]["gpu"], printed["interrupted"]) == (2, None, False)
    assert "ppo-cuda (needs a CUDA GPU)" in printed["left_out"]


def test_quick_and_a_place_of_its_own(cases, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--quick", "--json"]) == 0
    printed = printed_json(capsys)
    assert (printed["cases"].keys(), printed["rounds"], printed["seeds"]) == ({"ppo-same"}, 2, 1)
    (folder,) = (tmp_path / "runs" / "bench").iterdir()
    assert json.loads((folder / "bench.json").read_text()) == printed


def test_a_peer_runs_beside_and_its_failure_is_told(cases, tmp_path, capsys):
    for name, code in (("good", "print('{\"steps_per_s\": 20}')"), ("bad", "raise SystemExit('cannot')")):
        content = {"name": name, "task": "ppo-same", "command": [sys.executable, "-c", code]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = [str(tmp_path / "good.json"), str(tmp_path / "bad.json")]
    assert main(["--cases", "ppo-same", "--rounds", "1", "--out", str(tmp_path), "--json", "--peers", *files]) == 1
    _, _, good, bad = printed_json(capsys)["cases"]["ppo-same"]["results"]
    assert good["ratio"] == 2
    assert bad["errors"] == ["failed with exit code 1: cannot"]


def test_an_interruption_keeps_what_was_measured(cases, tmp_path, capsys, monkeypatch):
    waiting = tmp_path / "waiting"
    endless = program("endless", f"open({str(waiting)!r}, 'w'); import time; time.sleep(10**6)")
    first = printing("ours", {"steps_per_s": 30})
    monkeypatch.setitem(catalogue.CATALOGUE, "ppo-64", CatalogueEntry("speed", lambda plan: [first, endless]))

    over = threading.Event()

    def interrupt() -> None:
        while not waiting.exists():
            if over.wait(0.02):  # the command has ended of itself: another test would be interrupted
                return
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    with handling(signal.default_int_handler, signal.SIGINT):  # a background job may have been told to ignore it
        thread.start()
        try:
            assert main(["--cases", "ppo-64", "--out", str(tmp_path / "out"), "--json"]) == 130
        finally:
            over.set()
            thread.join()
    printed = printed_json(capsys)
    assert printed["interrupted"]
    assert [found["name"] for found in printed["cases"]["ppo-64"]["results"]] == ["ours"]
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == printed


def test_list_shows_the_commands_and_measures_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--list", "--cases", "ppo-same", "ppo-cuda"]) == 0
    printed = capsys.readouterr().out
    assert "agents.train --env CartPole-v1 --algo ppo" in printed
    assert "; it needs a CUDA GPU" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--cases ppo-sam", "--cases: there is no case 'ppo-sam'. Did you mean ppo-same"),
        ("--rounds 0", "--rounds: 0 given, at least 1 expected"),
        ("--seeds -1", "--seeds: -1 given, at least 1 expected"),
        ("--peers nothing.yaml", "nothing.yaml: there is no such config file"),
        ("--device cuda", "--device cuda: PyTorch finds no CUDA GPU here"),
        ("--case ppo-same", "--case: unknown flag. Did you mean --cases"),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_is_measured(
    cases, capsys, words, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
