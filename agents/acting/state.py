"""What a collector keeps between two ticks, and a checkpoint of it: all but the environments themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agents.core.tree import to_numpy, to_tensor, tree_map
from agents.core.types import Episodes, Policy, Tree
from envs.api import Step, VecEnv


class EpisodeTracker:
    """Raw returns and lengths of the running episodes, by environment; unfinished ones are never reported.

    Attributes:
        returns, lengths: NumPy arrays `[N]`, or tensors while a `FusedCollector` keeps them on its device.
    """

    def __init__(self, num_envs: int) -> None:
        self.returns: Any = np.zeros(num_envs)
        self.lengths: Any = np.zeros(num_envs, dtype=np.int64)

    def update(self, step: Step, done: np.ndarray) -> Episodes | None:
        """Take in one tick and return the episodes that ended with it (where `done`), by environment; None if none."""
        self.returns += to_numpy(step.reward)
        self.lengths += 1
        if step.valid is not None:  # a dummy begins an episode, even if the one before never ended
            begun = ~to_numpy(step.valid)
            self.returns[begun] = 0
            self.lengths[begun] = 0
        if not np.count_nonzero(done):
            return None
        episodes = Episodes(int(np.count_nonzero(done)), self.returns[done], self.lengths[done])
        self.returns[done] = 0
        self.lengths[done] = 0
        return episodes


@dataclass(slots=True)
class ActorState:
    """Where acting stands.

    Attributes:
        step: environment steps taken since the run began.
        obs: what to act on next, `[N, ...]`.
        start: whether that is the first observation of its episode, bool tensor `[N]`.
        carry: the recurrent state to act with, `[N, ...]`, zero where an episode starts; () without memory.
        tracker: the running episodes.
        generator: the random stream of the policy's noise.
    """

    step: int
    obs: Any
    start: torch.Tensor
    carry: Tree
    tracker: EpisodeTracker
    generator: torch.Generator

    @classmethod
    def begin(cls, env: VecEnv, policy: Policy, seed: int, generator: torch.Generator) -> ActorState:
        """Reset the environments and stand at step 0."""
        carry, start = policy.initial_carry(env.num_envs), torch.ones(env.num_envs, dtype=torch.bool)
        return cls(0, env.reset(seed), start.to(policy.device), carry, EpisodeTracker(env.num_envs), generator)

    def restart(self, env: VecEnv, policy: Policy, seed: int) -> None:
        """Reset the environments; the count of steps and the random stream go on."""
        anew = ActorState.begin(env, policy, seed, self.generator)
        self.obs, self.start, self.carry, self.tracker = anew.obs, anew.start, anew.carry, anew.tracker

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes back."""
        return {
            "step": self.step,
            "obs": self.obs,
            "start": self.start,
            "carry": self.carry,
            "returns": to_numpy(self.tracker.returns),
            "lengths": to_numpy(self.tracker.lengths),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned, on whatever device that was; the generator's state comes last.

        Raises:
            RuntimeError: the generator's state is one of another kind of device; all else is restored.
        """
        self.step = state["step"]
        self.obs, self.start, self.carry = (
            tree_map(_like, mine, state[name])
            for name, mine in (("obs", self.obs), ("start", self.start), ("carry", self.carry))
        )
        self.tracker.returns, self.tracker.lengths = state["returns"].copy(), state["lengths"].copy()
        self.generator.set_state(state["generator"])


def _like(mine: Any, saved: Any) -> Any:
    return to_tensor(saved, mine.device) if isinstance(mine, torch.Tensor) else to_numpy(saved)
