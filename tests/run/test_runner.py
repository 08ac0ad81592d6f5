"""What a run does and when, what it leaves behind, and what does not disturb it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import shlex
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.core.types import Episodes, Iteration
from agents.run import concluding
from agents.run import monitor as monitor_module
from agents.run import run as run_module
from agents.run.breaking import stop_signals
from agents.run.folder import RunFolder
from agents.run.monitor import WINDOW, Monitor
from agents.run.run import KEEP_STATES, Run
from agents.run.summary import Summary
from agents.run.trees import read_tree
from agents.train import main
from agents.watch import main as watch
from tests.run.running import USER_ENVS, assert_same, evaluations, read_config, resume, rows, signals_at, steps, train

CARTPOLE = "--env CartPole-v1 --env-kwargs max_episode_steps=25 --n-envs 3"
PPO = f"{CARTPOLE} --n-steps 16 --batch-size 24 --n-epochs 2"
DQN = f"{CARTPOLE} --algo dqn --learning-starts 0 --train-freq 3 --batch-size 16"
SHORT = "--total-timesteps 300 --target-reward none --eval-episodes 2 --final-eval-episodes 0 --device cpu"
QUIET = f"{SHORT} --eval-freq 0 --save-freq 0"


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_looking_does_not_disturb(algorithm: str, tmp_path: Path) -> None:
    blind = train(tmp_path / "blind", f"{algorithm} {QUIET}")
    watched = tmp_path / "watched"
    words = f"{algorithm} {SHORT} --eval-freq 40 --save-freq 30 --final-eval-episodes 2 --video-freq 40 --quiet"
    assert main([*words.split(), "--runs-dir", str(watched), "--replays-dir", str(watched / "replays")]) == 0
    assert list((watched / "replays").rglob("*.mp4"))
    (run,) = (folder for folder in watched.iterdir() if folder.name != "replays")
    assert len(steps(run, "evaluations.csv")) >= 6
    assert list((run / "videos").iterdir())
    assert_same(read_tree(blind, "model")[0], read_tree(run, "model")[0])
    assert rows(blind, "progress.csv") == rows(run, "progress.csv")


@pytest.mark.parametrize(("algorithm", "tick", "last"), [(PPO, 48, 336), (DQN, 3, 300)])
def test_an_interval_falls_due_at_the_first_tick_past_each_multiple(
    algorithm: str, tick: int, last: int, tmp_path: Path
) -> None:
    run = train(tmp_path, f"{algorithm} {SHORT} --eval-freq 70 --save-freq 100")

    def due(every: int) -> list[int]:
        return sorted({math.ceil(multiple / tick) * tick for multiple in range(every, last + 1, every)})

    assert steps(run, "evaluations.csv") == due(70)
    assert [step for step, _ in RunFolder(run).checkpoints()] == sorted({*due(100), last})
    assert steps(run, "progress.csv") == list(range(tick, last + 1, tick))


@pytest.mark.parametrize(("confirmed", "evaluated"), [(19.9, [96, 144, 240, 288]), (20.0, [96])])
def test_a_target_is_reached_only_when_fresh_episodes_confirm_it(
    confirmed: float, evaluated: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = evaluations({"evaluation": [25.0], "confirmation": [confirmed]}, monkeypatch)
    run = train(tmp_path, f"{PPO} {SHORT} --eval-freq 70 --eval-episodes 5 --target-reward 20")
    assert steps(run, "evaluations.csv") == evaluated
    assert asked[:2] == [(5, "evaluation", 96), (5, "confirmation", 96)]
    assert RunFolder(run).checkpoints()[-1][0] == (96 if confirmed == 20 else 336)


def test_best_is_the_best_evaluation_and_the_first_of_equals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluations({"evaluation": [3.0, 9.0, 9.0, 5.0]}, monkeypatch)
    run = train(tmp_path, f"{PPO} {SHORT} --eval-freq 70 --save-freq 70")
    assert steps(run, "evaluations.csv") == [96, 144, 240, 288]
    best, meta = read_tree(run / "best", "model")
    assert meta["step"] == 144
    assert_same(best, read_tree(RunFolder(run).checkpoint(144), "model")[0])
    first = rows(run, "evaluations.csv")[0]
    expected = {"eval/mean_reward": 3.0, "eval/std_reward": 1.0, "eval/mean_ep_length": 8.0}
    assert {tag: float(first[tag]) for tag in expected} == expected


def test_old_checkpoints_keep_their_model_alone(tmp_path: Path) -> None:
    run = train(tmp_path, f"{PPO} {SHORT} --eval-freq 0 --save-freq 48")
    found = RunFolder(run).checkpoints()
    assert len(found) == 7
    for number, (step, folder) in enumerate(found):
        kept = {"model.json", "model.safetensors"}
        if number >= len(found) - KEEP_STATES:
            kept |= {"state.json", "state.safetensors"}
        assert {file.name for file in folder.iterdir()} == kept
        assert read_tree(folder, "model")[1]["step"] == step
    assert_same(read_tree(run, "model"), read_tree(found[-1][1], "model"))


@pytest.mark.parametrize(
    ("words", "mean", "solved"),
    [(PPO, 475.0, True), (PPO, 474.9, False), (f"--env {USER_ENVS}:Levers --n-steps 32 --batch-size 32", 9.0, None)],
)
def test_the_summary_is_the_last_line_and_in_the_folder(
    words: str,
    mean: float,
    solved: bool | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = evaluations({"final": [mean]}, monkeypatch)
    run = train(tmp_path, f"{words} {QUIET} --seed 4 --final-eval-episodes 12 --json")
    printed = capsys.readouterr().out
    summary = json.loads(printed)
    assert printed.count("\n") == 1
    assert summary == json.loads((run / "summary.json").read_text())
    assert list(summary) == [field.name for field in dataclasses.fields(Summary)]
    assert asked == [(12, "final")]
    env, steps_taken = words.split()[1], RunFolder(run).checkpoints()[-1][0]
    expected: dict[str, Any] = {
        "run": str(run),
        "env": env,
        "algo": "ppo",
        "seed": 4,
        "steps": steps_taken,
        "eval_mean": mean,
        "eval_std": 1.0,
        "eval_episodes": 12,
        "solved": solved,
        "interrupted": False,
    }
    assert summary | expected == summary
    # seconds are rounded to the millisecond, and a fast machine needs seven of them
    assert steps_taken / summary["steps_per_s"] == pytest.approx(summary["wall_s"], rel=0.01, abs=0.0006)


def test_without_a_final_evaluation_there_is_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, f"{PPO} {QUIET} --json")
    summary = json.loads(capsys.readouterr().out)
    assert (summary["eval_mean"], summary["eval_std"], summary["eval_episodes"]) == (None, None, 0)


def test_the_folder_says_how_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*f"{DQN} {QUIET} --runs-dir {tmp_path} --no-record --quiet --seed 5 --net-arch 8 8 --tau 0.5".split()]
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "agents.train", *words])
    assert main(words) == 0
    (run,) = tmp_path.iterdir()
    config = read_config(run / "config.yaml")
    assert (config.seed, config.params.network.net_arch, config.env_kwargs) == (5, (8, 8), {"max_episode_steps": 25})
    assert config.to_yaml() == (run / "config.yaml").read_text()
    open_still = {name for name, value in config.model_dump().items() if value == "auto"}
    assert open_still == {"text_encoder", "picture_axes"}, "these go by the observation space, on every machine"
    versions = json.loads((run / "versions.json").read_text())
    assert {"torch", "gymnasium", "numpy", "python", "git"} <= versions.keys()
    assert (versions["device"], versions["threads"]) == ("cpu", 1)
    assert shlex.split((run / "command.txt").read_text()) == ["python", "-m", "agents.train", *words]
    again = train(tmp_path / "again", f"--config {run / 'config.yaml'}")
    assert (again / "config.yaml").read_text() == (run / "config.yaml").read_text()
    assert_same(read_tree(run, "model"), read_tree(again, "model"))


SHARED_TAGS = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/loss", "train/learning_rate"}
PPO_TAGS = {"value_loss", "policy_gradient_loss", "entropy_loss", "approx_kl", "clip_fraction", "explained_variance"}


@pytest.mark.parametrize(
    ("algorithm", "tags"),
    [(PPO, {f"train/{tag}" for tag in PPO_TAGS}), (DQN, {"rollout/exploration_rate", "train/q_mean"})],
)
def test_the_curves_have_the_baselines_names(algorithm: str, tags: set[str], tmp_path: Path) -> None:
    run = train(tmp_path, f"{algorithm} {QUIET}")
    header = set((run / "progress.csv").read_text().partition("\n")[0].split(","))
    assert header >= {"step", "time/env", "time/act", "time/learn"} | SHARED_TAGS | tags


def test_a_diverged_training_is_told_and_not_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{DQN} {SHORT} --eval-freq 0 --save-freq 10 --learning-rate 1e38 --max-grad-norm 1e30 --optimizer sgd"
    run = train(tmp_path, f"{words} --no-doctor", code=2)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("error: the training diverged: at step ")
    assert "; try a smaller learning_rate" in told[0]
    assert told[1:] == [f"The network is not saved, as its weights are not finite any more; see {run}."]
    assert not (run / "model.json").exists()


def test_the_last_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    words = f"{PPO} {SHORT} --eval-freq 150 --final-eval-episodes 2".split()
    assert main(words) == 0
    (run,) = Path("runs").iterdir()
    text = capsys.readouterr().out
    for part in ("3 environments, native: our own version", "over 2 fresh greedy episodes", "best evaluation"):
        assert part in text
    (video,) = Path("replays").rglob("*.mp4")
    together = text.replace("│\n│                  │", "").replace(" ", "").replace("│", "").replace("\n", "")
    assert str(video) in together, "a path may be folded, but not cut"
    for command in (f"agents.watch {run}", f"agents.evaluate {run}", "tensorboard --logdir runs"):
        assert command in text
    with signals_at(100, signal.SIGINT):
        assert main(words) == 130
    text = capsys.readouterr().out
    (stopped,) = set(Path("runs").iterdir()) - {run}
    assert "stopped early" in text
    assert f"python -m agents.train --resume {stopped}" in text
    assert "fresh greedy episodes" not in text


def test_the_last_screen_suggests_only_what_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = f"{SHORT} --eval-freq 0"
    source = USER_ENVS.read_text(encoding="utf-8").replace('"render_modes": ["rgb_array"]', '"render_modes": []')
    Path("blind.py").write_text(source, encoding="utf-8")
    blind = "--env blind.py:Signs --n-envs 2 --n-steps 32 --batch-size 64"
    for words in (f"{blind} {short}", f"{blind} {short} --no-record"):
        assert main(words.split()) == 0
        text = capsys.readouterr().out
        assert "agents.watch" not in text
        assert "agents.evaluate" in text
    assert main(f"{PPO} {short} --no-record".split()) == 0
    assert "agents.watch" in capsys.readouterr().out
    monkeypatch.setattr(concluding, "record_episode_of", lambda run, replays_dir, most: None)  # as where drawing fails
    assert main(f"{PPO} {short}".split()) == 0
    assert "watch it play" not in capsys.readouterr().out
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pygame" else find(name))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(f"{PPO} {short} --no-record".split()) == 0
    text = capsys.readouterr().out
    assert "agents.watch" not in text
    assert "python -m tensorboard.main --logdir runs" in text
    assert watch([str(next(Path("runs").glob("CartPole*")))]) == 2
    assert "pip install pygame" in capsys.readouterr().err


@pytest.mark.parametrize("moment", [(Run, "evaluate"), (concluding, "record_episode_of")], ids=["evaluate", "record"])
def test_ctrl_c_while_concluding_stops_at_once_and_it_can_be_done_later(
    moment: tuple[Any, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"{PPO} {QUIET} --final-eval-episodes 2 --quiet --runs-dir {tmp_path} --replays-dir {tmp_path / 'replays'}"
    with monkeypatch.context() as patch:
        patch.setattr(*moment, lambda *_: signal.raise_signal(signal.SIGINT))
        assert main(words.split()) == 130
    (run,) = tmp_path.iterdir()
    assert capsys.readouterr().err == (
        "interrupted\nThe training is saved, but not yet brought to its end. "
        f"To do that: python -m agents.train --resume {run}\n"
    )
    weights = read_tree(run, "model")
    assert not (run / "summary.json").exists()
    resume(run)
    assert_same(weights, read_tree(run, "model"))
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["eval_episodes"], summary["interrupted"], summary["steps"]) == (2, False, 336)


def test_stop_signals_are_taken_only_for_a_while() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_works_in_a_thread_without_signals(tmp_path: Path) -> None:
    thread = threading.Thread(target=train, args=(tmp_path, f"{PPO} {QUIET}"))
    thread.start()
    thread.join()
    assert list(tmp_path.glob("*/summary.json"))


def episodes(*returns: float) -> list[Episodes]:
    values = np.array(returns, float)
    return [Episodes(len(values), values, values.astype(np.int64))]


def test_monitor_means() -> None:
    monitor = Monitor()
    assert monitor.scalars(0).keys() == {"time/fps"}
    monitor.add(Iteration(8, {"train/loss": 1.0}, {"train/n_updates": 3.0}, episodes(*range(WINDOW)), {"env": 0.5}))
    monitor.add(Iteration(16, {"train/loss": 4.0}, {"train/n_updates": 5.0}, episodes(1000.0), {"env": 0.25}))
    scalars = monitor.scalars(16)
    timed = ("time/fps", "time/rest")  # which the clock says
    assert scalars["rollout/ep_rew_mean"] == (sum(range(1, WINDOW)) + 1000) / WINDOW
    assert scalars["rollout/ep_len_mean"] == scalars["rollout/ep_rew_mean"]
    assert (scalars["train/loss"], scalars["time/env"]) == (2.5, 0.75)
    again = monitor.scalars(16)
    assert again.keys() == scalars.keys()
    for tag in scalars.keys() - timed:
        assert again[tag] == scalars[tag], "until the row is written it can be made again"
    monitor.begin_row()
    assert monitor.scalars(16).keys() == {"time/fps", "rollout/ep_rew_mean", "rollout/ep_len_mean", "time/rest"}


def test_a_rows_parts_and_the_rest_are_all_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(monitor_module, "perf_counter", lambda: now)
    monitor = Monitor()
    for end, (trained, before_row, after_row) in enumerate([(3.0, 0.5, 0.25), (2.0, 1.0, 0.0)], start=1):
        now += trained
        monitor.add(Iteration(8 * end, seconds={"learn": trained}))
        now += before_row
        scalars = monitor.scalars(8 * end)
        monitor.begin_row()
        if end == 1:
            assert (scalars["time/learn"], scalars["time/rest"]) == (3.0, 0.5)
        now += after_row
        monitor.trains_on()
    assert (scalars["time/learn"], scalars["time/rest"]) == (2.0, 1.25), "what follows a row is part of the next"


def test_speed_is_of_the_steps_of_this_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 10.0, 14.0))
    monkeypatch.setattr("agents.run.monitor.perf_counter", lambda: next(clock))
    monitor = Monitor(first=1_000)
    monitor.start()
    assert monitor.scalars(1_200)["time/fps"] == 50.0


def test_monitor_goes_on_in_the_middle_of_a_row() -> None:
    monitor, copy = Monitor(), Monitor()
    monitor.best, monitor.reached, monitor.handled = (2.5, 8), 3.0, 8
    monitor.add(Iteration(8, {"train/loss": 1.0}, {"train/n_updates": 3.0}, episodes(3.0), {"env": 0.5}))
    copy.load_state_dict(json.loads(json.dumps(monitor.state_dict())))
    assert (copy.best, copy.reached, copy.handled) == ((2.5, 8), 3.0, 8)
    rest = Iteration(16, {"train/loss": 4.0}, {"train/n_updates": 5.0}, episodes(5.0), {"env": 0.25})
    found, timed = [], ("time/fps", "time/rest")
    for one in (monitor, copy):
        one.add(rest)
        found.append({tag: value for tag, value in one.scalars(16).items() if tag not in timed})
    assert found[0] == found[1]


def test_monitor_leaves_out_what_is_no_training_before_and_after_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1_000, 10))
    monkeypatch.setattr("agents.run.monitor.perf_counter", lambda: float(next(clock)))
    monitor = Monitor()
    monitor.start()  # at 10
    with monitor.paused("evaluation"):  # from 20 to 40
        assert monitor.training_seconds() == 10.0
        state = monitor.state_dict()  # the run's seconds are read at 30
    assert (state["elapsed"], state["training_seconds"]) == (20.0, 10.0)
    assert monitor.training_seconds() == 20.0  # at 50
    with monitor.paused("recording"):  # from 60 to 70
        pass
    with monitor.paused("evaluation"):  # from 80 to 90
        pass
    assert monitor.spent == {"evaluation": 30.0, "recording": 10.0}
    copy = Monitor()
    copy.load_state_dict(json.loads(json.dumps(state)))
    copy.start()
    assert copy.training_seconds() == 10.0 + 10.0
    assert copy.elapsed() == 20.0 + 20.0


@pytest.mark.parametrize(
    ("target", "reached", "expected"), [(None, 5.0, False), (5.0, None, False), (5.0, 4.9, False), (5.0, 5.0, True)]
)
def test_monitor_knows_the_target(target: float | None, reached: float | None, expected: bool) -> None:
    monitor = Monitor()
    monitor.reached = reached
    assert monitor.target_reached(target) is expected


def test_rows_are_few_however_long_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "LOG_ROWS", 4)
    run = train(tmp_path, f"{DQN} {QUIET}")
    assert steps(run, "progress.csv") == [75, 150, 225, 300]
