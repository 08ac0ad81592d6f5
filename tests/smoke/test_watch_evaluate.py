"""`evaluate` and `watch` as a user types them, on one small run."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from agents.evaluate import main as evaluate
from agents.run.recording import load_episode
from agents.train import main as train
from agents.watch import main as watch
from tests.printed import printed_json
from tests.waiting import HANGS

KEYS = {"run", "checkpoint", "episodes", "mean", "std", "median", "iqm", "ci_low", "ci_high", "length_mean"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a run of CartPole in `runs/`, short episodes, and checkpoints at 256 steps and 512."""
    place = tmp_path_factory.mktemp("place")
    words = "--env CartPole-v1 -n 512 --n-envs 4 --n-steps 64 --batch-size 64 --eval-freq 256 --eval-episodes 2"
    places = f"--runs-dir {place / 'runs'} --replays-dir {place / 'replays'}"
    words += " --final-eval-episodes 2 --save-freq 256 --env-kwargs max_episode_steps=25 --no-record --quiet"
    code = train(f"{words} {places}".split())
    assert code == 0
    return place


@pytest.fixture
def run(place, monkeypatch) -> str:
    """The run's path as it is typed in the folder that everything happens in."""
    monkeypatch.chdir(place)
    return str(next(Path("runs").iterdir()))


def test_evaluate_prints_the_figures_and_one_json_line(run, capsys):
    assert evaluate([run, "--episodes", "7", "--json"]) == 0
    printed = capsys.readouterr().out.splitlines()
    result = json.loads(printed[-1])
    assert result.keys() >= KEYS
    assert (result["run"], result["checkpoint"], result["episodes"]) == (run, "best", 7)
    assert result["ci_low"] <= result["mean"] <= result["ci_high"]
    assert result["mean"] == result["length_mean"]  # CartPole pays 1 a step
    assert result["length_min"] <= result["median"] <= result["length_max"]
    text = "\n".join(printed[:-1])
    assert f"{result['mean']:.2f} ± {result['std']:.2f}" in text
    assert f"python -m agents.watch {run} --checkpoint best" in text


def test_what_evaluate_was_given_is_watched(run, capsys):
    given = ["--env-kwargs", "max_episode_steps=20", "--seed", "3", "--stochastic", "--trust"]
    assert evaluate([run, "--episodes", "2", "--env", "CartPole-v1", *given]) == 0
    line = capsys.readouterr().out.rpartition("Watch it:")[2]
    words = shlex.split(line)[3:]  # after python -m agents.watch
    assert words[:5] == [run, "--checkpoint", "best", "--env", "CartPole-v1"]
    assert sorted(words[5:]) == sorted(given)
    assert watch([*words, "--record", "given.gif"]) == 0


def test_evaluate_is_the_same_for_the_same_seed(run, capsys):
    def mean(*flags: str) -> float:
        longer = ["--env-kwargs", "max_episode_steps=500"]
        assert evaluate([run, "--episodes", "6", "--json", *longer, *flags]) == 0
        return printed_json(capsys)["mean"]

    assert mean() == mean() == mean("--seed", "0")
    assert mean() != mean("--seed", "1")
    assert mean("--stochastic") == mean("--stochastic") != mean()


def test_evaluate_takes_checkpoints_models_and_the_latest_run(run, capsys):
    for words, checkpoint, step in (
        ([run, "--checkpoint", "256"], "256", 256),
        ([run, "--checkpoint", "latest"], "latest", 512),
        ([f"{run}/best"], "best", None),
        ([f"{run}/best/model.json"], "best", None),
        ([], "best", None),
    ):
        assert evaluate([*words, "--episodes", "2", "--json"]) == 0
        result = printed_json(capsys)
        assert result["checkpoint"] == checkpoint
        assert step in (None, result["step"])


