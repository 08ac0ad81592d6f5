"""What a collector keeps between two ticks, and a checkpoint of it: all but the environments themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agents.core.saved import count, like, part
from agents.core.tree import to_numpy, to_tensor, tree_map
from agents.core.types import Episodes, Policy, Tree
from envs.api import VecEnv


class EpisodeTracker:
    """Raw returns and lengths of the running episodes, by environment; unfinished ones are never reported.

    Attributes:
        returns, lengths: NumPy arrays `[N]`, or tensors while a `FusedCollector` keeps them on its device.
    """

    def __init__(self, num_envs: int) -> None:
        self.returns: Any = np.zeros(num_envs)
        self.lengths: Any = np.zeros(num_envs, dtype=np.int64)

    def update(self, reward: np.ndarray, done: np.ndarray, valid: np.ndarray | None = None) -> Episodes | None:
        """Take in one tick, `[N]` each; return the episodes that ended with it, by environment, or None.

        Args:
            reward: raw.
            done: where the episode ended.
            valid: False on dummy transitions: one begins an episode, even if the one before never ended.
        """
        self.returns += reward
        self.lengths += 1
        if valid is not None:
            self.returns[~valid] = 0
            self.lengths[~valid] = 0
        return self._take(done) if np.count_nonzero(done) else None

    def extend(self, reward: np.ndarray, done: np.ndarray, valid: np.ndarray | None = None) -> list[Episodes]:
        """Take in many ticks, `[T, N]` each, as `update` would one by one; return what that would, without None."""
        if valid is not None:
            ended = [self.update(*tick) for tick in zip(reward, done, valid, strict=True)]
            return [episodes for episodes in ended if episodes is not None]
        found, begin = [], 0
        for t in dict.fromkeys(done.nonzero()[0].tolist()):
            self._add(reward[begin : t + 1])
            found.append(self._take(done[t]))
            begin = t + 1
        self._add(reward[begin:])
        return found

    def _add(self, reward: np.ndarray) -> None:
        self.returns += np.add.reduce(reward, axis=0, dtype=np.float64)
        self.lengths += len(reward)

    def _take(self, done: np.ndarray) -> Episodes:
        episodes = Episodes(int(np.count_nonzero(done)), self.returns[done], self.lengths[done])
        self.returns[done] = 0
        self.lengths[done] = 0
        return episodes


@dataclass(slots=True)
class ActorState:
    """What is kept of acting between two ticks.

    Attributes:
        step: environment steps taken since the run began.
        obs: what to act on next, `[N, ...]`.
        start: whether that is the first observation of its episode, bool `[N]`; a NumPy array, or a tensor while a
            `FusedCollector` keeps it on its device.
        carry: the recurrent state to act with, `[N, ...]`, zero where an episode starts; () without memory.
        tracker: the running episodes.
        generator: the random stream of the policy's noise.
    """

    step: int
    obs: Any
    start: Any
    carry: Tree
    tracker: EpisodeTracker
    generator: torch.Generator

    @classmethod
    def begin(cls, env: VecEnv, policy: Policy, seed: int, generator: torch.Generator) -> ActorState:
        """Reset the environments, at step 0."""
        n = env.num_envs
        return cls(0, env.reset(seed), np.ones(n, bool), policy.initial_carry(n), EpisodeTracker(n), generator)

    def progress(self, ticks: int, num_envs: int, total: int) -> np.ndarray:
        """Return the part of `total` steps that is done at each of the next ticks, at most 1, float64 `[T]`."""
        return np.minimum(np.arange(self.step, self.step + ticks * num_envs, num_envs) / total, 1.0)

    def restart(self, env: VecEnv, policy: Policy, seed: int) -> None:
        """Reset the environments; the count of steps and the random stream go on."""
        anew = ActorState.begin(env, policy, seed, self.generator)
        self.obs, self.start, self.carry, self.tracker = anew.obs, anew.start, anew.carry, anew.tracker

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes back."""
        return {
            "step": self.step,
            "obs": self.obs,
            "start": to_numpy(self.start),
            "carry": self.carry,
            "returns": to_numpy(self.tracker.returns),
            "lengths": to_numpy(self.tracker.lengths),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned, on whatever device that was; the generator's state comes last.

        Raises:
            RuntimeError: the generator's state is one of another kind of device; all else is restored.
            ValueError: the state is none of such an actor.
        """
        mine = self.state_dict()
        saved = {name: like(part(state, name), mine[name], name) for name in ("obs", "start", "carry")}
        returns, lengths = (like(part(state, name), mine[name], name).copy() for name in ("returns", "lengths"))
        self.step = count(part(state, "step"), "step")
        self.obs, self.start, self.carry = (
            tree_map(_like, mine, saved[name])
            for name, mine in (("obs", self.obs), ("start", self.start), ("carry", self.carry))
        )
        self.tracker.returns, self.tracker.lengths = returns, lengths
        self.generator.set_state(part(state, "generator"))


def _like(mine: Any, saved: Any) -> Any:
    """Return a copy: a saved array may lie at any address, and where it lies changes a product's last bits."""
    return to_tensor(saved, mine.device).clone() if isinstance(mine, torch.Tensor) else to_numpy(saved).copy()
