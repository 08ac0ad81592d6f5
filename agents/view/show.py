"""What there is to watch: a policy's episodes, or one that was recorded, with all that the panel says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from time import sleep
from typing import Protocol

from gymnasium import Space

from agents.core.types import Policy
from agents.run.folder import RunFolder
from agents.run.models import checkpoints, load_policy
from agents.run.play import Moment, play, policy_env
from agents.run.recording import STEP_LIMIT, episode_env, load_episode, record_episode, replay, replay_folder
from agents.run.registry import title_of
from agents.run.video import Frame, write_video
from agents.view.viewer import ViewState, action_bars, render
from envs.errors import UserError
from envs.make import env_label

POLL = 0.5  # seconds between two looks for a newer model


class Panel:
    """What has been seen of one episode so far."""

    def __init__(self, title: str, subtitle: str, episode: str, space: Space) -> None:
        self.title, self.subtitle, self.episode, self.space = title, subtitle, episode, space
        self.moment: Moment | None = None
        self.series: list[float] = []

    def see(self, moment: Moment) -> None:
        """Take in the next moment."""
        self.moment = moment
        self.series.append(float(moment.outputs.get("value", moment.ret)))

    def outcome(self) -> str:
        """Say how the episode ended, "" while it goes on."""
        if self.moment is None or not self.moment.ended:
            return ""
        return "terminated" if self.moment.terminated else "time limit reached"

    def state(self, status: str = "", keys: bool = False) -> ViewState:
        """Return what to draw of the last moment seen."""
        assert self.moment is not None
        assert self.moment.frame is not None
        title, bars, hidden = action_bars(self.moment, self.space)
        return ViewState(
            frame=self.moment.frame,
            title=self.title,
            subtitle=self.subtitle,
            episode=self.episode,
            step=self.moment.step,
            ret=self.moment.ret,
            reward=self.moment.reward,
            series_title="value estimate" if "value" in self.moment.outputs else "return",
            series=self.series,
            bars_title=title,
            bars=bars,
            hidden=hidden,
            status=status,
            keys=keys,
        )

    def picture(self, moment: Moment) -> Frame:
        """Take in a moment and return a video's frame of it."""
        self.see(moment)
        return render(self.state(self.outcome()))


class Show(Protocol):
    """Episodes to watch, counted from 0."""

    env_id: str
    finished: bool  # whether no episode follows the one that is open

    @property
    def source(self) -> str:
        """What plays, in a few words."""
        ...

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        """Begin an episode; it breaks off the one before."""
        ...

    def switch(self, direction: int) -> str:
        """Go to the checkpoint after (1) or before (-1) this one; return its name, or "" where there is none."""
        ...

    def turns(self, episodes: int | None) -> Iterable[int]:
        """Return which episodes to record where there is no window; `episodes`, if given, is how many."""
        ...

    def record(self, index: int, fps: float) -> Path:
        """Write an episode's video to where recorded episodes go, and return its path."""
        ...

    def close(self) -> None:
        """Free the environment."""
        ...


class PolicyShow:
    """A policy playing: episode `i` is that of the seed `seed + i`.

    Raises:
        UserError: no such model, or its environment cannot be made or rendered.
    """

    finished = False

    def __init__(self, path: Path, checkpoint: str, seed: int, deterministic: bool, replays: Path) -> None:
        self.path, self.seed, self.deterministic, self.replays = path, seed, deterministic, replays
        self.loaded = load_policy(path, checkpoint)
        self.notes = self.loaded.notes
        self.env_id = self.loaded.env
        self.env = policy_env(self.loaded, render=True)

    @property
    def source(self) -> str:
        loaded = self.loaded
        name = f"{loaded.name} · " if loaded.name in ("best", "latest") else ""
        return f"{title_of(loaded.algo)} · {name}{loaded.step:,} steps"

    def _panel(self, seed: int) -> Panel:
        acting = "most likely actions" if self.deterministic else "sampled actions"
        return Panel(env_label(self.env_id), self.source, f"seed {seed} · {acting}", self.env.action_space)

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        seed = self.seed + index
        return self._panel(seed), play(self.env, self.loaded.policy, seed, self.deterministic)

    def switch(self, direction: int) -> str:
        steps = [step for step, _ in checkpoints(self.path)]
        beyond = [step for step in steps if (step - self.loaded.step) * direction > 0]
        if not beyond:
            return ""
        self.loaded = load_policy(self.path, str(min(beyond) if direction > 0 else max(beyond)))
        return self.loaded.name

    def turns(self, episodes: int | None) -> Iterable[int]:
        return range(episodes or 1)

    def record(self, index: int, fps: float) -> Path:
        seed, folder = self.seed + index, replay_folder(self.loaded, self.replays)
        picture = self._panel(seed).picture
        done = record_episode(
            self.loaded, seed, folder, env=self.env, deterministic=self.deterministic, fps=fps, picture=picture
        )
        return done.video

    def close(self) -> None:
        self.env.close()


