"""A show whose pictures, values and checkpoints are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from agents.core.types import Policy
from agents.run.play import Moment
from agents.view.panel import Panel
from envs.errors import UserError


class FakeShow:
    """Episodes of `length` steps; checkpoints 0, 1 and 2, the last of which is torn."""

    env_id, source, folder = "Fake-v0", "fake", Path("replays")

    def __init__(self, length: int = 10, terminated: bool = True, policy: Policy | None = None) -> None:
        self.length, self.terminated, self.policy, self.checkpoint = length, terminated, policy, 1
        self.forgets = False
        self.opened: list[int] = []

    def open(self, index: int):
        self.opened.append(index)
        about: dict[str, Any] = {"seen": spaces.Box(-1, 1, (4,)), "policy": self.policy}
        about |= {"checkpoints": self.checkpoints(), "checkpoint": self.checkpoint}
        return Panel("Fake-v0", "fake", f"episode {index}", spaces.Discrete(2), **about), self._moments()

    def _moments(self):
        for step in range(1, self.length + 1):
            frame = np.full((40, 60, 3), step % 256, np.uint8)
            last = step == self.length
            ends = (last and self.terminated, last and not self.terminated)
            outputs = {"value": np.float32(step), "probabilities": np.array([0.5, 0.5])}
            seen: dict[str, Any] = {"obs": np.full(4, 0.1, np.float32), "memory_reset": self.forgets}
            self.forgets = False
            yield Moment(step, frame, outputs, np.array(1), 2.0, 2.0 * step, *ends, **seen)

    def checkpoints(self) -> list[int]:
        return [0, 1, 2]

    def take(self, checkpoint: int) -> None:
        if checkpoint == 2:
            raise UserError("checkpoint 2 is torn")
        self.checkpoint = checkpoint

    def forget(self) -> bool:
        self.forgets = True
        return True

    def turns(self, episodes):
        raise NotImplementedError

    def record(self, index, fps):
        raise NotImplementedError

    def close(self) -> None:
        pass
