"""Action masks: which actions are legal, an observation leaf named "action_mask" of 1 and 0.

A mask has an entry for each action, `(n,)` for Discrete(n), and for each value of each choice of MultiDiscrete(nvec),
one after the other, `(sum(nvec),)`. For Dict and Tuple actions it is those of their Discrete and MultiDiscrete parts,
one after the other, or a dict or tuple of them as the parts are; Box and MultiBinary have none.

An environment gives it in its own Dict observation, by a method `action_masks()` as sb3-contrib has it, on any of its
wrappers, or in `info["action_mask"]`, as Gymnasium's Taxi does. `WithMask` puts it into the observation, as one array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import Space, spaces

from envs.actions import choices
from envs.adapters.checks import reset_result, silenced, step_result
from envs.api import Obs
from envs.errors import UserError
from envs.spaces import BadData, children, leaf_spaces

ACTION_MASK = "action_mask"
METHOD = "action_masks"

Source = Literal["observation", "action_masks()", "info"]


def mask_size(action_space: Space) -> int:
    """Return how many entries a mask of these actions has; 0 where they have no masks."""
    return sum(choices(action_space))


def flat_mask(mask: Any, action_space: Space) -> np.ndarray:
    """Return a mask, or a batch of them, as one array of numbers `[..., mask_size]`.

    Args:
        mask: an array; or a dict or tuple of such as the actions' parts are, or a tuple of MultiDiscrete's choices'.
        action_space: canonical, or an environment's own.

    Raises:
        BadData: it does not fit the actions.
    """
    parts = children(action_space)
    if isinstance(action_space, spaces.MultiDiscrete):
        parts = [(k, spaces.Discrete(n)) for k, n in enumerate(choices(action_space))]
    if parts is not None and (isinstance(mask, dict) or (isinstance(mask, tuple) and not all(map(np.isscalar, mask)))):
        return np.concatenate([_part(mask, key, part) for key, part in parts if choices(part)], axis=-1)
    try:
        array, size = np.asarray(mask), mask_size(action_space)
    except ValueError:
        raise BadData(None, f"{ACTION_MASK} is no array: {mask!r:.60}") from None
    if array.shape[-1:] != (size,) or array.dtype.kind not in "biuf":
        what = f"{array.dtype} of shape {array.shape}"
        raise BadData(None, f"{ACTION_MASK} is {what}, but {action_space} needs numbers ({size},)")
    return array


def _part(mask: Any, key: Any, part: Space) -> np.ndarray:
    try:
        found = mask[key]
    except LookupError:
        raise BadData(None, f"{ACTION_MASK} has no part {key!r}, for {part}") from None
    return flat_mask(found, part)


def with_mask(observation: Any, mask: Any, action_space: Space) -> Any:
    """Return one observation, or a batch of them, with a mask in it as one array.

    Args:
        mask: which actions are legal; None where the observation says so, perhaps in several arrays.
        action_space: the environment's own.

    Raises:
        BadData: it does not fit the actions.
    """
    leaves = observation if isinstance(observation, dict) else {"observation": observation}
    if mask is None and isinstance(found := leaves.get(ACTION_MASK), dict | tuple):
        mask = found
    return observation if mask is None else {**leaves, ACTION_MASK: flat_mask(mask, action_space)}


def allowed_sample(action_space: Space, mask: np.ndarray) -> Any:
    """Draw an action that a mask `[mask_size]` allows, from the space's own random stream."""
    parts = iter(np.split(np.asarray(mask, np.int8), np.cumsum(choices(action_space))))

    def nested(nvec: np.ndarray) -> Any:
        return tuple(map(nested, nvec)) if np.ndim(nvec) else next(parts)

    def masks_of(space: Space) -> Any:
        if isinstance(space, spaces.MultiDiscrete):
            return nested(space.nvec)
        found = {key: masks_of(child) for key, child in children(space) or ()}
        if isinstance(space, spaces.Tuple):
            return tuple(found.values())
        return next(parts) if isinstance(space, spaces.Discrete) else found or None

    return action_space.sample(mask=masks_of(action_space))


def mask_source(env: gymnasium.Env) -> Source | None:
    """Return where masks come from that the observation does not hold as one array, or None; `env` may be reset.

    The reset has a seed, so that the same is found each time; the next one begins the same episode as it would have.

    Raises:
        UserError: a mask does not fit the actions.
    """
    own = env.observation_space
    if not mask_size(env.action_space):
        return None
    if isinstance(own, spaces.Dict) and ACTION_MASK in own.spaces:
        return None if children(own[ACTION_MASK]) is None else "observation"
    if callable(_method(env)):
        return "action_masks()"
    try:
        with silenced():
            _, info = env.reset(seed=0)
    except (Exception, SystemExit):
        return None  # broken: the first reset that counts will say how
    if not isinstance(info, dict) or ACTION_MASK not in info:
        return None
    try:
        _row(info[ACTION_MASK], env.action_space)
    except BadData as error:
        raise UserError(f"{type(env.unwrapped).__name__}: {error}") from error
    return "info"


