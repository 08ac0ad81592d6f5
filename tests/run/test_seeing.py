"""What a run shows while it learns: models to watch, evaluations of a bounded length, videos, successes, times."""

from __future__ import annotations

import csv
import json
import signal
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents import train as command
from agents.acting.evaluation import Evaluation, StatelessPolicy
from agents.core.schedules import crossings
from agents.core.types import Episodes, Iteration
from agents.evaluate import main as evaluate
from agents.run import concluding, footage
from agents.run import run as run_module
from agents.run.config import FLAGS, Layer, resolve
from agents.run.evaluator import Evaluator, evaluation_scalars, most_steps_of, settled
from agents.run.folder import RunFolder
from agents.run.footage import film_interval, too_close
from agents.run.monitor import Monitor
from agents.run.run import Run
from agents.train import main
from tests.marks import long_test
from tests.printed import printed_json
from tests.run.running import USER_ENVS, evaluations, resume, signals_at, steps, train

CARTPOLE = "--env CartPole-v1 --env-kwargs max_episode_steps=25"
PPO = "--n-envs 3 --n-steps 16 --batch-size 24 --n-epochs 2 --device cpu"
SHORT = f"{PPO} -n 300 --target-reward none --eval-episodes 2 --final-eval-episodes 0 --save-freq 0"


def config(env: str, **values: Any):
    return resolve([Layer(FLAGS, {"env": env, **values})])


@pytest.mark.parametrize(
    ("env", "values", "freq", "share", "most"),
    [
        ("CartPole-v1", {"total_timesteps": 2_000}, 100, None, None),
        ("Pendulum-v1", {"total_timesteps": 40_000}, 2_000, 1.0, None),
        ("Pendulum-v1", {"total_timesteps": 10}, 1, 1.0, None),
        ("Pendulum-v1", {"eval_freq": 0}, 0, None, None),
        ("Pendulum-v1", {"eval_freq": 7, "eval_share": 2.5, "eval_max_steps": 3}, 7, 2.5, 3),
        (f"{USER_ENVS}:Levers", {"total_timesteps": 200_000}, 10_000, 1.0, 2_500),
        (f"{USER_ENVS}:Levers", {"total_timesteps": 200_000, "eval_episodes": 100}, 10_000, 1.0, 1_000),
        (f"{USER_ENVS}:Levers", {"eval_max_steps": None}, 5_000, 1.0, None),
        (f"{USER_ENVS}:Levers", {"env_kwargs": {"max_episode_steps": 9}}, 5_000, 1.0, None),
    ],
)
def test_a_run_chooses_twenty_evaluations_of_bounded_episodes(
    env: str, values: dict[str, Any], freq: int, share: float | None, most: int | None
) -> None:
    chosen = settled(config(env, **values))
    assert (chosen.params.eval_freq, chosen.params.eval_share, chosen.params.eval_max_steps) == (freq, share, most)
    assert settled(chosen) == chosen


def test_a_run_that_goes_on_with_a_model_counts_from_where_it_begins() -> None:
    assert settled(config("Pendulum-v1", total_timesteps=50_000), first=30_000).params.eval_freq == 1_000


def test_what_was_chosen_is_written_and_twenty_evaluations_are_made(tmp_path: Path) -> None:
    run = train(tmp_path, f"{CARTPOLE} {SHORT} --eval-episodes 1 -n 960")  # 20 rollouts
    assert steps(run, "evaluations.csv") == list(range(48, 961, 48))
    written = RunFolder(run).config().params
    assert (written.eval_freq, written.eval_share, written.eval_max_steps) == (48, None, None)


class Leaning(StatelessPolicy):
    """Pushes the cart to where the pole leans: episodes of some forty steps, as they begin."""

    def choose(self, obs: Any, generator: Any) -> np.ndarray:
        return (obs[:, 2] > 0).astype(np.int64)


def test_no_two_evaluations_play_the_same_episodes() -> None:
    """Not those that choose the best model, confirm a target or give the final score, nor those of another seed."""
    streams: list[tuple[str | int, ...]] = [("evaluation", 100), ("evaluation", 200), ("confirmation", 100), ("final",)]
    played = []
    for seed in (0, 1):
        with closing(Evaluator("CartPole-v1", seed, vec="native", most_episodes=8)) as evaluator:
            found = [evaluator.evaluate(Leaning(), 8, *stream).lengths.tolist() for stream in [*streams, *streams]]
        assert found[: len(streams)] == found[len(streams) :], "the same ones whoever plays"
        played += [tuple(lengths) for lengths in found[: len(streams)]]
    assert len(set(played)) == len(played)


