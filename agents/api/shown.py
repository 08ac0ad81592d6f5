"""What a training and an episode show to the program that asked for them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.run.monitor import Monitor


@dataclass(frozen=True)
class Progress:
    """How far a training is: its `step`, and what the curves would show now."""

    step: int
    _monitor: Monitor

    @cached_property
    def scalars(self) -> dict[str, float]:
        """TensorBoard tag -> value since a round's were last read: `rollout/ep_rew_mean`, `train/loss`, `time/fps`, ...

        They are worked out when they are first read, and stay as they are.
        """
        scalars = self._monitor.scalars(self.step)
        self._monitor.begin_row()
        return scalars


@dataclass(frozen=True, slots=True)
class Video:
    """A recorded episode; a notebook shows it.

    Attributes:
        path: of the MP4 file; beside it lies the episode itself, as JSON.
        total_reward, length: of the episode.
    """

    path: Path
    total_reward: float
    length: int

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.path.read_bytes()).decode()
        return f'<video controls autoplay loop muted src="data:video/mp4;base64,{data}"></video>'