def _method(env: gymnasium.Env) -> Any:
    return env.get_wrapper_attr(METHOD) if env.has_wrapper_attr(METHOD) else None


def _row(mask: Any, action_space: Space) -> np.ndarray:
    """Return one environment's mask; BadData where it does not fit."""
    found = flat_mask(mask, action_space)
    if found.ndim != 1:
        raise BadData(None, f"{ACTION_MASK} has shape {found.shape}, but {action_space} needs ({found.shape[-1]},)")
    return found


def given_mask(env: gymnasium.Env, source: Source | None, observation: Any, info: Any) -> Any:
    """Return the mask of what an environment now shows, as it gives it; None where it gives none.

    Args:
        source: as `mask_source` found it; None where the observation holds it as one array, if anything does.
    """
    if source == "action_masks()":
        return _method(env)()
    told = info if source == "info" else observation
    return told.get(ACTION_MASK) if isinstance(told, dict) else None


class WithMask(gymnasium.Wrapper):
    """Puts the mask into the observation: one more leaf of a Dict, or beside a leaf named "observation"."""

    def __init__(self, env: gymnasium.Env, source: Source) -> None:
        super().__init__(env)
        own = env.observation_space
        self._source = source
        self._is_dict = isinstance(own, spaces.Dict)
        leaves = own.spaces if isinstance(own, spaces.Dict) else {"observation": own}
        self._size = mask_size(env.action_space)
        self.observation_space = spaces.Dict({**leaves, ACTION_MASK: spaces.MultiBinary(self._size)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = reset_result(self.env.reset(seed=seed, options=options))
        return self._with_mask(observation, info, False), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = step_result(self.env.step(action))
        return self._with_mask(observation, info, bool(terminated)), reward, terminated, truncated, info

    def _with_mask(self, observation: Any, info: Any, terminated: bool) -> dict[str, Any]:
        over = terminated and self._source == "action_masks()"  # which may raise then
        mask = None if over else given_mask(self.env, self._source, observation, info)
        if mask is None and terminated:
            found = np.zeros(self._size)  # nobody acts on it
        elif mask is None:
            raise BadData(None, f"{self._source} has no {ACTION_MASK!r}, though its first one had")
        else:
            found = _row(mask, self.env.action_space)
        leaves = observation if self._is_dict else {"observation": observation}
        return {**leaves, ACTION_MASK: (found != 0).astype(np.int8)}


def masked(env: gymnasium.Env) -> gymnasium.Env:
    """Return an environment with its masks, if it gives any, in the observation; it may be reset for that."""
    source = mask_source(env)
    return env if source is None else WithMask(env, source)


class MaskCheck:
    """Finds observations to act on whose mask allows no action; does nothing where there is no mask.

    Args:
        observation_space: canonical.
        action_space: canonical.
    """

    def __init__(self, observation_space: Space, action_space: Space) -> None:
        leaf, counts = leaf_spaces(observation_space).get(ACTION_MASK), choices(action_space)
        self._without = bool(counts) and leaf is None
        found = leaf is not None and bool(counts) and leaf.shape == (sum(counts),)
        self._starts = [0, *np.cumsum(counts)[:-1].tolist()] if found else None  # of each choice's entries

    def refuse_late(self, infos: Mapping[int, Mapping[str, Any]]) -> None:
        """Look at the infos in which episodes ended, by row: none has a mask that the first reset's had not.

        Raises:
            BadData: one has; `row` says whose.
        """
        for row, info in infos.items():
            if self._without and ACTION_MASK in info:
                raise BadData(row, f"info has {ACTION_MASK!r}, which a reset's had not: give it there too, or never")

    def refuse_unread(self, env: Any, infos: Any) -> None:
        """Look at what a vector environment's reset told: masks that no observation holds would not be obeyed.

        Raises:
            BadData: there are some.
        """
        told = METHOD if callable(getattr(env, METHOD, None)) else ACTION_MASK if ACTION_MASK in infos else None
        if self._without and told is not None:
            where = "a method" if told == METHOD else "in info"
            raise BadData(
                None, f"masks of legal actions ({told}, {where}) are read by --vec sync and --vec async alone"
            )

    def __call__(self, obs: Obs, final: np.ndarray | None = None) -> None:
        """Look at `obs` `[N, ...]`; rows that are True in `final` are not acted on.

        Raises:
            BadData: a mask allows no action, or none of one of several choices; `row` says whose.
        """
        if self._starts is None:
            return
        legal = np.add.reduceat(obs[ACTION_MASK] != 0, self._starts, axis=1, dtype=np.int64)
        stuck = (legal == 0).any(axis=1)
        if final is not None:
            stuck &= ~final
        if stuck.any():
            raise BadData(int(stuck.argmax()), f"its {ACTION_MASK} allows no action")
