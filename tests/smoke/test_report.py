"""`python -m agents.report` as it is typed."""

from __future__ import annotations

import json

import pytest

from agents.report import main
from tests.lab.comparison.synthetic import CURVES, write_comparison
from tests.printed import printed_json


@pytest.fixture
def comparison(tmp_path):
    return write_comparison(tmp_path / "comparison", seeds=2)


def test_it_writes_and_prints_the_verdict(comparison, capsys):
    assert main([str(comparison), "--json"]) == 0
    printed = capsys.readouterr().out
    told = json.loads(printed.splitlines()[-1])
    assert told["report"] == str(comparison / "report" / "index.html")
    assert (told["finished"], told["unfinished"], told["failed"]) == (4, 0, 0)
    assert len(told["headlines"]) == 1
    assert told["headlines"][0].split(".")[0] in " ".join(printed.split())
    assert f"report: {comparison / 'report' / 'index.html'}" in printed


def test_elsewhere_and_with_results_from_elsewhere(comparison, tmp_path, monkeypatch, capsys):
    (tmp_path / "rllib.csv").write_text(CURVES)
    monkeypatch.chdir(tmp_path)
    assert main(["comparison", "--out", "there", "--import", "rllib.csv", "--json"]) == 0
    assert len(printed_json(capsys)["headlines"]) == 2
    assert (tmp_path / "there" / "index.html").exists()
    assert (comparison / "imported" / "rllib.csv").read_text() == CURVES
    assert not (comparison / "report").exists()


def test_a_comparison_of_nothing_but_imports(tmp_path, capsys):
    (tmp_path / "rllib.csv").write_text(CURVES)
    assert main([str(tmp_path / "new"), "--import", str(tmp_path / "rllib.csv")]) == 0
    assert "Nothing can be compared yet" in capsys.readouterr().out


def test_a_run_without_its_settings_is_damaged(tmp_path, capsys):
    (tmp_path / "versions.json").touch()
    assert main([str(tmp_path)]) == 2
    assert f"damaged: {tmp_path}: config.yaml is missing" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["missing"], "missing does not exist. A comparison folder holds comparison.json"),
        (["."], "is no comparison folder"),
        (["comparison", "--import"], "--import: nothing given"),
        (["comparison", "--import", "no.csv"], "cannot read no.csv: no such file"),
        (["comparison", "--ouf", "x"], "--out"),
        (["--imprt", "x"], "--imprt: unknown flag. Did you mean --import"),
        (["comparison", "--out", "file"], "cannot write file"),
    ],
)
def test_mistakes(comparison, tmp_path, monkeypatch, capsys, argv, says):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
