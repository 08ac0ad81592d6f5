"""What there is to watch: a policy's episodes, or one that was recorded, with all that the panel says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from gymnasium import Space

from agents.core.types import Policy
from agents.run.models import checkpoints, load_policy
from agents.run.play import Moment, play, policy_env
from agents.run.recording import episode_env, load_episode, record_episode, replay, replay_folder
from agents.run.registry import title_of
from agents.run.video import Frame, write_video
from agents.view.viewer import ViewState, action_bars, render
from envs.make import env_label


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

    def record(self, index: int, fps: float) -> Path:
        seed, folder = self.seed + index, replay_folder(self.loaded, self.replays)
        picture = self._panel(seed).picture
        done = record_episode(
            self.loaded, seed, folder, env=self.env, deterministic=self.deterministic, fps=fps, picture=picture
        )
        return done.video

    def close(self) -> None:
        self.env.close()


class ReplayShow:
    """One recorded episode, verified as it plays; `policy`, if given, says what it would make of each moment.

    Raises:
        UserError: the file is no episode, or its environment cannot be made or rendered.
    """

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

    def record(self, index: int, fps: float) -> Path:
        video = self.file.with_suffix(".mp4")
        write_video(video, frames(self, 1, fps), fps)
        return video

    def close(self) -> None:
        self.env.close()


def frames(show: Show, episodes: int, fps: float) -> Iterator[Frame]:
    """Yield a video of the show's first episodes; each one's last picture stays for a second."""
    for index in range(episodes):
        panel, moments = show.open(index)
        for moment in moments:
            frame = panel.picture(moment)
            yield frame
        yield from [frame] * round(fps)
