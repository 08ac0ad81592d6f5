"""What there is to watch: a policy's episodes, or one that was recorded, with all that the panel says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from time import sleep
from typing import Any, Protocol

from gymnasium import Space

from agents.core.types import Policy
from agents.run.folder import RunFolder
from agents.run.models import LoadedPolicy, checkpoints
from agents.run.play import Moment, play, policy_env
from agents.run.recording import STEP_LIMIT, RecordedEpisode, episode_env, record_episode, replay, replay_folder
from agents.run.registry import title_of
from agents.run.video import Frame, write_video
from agents.view.observation import pictures, readings
from agents.view.viewer import SIZE, ViewState, action_bars, render
from envs.api import VecEnv
from envs.errors import UserError
from envs.make import env_label
from envs.names import Names

POLL = 0.5  # seconds between two looks for a newer model


class Panel:
    """What has been seen of one episode so far.

    Args:
        space: canonical, of the actions.
        seen: canonical, of the observations; None where they are not shown.
        axes: which of their arrays are pictures, as the setting `picture_axes` says it.
        name: of files with pictures of this episode.
    """

    def __init__(
        self,
        title: str,
        subtitle: str,
        episode: str,
        space: Space,
        *,
        seen: Space | None = None,
        axes: str = "auto",
        names: Names | None = None,
        name: str = "episode",
    ) -> None:
        self.title, self.subtitle, self.episode, self.space = title, subtitle, episode, space
        self.seen, self.axes, self.names, self.name = seen, axes, names or Names(), name
        self.moment: Moment | None = None
        self.series: list[float] = []

    def see(self, moment: Moment) -> None:
        """Take in the next moment."""
        self.moment = moment
        self.series.append(float(moment.outputs.get("value", moment.ret)))

    def outcome(self, moment: Moment | None = None) -> str:
        """Say how the episode ended, "" while it goes on, and at a moment before its end."""
        moment = moment or self.moment
        if moment is None or not moment.ended:
            return ""
        return "terminated" if moment.terminated else "time limit reached"

    def state(self, moment: Moment | None = None, *, status: str = "", sees: bool = True, **more: Any) -> ViewState:
        """Return what to draw of a moment, the last one seen if it is None.

        Args:
            sees: whether what the agent sees belongs to it.
            more: further attributes of `ViewState`.
        """
        moment = moment or self.moment
        assert moment is not None
        assert moment.frame is not None
        title, bars, hidden = action_bars(moment, self.space, self.names.actions)
        shown = sees and self.seen is not None and moment.obs is not None
        return ViewState(
            frame=moment.frame,
            title=self.title,
            subtitle=self.subtitle,
            episode=self.episode,
            step=moment.step,
            ret=moment.ret,
            reward=moment.reward,
            series_title="value estimate" if "value" in moment.outputs else "return",
            series=self.series,
            at=moment.step - 1,
            bars_title=title,
            bars=bars,
            hidden=hidden,
            status=status,
            readings=readings(moment.obs, self.seen, self.names, self.axes) if shown and self.seen is not None else (),
            pictures=pictures(moment.obs, self.seen, self.axes) if shown and self.seen is not None else (),
            **more,
        )

    def picture(self, moment: Moment, size: tuple[int, int] = SIZE) -> Frame:
        """Take in a moment and return a video's frame of it."""
        self.see(moment)
        return render(self.state(status=self.outcome()), size)


def panel_of(env: VecEnv, title: str, subtitle: str, episode: str, name: str, axes: str) -> Panel:
    """Return the panel of an episode in `env`; `name` and `axes` as for `Panel`."""
    seen = env.observation_space
    return Panel(title, subtitle, episode, env.action_space, seen=seen, axes=axes, names=env.names, name=name)


