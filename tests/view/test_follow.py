"""`watch --follow`: the newest model again and again while a run goes on, and an end where it has ended."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gymnasium
import pytest

from agents.run import run as run_module
from agents.run.folder import RunFolder
from agents.run.models import LoadedPolicy, load_policy
from agents.run.recording import RecordedEpisode
from agents.train import main as train
from agents.view.show import FollowShow, ReplayShow, RunShow
from agents.watch import main as watch
from envs.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended, with checkpoints at 64, 128 and 192 steps."""
    place = tmp_path_factory.mktemp("whole")
    words = "--env CartPole-v1 --env-kwargs max_episode_steps=7 --n-envs 4 --n-steps 16 --batch-size 64 -n 192"
    words += " --save-freq 64 --target-reward none --eval-freq 0 --final-eval-episodes 0 --no-record --quiet"
    words += f" --runs-dir {place}"
    assert train(words.split()) == 0
    (run,) = place.iterdir()
    return run


class Going:
    """A run that goes on: `save` lets it have saved the model of a step, and `end` ends it."""

    def __init__(self, whole: Path, path: Path) -> None:
        self.whole, self.path = whole, path
        path.mkdir()
        shutil.copy(whole / "config.yaml", path)

    def save(self, step: int, files: tuple[str, ...] = ("model.json", "model.safetensors")) -> None:
        (self.path / "best").mkdir(exist_ok=True)
        for name in files:
            shutil.copy(self.whole / "checkpoints" / f"{step:012d}" / name, self.path / "best")

    def end(self) -> None:
        shutil.copy(self.whole / "summary.json", self.path)

    def show(self, *waits: Callable[[], None]) -> FollowShow:
        """Follow it; what happens in each wait is said, and there must be no more of them."""
        self.left, self.said = list(waits), list[str]()
        show = FollowShow(
            self.path,
            partial(load_policy, self.path),
            "best",
            0,
            True,
            self.path / "replays",
            say=self.said.append,
            wait=lambda: self.left.pop(0)(),
        )
        return show


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Going:
    return Going(whole, tmp_path / "run")


def test_each_episode_is_of_the_newest_whole_model_until_the_run_has_ended(run: Going) -> None:
    run.save(64)
    show = run.show()
    steps = []
    for happens in (
        lambda: None,
        lambda: run.save(128),
        lambda: run.save(192, ("model.json",)),  # its weights are still on their way
        lambda: run.save(192),
        run.end,
    ):
        happens()
        assert not show.ended
        panel, moments = show.open(len(steps))
        assert len(list(moments)) == 7
        steps.append(show.loaded.step)
        assert f"{steps[-1]} steps" in panel.subtitle
        assert panel.episode == f"episode {len(steps)} · seed {len(steps) - 1} · most likely actions"
    assert steps == [64, 128, 128, 192, 192]
    assert show.ended
    panel, _ = show.open(5)
    assert panel.subtitle.endswith("192 steps · training has ended")
    show.close()


def test_the_first_model_is_waited_for_and_that_is_said_once(run: Going) -> None:
    show = run.show(lambda: None, lambda: run.save(64, ("model.json",)), lambda: run.save(64))
    assert (run.left, show.loaded.step) == ([], 64)
    (said,) = run.said
    assert said.endswith("this run has saved no model yet; waiting for it")
    show.close()


def test_a_run_that_ended_without_a_model_is_not_waited_for(run: Going) -> None:
    with pytest.raises(UserError, match="saved no model"):
        run.show(run.end)


def test_another_checkpoint_stays_once_it_is_chosen(run: Going) -> None:
    run.save(64)
    shutil.copytree(run.whole / "checkpoints", run.path / "checkpoints")
    show = run.show()
    assert show.checkpoints() == [64, 128, 192]
    show.take(128)
    run.save(192)
    run.end()
    show.open(1)
    assert (show.loaded.step, show.ended) == (128, False)
    show.close()


def of_six_numbers(whole: Path, checkpoint: str = "latest") -> LoadedPolicy:
    """A policy that learnt observations which are none of CartPole's."""
    loaded = load_policy(whole, checkpoint)
    return dataclasses.replace(loaded, own_spaces=(gymnasium.spaces.Box(-1, 1, (6,)), loaded.own_spaces[1]))


