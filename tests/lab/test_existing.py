"""Comparing runs that are there already, and listing them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from agents.compare import main as compare
from agents.lab.comparison.existing import as_results, read_all, side_by_side
from agents.runs import main as list_runs
from agents.train import main as train

WORDS = "--env CartPole-v1 -n 512 --n-envs 2 --n-steps 64 --batch-size 64 --eval-freq 128 --eval-episodes 2 --quiet"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with three runs of two settings, one of them stopped short, and a model of SB3's."""
    folder = tmp_path_factory.mktemp("existing")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rest = [*WORDS.split(), "--final-eval-episodes", "4", "--no-record"]
        assert train([*rest, "--name", "base", "--seeds", "2"]) == 0
        assert train([*rest, "--learning-rate", "0.1", "--name", "fast"]) == 0
        (torn,) = Path("runs").glob("*fast*")
        shutil.copytree(torn, "runs/CartPole-v1__ppo__torn__s0__20200101-000000")
        Path("runs/CartPole-v1__ppo__torn__s0__20200101-000000/summary.json").unlink()
        Path("runs/other").mkdir()
        from stable_baselines3 import PPO

        PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1).save("theirs.zip")
    return folder


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)


def paths():
    return sorted(path for path in Path("runs").iterdir() if "__s" in path.name)


def finished():
    return [path for path in paths() if (path / "summary.json").exists()]


def test_several_seeds_are_runs_of_their_own():
    names = [path.name for path in finished()]
    assert sum("__base__s0__" in name for name in names) == 1
    assert sum("__base__s1__" in name for name in names) == 1


def test_runs_that_differ_in_their_seeds_alone_are_one_side():
    runs = read_all(finished(), None, 3, trust=False, vec_normalize=None)
    results, sides = as_results(runs, "typed")
    assert {name: [run.seed for run in group] for name, group in sides.items()} == {"base": [0, 1], "fast": [0]}
    (task,) = results.document.pairs
    assert task.settings["fast"] == {"learning_rate": 0.1}
    assert task.settings["base"].keys() == {"learning_rate"}
    for run in results.runs:
        folder = Path(run.command)
        assert run.final.tolist() == json.loads((folder / "final_episodes.json").read_text())["returns"]
        assert run.steps.tolist() == [128, 256, 384, 512]


def test_the_command_says_what_it_left_out_and_who_is_better(capsys):
    assert compare([*map(str, sorted(Path("runs").iterdir())), "--out", "report", "--json"]) == 0
    out = capsys.readouterr().out
    assert "left out: runs/other (no run)" in out.replace("\\", "/")
    assert "torn__s0__20200101-000000 (not finished)" in out
    found = json.loads(out.splitlines()[-1])
    assert {name: len(group) for name, group in found["sides"].items()} == {"base": 2, "fast": 1}
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert "learning_rate" in page
    assert "n_steps" not in page, "what does not differ is not shown"
    assert Path(found["video"]).stat().st_size > 1_000


def test_sb3s_models_play_in_the_environment_of_the_runs(capsys):
    first = str(finished()[0])
    assert compare([first, "theirs.zip", "--out", "zip"]) == 2
    assert "add --trust" in capsys.readouterr().err
    words = [first, "theirs.zip", "--trust", "--final-eval-episodes", "3", "--out", "zip", "--json"]
    assert compare(words) == 0
    assert list(json.loads(capsys.readouterr().out.splitlines()[-1])["sides"])[1] == "SB3 theirs"
    assert compare(["theirs.zip", "--trust", "--out", "zip"]) == 2
    assert "does not say which environment" in capsys.readouterr().err


def test_frames_of_ended_episodes_stand_still(tmp_path, monkeypatch):
    import agents.lab.comparison.existing as existing

    runs = read_all(finished(), None, 3, trust=False, vec_normalize=None)
    _, sides = as_results(runs, "typed")
    lengths = {"base": 2, "fast": 5}
    shades = iter([10, 20])

    def frames(env, policy, seed):
        shade = next(shades)
        for step in range(lengths["base" if shade == 10 else "fast"]):
            yield np.full((4, 6, 3), shade + step, np.uint8)

    written = []
    monkeypatch.setattr(existing, "_frames", frames)
    monkeypatch.setattr(existing, "write_video", lambda path, pictures, fps: written.extend(pictures))
    assert side_by_side(sides, tmp_path / "v.mp4") == tmp_path / "v.mp4"
    assert [frame.shape for frame in written] == [(4, 20, 3)] * 5
    assert [int(frame[0, 0, 0]) for frame in written] == [10, 11, 11, 11, 11]
    assert [int(frame[0, 10, 0]) for frame in written] == [20, 21, 22, 23, 24]


def test_runs_are_listed_filtered_and_deleted(capsys, tmp_path, monkeypatch):
    shutil.copytree("runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    damaged = Path("runs/Odd__ppo__s0__20200101-000001")
    damaged.mkdir()
    (damaged / "config.yaml").write_text("env: [", encoding="utf-8")

    def listed(*words):
        assert list_runs([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]

    runs = listed()
    assert [run["state"] for run in runs] == ["finished"] * 3 + ["damaged", "unfinished"], "the newest first"
    assert {run["name"] for run in listed("--name", "b*")} == {"base"}
    assert [run["state"] for run in listed("--unfinished")] == ["damaged", "unfinished"]
    (fast,) = listed("--name", "fast", "--finished")
    summary = json.loads((Path(fast["run"]) / "summary.json").read_text())
    assert (fast["steps"], fast["final"], fast["seed"]) == (512, summary["eval_mean"], 0)
    assert fast["bytes"] == sum(file.stat().st_size for file in Path(fast["run"]).rglob("*") if file.is_file())
    assert list_runs(["--unfinished", "--delete"]) == 2, "nobody is there to be asked"
    assert "add --yes" in capsys.readouterr().err
    outside = tmp_path / "outside"
    shutil.copytree(fast["run"], outside)
    Path("runs/link__s0__20200101-000002").symlink_to(outside)
    assert list_runs(["--delete", "--yes"]) == 0
    assert [path.name for path in Path("runs").iterdir()] == ["other"]
    assert (outside / "config.yaml").is_file(), "what a link leads to stays"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "--seeds: 0 given, at least 1 expected"),
        (["--seeds", "2", "--resume", "RUN"], "on --resume there is one run"),
        (["--name", "x" * 101], "--name"),
    ],
)
def test_mistakes(words, message, capsys):
    words = [str(finished()[0]) if word == "RUN" else word for word in words]
    assert train([*([] if "--resume" in words else ["--env", "CartPole-v1"]), *words]) == 2
    assert message in capsys.readouterr().err