class FollowShow(PolicyShow):
    """A run's policy playing while it learns: each episode is that of the newest model that the run has saved.

    `switch` leaves the newest for good. Where a model is not whole yet, the one before plays once more; the first is
    waited for, unless the run has ended.

    Args:
        checkpoint: "best" or "latest".
        say: takes the reason for waiting.
        wait: lets a little time pass.
    """

    def __init__(
        self,
        path: Path,
        checkpoint: str,
        seed: int,
        deterministic: bool,
        replays: Path,
        *,
        say: Callable[[str], None] = print,
        wait: Callable[[], None] = lambda: sleep(POLL),
    ) -> None:
        self.checkpoint, self.wait, self._follows = checkpoint, wait, True
        run, told = RunFolder.open(path), False
        while not run.ended:
            try:
                load_policy(path, checkpoint)
                break
            except UserError as error:
                if not told:
                    say(f"{error}; waiting for it")
                told = True
            wait()
        super().__init__(path, checkpoint, seed, deterministic, replays)

    def renew(self) -> bool:
        """Take the newest model; return whether it is another one than before."""
        if not self._follows:
            return False
        self.finished = RunFolder(self.path).ended  # looked at first, as no model comes after it
        before = self.loaded.step
        with suppress(UserError):
            self.loaded = load_policy(self.path, self.checkpoint)
        return self.loaded.step != before

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        self.renew()
        return super().open(index)

    def switch(self, direction: int) -> str:
        self._follows = self.finished = False
        return super().switch(direction)

    def turns(self, episodes: int | None) -> Iterable[int]:
        """Return one episode for each model, as soon as there is a newer one, until the run has ended."""
        return islice(self._newer_models(), episodes)

    def _newer_models(self) -> Iterator[int]:
        numbers, newer = count(), True
        self.renew()
        while True:
            if newer:
                yield next(numbers)
            if self.finished:
                return
            self.wait()
            newer = self.renew()


class ReplayShow:
    """One recorded episode, verified as it plays; `policy`, if given, says what it would make of each moment.

    Raises:
        UserError: the file is no episode, or its environment cannot be made or rendered.
    """

    finished = False

    def __init__(self, file: Path, policy: Policy | None = None) -> None:
        self.file, self.policy = file, policy
        self.recorded = load_episode(file)
        self.env_id = self.recorded.env
        self.source = f"recorded · {self.recorded.checkpoint} · {self.recorded.step:,} steps"
        self.env = episode_env(self.recorded)

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        about = f"seed {self.recorded.seed} · {self.recorded.run}"
        panel = Panel(env_label(self.env_id), self.source, about, self.env.action_space)
        return panel, replay(self.env, self.recorded, self.policy)

    def switch(self, direction: int) -> str:
        return ""

    def turns(self, episodes: int | None) -> Iterable[int]:
        return range(episodes or 1)

    def record(self, index: int, fps: float) -> Path:
        video = self.file.with_suffix(".mp4")
        write_video(video, frames(self, 1, fps), fps)
        return video

    def close(self) -> None:
        self.env.close()


def frames(show: Show, episodes: int, fps: float) -> Iterator[Frame]:
    """Yield a video of the show's first episodes, cut at `STEP_LIMIT`; each one's last picture stays for a second."""
    for index in range(episodes):
        panel, moments = show.open(index)
        for moment in islice(moments, STEP_LIMIT):
            frame = panel.picture(moment)
            yield frame
        yield from [frame] * round(fps)