def test_a_share_is_of_the_steps_of_this_training() -> None:
    monitor = Monitor(first=1_000)
    monitor.evaluated = 50
    assert [monitor.may_evaluate(step, 0.5) for step in (1_000, 1_099, 1_100)] == [False, False, True]


@pytest.mark.parametrize("stopped", [False, True])
def test_evaluations_do_not_take_more_steps_than_their_share(
    stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations({"evaluation": [3.0]}, monkeypatch)  # of 16 steps
    words = f"{CARTPOLE} {SHORT} --eval-freq 48 --eval-share 0.08"
    if stopped:
        with signals_at(200, signal.SIGINT):
            run = resume(train(tmp_path, words, code=130))
    else:
        run = train(tmp_path, words)
    assert steps(run, "evaluations.csv") == [48, 240, 336], "the last is made in any case"


@pytest.mark.parametrize(("freq", "saved"), [(0, [*range(48, 337, 48), 336]), (70, [96, 144, 240, 288, 336])])
def test_a_model_to_watch_is_there_early_and_that_is_said_once(
    freq: int, saved: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[tuple[Path, int]] = []
    save = run_module.save_model
    monkeypatch.setattr(run_module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(run_module, "save_model", lambda *of: (found.append((of[0], of[-1])), save(*of)))
    places = f"--runs-dir {tmp_path} --no-record"
    assert main(f"{CARTPOLE} {SHORT} --eval-freq {freq} {places}".split()) == 0
    (run,) = tmp_path.iterdir()
    assert [step for folder, step in found if folder == run] == saved
    text = capsys.readouterr().out
    assert text.count("--follow") == 1
    assert f"watch it learn: python -m agents.watch --follow {run}" in text


def test_what_cannot_be_drawn_is_not_offered_to_watch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--env {USER_ENVS}:Levers {SHORT} --eval-freq 48 --video-freq 1 --runs-dir {tmp_path} --no-record"
    assert main(words.split()) == 0
    text = capsys.readouterr().out
    assert "--follow" not in text
    assert "no video was recorded at step 48: " in text
    assert "cannot be drawn" in text


def test_recordings_that_fail_end_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no encoder")

    monkeypatch.setattr(footage, "write_video", fail)
    monkeypatch.setattr(footage, "record_episode", fail)
    places = f"--runs-dir {tmp_path} --replays-dir {tmp_path}"
    assert main(f"{CARTPOLE} {SHORT} --eval-freq 336 --video-freq 1 {places}".split()) == 0
    text = capsys.readouterr().out
    assert "no video was recorded at step 336: RuntimeError: no encoder" in text
    assert "no episode was recorded: RuntimeError: no encoder" in text


def test_videos_fall_due_and_are_made_where_an_evaluation_is_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations({"evaluation": [1.0, 3.0, 2.0, 5.0, 4.0, 6.0, 7.0]}, monkeypatch)
    monkeypatch.setattr(footage, "VIDEO_STEPS", 5)
    run = train(tmp_path, f"{CARTPOLE} {SHORT} --eval-freq 48 --video-freq 100")
    videos = sorted((run / "videos").iterdir())
    assert [file.name for file in videos] == [f"{step:012d}.mp4" for step in (192, 288, 336)]
    assert [imageio_ffmpeg.count_frames_and_secs(str(file))[0] for file in videos] == [5, 5, 5]
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert [image.step for image in events.Images("eval/video")] == [192, 288, 336]


def test_videos_of_the_policy_as_it_is_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluations({"evaluation": [5.0, 3.0, 2.0, 1.0, 4.0, 3.0, 3.0]}, monkeypatch)
    monkeypatch.setattr(footage, "VIDEO_STEPS", 5)
    shown, load = [], footage.load_policy
    monkeypatch.setattr(
        footage, "load_policy", lambda *of, **options: [found := load(*of, **options), shown.append(found.step)][0]
    )
    run = train(tmp_path, f"{CARTPOLE} {SHORT} --eval-freq 48 --video-freq 48 --record-every 90")
    assert shown == [48, 96, 192, 288], "of the best one at 48, and of the present one from then on"
    assert [int(file.stem) for file in sorted((run / "videos").iterdir())] == [48, 96, 192, 288]


@pytest.mark.parametrize("fault", [0, 2])
def test_policies_are_kept_for_the_film(fault: int, tmp_path: Path, monkeypatch: Any) -> None:
    commands: list[list[str]] = []
    done = SimpleNamespace(returncode=fault)
    monkeypatch.setattr(command.subprocess, "run", lambda words, **_: (commands.append(words), done)[1])
    run = train(tmp_path, f"{CARTPOLE} {SHORT} --eval-freq 0 --save-freq 100 --film", code=fault)
    assert [words[1:] for words in commands] == [["-m", "agents.film", str(run)]]
    saved = RunFolder(run).checkpoints()
    assert [step for step, _ in saved] == [48, 96, 144, 192, 240, 288, 336], "of every round of 48 steps"
    assert [step for step, _ in RunFolder(run).states()] == [240, 336]
    assert [step for step, _ in RunFolder(run).kept_for_film()] == [48, 96, 192, 288], "where no checkpoint was due"
    assert all((folder / "model.json").is_file() for _, folder in saved)


@long_test
def test_a_training_ends_with_its_film(tmp_path: Path) -> None:
    run = train(tmp_path, f"{CARTPOLE} {SHORT} --film")
    assert (run / "film" / "index.html").is_file()
    assert imageio_ffmpeg.count_frames_and_secs(str(run / "film" / "film.mp4"))[0] > 8 * 20, "of eight policies"


def test_a_model_for_the_film_leaves_a_training_state_alone(tmp_path: Path) -> None:
    run = train(tmp_path, f"{CARTPOLE} {SHORT} --eval-freq 0")
    (last,) = RunFolder(run).states()
    training, params = SimpleNamespace(step=last[0]), SimpleNamespace(total_timesteps=last[0])
    keeping = SimpleNamespace(training=training, params=params, folder=RunFolder(run))
    Run.keep_model(keeping)  # type: ignore[arg-type]
    assert RunFolder(run).states() == [last]


@pytest.mark.parametrize(("end", "round_"), [(1_600, 1), (1_600, 37), (30_000, 7), (100_000, 64), (100_000, 1_000)])
def test_wherever_a_training_ends_models_for_its_film_are_evenly_spread(end: int, round_: int) -> None:
    total = 100_000
    kept: list[tuple[int, Path]] = []
    for before in range(0, end, round_):
        interval = film_interval(before + round_, total)
        if not crossings(before, before + round_, interval):
            continue
        kept.append((before + round_, Path(str(before + round_))))
        gone = set(too_close(kept, interval))
        kept = [one for one in kept if one[1] not in gone]
    steps = [step for step, _ in kept]
    apart = np.diff([0, *steps, end])
    assert len(steps) <= 20
    assert apart.max() <= max(end / 10, 625) + round_
    assert len(steps) >= min(10, end // 625)


def test_without_video_freq_there_are_no_videos(tmp_path: Path) -> None:
    assert not (train(tmp_path, f"{CARTPOLE} {SHORT} --eval-freq 48") / "videos").exists()


def test_a_recording_is_cut_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(f"{CARTPOLE} {SHORT} --eval-freq 0 --record-steps 3".split()) == 0
    text = capsys.readouterr().out
    assert "the recorded episode is cut after 3 steps (--record-steps)" in text
    (video,) = Path("replays").rglob("*.mp4")
    assert imageio_ffmpeg.count_frames_and_secs(str(video))[0] == 3
    assert main(f"{CARTPOLE} {SHORT} --eval-freq 0 --record-steps 25".split()) == 0
    assert "is cut" not in capsys.readouterr().out
    assert main(f"{CARTPOLE} {SHORT} --record-steps 0".split()) == 2
    assert "--record-steps: 0 given, at least 1 expected" in capsys.readouterr().err


def column(run: Path, name: str, tag: str) -> list[str]:
    with (run / name).open(newline="") as stream:
        return [row.get(tag) or "" for row in csv.DictReader(stream)]


def test_episodes_that_never_end_are_cut_said_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = f"--env {USER_ENVS}:Endless {SHORT} --eval-freq 100 --eval-max-steps 20 --final-eval-episodes 3"
    assert main(words.split()) == 0
    text = capsys.readouterr().out
    assert "evaluations cut episodes after 20 steps (--eval-max-steps)" in text
    assert "3 of them cut" in " ".join(text.replace("│", " ").split())
    (run,) = Path("runs").iterdir()
    assert column(run, "evaluations.csv", "eval/cut_episodes") == ["2.0"] * 3
    assert column(run, "evaluations.csv", "eval/mean_reward") == ["20.0"] * 3
    assert result(run)["eval_cut"] == 3
    resume(run, "--eval-max-steps 30 -n 400")
    assert (result(run)["eval_cut"], result(run)["eval_mean"]) == (3, 30.0)
    for flags, length in (("", 30), ("--max-steps 12", 12), ("--env-kwargs max_episode_steps=50", 50)):
        assert evaluate([str(run), "--episodes", "2", "--json", *flags.split()]) == 0
        found = printed_json(capsys)
        cut = None if length == 50 else 2
        assert (found["mean"], found["length_max"], found["cut"]) == (length, length, cut)


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def test_gymnasiums_own_environment_without_a_time_limit_ends_with_a_result(tmp_path: Path) -> None:
    run = train(tmp_path, f"--env CliffWalking-v1 {SHORT} --eval-max-steps 40 --final-eval-episodes 2")
    assert result(run)["eval_cut"] == 2
    assert result(run)["eval_mean"] <= -40


def test_outside_a_run_its_own_limit_holds_and_else_a_usual_one() -> None:
    levers, pole = f"{USER_ENVS}:Levers", "CartPole-v1"
    run = settled(config(levers, total_timesteps=200_000))
    assert most_steps_of(run, levers, {}) == 2_500
    assert most_steps_of(None, levers, {}) == 10_000
    assert most_steps_of(run, levers, {"max_episode_steps": 5}) is None
    assert most_steps_of(run, pole, {}) is None


@pytest.mark.parametrize(("vec", "success"), [("sync", 1), ("sync", 0), ("async", 1)])
def test_successes_have_sb3s_names(vec: str, success: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--env {USER_ENVS}:Reports --env-kwargs success={bool(success)} --vec {vec} {SHORT} --eval-freq 100"
    run = train(tmp_path, f"{words} --eval-max-steps 30")
    assert set(column(run, "progress.csv", "rollout/success_rate")) == {
        "",
        f"{success}.0",
    }  # no episode ends in 16 steps
    assert column(run, "evaluations.csv", "eval/success_rate") == [f"{success}.0"] * 3
    assert evaluate([str(run), "--episodes", "2", "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed.splitlines()[-1])["success_rate"] == success
    assert f"success rate        {100 * success:.1f}%" in printed


REPORTS: list[dict[str, Any]] = [
    {"is_success": True},
    {"is_success": 0.0},
    {},
    {"is_success": False},
    {"is_success": ""},
]


def test_a_success_rate_is_the_mean_over_the_episodes_that_report_it() -> None:
    monitor, ended = Monitor(), Episodes(5, np.ones(5), np.ones(5, np.int64), REPORTS)
    monitor.add(Iteration(10, episodes=[ended, Episodes(1, np.ones(1), np.ones(1, np.int64))]))
    assert monitor.scalars(10)["rollout/success_rate"] == pytest.approx(1 / 3)
    result = Evaluation(np.ones(5), np.ones(5, np.int64), REPORTS)
    assert evaluation_scalars(result, 0.0)["eval/success_rate"] == pytest.approx(1 / 3)
    assert "eval/cut_episodes" not in evaluation_scalars(result, 0.0)


def test_where_nothing_reports_success_there_is_no_rate(tmp_path: Path) -> None:
    run = train(tmp_path, f"{CARTPOLE} {SHORT} --eval-freq 100 --vec sync")
    assert "success" not in (run / "progress.csv").read_text() + (run / "evaluations.csv").read_text()


def test_successes_are_kept_in_a_checkpoint() -> None:
    monitor, other = Monitor(), Monitor()
    monitor.successes.extend([1.0, 0.0, 0.0, 0.0])
    other.load_state_dict(json.loads(json.dumps(monitor.state_dict())))
    assert other.scalars(10)["rollout/success_rate"] == 0.25


def test_the_last_screen_says_where_the_time_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def recorded(run: Run, *_: Any) -> None:
        run.monitor.spent["evaluation"] = 62.04
        monkeypatch.setitem(run.monitor.spent, "recording", 50.0)

    monkeypatch.setattr(concluding, "record_episode_of", recorded)
    monkeypatch.setattr(Monitor, "elapsed", lambda monitor: 117.0)
    monkeypatch.setattr(Monitor, "training_seconds", lambda monitor: 1.7)
    assert main(f"{CARTPOLE} {SHORT} --eval-freq 0 --runs-dir {tmp_path}".split()) == 0
    assert "117.0 s: training 1.7 s, evaluation 62.0 s, recording 50.0 s" in capsys.readouterr().out


def test_a_run_that_goes_on_has_not_ended(tmp_path: Path) -> None:
    with signals_at(100, signal.SIGINT):
        run = train(tmp_path, f"{CARTPOLE} {SHORT} --eval-freq 0", code=130)
    folder = RunFolder(run)
    assert folder.ended
    folder.resume(folder.config())
    assert not folder.ended
