"""Results on the screen, as JSON and as a picture."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest

from agents.lab.benchmark.case import SECONDS, Plan
from agents.lab.benchmark.report import Report, print_cases
from agents.lab.benchmark.rounds import Result
from agents.lab.machine import describe_machine
from agents.run.terminal import console
from envs.errors import UserError
from tests.lab.benchmark.fakes import case, printing, result

OURS, BASE, PEER = (printing(name, {}, baseline=name == "SB3, 1 thread") for name in ("ours", "SB3, 1 thread", "other"))
SPEEDS = case(OURS, BASE, PEER, repeats=3)
PHASES = {"act": 0.2, "env": 0.1, "copy": 0.1, "learn": 0.55, "rest": 0.05}


@pytest.fixture
def report(tmp_path: Path) -> Report:
    report = Report(Plan(), describe_machine(), ["ppo-cuda (needs a CUDA GPU)"], tmp_path / "new" / "bench")
    report.add(result(SPEEDS, OURS, 12_000, 10_000, 11_000, threads=1, phases=PHASES))
    report.add(result(SPEEDS, BASE, 5_000, 5_500, 6_000, threads=1))
    report.add(Result(SPEEDS, PEER, ["failed with exit code 1: no such thing"] * 3))
    return report


def shown(report: Report) -> str:
    screen = console(width=80, record=True, file=io.StringIO())
    report.show(screen)
    return screen.export_text()


def test_the_table_has_each_program_with_its_ratio(report):
    text = shown(report)
    rows = {line[:21].strip(): line.split() for line in text.splitlines()}
    assert rows["ours"] == ["ours", "11,000", "10,000", "to", "12,000", "2.00x", "100", "1"]
    assert rows["SB3, 1 thread"][3:] == ["5,500", "5,000", "to", "6,000", "baseline", "100", "1"]
    assert rows["other"] == ["other", "failed"]
    assert text.count("other: failed with exit code 1: no such thing") == 1
    assert rows["ppo-same, ours"][2:] == ["20", "10", "10", "55", "5"]
    assert "ppo-cuda (needs a CUDA GPU)" in text
    assert "…" not in text
    assert "interrupted" not in text
    report.interrupted = True
    assert "interrupted" in shown(report)


def test_a_run_whose_parts_are_not_the_whole_is_told_and_not_shown(report):
    report.add(Result(SPEEDS, PEER, [{"steps_per_s": 1.0, "peak_mb": 1.0, "refused": "too little was timed"}]))
    text = shown(report)
    assert "ppo-same, other: not shown where its time goes: too little was timed" in text
    assert not any(line.startswith("ppo-same, other  ") for line in text.splitlines())


def test_what_cases_need_is_listed():
    screen = console(width=200, record=True, file=io.StringIO())
    print_cases(screen, [dataclasses.replace(SPEEDS, missing="needs a CUDA GPU"), SPEEDS], [])
    lines = [line for line in screen.export_text().splitlines() if line.startswith("ppo-same")]
    assert [line.endswith("times; it needs a CUDA GPU") for line in lines] == [True, False]


def test_what_solves_says_how_often(tmp_path):
    of = case(OURS, BASE, measure=SECONDS, target=475.0)
    report = Report(Plan(), describe_machine(), [], tmp_path)
    report.add(Result(of, OURS, [{"total_s": 4.0, "eval_mean": 500.0}, {"total_s": 5.0, "eval_mean": 470.0}]))
    assert "ours: 1 of 2 solved (500, 470)" in shown(report)
    assert report.to_json()["cases"]["ppo-same"]["results"][0]["solved"] == 1


def test_the_document_is_written_after_every_run(report):
    saved = json.loads((report.folder / "bench.json").read_text())
    assert saved == json.loads(json.dumps(report.to_json()))
    assert saved["machine"]["cores"] >= saved["machine"]["usable"] >= 1
    assert saved["machine"]["memory_gb"] > 0
    assert saved["machine"]["cpu"]
    assert saved["versions"]["torch"]
    found = saved["cases"]["ppo-same"]
    ours, base, peer = found["results"]
    assert (found["baseline"], found["measure"]) == ("SB3, 1 thread", "steps_per_s")
    assert (ours["median"], ours["min"], ours["max"], ours["ratio"]) == (11_000, 10_000, 12_000, 2.0)
    assert [run["steps_per_s"] for run in ours["runs"]] == [12_000, 10_000, 11_000]
    assert base["ratio"] == 1
    assert (peer["median"], peer["runs"], len(peer["errors"])) == (None, [], 3)
    assert report.failed


def test_a_line_tells_the_latest_run(report):
    ours, _, peer = report.results.values()
    assert report.add(ours) == "ppo-same 3/3, ours: 11,000 steps/s"
    assert report.add(peer) == "ppo-same 3/3, other: failed with exit code 1: no such thing"


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot create"):
        Report(Plan(), {}, [], tmp_path / "file" / "bench")
