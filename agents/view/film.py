"""The learning film: the same episode at several points of a training, beside its curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.lab.comparison.curves import read_evaluations
from agents.lab.document import Document, Picture, Table
from agents.lab.words import plural
from agents.run.folder import RunFolder
from agents.run.models import LoadedPolicy, untrained
from agents.run.play import Moment, measure, play, policy_env, refuse_unfit
from agents.run.registry import title_of
from agents.run.storage import disk, read_bytes, write_text
from agents.run.video import Frame, read_video, write_video
from agents.view.canvas import ACCENT, BACK, MUTED, SIDE, TEXT, TextPainter, fitted, number, painted, png
from agents.view.charts import draw_series
from envs.api import VecEnv
from envs.locate import env_label
from envs.seeding import derive_seed

if TYPE_CHECKING:
    from pygame import Surface

SIZE = (960, 480)
PARTS = 11  # at 0, 10, ... 100% of the training
HELD = 1.0  # seconds that a part's last picture stays
GRID = 101  # points of the curve
MOST_BYTES = 256 * 2**20  # of a video in a page
_PANEL, _PAD = 380, 24


@dataclass(frozen=True)
class Part:
    """What became of the episode at one point of the training.

    Attributes:
        share: part of the training that was done, 0 to 1.
        still: its last picture, as PNG, and its size.
        ended: "terminated", "time limit", or "cut" where the film goes on before it ends.
    """

    share: float
    step: int
    steps: int
    ret: float
    ended: str
    still: Picture


def policies(path: Path, load: Callable[[str], LoadedPolicy], parts: int = PARTS) -> list[LoadedPolicy]:
    """Return the untrained policy and those saved nearest to equal parts of the training, each once, in order.

    Args:
        path: of the run.
        load: returns one of its policies, by the checkpoint's name: `load_policy` without that.

    Raises:
        UserError: no model is saved, or one cannot be read.
    """
    last = load("latest")
    saved = sorted({0, last.step, *(step for step, _ in RunFolder(path).checkpoints() if step < last.step)})
    away = np.abs(np.subtract.outer(np.linspace(0, last.step, parts), saved))
    nearest = [saved[place] for place in sorted(set(away.argmin(axis=1).tolist()))]
    return [last if step == last.step else load(str(step)) if step else untrained(last) for step in nearest]


class Film:
    """A film as it is made; `parts` are those whose frames were taken.

    Args:
        chosen: policies of one run, in order.
        curve: steps and mean returns, `[n]` each; with fewer than two, no curve is drawn.
        seed: of the episode.
        steps: of an episode that are shown at most.
    """

    def __init__(
        self,
        chosen: Sequence[LoadedPolicy],
        curve: tuple[NDArray[np.float64], NDArray[np.float64]],
        *,
        seed: int,
        steps: int,
        fps: float,
        deterministic: bool = True,
    ) -> None:
        self.chosen, self.seed, self.steps, self.fps = list(chosen), seed, steps, fps
        self.deterministic = deterministic
        self.total = max(chosen[-1].step, 1)
        self.parts: list[Part] = []
        grid = np.linspace(0, self.total, GRID)
        self._series = np.interp(grid, *curve).tolist() if len(curve[0]) > 1 else []

    def frames(self) -> Iterator[Frame]:
        """Yield all frames; each part's last one stays for a second.

        Raises:
            UserError: the environment cannot be made or drawn, or a policy does not fit it.
        """
        with closing(policy_env(self.chosen[0], render=True)) as env:
            for loaded in self.chosen[1:]:
                refuse_unfit(loaded, env, loaded.env)
            for loaded in self.chosen:
                yield from self._part(env, loaded)

    def _part(self, env: VecEnv, loaded: LoadedPolicy) -> Iterator[Frame]:
        share = loaded.step / self.total
        panel = painted((_PANEL, SIZE[1]), partial(self._draw_panel, loaded=loaded, share=share))
        moment: Moment | None = None
        for moment in islice(play(env, loaded.policy, self.seed, self.deterministic), self.steps):
            frame = painted(SIZE, partial(self._draw, panel=panel, moment=moment))
            yield frame
        assert moment is not None
        yield from [frame] * max(round(HELD * self.fps), 1)
        ended = "terminated" if moment.terminated else "time limit" if moment.truncated else "cut"
        alt = f"The end of the episode after {loaded.step:,} steps of training."
        still = Picture(f"step{loaded.step}.png", png(frame), alt, *SIZE)
        self.parts.append(Part(share, loaded.step, moment.step, moment.ret, ended, still))

    def _draw(self, surface: Surface, panel: np.ndarray, moment: Moment) -> None:
        import pygame

        assert moment.frame is not None
        width, height = SIZE
        surface.fill(BACK)
        room = pygame.Rect(0, 0, width - _PANEL, height).inflate(-2 * _PAD, -2 * _PAD)
        picture = fitted(moment.frame, room.width, room.height)
        surface.blit(picture, picture.get_rect(center=room.center))
        surface.blit(pygame.surfarray.make_surface(panel.swapaxes(0, 1)), (width - _PANEL, 0))
        left, write = width - _PANEL + _PAD, TextPainter()
        for x, text in ((left, number(moment.ret)), (left + 150, f"{moment.step:,}")):
            write(surface, text, 20, TEXT, True, topleft=(x, 148))

    def _draw_panel(self, surface: Surface, loaded: LoadedPolicy, share: float) -> None:
        """Draw what stays for a whole part: how far the training is, and its curve up to there."""
        import pygame

        surface.fill(SIDE)
        width, height = surface.get_size()
        write, inner = TextPainter(), pygame.Rect(0, 0, width, height).inflate(-2 * _PAD, -2 * _PAD)
        title = f"{title_of(loaded.algo)} on {env_label(loaded.env)}"
        write(surface, title, 16, TEXT, True, inner.width, topleft=inner.topleft)
        done = write(surface, f"{share:.0%}", 34, ACCENT, True, topleft=(inner.left, inner.top + 28))
        trained, left = f"of the training, {loaded.step:,} steps", done.right + 14
        write(surface, trained, 13, MUTED, width=inner.right - left, topleft=(left, inner.top + 48))
        for x, text in ((inner.left, "return of this episode"), (inner.left + 150, "step")):
            write(surface, text, 12, MUTED, width=145, topleft=(x, 130))
        if self._series:
            box = pygame.Rect(inner.left, 196, inner.width, inner.bottom - 196)
            at = round(share * (GRID - 1))
            draw_series(surface, box, "mean return of evaluations", self._series, at, (), write)


def curve_of(run: Path, first: LoadedPolicy) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the steps and the mean returns of a run's evaluations.

    Args:
        first: the untrained policy, which is evaluated here, as the run did not.

    Raises:
        UserError: they cannot be read.
    """
    steps, returns, _ = read_evaluations(run / "evaluations.csv")
    if not len(steps):
        return steps, returns
    before = measure(first, first.config.params.eval_episodes, derive_seed(first.seed, "evaluation", 0)).mean
    return np.append(0.0, steps), np.append(before, returns)


def write_film(film: Film, folder: Path, *, gif: bool = True) -> Path:
    """Write `film.mp4`, `film.gif` made of what that shows, and `index.html`; return the page's path.

    Raises:
        UserError: the environment cannot be drawn, something cannot be written, or what was written is not the film.
    """
    with disk("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    video = folder / "film.mp4"
    write_video(video, film.frames(), film.fps)
    if gif:
        write_video(folder / "film.gif", read_video(video), film.fps)
    page = folder / "index.html"
    write_text(page, _document(film, read_bytes(video, MOST_BYTES)).html())
    return page


def _document(film: Film, mp4: bytes) -> Document:
    last = film.chosen[-1]
    document = Document(f"How {title_of(last.algo)} learnt {last.env}")
    document.text(f"The episode of seed {film.seed} at {plural(len(film.parts), 'point')} of the training.", note=True)
    document.video("film.mp4", mp4, "The learning film")
    rows = [
        [f"{part.share:.0%}", f"{part.step:,}", f"{part.steps:,}", number(part.ret), part.ended] for part in film.parts
    ]
    document.heading("Its parts", "parts")
    document.table(Table(["training", "steps", "episode", "return", "its end"], rows, texts=0))
    document.show_pictures([part.still for part in film.parts])
    return document
