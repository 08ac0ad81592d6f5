"""Action masks: which actions are legal, an observation leaf named "action_mask" of 1 and 0.

A mask has an entry for each action, `(n,)` for Discrete(n), and for each choice of MultiDiscrete(nvec), one after the
other, `(sum(nvec),)`. An environment gives it in its own Dict observation, or in `info["action_mask"]`, as
Gymnasium's Taxi does; from there `MaskFromInfo` copies it into the observation. Other actions have no masks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space, spaces

from envs.adapters.checks import reset_result, silenced, step_result
from envs.api import Obs
from envs.errors import UserError
from envs.spaces import BadData

ACTION_MASK = "action_mask"


def mask_size(action_space: Space) -> int | None:
    """Return how many entries a mask of these actions has, or None where they have no masks."""
    if isinstance(action_space, spaces.Discrete):
        return int(action_space.n)
    return int(action_space.nvec.sum()) if isinstance(action_space, spaces.MultiDiscrete) else None


def _fault(mask: Any, action_space: Space) -> str | None:
    found, shape = np.asarray(mask), (mask_size(action_space),)
    if found.shape != shape or found.dtype.kind not in "biuf":
        return (
            f"info[{ACTION_MASK!r}] is {found.dtype} of shape {found.shape}, but {action_space} needs numbers {shape}"
        )
    return None


def gives_masks(env: gymnasium.Env) -> bool:
    """Reset `env`, and return whether its info holds masks that its observation lacks.

    The reset is without a seed: the next one, with a seed, begins the same episode as it would have.

    Raises:
        UserError: a mask does not fit the actions.
    """
    own = env.observation_space
    if mask_size(env.action_space) is None or (isinstance(own, spaces.Dict) and ACTION_MASK in own.spaces):
        return False
    try:
        with silenced():
            _, info = env.reset()
    except (Exception, SystemExit):
        return False  # broken: the first reset that counts will say how
    if not isinstance(info, dict) or ACTION_MASK not in info:
        return False
    if (reason := _fault(info[ACTION_MASK], env.action_space)) is not None:
        raise UserError(f"{type(env.unwrapped).__name__}: {reason}")
    return True


class MaskFromInfo(gymnasium.Wrapper):
    """Adds the mask in `info` to the observation: one more leaf of a Dict, or beside a leaf named "observation"."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        own, size = env.observation_space, mask_size(env.action_space)
        assert size is not None
        self._is_dict = isinstance(own, spaces.Dict)
        leaves = own.spaces if isinstance(own, spaces.Dict) else {"observation": own}
        self.observation_space = spaces.Dict({**leaves, ACTION_MASK: spaces.MultiBinary(size)})
        self._size = size

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = reset_result(self.env.reset(seed=seed, options=options))
        return self._with_mask(observation, info, False), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = step_result(self.env.step(action))
        return self._with_mask(observation, info, bool(terminated)), reward, terminated, truncated, info

    def _with_mask(self, observation: Any, info: Any, terminated: bool) -> dict[str, Any]:
        mask = info.get(ACTION_MASK) if isinstance(info, dict) else None
        if mask is None and terminated:
            mask = np.zeros(self._size)  # nobody acts on it
        elif mask is None:
            raise BadData(None, f"info has no {ACTION_MASK!r}, though its first one had")
        if (reason := _fault(mask, self.env.action_space)) is not None:
            raise BadData(None, reason)
        leaves = observation if self._is_dict else {"observation": observation}
        return {**leaves, ACTION_MASK: (np.asarray(mask) != 0).astype(np.int8)}


def build_masked(maker: Callable[[], gymnasium.Env]) -> gymnasium.Env:
    """Build an environment with its masks in the observation."""
    return MaskFromInfo(maker())


class MaskCheck:
    """Finds observations to act on whose mask allows no action; does nothing where there is no mask.

    Args:
        observation_space: canonical.
        action_space: canonical.
    """

    def __init__(self, observation_space: Space, action_space: Space) -> None:
        self._starts: list[int] | None = None  # of each choice's entries
        leaf = observation_space.spaces.get(ACTION_MASK) if isinstance(observation_space, spaces.Dict) else None
        if leaf is not None and leaf.shape == (mask_size(action_space),):
            counts = action_space.nvec if isinstance(action_space, spaces.MultiDiscrete) else [0]
            self._starts = [0, *np.cumsum(counts)[:-1].tolist()]

    def __call__(self, obs: Obs, final: np.ndarray | None = None) -> None:
        """Look at `obs` `[N, ...]`; rows that are True in `final` are not acted on.

        Raises:
            BadData: a mask allows no action, or none of one of MultiDiscrete's choices; `row` says whose.
        """
        if self._starts is None:
            return
        legal = np.add.reduceat(obs[ACTION_MASK] != 0, self._starts, axis=1, dtype=np.int64)
        stuck = (legal == 0).any(axis=1)
        if final is not None:
            stuck &= ~final
        if stuck.any():
            raise BadData(int(stuck.argmax()), f"its {ACTION_MASK} allows no action")
