"""The list of runs: complete, newest first, and whole though runs are not; and what may be deleted."""

from __future__ import annotations

import io
import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.lab.listing import chosen, list_runs, table
from agents.lab.stored import bytes_in, read_stored
from agents.lab.words import age, size
from agents.run.folder import RunFolder
from agents.runs import main
from envs.errors import UserError
from tests.lab.run_folders import write_folder
from tests.printed import printed_json


def listed(runs: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*words, "--runs-dir", str(runs), "--json"]) == 0
    return printed_json(capsys)


def names(found: dict[str, Any], part: str = "runs") -> list[str]:
    return [Path(one["run"] if part == "runs" else one).name for one in found[part]]


def test_a_row_tells_what_a_run_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_folder(tmp_path, 3, name="lr-1e-4", final=(24.0, 27.0))
    (row,) = listed(tmp_path, capsys)["runs"]
    content = sum(file.stat().st_size for file in run.iterdir())
    assert row == {
        "run": str(run),
        "name": "lr-1e-4",
        "env": "CartPole-v1",
        "algo": "ppo",
        "seed": 3,
        "steps": 300,
        "best": 30.0,
        "final": 25.5,
        "state": "finished",
        "fault": "",
        "bytes": content,
        "begun": "2026-01-01T12:00:00",
    }
    header, line, total = table(list_runs(tmp_path), datetime(2026, 1, 3, 13))
    assert header.split() == ["run", "environment", "algo", "seed", "steps", "best", "final", "state", "size", "age"]
    assert line.split() == [run.name, "CartPole-v1", "ppo", "3", "300", "30.0", "25.5", "finished", *line.split()[8:]]
    assert line.endswith(f"{content / 1e3:.1f} kB  2 d")
    assert total == f"1 run, {content / 1e3:.1f} kB"


def test_what_is_half_written_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_folder(tmp_path)
    write_folder(tmp_path, 1).rename(tmp_path / ".pulled.tmp-0123456789ab")
    assert names(listed(tmp_path, capsys)) == [run.name]