def test_a_checkpoint_of_other_observations_is_not_taken(whole: Path, tmp_path: Path) -> None:
    def load(checkpoint: str) -> LoadedPolicy:
        return of_six_numbers(whole, checkpoint) if checkpoint == "64" else load_policy(whole, checkpoint)

    show = RunShow(whole, load, "latest", 0, True, tmp_path)
    with pytest.raises(UserError, match=r"does not fit CartPole-v1: it learnt observations .*\(6,\).* not .*\(4,\)"):
        show.take(64)
    assert (show.loaded.step, show.step) == (192, 192)
    show.take(128)
    assert show.step == 128
    show.close()


def test_an_episode_is_shown_with_a_policy_of_its_observations_alone(whole: Path, tmp_path: Path) -> None:
    about = {"env": "CartPole-v1", "env_kwargs": {}, "rescale_action": False, "run": "r", "checkpoint": "best"}
    end = {"terminated": False, "truncated": False, "actions": [0, 1, 0], "rewards": [1.0] * 3, "length": 3}
    told = {"step": 1, "deterministic": True, "gymnasium": "1", "seed": 3, "total_reward": 3.0}
    recorded = RecordedEpisode.model_validate(about | told | end)
    with pytest.raises(UserError, match=r"does not fit CartPole-v1: it learnt observations .*\(6,\).* not .*\(4,\)"):
        ReplayShow(tmp_path / "e.json", recorded, of_six_numbers(whole))
    show = ReplayShow(tmp_path / "e.json", recorded, load_policy(whole, "latest"))
    _, moments = show.open(0)
    assert len(next(moments).outputs) > 0
    show.close()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--record a.mp4", "--follow and --record exclude one another"),
        ("--replay a.json", "--follow and --replay exclude one another"),
        ("--checkpoint 64", "--checkpoint: 64 given, but --follow plays the newest: best or latest"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    whole: Path, flags: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch([str(whole), "--follow", *flags.split()]) == 2
    assert message in capsys.readouterr().err


def test_who_watches_is_given_models_and_the_training_stays_bit_for_bit_the_same(tmp_path, monkeypatch) -> None:
    """What is saved more often because somebody looks changes no number; `--watch` starts who looks."""
    words = "--env CartPole-v1 --n-envs 4 --n-steps 16 --batch-size 64 -n 512 --eval-freq 512 --final-eval-episodes 0"
    words += " --eval-episodes 1 --target-reward none --no-record --quiet --save-freq 512"
    monkeypatch.setattr(run_module, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(run_module, "SAVE_EVERY", 0.0)
    saves, save = [], run_module.Run.save_latest
    monkeypatch.setattr(run_module.Run, "save_latest", lambda self: [saves.append(self.training.step), save(self)][1])

    def train_in(name: str, *more: str) -> dict[str, bytes]:
        saves.clear()
        assert train([*words.split(), "--runs-dir", str(tmp_path / name), *more]) == 0
        (run,) = (tmp_path / name).iterdir()
        kept = ("model.safetensors", "checkpoints/000000000512/state.safetensors")
        return {file: (run / file).read_bytes() for file in kept}

    alone = train_in("alone")
    few = len(saves)
    started, popen = [], subprocess.Popen

    def look(command, **how):
        if "agents.watch" not in command:
            return popen(command, **how)
        started.append((command[2:], how["start_new_session"]))
        return RunFolder(Path(command[-1])).ask_for_models()

    monkeypatch.setattr("subprocess.Popen", look)
    watched = train_in("watched", "--watch")
    (run,) = (tmp_path / "watched").iterdir()
    assert started == [(["agents.watch", "--follow", str(run)], True)]
    assert (few, len(saves)) == (2, 10), "a model each round, as somebody looks"
    assert watched["model.safetensors"] == alone["model.safetensors"]


def test_models_are_asked_for_while_an_episode_is_played_and_no_longer(run: Going, monkeypatch) -> None:
    run.save(64)
    show = run.show()
    folder = RunFolder(run.path)
    assert not folder.asked
    _, moments = show.open(0)
    next(moments)
    assert folder.asked
    os.utime(run.path / ".watched", (0, 0))
    assert not folder.asked
    monkeypatch.setattr("agents.view.show.ASK_EVERY", 0.0)
    next(moments)
    assert folder.asked
    os.utime(run.path / ".watched", (0, 0))
    run.end()
    list(show.open(1)[1])
    assert not folder.asked
    show.close()


@pytest.mark.parametrize("more", ["--dry-run", "--seeds 2"])
def test_watch_is_of_one_run(more: str, capsys) -> None:
    assert train(["--env", "CartPole-v1", "--watch", *more.split()]) == 2
    assert "--watch is of one run that trains: leave --dry-run and --seeds out" in capsys.readouterr().err
