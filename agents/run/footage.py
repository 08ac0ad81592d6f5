"""What a run films: the best or the present policy now and then during the training, and an episode at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from agents.run.models import load_policy
from agents.run.play import Moment, frames_per_second, play, policy_env
from agents.run.recording import record_episode, replay_folder
from agents.run.video import gif_bytes, write_video
from envs.errors import UserError, words_of
from envs.seeding import derive_seed

if TYPE_CHECKING:
    from agents.run.run import Run

FILM_MODELS = 20  # the most that are kept for the film of a training
FIRST_FILMED = 160  # the part of the budget after which the first is, as a training may reach its target early
VIDEO_STEPS = 500  # the most that a video during the training shows
THUMBNAILS = 250  # frames of the small video in TensorBoard, every second one of the episode


class Thumbnails:
    """Small frames of a video as it is recorded, for TensorBoard."""

    def __init__(self) -> None:
        self._frames: list[np.ndarray] = []

    def picture(self, moment: Moment, report: Callable[[int, int], None], most: int) -> np.ndarray:
        """Return a moment's frame, once it is reported that this step of `most` is done."""
        assert moment.frame is not None
        report(moment.step, most)
        if moment.step % 2 and len(self._frames) < THUMBNAILS:
            self._frames.append(moment.frame[::2, ::2])
        return moment.frame

    def gif(self) -> bytes:
        """Return them as an animated GIF."""
        return gif_bytes(self._frames, fps=15)


def film_interval(step: int, total: int) -> int:
    """Return how many steps lie between two models that are kept for the film, when `step` of `total` steps are done.

    There are between half of `FILM_MODELS` and all of them, wherever the training ends.
    """
    every = max(total // FIRST_FILMED, 1)
    while step // every > FILM_MODELS:
        every *= 2
    return every


def too_close(kept: Iterable[tuple[int, Path]], interval: int) -> Iterator[Path]:
    """Yield those of the models `(step, folder)`, in order, that are not the first of an interval."""
    last = 0
    for step, folder in kept:
        if step // interval == last:
            yield folder
        last = step // interval


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {words_of(error)}"


def record_video(run: Run, step: int, checkpoint: Literal["best", "latest"]) -> None:
    """Write a short video of the present policy, which is saved as such; say why where it cannot be drawn."""
    seed, thumbnails = derive_seed(run.config.seed, "video", step), Thumbnails()
    try:
        if run.evaluator.shared:
            raise UserError("it needs an environment of its own, and only one may run")
        loaded = load_policy(run.folder.path, checkpoint, trust=True)
        with (
            closing(policy_env(loaded, render=True)) as env,
            run.console.working("recording a video", "steps at most") as report,
        ):
            played = islice(play(env, loaded.policy, seed), VIDEO_STEPS)
            frames = (thumbnails.picture(moment, report, VIDEO_STEPS) for moment in played)
            write_video(run.folder.video(step), frames, frames_per_second(run.config.env))
    except Exception as error:  # whatever it is, the training goes on
        run.console.say(f"no video was recorded at step {step:,}: {_why(error)}")
    else:
        run.tensorboard.video("eval/video", step, thumbnails.gif())


def record_episode_of(run: Run, replays: tuple[Path, Path], most: int) -> Path | None:
    """Record at most so many steps of one episode of the best model; say why where it cannot be drawn.

    Args:
        replays: the folder of recorded episodes, by its whole path and as messages name it.
        most: steps.
    """
    place, typed_place = replays
    run.evaluator.close()  # it is needed no more, and perhaps only one may run at a time
    if not run.keeps_env:
        run.training.env.close()
    seed, thumbnails = derive_seed(run.config.seed, "recording"), Thumbnails()
    try:
        loaded = load_policy(run.folder.path, trust=True)
        with run.console.working("recording an episode", "steps at most") as report:
            recorded = record_episode(
                loaded,
                seed,
                replay_folder(loaded, place),
                picture=lambda moment: thumbnails.picture(moment, report, most),
                step_limit=most,
            )
    except Exception as error:  # whatever it is, the run comes to its end
        run.console.say(f"no episode was recorded: {_why(error)}")
        return None
    if not (recorded.episode.terminated or recorded.episode.truncated):
        run.console.say(f"the recorded episode is cut after {most:,} steps (--record-steps)")
    run.tensorboard.video("eval/video", run.training.step, thumbnails.gif())
    return typed_place / recorded.video.relative_to(place)
