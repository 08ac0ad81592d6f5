"""Where a training loop stands between two ticks: everything but the agent and the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from agents.core.tree import to_numpy
from agents.core.types import Episode
from envs.api import Step, VecEnv


def env_action(env: VecEnv, action: Tensor) -> Any:
    """Hand actions over as `VecEnv.step` takes them: a tensor on its device if it is capturable, NumPy otherwise."""
    return action.to(env.device) if env.capturable else to_numpy(action)


class EpisodeTracker:
    """Raw returns and lengths of the running episodes, by environment; unfinished ones are never reported."""

    def __init__(self, num_envs: int) -> None:
        self.returns = np.zeros(num_envs)
        self.lengths = np.zeros(num_envs, dtype=np.int64)

    def update(self, step: Step) -> list[Episode]:
        """Take in one tick and return the episodes that ended with it."""
        reward, done = to_numpy(step.reward), to_numpy(step.terminated) | to_numpy(step.truncated)
        self.returns += reward
        self.lengths += 1
        if step.valid is not None:  # a dummy begins an episode, even if the one before never ended
            begun = ~to_numpy(step.valid)
            self.returns[begun] = 0
            self.lengths[begun] = 0
        if not np.count_nonzero(done):
            return []
        ended = done.nonzero()[0]
        episodes = [Episode(float(self.returns[i]), int(self.lengths[i])) for i in ended]
        self.returns[ended] = 0
        self.lengths[ended] = 0
        return episodes


@dataclass(slots=True)
class Position:
    """The steps taken, the observation to act on next, and the running episodes."""

    step: int
    obs: Any
    tracker: EpisodeTracker

    @classmethod
    def start(cls, env: VecEnv, seed: int) -> Position:
        """Reset the environments and stand at step 0."""
        return cls(0, env.reset(seed), EpisodeTracker(env.num_envs))

    def advance(self, step: Step) -> list[Episode]:
        """Go on by one tick and return the episodes that ended."""
        self.step += len(step.reward) if step.valid is None else int(step.valid.sum())
        self.obs = step.obs
        return self.tracker.update(step)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes back."""
        return {
            "step": self.step,
            "obs": self.obs,
            "returns": self.tracker.returns,
            "lengths": self.tracker.lengths,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.step, self.obs = state["step"], state["obs"]
        self.tracker.returns, self.tracker.lengths = state["returns"].copy(), state["lengths"].copy()
