"""What there is to watch: a policy's episodes, or one that was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, zip_longest
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Protocol

from agents.acting.evaluation import PolicyPlayer
from agents.core.types import Policy
from agents.run.folder import RunFolder
from agents.run.models import LoadedPolicy
from agents.run.play import Moment, play, policy_env, refuse_unfit
from agents.run.recording import STEP_LIMIT, RecordedEpisode, episode_env, record_episode, replay, replay_folder
from agents.run.registry import title_of
from agents.run.video import Frame, write_video
from agents.view.panel import Panel, panel_of
from agents.view.viewer import SIZE, render
from envs.api import VecEnv
from envs.errors import UserError
from envs.locate import env_label

POLL = 0.5  # seconds between two looks for a newer model
ASK_EVERY = 2.0  # seconds between two requests for newer ones


class Show(Protocol):
    """Episodes to watch, counted from 0."""

    env_id: str
    source: str  # what plays, in a few words
    folder: Path  # where pictures of its episodes go

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        """Begin an episode; it breaks off the one before."""
        ...

    def checkpoints(self) -> list[int]:
        """Return the steps of the checkpoints that there are to choose from, in order."""
        ...

    def take(self, checkpoint: int) -> None:
        """Let that checkpoint's policy play the episodes that follow.

        Raises:
            UserError: it cannot be read, or does not fit the environment; the one that plays still does.
        """
        ...

    def forget(self) -> bool:
        """Let the policy forget, before its next step, what it remembers; return whether it remembers anything."""
        ...

    def record(self, index: int, fps: float, size: tuple[int, int] = SIZE) -> Path:
        """Write an episode's video to where recorded episodes go, and return its path."""
        ...

    def close(self) -> None:
        """Free the environment."""
        ...


class PolicyShow:
    """A policy playing: episode `i` is that of the seed `seed + i`.

    Args:
        env: a 1-environment VecEnv made to be drawn; closed with the show.
        source: what plays, in a few words.
        folder: where recorded episodes go.
    """

    axes = "auto"  # which arrays of an observation are pictures

    def __init__(
        self, policy: Policy, env: VecEnv, env_id: str, source: str, seed: int, deterministic: bool, folder: Path
    ) -> None:
        self.policy, self.env, self.env_id, self.source = policy, env, env_id, source
        self.seed, self.deterministic, self.folder = seed, deterministic, folder
        self.step: int | None = None  # of the training, at which the policy was saved
        self._forget = False

    def _file(self, seed: int) -> str:
        """Name files of an episode."""
        return f"seed{seed}"

    def _panel(self, index: int) -> Panel:
        seed, acting = self.seed + index, "most likely actions" if self.deterministic else "sampled actions"
        about = f"episode {index + 1} · seed {seed} · {acting}"
        more: dict[str, Any] = {"name": self._file(seed), "policy": self.policy, "axes": self.axes}
        more |= {"checkpoints": self.checkpoints(), "checkpoint": self.step}
        return panel_of(self.env, env_label(self.env_id), self.source, about, **more)

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        self._forget = False
        played = play(self.env, self.policy, self.seed + index, self.deterministic, forget=self._forgets)
        return self._panel(index), played

    def checkpoints(self) -> list[int]:
        return []

    def take(self, checkpoint: int) -> None:
        raise UserError("there are no checkpoints")

    def forget(self) -> bool:
        self._forget = PolicyPlayer(self.policy, 1, None).remembers
        return self._forget

    def _forgets(self) -> bool:
        now, self._forget = self._forget, False
        return now

    def record(self, index: int, fps: float, size: tuple[int, int] = SIZE) -> Path:
        video = self.folder / f"{self._file(self.seed + index)}{'' if self.deterministic else '-stochastic'}.mp4"
        panel, moments = self.open(index)
        write_video(video, (panel.picture(moment, size) for moment in islice(moments, STEP_LIMIT)), fps)
        return video

    def close(self) -> None:
        self.env.close()


