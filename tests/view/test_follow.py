"""`watch --follow`: the newest model again and again while a run goes on, and an end where it has ended."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from agents.run.models import load_policy
from agents.train import main as train
from agents.view.show import FollowShow
from agents.watch import main as watch
from envs.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended, with checkpoints at 64, 128 and 192 steps."""
    place = tmp_path_factory.mktemp("whole")
    words = "--env CartPole-v1 --env-kwargs max_episode_steps=9 --n-envs 4 --n-steps 16 --batch-size 64 -n 192"
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
        assert len(list(moments)) == 9
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


def test_without_a_window_there_is_one_turn_for_each_model(run: Going) -> None:
    run.save(64)
    show = run.show(lambda: None, lambda: run.save(128), lambda: None, lambda: (run.save(192), run.end()))
    seen = [(turn, show.loaded.step) for turn in show.turns(None)]
    assert seen == [(0, 64), (1, 128), (2, 192)]
    assert run.left == []
    show.close()
    again = run.show()
    assert list(again.turns(None)) == [0], "an ended run shows its model once"
    again.close()


def test_turns_end_after_the_episodes_asked_for(run: Going) -> None:
    run.save(64)
    show = run.show(lambda: run.save(128))
    assert list(show.turns(2)) == [0, 1]
    show.close()


def test_the_command_follows_an_ended_run_once(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(["--follow", str(whole), "--checkpoint", "latest", "--replays-dir", str(tmp_path)]) == 0
    assert len(list(tmp_path.rglob("*.mp4"))) == 1
    assert capsys.readouterr().out.count("Recorded:") == 1


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
