"""Comparison folders as they may be found: whole, on the way, torn, hostile; and results from elsewhere."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agents.lab.comparison.curves import read_results
from agents.lab.comparison.results import import_files, load_results
from envs.errors import UserError
from tests.lab.comparison.synthetic import CURVES, document, result, write_comparison, write_run

HEADER = "env,algo,library,seed,step,return,time\n"


def test_a_whole_comparison(tmp_path):
    found = load_results(write_comparison(tmp_path, seeds=2))
    assert sorted(run.key for run in found.runs) == [
        ("CartPole-v1", "ppo", label, seed) for label in ("ours", "sb3") for seed in (0, 1)
    ]
    stored = json.loads((tmp_path / "runs/ours/CartPole-v1__ppo__s1/result.json").read_text())
    run = next(run for run in found.runs if run.key[2:] == ("ours", 1))
    assert run.score == pytest.approx(np.mean(stored["returns"]))
    assert run.steps.tolist() == [2_500 * i for i in range(1, 21)]
    assert run.seconds[-1] == pytest.approx(stored["train_seconds"])
    assert run.figures["steps_per_s"] == stored["steps_per_s"]
    assert (found.unfinished, found.failures, found.imported) == ([], [], [])
    assert found.comparison.references["CartPole-v1"].threshold == 475


def test_runs_on_the_way_and_failures_mended_since(tmp_path):
    failed = [
        {"env": "CartPole-v1", "algo": "ppo", "label": "sb3", "seed": seed, "error": "killed\nby\x1b[2J"}
        for seed in (0, 2)
    ]
    write_comparison(tmp_path, seeds=3, failures=failed)
    for name in ("ours/CartPole-v1__ppo__s1", "sb3/CartPole-v1__ppo__s2"):
        (tmp_path / "runs" / name / "result.json").unlink()
    found = load_results(tmp_path)
    assert found.unfinished == [("CartPole-v1", "ppo", "ours", 1), ("CartPole-v1", "ppo", "sb3", 2)]
    assert [(failure.seed, failure.error) for failure in found.failures] == [(2, "killed by [2J")]
    assert len(found.runs) == 4


def test_a_model_that_was_not_trained_here(tmp_path):
    (tmp_path / "comparison.json").write_text(json.dumps(document([("CartPole-v1", "ppo")], ["mine"], 1)))
    write_run(tmp_path, result("CartPole-v1", "ppo", "mine", 0, train_seconds=0.0, steps_per_s=0.0))
    (run,) = load_results(tmp_path).runs
    assert (run.score, run.steps.size, list(run.figures)) == (15, 0, ["steps"])
    (tmp_path / "runs/mine/CartPole-v1__ppo__s0/evaluations.csv").unlink()
    assert load_results(tmp_path).runs[0].returns.size == 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text(""), "is a file"),
        (lambda path: path.mkdir(), "there is no comparison.json"),
        (lambda path: (path / "imported").mkdir(parents=True), "nothing was compared there yet"),
    ],
)
def test_no_comparison(tmp_path, make, says):
    make(tmp_path / "there")
    with pytest.raises(UserError, match=says) as error:
        load_results(tmp_path / "there")
    assert "python -m agents.compare" in str(error.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"format": ', "torn or malformed"),
        ("[" * 100_000, "torn or malformed"),
        ("[]", "no JSON object"),
        ("{}", "foreign"),
        (json.dumps(document([], [], 1, version=2)), "version 2"),
        (json.dumps(document([("E", "ppo")], [], 1) | {"pairs": [{"env": "E"}]}), r"pairs\.0\.algo"),
        (json.dumps(document([("E\x1b[2J", "ppo")], [], 1)), r"pairs\.0\.env"),
        (json.dumps(document([("E", "ppo")], [], 1, references={"E": {"random": float("nan")}})), "references"),
        (json.dumps(document([("E", "ppo")], [], 1, failures=[{"env": "E"}])), "failures"),
    ],
)
def test_a_spoilt_document(tmp_path, content, says):
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(UserError, match=rf"comparison\.json .*{says}"):
        load_results(tmp_path)


def test_seeds_are_any_that_a_training_takes(tmp_path):
    large = 2**64 - 1
    write_comparison(tmp_path, seeds=1)
    file = tmp_path / "comparison.json"
    pairs = [pair | {"seeds": [0, large]} for pair in json.loads(file.read_text())["pairs"]]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pairs": pairs}))
    write_run(tmp_path, result("CartPole-v1", "ppo", "ours", large))
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "more.csv").write_text(HEADER + f"CartPole-v1,ppo,x,{large},1,2,3\n")
    found = load_results(tmp_path)
    assert {run.key.label for run in found.runs if run.key.seed == large} == {"ours", "x (imported)"}
    assert [key.label for key in found.unfinished] == ["sb3"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"returns": []}, "returns"),
        ({"returns": [float("inf")]}, "returns"),
        ({"returns": [1e308]}, "returns"),
        ({"train_seconds": 1e308}, "train_seconds"),
        ({"returns": ["9"]}, "returns"),
        ({"steps": -1}, "steps"),
        ({"steps": 10**18}, "steps"),
        ({"seed": 1.5}, "seed"),
        ({"seed": -1}, "seed"),
        ({"label": "\u202eours"}, "label"),
        ({"env": "x" * 300}, "env"),
        ({"peak_mb": -3.0}, "peak_mb"),
    ],
)
def test_a_spoilt_result(tmp_path, changed, says):
    write_comparison(tmp_path, seeds=1)
    file = tmp_path / "runs/ours/CartPole-v1__ppo__s0/result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(UserError, match=rf"s0/result\.json is malformed: {says}"):
        load_results(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("step,time/time_elapsed\n1,2\n", "no column 'eval/mean_reward'"),
        ("step,eval/mean_reward,time/time_elapsed\n10,1,1\n20,nan,2\n", "line 3"),
        ("step,eval/mean_reward,time/time_elapsed\n10,1,1\n10,2,2\n", "line 3"),
        ("step,eval/mean_reward,time/time_elapsed\n10,1,soon\n", "line 2"),
        ("step,eval/mean_reward,time/time_elapsed\n10,-1e308,1\n", "line 2"),
        ("step,eval/mean_reward,time/time_elapsed\n10,1,1e308\n", "line 2"),
    ],
)
def test_a_spoilt_curve(tmp_path, text, says):
    write_comparison(tmp_path, seeds=1)
    (tmp_path / "runs/sb3/CartPole-v1__ppo__s0/evaluations.csv").write_text(text)
    with pytest.raises(UserError, match=rf"evaluations\.csv.*{says}"):
        load_results(tmp_path)


def test_the_same_run_twice(tmp_path):
    write_comparison(tmp_path, seeds=1)
    (tmp_path / "runs/ours/CartPole-v1__ppo__s0").rename(tmp_path / "runs/ours/copy")
    write_run(tmp_path, result("CartPole-v1", "ppo", "ours", 0))
    with pytest.raises(UserError, match="two runs of ours on CartPole-v1 with ppo have seed 0"):
        load_results(tmp_path)


def test_curves_from_elsewhere(tmp_path):
    file = tmp_path / "rllib.csv"
    file.write_bytes(b"\xef\xbb\xbf" + CURVES.replace("\n", "\r\n").encode() + b"\r\n")  # as spreadsheets write it
    first, second = read_results(file)
    assert first.key == ("CartPole-v1", "ppo", "rllib (imported)", 0)
    assert (first.steps.tolist(), first.returns.tolist(), first.score) == ([10_000, 20_000], [180.5, 410], 410)
    assert np.isnan(first.seconds).all()
    assert second.score == 390.25
    file.write_text(HEADER + "E,ppo,x,0,20,2,4\nE,ppo,x,0,10,1,2\n")  # in any order
    (run,) = read_results(file)
    assert (run.steps.tolist(), run.seconds.tolist(), run.figures["steps_per_s"]) == ([10, 20], [2, 4], 5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: column 'env' is there 0 times"),
        ("env;algo;library\n", "line 1: there is no column"),
        (HEADER.replace("return", "retrun"), r"line 1.*'retrun'\. Did you mean return\?"),
        (HEADER.replace("time", "seed"), "column 'seed' is there 2 times"),
        (HEADER, "no rows"),
        (HEADER + "E,ppo,x,0,1,2,3\nE,ppo,x,0,2\n", "line 3: 5 cells, 7 expected"),
        (HEADER + ",ppo,x,0,1,2,3\n", "line 2: env: ''"),
        (HEADER + "E,ppo,\x1b[2J,0,1,2,3\n", "line 2: library"),
        (HEADER + "E,ppo,x,-1,1,2,3\n", "line 2: seed: '-1'"),
        (HEADER + "E,ppo,x,0,1e5,2,3\n", "line 2: step: '1e5'"),
        (HEADER + f"E,ppo,x,0,{'9' * 400},2,3\n", "line 2: step"),
        (HEADER + "E,ppo,x,0,1,inf,3\n", "line 2: return: 'inf'"),
        (HEADER + "E,ppo,x,0,1,1e308,3\n", "line 2: return: '1e308'"),
        (HEADER + "E,ppo,x,0,1,2,1e308\n", "line 2: time: '1e308'"),
        (HEADER + "E,ppo,x,0,1,2,soon\n", "line 2: time: 'soon'"),
        (HEADER + "E,ppo,x,0,1,2,-1\n", "line 2: time: '-1'"),
        (HEADER + "E,ppo,x,0,1,2,3\nE,ppo,x,0,1,2,3\n", "line 3: step: this run has a row for step 1"),
        (HEADER + "E,ppo,x,0,1,2,3\nE,ppo,x,0,2,2,1\n", "time falls where steps rise"),
        (HEADER + 'E,ppo,"x,0,1,2,3\n', "line 2: unexpected end of data"),
        (b"\xff\xfe\x00", "no UTF-8"),
    ],
)
def test_curves_that_cannot_be_read(tmp_path, text, says):
    file = tmp_path / "bad.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=says) as error:
        read_results(file)
    assert str(file) in str(error.value)


def test_importing(tmp_path):
    out = write_comparison(tmp_path / "out", seeds=1)
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(CURVES)
    bad.write_text(HEADER)
    with pytest.raises(UserError, match="no rows"):
        import_files(out, [good, bad])
    assert not (out / "imported").exists()  # all or none
    import_files(out, [good])
    import_files(out, [good])  # the same again changes nothing
    found = load_results(out)
    assert found.imported == ["rllib (imported)"]
    assert len(found.runs) == 4
    good.write_text(CURVES.replace("410", "411"))
    with pytest.raises(UserError, match=r"good\.csv is there already and differs"):
        import_files(out, [good])
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "letter.txt").touch()
    with pytest.raises(UserError, match="no comparison folder"):
        import_files(tmp_path / "else", [good])


def test_what_is_imported_is_no_run_that_is_there(tmp_path):
    out = write_comparison(tmp_path / "out", seeds=1)
    first, again = tmp_path / "first.csv", tmp_path / "again.csv"
    first.write_text(HEADER + "E,ppo,x,0,1,2,3\n")
    again.write_text(HEADER + "E,ppo,x,0,2,2,3\n")
    with pytest.raises(UserError, match=r"two runs of x \(imported\) on E with ppo have seed 0"):
        import_files(out, [first, again])
    assert not (out / "imported").exists()
    import_files(out, [first, first])
    with pytest.raises(UserError, match=r"two runs of x \(imported\) on E with ppo have seed 0"):
        import_files(out, [again])
    assert [file.name for file in (out / "imported").iterdir()] == ["first.csv"]
    assert len(load_results(out).runs) == 3


def test_a_document_that_asks_for_too_many_runs(tmp_path):
    content = document([("E", "ppo")], ["a"], 1)
    content["pairs"][0] |= {"labels": [f"l{i}" for i in range(400)], "seeds": list(range(400))}
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"comparison\.json is malformed: it asks for 160,000 runs, 100,000 at most"):
        load_results(tmp_path)
