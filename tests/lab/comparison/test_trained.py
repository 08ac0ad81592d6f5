"""Runs that are there already, compared as they are."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from agents.compare import main
from agents.lab.baselines import make_sb3
from agents.lab.comparison.entries import read_entries, sides_of
from agents.lab.comparison.options import Options
from agents.lab.statistics import difference
from tests.lab.comparison.synthetic import CURVES
from tests.lab.comparison.test_sides import ENDLESS
from tests.lab.run_folders import write_folder
from tests.printed import printed_json
from tests.run.running import train

pytestmark = pytest.mark.usefixtures("sketched")
SMALL = "--env CartPole-v1 --env-kwargs max_episode_steps=20 -n 256 --n-envs 2 --n-steps 32 --batch-size 32"
SMALL += " --eval-freq 128 --eval-episodes 2"


def sides(*runs: Path) -> dict[str, list[str]]:
    entries, _ = read_entries(Options(runs=runs))
    return {label: [entry.path.name for entry in group] for label, group in sides_of(entries).items()}


def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: object, video: bool = False) -> dict[str, Any]:
    flags = ["--out", str(tmp_path / "out"), "--json", *([] if video else ["--no-video"])]
    assert main([*map(str, words), *flags]) == 0, capsys.readouterr().err
    return printed_json(capsys)


def table(out: Path, name: str) -> list[dict[str, str]]:
    with (out / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_runs_of_the_same_settings_are_one_side(tmp_path: Path) -> None:
    low = [write_folder(tmp_path, seed, learning_rate=1e-4) for seed in (0, 1)]
    high = [write_folder(tmp_path, seed, learning_rate=1e-2, time="20260102-000000") for seed in (0, 1, 2)]
    found = sides(low[0], high[0], low[1], *high[1:])
    names = [[run.name for run in runs] for runs in (low, high)]
    assert found == {"learning_rate=0.0001": names[0], "learning_rate=0.01": names[1]}


def test_what_went_on_with_a_model_is_as_fast_as_its_own_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_folder(tmp_path, name="whole")
    later = write_folder(tmp_path, name="later", curve=((20_100, 10.0), (20_300, 20.0)), first_step=20_000)
    (one, other), _ = read_entries(Options(runs=(whole, later)))
    assert one.figures == {"steps": 300.0, "train_seconds": 3.0, "steps_per_s": 100.0}
    assert other.figures == {"steps": 20_300.0, "steps_per_s": 100.0}
    assert one.curve[2].tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(other.curve[2]).tolist() == [True, True]
    (report,) = compared(tmp_path, capsys, whole, later)["reports"]
    assert (
        "later, seed 0, went on at step 20,000 with a model that had learnt before"
        in Path(report["report"]).read_text()
    )


def test_one_side_has_nothing_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = compared(tmp_path, capsys, *(write_folder(tmp_path, seed) for seed in (0, 1)))["reports"]
    assert found["headlines"] == [
        "Nothing can be compared yet: PPO is the only side, as runs that differ in their seed alone are one."
    ]


def test_sides_are_called_as_runs_were_named(tmp_path: Path) -> None:
    first = [write_folder(tmp_path, seed, name="slow", learning_rate=1e-4) for seed in (0, 1)]
    plain, other = write_folder(tmp_path, 0), write_folder(tmp_path, 0, algo="dqn")
    assert list(sides(*first, plain, other)) == ["slow", "PPO", "DQN"]


def test_the_same_training_done_twice_is_two_sides(tmp_path: Path) -> None:
    first, second = (write_folder(tmp_path, 0, time=f"2026010{day}-000000") for day in (1, 2))
    third = write_folder(tmp_path, 1)
    assert list(sides(first, second, third, first).values()) == [[first.name, third.name], [second.name]]


def test_settings_that_are_newer_than_a_run_have_their_defaults(tmp_path: Path) -> None:
    old, new = write_folder(tmp_path, 0), write_folder(tmp_path, 1)
    lines = [line for line in (old / "config.yaml").read_text().splitlines() if not line.startswith("squash_output")]
    (old / "config.yaml").write_text("\n".join(lines) + "\n")
    assert len(sides(old, new)) == 1


def test_seeds_are_the_samples_where_each_side_has_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"a": (80.0, 82.0, 84.0), "b": (50.0, 52.0, 54.0)}
    runs = [
        write_folder(tmp_path, seed, name=name, final=(score - 1, score + 1), learning_rate=rate)
        for (name, group), rate in zip(scores.items(), (1e-4, 1e-3), strict=True)
        for seed, score in enumerate(group)
    ]
    (found,) = compared(tmp_path, capsys, *runs)["reports"]
    assert found["env"] == "CartPole-v1"
    assert found["scores"] == {name: list(group) for name, group in scores.items()}
    assert found["differing"] == {"learning_rate": {"a": "0.0001", "b": "0.001"}}
    assert found["headlines"] == ["A is better than b on CartPole-v1, PPO."]
    score, learning = table(tmp_path / "out", "pairs.csv")
    wanted = difference(scores["a"], scores["b"])
    assert [float(score[name]) for name in ("difference", "low", "high", "p")] == pytest.approx(wanted[:4])
    assert (score["measure"], score["seeds"], learning["difference"]) == ("score", "3", "0")
    curves = table(tmp_path / "out", "curves.csv")
    assert [row["return"] for row in curves[:3]] == ["10", "30", "20"]
    assert len(curves) == 18
    assert not any("episodes are compared" in line for line in found["caveats"])


def test_single_runs_are_compared_over_episodes_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = [10.0, 12.0, 14.0, 13.0], [20.0, 22.0, 25.0, 21.0]
    one = write_folder(tmp_path, name="a", final=first, gamma=0.98)
    other = write_folder(tmp_path, name="b", final=second, gamma=0.5, curve=[(100, 5.0), (400, 9.0)])
    (found,) = compared(tmp_path, capsys, one, other)["reports"]
    assert found["headlines"] == ["Over episodes, b is better than a on CartPole-v1, PPO."]
    assert any("not which settings learn better" in line for line in found["caveats"])
    assert "They trained for different numbers of steps: a 300 and b 400." in found["caveats"]
    score = table(tmp_path / "out", "pairs.csv")[0]
    wanted = difference(first, second)
    assert [float(score[name]) for name in ("difference", "low", "high", "p")] == pytest.approx(wanted[:4])
    assert (score["measure"], score["seeds"]) == ("score over episodes", "4")
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| gamma | 0.98 | 0.5 |" in page
    assert "learning\\_rate" not in page
    assert "own final evaluation: 4 episodes" in page
    assert "Nothing was trained for this report" in page


def test_each_environment_has_its_report_and_what_is_alone_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    for env in ("CartPole-v1", "Acrobot-v1"):
        for rate in (1e-4, 1e-3):
            write_folder(runs, env=env, name=str(rate), learning_rate=rate)
    alone = write_folder(runs, env="CartPole-v1", env_kwargs={"max_episode_steps": 9}, final=None)
    torn = write_folder(runs, env="CartPole-v1", name="torn")
    (torn / "config.yaml").write_text("[")
    (runs / "comparison").mkdir()
    found = compared(tmp_path, capsys, runs / "*")
    assert [one["env"] for one in found["reports"]] == ["Acrobot-v1", "CartPole-v1"]
    for one in found["reports"]:
        assert Path(one["report"]) == tmp_path / "out" / one["env"] / "index.html"
        assert Path(one["report"]).is_file()
    assert found["left_out"].pop(str(torn)).startswith("config.yaml: not YAML")
    assert found["left_out"] == {
        str(alone): "nothing else is on CartPole-v1 (max_episode_steps=9)",
        str(runs / "comparison"): "is no run folder: it has no config.yaml.",
    }


def test_environments_of_names_that_are_alike_have_their_own_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        write_folder(tmp_path, env_kwargs={"map": f"{place}:3x3"}, name=f"{place}{rate}", learning_rate=rate)
        for place in ("a", "b")
        for rate in (1e-4, 1e-3)
    ]
    found = compared(tmp_path, capsys, *runs)["reports"]
    assert len({one["report"] for one in found}) == 2
    for one in found:
        assert one["env"] in Path(one["report"]).read_text()


def test_curves_from_elsewhere_join(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.csv").write_text(CURVES)
    run = write_folder(tmp_path, name="a")
    (found,) = compared(tmp_path, capsys, run, "--import", tmp_path / "results.csv")["reports"]
    assert found["scores"] == {"a": [25.0], "rllib (imported)": [410.0, 390.25]}


ROWS = """\
env,algo,library,seed,step,return,time
CartPole-v1,ppo,mine,0,10,100,
CartPole-v1,dqn,mine,0,10,20,
CartPole-v0,dqn,mine,0,10,70,
"""


def test_curves_of_several_algorithms_are_several_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file := tmp_path / "results.csv").write_text(ROWS)
    found = compared(tmp_path, capsys, write_folder(tmp_path, name="a"), "--import", file)
    (one,) = found["reports"]
    assert one["scores"] == {"a": [25.0], "mine (imported), PPO": [100.0], "mine (imported), DQN": [20.0]}
    assert "1 seed a side" in " ".join(one["caveats"])
    assert found["left_out"] == {str(file): "no run is on CartPole-v0, but on CartPole-v1"}
    clash = write_folder(tmp_path, 1, name="mine (imported), DQN")
    assert main([str(clash), "--import", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "is called mine (imported), DQN, as imported curves are; rename one" in capsys.readouterr().err


def test_a_curve_that_is_there_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for file in files:
        file.write_text(ROWS)
    words = [str(write_folder(tmp_path)), "--out", str(tmp_path / "out"), "--import", *map(str, files)]
    assert main(words) == 2
    said = f"{files[0]}, {files[1]}: two runs of mine (imported) on CartPole-v1 with ppo have seed 0; remove one."
    assert said in capsys.readouterr().err


def test_curves_of_an_environment_do_not_join_runs_with_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "results.csv").write_text(ROWS.replace("CartPole-v0", "CartPole-v1 (max_episode_steps=9)"))
    run = write_folder(tmp_path, name="a", env_kwargs={"max_episode_steps": 9})
    found = compared(tmp_path, capsys, run, "--import", file)
    (one,) = found["reports"]
    assert one["scores"] == {"a": [25.0], "mine (imported), DQN": [70.0]}
    assert found["left_out"] == {str(file): "no run is on CartPole-v1, but on CartPole-v1 (max_episode_steps=9)"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A finished run, one without a final evaluation, and a model of SB3's."""
    place = tmp_path_factory.mktemp("trained")
    first = train(place / "a", f"{SMALL} --name one --gamma 0.98 --final-eval-episodes 3")
    second = train(place / "b", f"{SMALL} --name two --seed 1 --gamma 0.5 --final-eval-episodes 0")
    make_sb3("ppo", "CartPole-v1", 1, {"n_steps": 64, "gamma": 0.9}, 0).save(place / "model.zip")
    return first, second, place / "model.zip"