def test_evaluate_passes_arguments_to_the_environment(run, capsys):
    assert evaluate([run, "--episodes", "3", "--env-kwargs", "max_episode_steps=4", "--json"]) == 0
    assert printed_json(capsys)["length_max"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere", "nowhere"),
        ("RUN --checkpoint 999", "no checkpoint '999'; there are best, latest, 256, 512"),
        ("RUN --episodes 0", "--episodes: 0 given, 1 to 1,000,000 expected"),
        ("RUN --seed -1", "--seed: -1 given"),
        ("RUN --env-kwargs gravity", "KEY=VALUE expected"),
        ("RUN --env Acrobot-v1", "does not fit Acrobot-v1"),
        ("RUN --episods 3", "--episods: unknown flag. Did you mean --episodes"),
        ("--episods 3", "--episods: unknown flag. Did you mean --episodes"),
        ("RUN -x", "-x: unknown flag"),
        ("RUN OTHER", "OTHER: one argument too many"),
        ("--runs-dir elsewhere", "elsewhere holds no run"),
        ("RUN --gamma 0.9", "--gamma changes nothing here, as it goes with --data: leave it out."),
        ("RUN --updates 9", "--updates changes nothing here, as it goes with --data"),
        ("RUN --vec-normalize x", "--vec-normalize changes nothing here, as it goes with a MODEL.zip"),
        ("RUN --data x --max-steps 9", "--max-steps changes nothing here, as with --data nothing is played"),
        ("RUN --data x --one-instance", "--one-instance changes nothing here, as with --data nothing is played"),
        ("RUN --data x --device cuda", "--device changes nothing here, as with --data nothing is played"),
        ("RUN --data x --episodes 9", "--episodes changes nothing here, as with --data nothing is played"),
    ],
)
def test_mistakes_in_evaluate_are_told_in_one_line(run, capsys, words, message):
    assert evaluate([run if word == "RUN" else word for word in words.split()]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("RUN --vec-normalize x.pkl", "--vec-normalize changes nothing here, as it goes with a MODEL.zip"),
        ("RUN --record out.avi", "out.avi: cannot record to the format '.avi'"),
        ("RUN --episodes 0", "--episodes: 0 given"),
        ("RUN --fps 0", "--fps: 0.0 given"),
        ("RUN --width 100", "--width: 100 given, 160 to 3840 pixels"),
        ("RUN --env-kwargs gravity", "KEY=VALUE expected"),
        ("RUN --env-kwargs speed=3", "takes no argument 'speed'"),
        ("RUN --env Acrobot-v1", "does not fit Acrobot-v1"),
        ("--replay nothing.json --env-kwargs gravity=3", "leave --env-kwargs out"),
        ("RUN --checkpoint bets", "Did you mean best?"),
        ("RUN --beside nowhere", "no checkpoint 'nowhere'; there are best, latest, 256, 512"),
        ("RUN --beside best --replay nothing.json", "--beside and --replay exclude one another"),
        ("RUN --beside best", "give --record FILE"),
        ("RUN --no-panel", "--no-panel is for --record FILE"),
        ("--replay nothing.json", "cannot read nothing.json"),
        ("--runs-dir elsewhere", "elsewhere holds no run"),
    ],
)
def test_mistakes_in_watch_are_told_in_one_line(run, capsys, words, message):
    assert watch([run if word == "RUN" else word for word in words.split()]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_watch_without_a_display_records_and_the_episode_plays_again(run, capsys, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert watch([run, "--seed", "3", "--episodes", "2", "--json"]) == 0
    printed = capsys.readouterr().out
    assert "no display" in printed
    videos = [Path(video) for video in json.loads(printed.splitlines()[-1])["videos"]]
    assert [video.parent for video in videos] == [Path("replays", "CartPole-v1", Path(run).name)] * 2
    files = [video.with_suffix(".json") for video in videos]
    assert [load_episode(file).seed for file in files] == [3, 4]
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(videos[0]))
    assert frames == load_episode(files[0]).length

    assert watch(["--replay", str(files[0]), "--record", "again.mp4"]) == 0
    assert imageio_ffmpeg.count_frames_and_secs("again.mp4")[0] == frames + 50  # the last picture stays for a second
    assert watch([run, "--replay", str(files[0]), "--json"]) == 0
    assert printed_json(capsys)["videos"] == [str(videos[0])]


def test_watch_records_a_gif_with_the_panel(run):
    assert watch([run, "--record", "out/film.gif", "--fps", "25"]) == 0
    with Image.open("out/film.gif") as image:
        assert image.width == 640
        assert 25 < image.n_frames <= 25 + 25
        picture = np.asarray(image.convert("RGB")).astype(int)
    assert picture[20, 630].sum() < 150  # the panel is dark,
    assert picture[180, 60].sum() > 700  # CartPole is white


def test_two_policies_are_recorded_beside_one_another(run, capsys):
    words = [run, "--checkpoint", "256", "--beside", "latest", "--env-kwargs", "max_episode_steps=4", "--json"]
    assert watch([*words, "--record", "pair.gif", "--width", "1400", "--fps", "25"]) == 0
    found = printed_json(capsys)
    assert (found["policy"], found["beside"]) == ("PPO · 256 steps", "PPO · latest · 512 steps")
    with Image.open("pair.gif") as image:
        assert image.size == (1400, 494)
        assert image.n_frames >= 4
        picture = np.asarray(image.convert("RGB")).astype(int)
    for left in (0, 700):
        assert picture[300, left + 40].sum() > 700  # CartPole is white,
        assert picture[20, left + 690].sum() < 150  # and a panel dark beside it


def test_a_video_without_the_panel_is_the_environments_picture(run):
    assert watch([run, "--record", "bare.gif", "--no-panel", "--env-kwargs", "max_episode_steps=3"]) == 0
    with Image.open("bare.gif") as image:
        assert image.size == (600, 400)


def test_watch_takes_the_environments_arguments_and_a_width(run, capsys):
    assert watch([run, "--record", "wide.gif", "--width", "700", "--env-kwargs", "max_episode_steps=3"]) == 0
    with Image.open("wide.gif") as image:
        assert image.size == (700, 394)
    assert watch([run, "--seed", "9", "--env-kwargs", "max_episode_steps=3", "--json"]) == 0
    episode = load_episode(Path(printed_json(capsys)["videos"][0]).with_suffix(".json"))
    assert (episode.length, episode.truncated, episode.env_kwargs) == (3, True, {"max_episode_steps": 3})


def test_a_torn_model_is_refused_by_name(place, run, capsys):
    file = Path(run, "checkpoints", "000000000256", "model.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    try:
        assert evaluate([run, "--checkpoint", "256"]) == 2
        assert str(file) in capsys.readouterr().err
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("command", ["evaluate", "watch"])
def test_help_lists_the_flags_and_three_examples(command):
    done = subprocess.run(
        [sys.executable, "-m", f"agents.{command}", "--help"], capture_output=True, text=True, timeout=HANGS
    )
    assert done.returncode == 0
    assert "--checkpoint" in done.stdout
    assert done.stdout.count(f"python -m agents.{command}") >= 4  # the usage and three examples


def test_a_process_prints_nothing_but_its_own_lines(run):
    """No banner of pygame's, no complaint of a sound card's, and JSON at the end."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("SDL_", "PYGAME", "DISPLAY", "WAYLAND"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "agents.watch", run, "--json"],
        capture_output=True,
        text=True,
        timeout=HANGS,
        env=environment,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout.splitlines()[-1])["env"] == "CartPole-v1"
    assert "pygame" not in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGTERM")
def test_a_program_that_draws_ends_at_sigterm():
    words = (
        "import signal; from agents.run.play import prepare_drawing; prepare_drawing('CartPole-v1')",
        "import pygame; pygame.init(); pygame.display.set_mode((9, 9)); signal.raise_signal(signal.SIGTERM)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(words)], check=False, timeout=HANGS)
    assert done.returncode == -signal.SIGTERM