class Show(Protocol):
    """Episodes to watch, counted from 0."""

    env_id: str
    source: str  # what plays, in a few words
    folder: Path  # where pictures of its episodes go
    finished: bool  # whether no episode follows the one that is open

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        """Begin an episode; it breaks off the one before."""
        ...

    def switch(self, direction: int) -> str:
        """Go to the checkpoint after (1) or before (-1) this one; return its name, or "" where there is none."""
        ...

    def turns(self, episodes: int | None) -> Iterable[int]:
        """Return which episodes to record where there is no window; `episodes`, if given, is how many."""
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

    finished = False
    axes = "auto"

    def __init__(
        self, policy: Policy, env: VecEnv, env_id: str, source: str, seed: int, deterministic: bool, folder: Path
    ) -> None:
        self.policy, self.env, self.env_id, self.source = policy, env, env_id, source
        self.seed, self.deterministic, self.folder = seed, deterministic, folder

    def _file(self, seed: int) -> str:
        """Name files of an episode."""
        return f"seed{seed}"

    def _panel(self, seed: int) -> Panel:
        acting = "most likely actions" if self.deterministic else "sampled actions"
        what = env_label(self.env_id), self.source, f"seed {seed} · {acting}", self._file(seed), self.axes
        return panel_of(self.env, *what)

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        seed = self.seed + index
        return self._panel(seed), play(self.env, self.policy, seed, self.deterministic)

    def switch(self, direction: int) -> str:
        return ""

    def turns(self, episodes: int | None) -> Iterable[int]:
        return range(episodes or 1)

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

    def _file(self, seed: int) -> str:
        return f"step{self.loaded.step}-seed{seed}"

    def _named(self) -> str:
        loaded = self.loaded
        name = f"{loaded.name} · " if loaded.name in ("best", "latest") else ""
        return f"{title_of(loaded.algo)} · {name}{loaded.step:,} steps"

    def switch(self, direction: int) -> str:
        steps = [step for step, _ in checkpoints(self.path)]
        beyond = [step for step in steps if (step - self.loaded.step) * direction > 0]
        if not beyond:
            return ""
        wanted = str(min(beyond) if direction > 0 else max(beyond))
        self._take(wanted)
        return self.loaded.name

    def _take(self, checkpoint: str) -> None:
        self.loaded = self.load(checkpoint)
        self.policy, self.source = self.loaded.policy, self._named()

    def record(self, index: int, fps: float, size: tuple[int, int] = SIZE) -> Path:
        seed = self.seed + index
        panel = self._panel(seed)
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

    `switch` leaves the newest for good. Where a model is not whole yet, the one before plays once more; the first is
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
        self.checkpoint, self.wait, self._follows = checkpoint, wait, True
        run, told = RunFolder.open(path), False
        while not run.ended:
            try:
                load(checkpoint)
                break
            except UserError as error:
                if not told:
                    say(f"{error}; waiting for it")
                told = True
            wait()
        super().__init__(path, load, checkpoint, *others)

    def renew(self) -> bool:
        """Take the newest model; return whether it is another one than before."""
        if not self._follows:
            return False
        self.finished = RunFolder(self.path).ended  # looked at first, as no model comes after it
        before = self.loaded.step
        with suppress(UserError):
            self._take(self.checkpoint)
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
        UserError: its environment cannot be made or rendered.
    """

    finished = False

    def __init__(self, file: Path, recorded: RecordedEpisode, policy: Policy | None = None) -> None:
        self.file, self.recorded, self.policy, self.folder = file, recorded, policy, file.parent
        self.env_id = self.recorded.env
        self.source = f"recorded · {self.recorded.checkpoint} · {self.recorded.step:,} steps"
        self.env = episode_env(self.recorded)

    def open(self, index: int) -> tuple[Panel, Iterator[Moment]]:
        about = f"seed {self.recorded.seed} · {self.recorded.run}"
        panel = panel_of(
            self.env, env_label(self.env_id), self.source, about, self.file.stem, self.recorded.picture_axes
        )
        return panel, replay(self.env, self.recorded, self.policy)

    def switch(self, direction: int) -> str:
        return ""

    def turns(self, episodes: int | None) -> Iterable[int]:
        return range(episodes or 1)

    def record(self, index: int, fps: float, size: tuple[int, int] = SIZE) -> Path:
        video = self.file.with_suffix(".mp4")
        write_video(video, frames(self, 1, fps, size), fps)
        return video

    def close(self) -> None:
        self.env.close()


def frames(show: Show, episodes: int, fps: float, size: tuple[int, int] = SIZE) -> Iterator[Frame]:
    """Yield a video of the show's first episodes, cut at `STEP_LIMIT`; each one's last picture stays for a second."""
    for index in range(episodes):
        panel, moments = show.open(index)
        for moment in islice(moments, STEP_LIMIT):
            frame = panel.picture(moment, size)
            yield frame
        yield from [frame] * round(fps)