class RunShow(PolicyShow):
    """A run's policy playing, which can change to the run's other checkpoints and writes its episodes down.

    Args:
        path: of the run.
        load: returns one of its policies, by the checkpoint's name: `load_policy` without that.

    Raises:
        UserError: no such model, or its environment cannot be made or rendered.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[str], LoadedPolicy],
        checkpoint: str,
        seed: int,
        deterministic: bool,
        replays: Path,
    ) -> None:
        self.path, self.load = path, load
        self.loaded = load(checkpoint)
        self.notes, self.axes = self.loaded.notes, self.loaded.config.params.network.picture_axes
        env, folder = policy_env(self.loaded, render=True), replay_folder(self.loaded, replays)
        super().__init__(self.loaded.policy, env, self.loaded.env, self._named(), seed, deterministic, folder)
        self.step = self.loaded.step

    def _file(self, seed: int) -> str:
        return f"step{self.loaded.step}-seed{seed}"

    def _named(self) -> str:
        loaded = self.loaded
        name = f"{loaded.name} · " if loaded.name in ("best", "latest") else ""
        return f"{title_of(loaded.algo)} · {name}{loaded.step:,} steps"

    def checkpoints(self) -> list[int]:
        return [step for step, _ in RunFolder(self.path).checkpoints()]

    def take(self, checkpoint: int) -> None:
        self._take(str(checkpoint))

    def _take(self, checkpoint: str) -> None:
        loaded = self.load(checkpoint)
        refuse_unfit(loaded, self.env, loaded.env)
        self.loaded = loaded
        self.policy, self.source, self.step = self.loaded.policy, self._named(), self.loaded.step

    def record(self, index: int, fps: float, size: tuple[int, int] = SIZE) -> Path:
        seed, panel = self.seed + index, self._panel(index)
        done = record_episode(
            self.loaded,
            seed,
            self.folder,
            env=self.env,
            deterministic=self.deterministic,
            fps=fps,
            picture=lambda moment: panel.picture(moment, size),
        )
        return done.video


class FollowShow(RunShow):
    """A run's policy playing while it learns: each episode is that of the newest model that the run has saved.

    `take` leaves the newest for good. Where a model is not whole yet, the one before plays once more; the first is
    waited for, unless the run has ended.

    Args:
        checkpoint: "best" or "latest".
        others: as `RunShow` takes them.
        say: takes the reason for waiting.
        wait: lets a little time pass.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[str], LoadedPolicy],
        checkpoint: str,
        *others: Any,
        say: Callable[[str], None] = print,
        wait: Callable[[], None] = lambda: sleep(POLL),
    ) -> None:
        self.checkpoint, self.wait, self._follows, self.ended = checkpoint, wait, True, False
        run, told = RunFolder.open(path), False
        while not run.ended:
            try:
                load(checkpoint)
                break
            except UserError as error:
                if not told:
                    say(f"{error}; waiting for it")
                told = True
            run.ask_for_models()
            wait()
        super().__init__(path, load, checkpoint, *others)

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        if self._follows:
            self.ended = RunFolder(self.path).ended  # looked at first, as no model comes after it
            with suppress(UserError):
                self._take(self.checkpoint)
        panel, played = super().open(index)
        return panel, self._asking(played)

    def _asking(self, played: Iterator[Moment]) -> Iterator[Moment]:
        """Ask for newer models while an episode is played."""
        asked = -ASK_EVERY
        for moment in played:
            if self._follows and not self.ended and monotonic() >= asked + ASK_EVERY:
                RunFolder(self.path).ask_for_models()
                asked = monotonic()
            yield moment

    def take(self, checkpoint: int) -> None:
        super().take(checkpoint)
        self._follows = False

    def _named(self) -> str:
        return f"{super()._named()}{' · training has ended' if self.ended else ''}"


class ReplayShow:
    """One recorded episode, verified as it plays; a policy, if given, says what it would make of each moment.

    Raises:
        UserError: its environment cannot be made or rendered, or the policy does not fit it.
    """

    def __init__(self, file: Path, recorded: RecordedEpisode, loaded: LoadedPolicy | None = None) -> None:
        self.file, self.recorded, self.folder = file, recorded, file.parent
        self.policy = None if loaded is None else loaded.policy
        self.env_id = self.recorded.env
        self.source = f"recorded · {self.recorded.checkpoint} · {self.recorded.step:,} steps"
        self.env = episode_env(self.recorded)
        if loaded is not None:
            try:
                refuse_unfit(loaded, self.env, self.env_id)
            except UserError:
                self.close()
                raise

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        about = f"seed {self.recorded.seed} · {self.recorded.run}"
        more: dict[str, Any] = {"name": self.file.stem, "policy": self.policy, "axes": self.recorded.picture_axes}
        panel = panel_of(self.env, env_label(self.env_id), self.source, about, **more)
        return panel, replay(self.env, self.recorded, self.policy)

    def checkpoints(self) -> list[int]:
        return []

    def take(self, checkpoint: int) -> None:
        raise UserError("a recorded episode has no checkpoints")

    def forget(self) -> bool:
        return False

    def record(self, index: int, fps: float, size: tuple[int, int] = SIZE) -> Path:
        video = self.file.with_suffix(".mp4")
        write_video(video, frames([self], 1, fps, size), fps)
        return video

    def close(self) -> None:
        self.env.close()


def frames(
    shows: Sequence[Show], episodes: int, fps: float, size: tuple[int, int] = SIZE, panel: bool = True
) -> Iterator[Frame]:
    """Yield a video of the first episodes, cut at `STEP_LIMIT`, of several shows beside one another.

    Each episode's last picture stays until all have ended, and then for a second.

    Args:
        panel: whether the panels are in it; without them it is the first show's environment alone.
    """
    for index in range(episodes):
        panels, played = zip(*(show.open(index) for show in shows), strict=True)
        for step in islice(zip_longest(*played), STEP_LIMIT):
            for each, moment in zip(panels, step, strict=True):
                if moment is not None:
                    each.see(moment)
            bare = panels[0].moment.frame
            frame = render(*(each.state(status=each.outcome()) for each in panels), size=size) if panel else bare
            yield frame
        yield from [frame] * round(fps)
