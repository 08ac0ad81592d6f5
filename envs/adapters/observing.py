"""Observations of a caller who brings them, cleaned and stacked as environments of `envs.make` do it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space

from envs.adapters.cleaning import Cleaner, Cleaning, filled_anew
from envs.adapters.stacking import FrameStack
from envs.api import Obs

Kept = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # the last observations, and the frames, by leaf


class Observing:
    """Cleans and stacks canonical observations of N environments.

    Args:
        space: canonical, of one observation.
        frame_stack, cleaning: as `envs.make.make` takes them.
    """

    def __init__(self, space: Space, frame_stack: int, cleaning: Cleaning) -> None:
        self._stack, self._cleaner = FrameStack(space, frame_stack), Cleaner(space, cleaning)

    def begun(self, obs: Obs) -> Kept:
        """Return what is kept of episodes that begin with `obs` `[N, ...]`, before that is cleaned."""
        rows = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        return self._cleaner.starts(rows), self._stack.begin(obs)

    def __call__(self, obs: Obs, kept: Kept | None, start: Any) -> tuple[Obs, Kept]:
        """Return what a network sees of `obs` `[N, ...]`, and what to hand over with the next ones.

        Args:
            kept: what was returned with the observations before; None where episodes begin everywhere.
            start: where an episode begins, bool `[N]`; None for nowhere.

        Raises:
            BadData: an observation is to be refused.
        """
        cleaner, stack = self._cleaner, self._stack
        if kept is None:
            obs, _ = cleaner.clean(obs, self.begun(obs)[0])
            frames = stack.begin(obs)
        else:
            last = kept[0] if start is None else filled_anew(cleaner, kept[0], start)
            obs, _ = cleaner.clean(obs, last)
            frames = stack.push(kept[1], obs)
            if start is not None:
                frames = stack.restart(frames, start, obs)
        return stack.observed(frames, obs) if stack.count > 1 else obs, (cleaner.of(obs), frames)
