"""The last observations of an episode side by side, so that a network without memory sees what moves."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from envs.adapters.around import Around
from envs.adapters.masks import ACTION_MASK
from envs.api import Obs, Step, VecEnv
from envs.spaces import leaf_spaces
from envs.words import Tokens, Written


class FrameStack:
    """Stacks canonical observations: pure functions of `frames`, each leaf's last ones `[N, count, ...]`, oldest first.

    Pictures and other arrays get a first axis of `count`, vectors and choices become `count` times as long. Masks of
    actions, texts and sequences stay as they are. Before an episode's first observation there is that one.

    Attributes:
        space: what comes out.
    """

    def __init__(self, space: Space, count: int) -> None:
        self.count = count
        self._plain = not isinstance(space, spaces.Dict)
        leaves = leaf_spaces(space)
        self.leaves = {name: leaf for name, leaf in leaves.items() if name != ACTION_MASK and _stacks(leaf)}
        found = {name: _stacked(leaf, count) if name in self.leaves else leaf for name, leaf in leaves.items()}
        self.space: Space = found[""] if self._plain else spaces.Dict(found)

    def _of(self, obs: Obs) -> dict[str, np.ndarray]:
        return {"": obs} if self._plain else obs

    def begin(self, obs: Obs) -> dict[str, np.ndarray]:
        """Return the frames of episodes that begin with `obs`."""
        seen = self._of(obs)
        return {name: np.repeat(seen[name][:, None], self.count, axis=1) for name in self.leaves}

    def push(self, frames: dict[str, np.ndarray], obs: Obs) -> dict[str, np.ndarray]:
        """Return the frames once `obs` has come."""
        seen = self._of(obs)
        return {name: np.concatenate([old[:, 1:], seen[name][:, None]], axis=1) for name, old in frames.items()}

    def restart(self, frames: dict[str, np.ndarray], start: np.ndarray, obs: Obs) -> dict[str, np.ndarray]:
        """Return the frames with those in their place that begin with `obs`, where `start`, bool `[N]`, is True."""
        fresh, found = self.begin(obs), {name: old.copy() for name, old in frames.items()}
        for name, array in found.items():
            array[start] = fresh[name][start]
        return found

    def observed(self, frames: dict[str, np.ndarray], obs: Obs) -> Obs:
        """Return the canonical observation of frames, its other leaves those of `obs`."""
        joined = {
            name: array.reshape(len(array), prod(array.shape[1:])) if array.ndim < 4 else array  # vectors and choices
            for name, array in frames.items()
        }
        return joined[""] if self._plain and joined else obs if self._plain else {**obs, **joined}


def _stacks(leaf: Space) -> bool:
    return not isinstance(leaf, Written | Tokens)


def _stacked(leaf: Any, count: int) -> Space:
    if isinstance(leaf, spaces.Box):
        low, high = (np.repeat(bound[None], count, axis=0) for bound in (leaf.low, leaf.high))
        if low.ndim < 3:
            low, high = low.ravel(), high.ravel()
        return spaces.Box(low, high, dtype=leaf.dtype.type)
    return spaces.MultiDiscrete(
        np.tile(np.atleast_1d(leaf.n if isinstance(leaf, spaces.Discrete) else leaf.nvec), count)
    )


def shown_space(space: Space, count: int) -> Space:
    """Return what comes of a canonical space where `count` observations are shown together."""
    return space if count == 1 else FrameStack(space, count).space


class StackedVecEnv(Around):
    """Shows the last `count` observations of each episode. See `envs.api.VecEnv`."""

    def __init__(self, env: VecEnv, count: int) -> None:
        self._stack = FrameStack(env.observation_space, count)
        super().__init__(env, self._stack.space)

    def _first(self, obs: Obs) -> Obs:
        self._kept = self._stack.begin(obs)
        return self._stack.observed(self._kept, obs)

    def _next(self, step: Step) -> Step:
        stack, starts = self._stack, step.starts
        self._kept = stack.push(self._kept, step.next_obs)
        obs = next_obs = stack.observed(self._kept, step.next_obs)
        if starts.any():
            self._kept = stack.restart(self._kept, starts, step.obs)
            obs = stack.observed(self._kept, step.obs)
        return Step(obs, step.reward, step.terminated, step.truncated, next_obs, step.valid, step.infos)

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        count, leaves = self._stack.count, self._stack.leaves.items()
        return {name: ((count, *(leaf.shape or ())), np.dtype(leaf.dtype)) for name, leaf in leaves}
