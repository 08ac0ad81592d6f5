"""The learning film: which policies play, what it shows, and that it is what was recorded."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from agents.film import main
from agents.lab.document import Document
from agents.run.build import build
from agents.run.models import load_policy, untrained
from agents.run.play import play, policy_env
from agents.run.video import read_video
from agents.view.film import SIZE, Film, curve_of, policies, write_film
from envs.errors import UserError
from tests.run.running import train

FPS, STEPS = 5.0, 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints at 64, 128 and 192 steps, evaluated at each."""
    words = "--env CartPole-v1 --env-kwargs max_episode_steps=9 --n-envs 4 --n-steps 16 --batch-size 64 -n 192 --seed 3"
    words += " --save-freq 64 --target-reward none --eval-freq 64 --eval-episodes 2 --eval-share none"
    return train(tmp_path_factory.mktemp("runs"), f"{words} --final-eval-episodes 0")


@pytest.mark.parametrize(
    ("parts", "steps"), [(11, [0, 64, 128, 192]), (2, [0, 192]), (3, [0, 64, 192]), (4, [0, 64, 128, 192])]
)
def test_the_policies_are_those_nearest_to_equal_parts_of_the_training(run, parts, steps):
    chosen = policies(run, partial(load_policy, run), parts)
    assert [loaded.step for loaded in chosen] == steps


def test_the_untrained_policy_is_the_one_that_training_began_with(run):
    loaded = load_policy(run, "latest")
    began, first = build(loaded.config).algorithm.model.state_dict(), untrained(loaded).policy.model.state_dict()
    assert began.keys() == first.keys()
    assert all(torch.equal(began[name], first[name]) for name in began)
    trained = loaded.policy.model.state_dict()
    assert not all(torch.equal(began[name], trained[name]) for name in began)


def film_of(run: Path, parts: int = 3) -> Film:
    chosen = policies(run, partial(load_policy, run), parts)
    return Film(chosen, curve_of(run, chosen[0]), seed=5, steps=STEPS, fps=FPS)


def test_the_film_has_every_frame_of_every_part_and_is_not_black(run, tmp_path):
    film = film_of(run)
    page = write_film(film, tmp_path / "film")
    assert [part.step for part in film.parts] == [0, 64, 192]
    assert [part.share for part in film.parts] == pytest.approx([0, 1 / 3, 1])
    found = np.stack(list(read_video(page.with_name("film.mp4"))))
    assert found.shape == (3 * (STEPS + FPS), SIZE[1], SIZE[0], 3)
    assert (found.reshape(len(found), -1).max(axis=1) > 200).all()  # the cart's world is white
    assert found[:, 200:280, 100:400].std(axis=(1, 2, 3)).min() > 10  # and something stands in it
    charts = found[[0, STEPS + int(FPS), -1], 240:, -300:].astype(int)
    assert np.abs(np.diff(charts, axis=0)).max(axis=(1, 2, 3)).min() > 100  # the marker has moved along the curve
    held = found[STEPS : STEPS + int(FPS)].astype(int)
    assert np.abs(held - held[0]).max() < 40  # but for what compression makes of it
    assert len(list(read_video(page.with_name("film.gif")))) == len(found)
    for part, loaded in zip(film.parts, film.chosen, strict=True):
        env = policy_env(loaded)
        played = list(play(env, loaded.policy, 5, render=False))[:STEPS]
        env.close()
        assert (part.steps, part.ret) == (len(played), played[-1].ret)
        assert part.ended == "cut"
    text = page.read_text(encoding="utf-8")
    assert text.count("data:video/mp4;base64,") == 1
    assert text.count("data:image/png;base64,") == 3


def test_every_policy_of_a_film_fits_its_environment(run):
    film = film_of(run)
    other = gymnasium.spaces.Box(-1, 1, (6,)), film.chosen[1].own_spaces[1]
    film.chosen[1] = dataclasses.replace(film.chosen[1], own_spaces=other)
    with pytest.raises(UserError, match="does not fit CartPole-v1: it learnt observations"):
        next(film.frames())


def test_the_curve_begins_with_the_untrained_policy(run):
    steps, returns = curve_of(run, policies(run, partial(load_policy, run))[0])
    assert steps.tolist() == [0, 64, 128, 192]
    assert ((returns > 0) & (returns <= 9)).all()


def test_the_command_says_what_it_made(run, tmp_path, capsys):
    words = [str(run), "--seconds", "0.1", "--fps", "5", "--out", str(tmp_path / "film"), "--no-gif", "--json"]
    assert main(words) == 0
    *printed, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert [part["step"] for part in told["parts"]] == [0, 64, 128, 192]
    assert (
        "4 of 11 parts, as no other policies were saved; to save more, train with --film, or with --save-freq 19"
        in printed
    )
    assert Path(told["page"]).exists()
    assert Path(told["film"]).exists()
    assert not (tmp_path / "film" / "film.gif").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere is no run folder"),
        (["--parts", "1"], "--parts: 1 given, 2 to 101 expected"),
        (["--seconds", "0"], "--seconds: 0.0 given, 0.1 to 600 expected"),
        (["--fps", "0"], "--fps: 0.0 given, 0.1 to 1,000 expected"),
        (["--part", "3"], "Did you mean --parts"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_a_video_in_a_page_says_what_it_is_in_text_alone():
    document = Document("Title")
    document.video("film.mp4", b"bytes", '"><script>alert(1)</script>')
    assert "<script" not in document.html()
    assert 'src="data:video/mp4;base64,Ynl0ZXM="' in document.html()
    assert "media-src data:" in document.html()