def test_without_final_evaluations_all_play_the_same_episodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: tuple[Path, Path, Path]
) -> None:
    first, second, model = trained
    words = ("--env", "CartPole-v1", "--env-kwargs", "max_episode_steps=20", "--trust", "--final-eval-episodes", 5)
    (found,) = compared(tmp_path, capsys, first, second, model, *words, video=True)["reports"]
    assert list(found["sides"]) == ["one", "two", "model (SB3 PPO)"]
    assert {row["episodes"] for row in table(tmp_path / "out", "scores.csv")} == {"5"}
    assert found["differing"]["gamma"] == {"one": "0.98", "two": "0.5", "model (SB3 PPO)": "0.9"}
    assert all(1 <= score <= 20 for scores in found["scores"].values() for score in scores)
    again = compared(tmp_path, capsys, second, model, first, *words[4:])["reports"][0]
    assert again["scores"] == found["scores"]  # in any order, and the model in the environment of the runs
    page = (tmp_path / "out" / "report.md").read_text()
    assert "played afresh: 5 episodes, the same for all" in page
    video = tmp_path / "out" / "side-by-side.mp4"
    assert found["video"] == str(video)
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(video), "-f", "rawvideo", "-pix_fmt", "rgb24"]
    frames = np.frombuffer(subprocess.run([*words, "-"], capture_output=True, check=True).stdout, np.uint8)
    frames = frames.reshape(-1, 2 * 346, 2 * 480, 3)
    assert 50 < len(frames) <= 20 + 50  # the longest episode, and a second
    for row, column, shown in ((0, 0, True), (0, 1, True), (1, 0, True), (1, 1, False)):
        tile = frames[0, row * 346 : (row + 1) * 346, column * 480 : (column + 1) * 480]
        assert (tile.min() < 60) == shown