def test_the_best_is_that_of_the_model_that_was_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pruning keeps no model from before its sparsity was reached, however good that was."""
    model = write_folder(tmp_path) / "best" / "model.json"
    model.parent.mkdir()
    for content, best in (
        ({"meta": {"step": 300}}, 20.0),
        ({"meta": {"step": "x"}}, 30.0),
        ({"meta": {"step": 7}}, 30.0),
    ):
        model.write_text(json.dumps(content))
        assert [row["best"] for row in listed(tmp_path, capsys)["runs"]] == [best]


def test_the_newest_comes_first_whatever_it_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = {"z": "20260101-000000", "a": "20260103-000000", "m": "20260102-000000-2"}
    for name, time in times.items():
        write_folder(tmp_path, name=name, time=time)
    assert [one["name"] for one in listed(tmp_path, capsys)["runs"]] == ["a", "m", "z"]


def test_states(tmp_path: Path) -> None:
    states = {
        "finished": write_folder(tmp_path, 0),
        "stopped": write_folder(tmp_path, 1, final=(), interrupted=True),
        "unfinished": write_folder(tmp_path, 2, final=None, curve=()),
    }
    for state, run in states.items():
        assert read_stored(run).state == state
    assert [read_stored(run).final for run in states.values()] == [25.0, None, None]
    assert read_stored(states["unfinished"]).steps == 0


def test_a_run_may_have_any_seed_that_a_training_takes(tmp_path: Path) -> None:
    run = write_folder(tmp_path, 2**64 - 1)
    assert (read_stored(run).seed, read_stored(run).state) == (2**64 - 1, "finished")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(f"seed: {2**64 - 1}", "seed: -1"))
    with pytest.raises(UserError, match="seed: Input should be greater than or equal to 0"):
        read_stored(run)


def test_a_finished_run_that_went_on_is_not_finished(tmp_path: Path) -> None:
    run = write_folder(tmp_path)
    RunFolder(run).checkpoint(300).mkdir(parents=True)
    assert read_stored(run).state == "finished"
    RunFolder(run).checkpoint(450).mkdir()
    found = read_stored(run)
    assert (found.state, found.steps, found.final) == ("unfinished", 450, None)
    assert found.final_returns().size == 0


def test_half_a_row_of_a_killed_run_does_not_count(tmp_path: Path) -> None:
    run = write_folder(tmp_path, final=None)
    with (run / "evaluations.csv").open("a") as stream:
        stream.write("400,9")
    assert read_stored(run).curve[0].tolist() == [100, 200, 300]


DAMAGE = {
    "config.yaml": ("env: [", "config.yaml: not YAML"),
    "config.yaml ": ("algo: ppo\nseed: 0\n", "config.yaml is malformed: env: Field required"),
    "config.yaml  ": ("env: CartPole-v1\nalgo: ppo\nseed: x\n", "config.yaml is malformed: seed"),
    "config.yaml   ": ("- 1\n", "config.yaml: must be a mapping"),
    "config.yaml    ": ('env: "a\\e[2Jb"\nalgo: ppo\nseed: 0\n', "config.yaml is malformed: env"),
    "summary.json": ('{"steps": 3', "summary.json is torn or malformed"),
    "summary.json ": ('{"steps": "3", "train_s": 1, "interrupted": false}', "summary.json is malformed: steps"),
    "evaluations.csv": ("step,eval/mean_reward\nx,y\n", "evaluations.csv, line 2"),
    "evaluations.csv ": ("\x00\n\x01\n", "evaluations.csv is malformed"),
}


@pytest.mark.parametrize(("file", "content", "said"), [(file, *damage) for file, damage in DAMAGE.items()])
def test_a_damaged_run_is_shown_as_damaged_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, said: str
) -> None:
    write_folder(tmp_path, 0)
    broken = write_folder(tmp_path, 1, time="20260102-000000")
    (broken / file.strip()).write_text(content)
    first, second = listed(tmp_path, capsys)["runs"]
    assert (first["run"], first["state"], first["env"]) == (str(broken), "damaged", None)
    assert first["fault"].startswith(said)
    assert first["bytes"] == bytes_in(broken)
    assert second["state"] == "finished"
    assert main(["--runs-dir", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"damaged: {broken.name}: {said}" in told
    assert told.replace("\n", "").isprintable()


def test_what_is_left_of_a_run_is_damaged_and_other_folders_are_no_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (write_folder(tmp_path, 0) / "config.yaml").rename(tmp_path / "config.yaml")
    for name in ("comparison", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "comparison" / "comparison.json").write_text("{}")
    rest = tmp_path / "CartPole-v1__ppo__s0__20260101-120000"
    assert listed(tmp_path, capsys)["runs"] == []
    (rest / "progress.csv").write_text("step\n")
    (row,) = listed(tmp_path, capsys)["runs"]
    assert (row["run"], row["state"], row["fault"]) == (str(rest), "damaged", "config.yaml is missing")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")
def test_what_is_no_file_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_folder(tmp_path)
    (run / "summary.json").unlink()
    os.mkfifo(run / "summary.json")
    (row,) = listed(tmp_path, capsys)["runs"]
    assert row["fault"].startswith("summary.json is neither a file nor a folder")


def test_filters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_folder(tmp_path, 0, name="lr-1")
    second = write_folder(tmp_path, 1, algo="dqn", final=None)
    third = write_folder(tmp_path, 2, env="Acrobot-v1")
    broken = write_folder(tmp_path, 3)
    (broken / "config.yaml").write_text("")
    for words, wanted in {
        "--env CartPole-v1": {first, second},
        "--algo dqn": {second},
        "--name lr-*": {first},
        "--name lr": set(),
        "--env Cart*": {first, second},
        "--finished": {first, third},
        "--unfinished": {second, broken},
        "--env CartPole-v1 --finished": {first},
        "--name nothing": set(),
        f"{first.name} {third}": {first, third},
    }.items():
        found = listed(tmp_path, capsys, *words.split())
        assert set(names(found)) == {run.name for run in wanted}, words
        assert found["bytes"] == sum(bytes_in(run) for run in wanted)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--env CartPol-v1", "None of the 1 runs in {runs} is such a one. Did you mean CartPole-v1?"),
        ("--algo dqn", "None of the 1 runs in {runs} is such a one."),
        ("--runs-dir {runs}/none", "{runs}/none holds no run. Train one: python -m agents.train --env CartPole-v1"),
    ],
)
def test_an_empty_list_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    write_folder(tmp_path)
    assert main(["--runs-dir", str(tmp_path), *words.format(runs=tmp_path).split()]) == 0
    assert capsys.readouterr().out == said.format(runs=tmp_path) + "\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--finished --unfinished", "--finished and --unfinished exclude one another"),
        ("--delete", "--delete: which runs?"),
        ("--delete --yes", "--delete: which runs?"),
        ("--yes", "--yes: it answers what --delete asks"),
        ("CartPole-v1__ppo__s0__20260101-12000", "Did you mean CartPole-v1__ppo__s0__20260101-120000?"),
        ("../CartPole-v1__ppo__s0__20260101-120000", "is no run in"),
        ("/", "is no run in"),
        (".. --delete --yes", "is no run in"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    run = write_folder(tmp_path)
    assert main(["--runs-dir", str(tmp_path), *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert run.is_dir()


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


@pytest.mark.parametrize(("said", "gone"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False)])
def test_deleting_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, said: str, gone: bool
) -> None:
    kept, other = write_folder(tmp_path, 0), write_folder(tmp_path, 1, final=None)
    answer(monkeypatch, said)
    found = listed(tmp_path, capsys, "--unfinished", "--delete")
    assert names(found) == [other.name]
    assert names(found, "deleted") == ([other.name] if gone else [])
    assert (kept.is_dir(), other.is_dir()) == (True, not gone)


def test_nobody_to_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_folder(tmp_path)
    answer(monkeypatch, "")
    assert main(["--runs-dir", str(tmp_path), "--finished", "--delete"]) == 2
    assert "nothing was deleted: there is nobody to ask" in capsys.readouterr().err
    assert run.is_dir()


def test_deleting_with_yes_does_not_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, other = write_folder(tmp_path, 0), write_folder(tmp_path, 1)
    assert names(listed(tmp_path, capsys, str(other), "--delete", "--yes"), "deleted") == [other.name]
    assert (kept.is_dir(), other.exists()) == (True, False)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_deleting_never_follows_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    run, outside = write_folder(runs, 0), write_folder(elsewhere, 1)
    (elsewhere / "data").mkdir()
    (elsewhere / "data" / "kept.txt").write_text("x")
    (run / "inside").symlink_to(elsewhere / "data")
    (runs / outside.name).symlink_to(outside)
    before = bytes_in(elsewhere)
    found = listed(runs, capsys, str(run), str(runs / outside.name), "--delete", "--yes")
    assert set(names(found, "deleted")) == {run.name, outside.name}
    assert list(runs.iterdir()) == []
    assert bytes_in(elsewhere) == before
    assert next(one["bytes"] for one in found["runs"] if one["run"].endswith(outside.name)) == 0


def test_a_name_outside_the_runs_folder_is_refused(tmp_path: Path) -> None:
    runs, other = tmp_path / "runs", tmp_path / "other"
    run = write_folder(runs)
    twin = write_folder(other)
    every = list_runs(runs)
    assert [one.path for one in chosen(every, runs, [run])] == [run]
    with pytest.raises(UserError, match="is no run in"):
        chosen(every, runs, [twin])


def test_hundreds_of_runs_open_each_file_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(40):
        write_folder(tmp_path, seed)
    opened: list[str] = []
    real = os.open

    def counting(file: Any, *arguments: Any, **more: Any) -> Any:
        opened.append(str(file))
        return real(file, *arguments, **more)

    monkeypatch.setattr("os.open", counting)
    rows = list_runs(tmp_path)
    assert len(rows) == 40
    ours = [name for name in opened if name.startswith(str(tmp_path)) and not name.endswith(".lock")]
    assert len(ours) == len(set(ours)) == 3 * 40


def test_sizes_and_ages() -> None:
    assert [size(count) for count in (0, 1_234, 9_960_000, 3_450_000_000)] == ["0.0 kB", "1.2 kB", "10.0 MB", "3.5 GB"]
    times = (-5, 59, 60, 7_199, 86_400 * 12 + 5)
    assert [age(timedelta(seconds=time)) for time in times] == ["0 s", "59 s", "1 min", "1 h", "12 d"]
