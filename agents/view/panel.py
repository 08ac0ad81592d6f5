"""All that is said of one episode while it is watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Space

from agents.core.types import Policy
from agents.run.play import Moment
from agents.run.video import Frame
from agents.view.bars import action_bars, choices
from agents.view.observation import pictures, readings
from agents.view.saliency import saliency
from agents.view.viewer import SIZE, ViewState, render
from envs.api import VecEnv
from envs.names import Names


class Panel:
    """What has been seen of one episode so far.

    Args:
        space: canonical, of the actions.
        seen: canonical, of the observations; None where they are not shown.
        axes: which of their arrays are pictures, as the setting `picture_axes` says it.
        name: of files with pictures of this episode.
        policy: that plays, or comments on what is played; None where there is none.
        checkpoints, checkpoint: as `ViewState` has them.
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
        policy: Policy | None = None,
        checkpoints: Sequence[int] = (),
        checkpoint: int | None = None,
    ) -> None:
        self.title, self.subtitle, self.episode, self.space = title, subtitle, episode, space
        self.seen, self.names, self.name, self.policy = seen, names or Names(), name, policy
        self.axes, self.checkpoints, self.checkpoint = axes, checkpoints, checkpoint
        self.moment: Moment | None = None
        self.series: list[float] = []
        self.resets: list[int] = []

    def see(self, moment: Moment) -> None:
        """Take in the next moment."""
        self.moment = moment
        if moment.memory_reset:
            self.resets.append(len(self.series))
        self.series.append(float(moment.outputs.get("value", moment.ret)))

    def outcome(self, moment: Moment | None = None) -> str:
        """Say how the episode ended, "" while it goes on, and at a moment before its end."""
        moment = moment or self.moment
        if moment is None or not moment.ended:
            return ""
        return "terminated" if moment.terminated else "time limit reached"

    def state(
        self,
        moment: Moment | None = None,
        *,
        status: str = "",
        sees: bool = True,
        salient: bool = False,
        **more: Any,
    ) -> ViewState:
        """Return what to draw of a moment, the last one seen if it is None.

        Args:
            sees: whether what the agent sees belongs to it.
            salient: whether what the action depends on is marked in that.
            more: further attributes of `ViewState`.
        """
        moment = moment or self.moment
        assert moment is not None
        assert moment.frame is not None
        title, bars, hidden = action_bars(moment, self.space, self.names.actions)
        obs, seen = moment.obs, self.seen if sees and moment.obs is not None else None
        depends = saliency(self.policy, moment, self.space, seen) if salient and seen is not None else {}
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
            resets=self.resets,
            distribution=self._distribution(moment),
            checkpoints=self.checkpoints,
            checkpoint=self.checkpoint,
            status=status,
            readings=() if seen is None else readings(obs, seen, self.names, depends, self.axes),
            pictures=() if seen is None else pictures(obs, seen, depends, self.axes),
            salient=bool(depends),
            **more,
        )

    def _distribution(self, moment: Moment) -> tuple[str, np.ndarray, np.ndarray] | None:
        """Return the distribution of returns of the action taken, or of the most likely one, where there is one."""
        if "returns" not in moment.outputs:
            return None
        if moment.outputs["returns"].ndim == 1:
            return "returns expected", moment.outputs["returns"], moment.outputs["return_probabilities"]
        labels, taken = choices(np.atleast_1d(moment.action), self.space, self.names.actions)
        action = taken.index(True)
        returns, chances = (moment.outputs[name][action] for name in ("returns", "return_probabilities"))
        return f"returns expected after {labels[action]}", returns, chances

    def picture(self, moment: Moment, size: tuple[int, int] = SIZE) -> Frame:
        """Take in a moment and return a video's frame of it."""
        self.see(moment)
        return render(self.state(status=self.outcome()), size=size)


def panel_of(env: VecEnv, title: str, subtitle: str, episode: str, **more: Any) -> Panel:
    """Return the panel of an episode in `env`; `more` as `Panel` takes it."""
    return Panel(title, subtitle, episode, env.action_space, seen=env.observation_space, names=env.names, **more)