@pytest.mark.parametrize("which", [1, 2])
def test_what_has_no_final_evaluation_is_played_beside_curves_from_elsewhere_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: tuple[Path, Path, Path], which: int
) -> None:
    (file := tmp_path / "results.csv").write_text(ROWS.replace("CartPole-v0", "CartPole-v1 (max_episode_steps=20)"))
    more = ("--env", "CartPole-v1", "--env-kwargs", "max_episode_steps=20", "--trust") if which == 2 else ()
    words = ("--import", file, "--final-eval-episodes", 4, *more)
    (found,) = compared(tmp_path, capsys, trained[which], *words)["reports"]
    (own,), imported = found["scores"].values()
    assert 1 <= own <= 20
    assert imported == [70.0]
    assert "played afresh: 4 episodes" in (tmp_path / "out" / "report.md").read_text()


def test_a_model_of_an_algorithm_that_is_none_of_ours_is_compared(tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib")
    make_sb3("qrdqn", "CartPole-v1", 1, {"gamma": 0.9}, 0).save(tmp_path / "model.zip")
    (entry,), _ = read_entries(Options(runs=(tmp_path / "model.zip",), env=("CartPole-v1",), trust=True))
    assert (entry.name, entry.settings["gamma"]) == ("model (SB3 QRDQN)", 0.9)


def test_an_episode_without_an_end_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "endless.py").write_text(ENDLESS)
    few = "--n-envs 2 --n-steps 32 --batch-size 32 -n 64 --eval-freq 0 --final-eval-episodes 0"
    runs = [train(tmp_path / name, f"--env {file}:Endless {few} --name {name}") for name in ("a", "b")]
    monkeypatch.setattr("agents.run.evaluator.USUAL_MAX_STEPS", 30)
    (found,) = compared(tmp_path, capsys, *runs, "--final-eval-episodes", 3)["reports"]
    assert list(found["scores"].values()) == [[30.0], [30.0]]
    page = (tmp_path / "out" / "report.md").read_text()
    assert "the same for all, with the most likely actions; one is cut after 30 steps." in page


def test_a_model_that_cannot_play_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: tuple[Path, Path, Path]
) -> None:
    kwargs = {"max_episode_steps": 20}
    killed = write_folder(tmp_path, 7, final=None, env_kwargs=kwargs)
    found = compared(tmp_path, capsys, *trained[:2], killed, "--final-eval-episodes", 2)
    assert found["left_out"] == {str(killed): "this run has saved no model yet"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{run}", "nothing to compare: at least two runs on one environment expected. {run}: nothing else is on"),
        ("{run} {run}", "nothing to compare: at least two runs"),
        ("{run} {tmp}/none", "{tmp}/none does not exist"),
        ("{run} {tmp}", "{tmp}: is no run folder"),
        (
            "{run} {other} --seeds 3",
            "--seeds changes nothing here, as {run} is compared as it is: leave it out.",
        ),
        ("{run} {other} --quick", "--quick changes nothing here"),
        ("{run} {other} --env CartPole-v1", "--env changes nothing here, as it goes with a MODEL.zip"),
        ("{run} {other} --env-kwargs foo=1", "--env-kwargs changes nothing here, as it goes with a MODEL.zip"),
        ("{run} {other} --vec-normalize x", "--vec-normalize changes nothing here, as it goes with a MODEL.zip"),
        ("{run} {other} --import", "--import: nothing given, FILE ... expected."),
        ("{run} {zip} --env CartPole-v1", "model.zip was not loaded"),
        ("{run} {acrobot} {zip} --trust", "model.zip does not say which environment it learnt: add --env"),
        ("{run} {other} --final-eval-episodes 0", "--final-eval-episodes: 0 given, at least 1 expected."),
    ],
)
def test_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: tuple[Path, Path, Path], words: str, said: str
) -> None:
    known = {"run": write_folder(tmp_path), "other": write_folder(tmp_path, gamma=0.5, name="b"), "tmp": tmp_path}
    known |= {"zip": trained[2], "acrobot": write_folder(tmp_path, env="Acrobot-v1")}
    assert main([*words.format(**known).split(), "--out", str(tmp_path / "out")]) == 2
    assert said.format(**known) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
