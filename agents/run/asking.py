"""What a policy does about observations that a program brings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.core.saved import like
from agents.core.tree import rows_of, to_numpy, tree_map, tree_to_tensor
from agents.run.models import LoadedPolicy
from envs.actions import ActionCodec
from envs.adapters.cleaning import reader
from envs.adapters.masks import ACTION_MASK, MaskCheck, with_mask
from envs.adapters.observing import Observing
from envs.errors import UserError
from envs.spaces import BadData

_GIVEN_BACK = "predict takes what it last returned for as many, or None at the start"


def predict(
    now: LoadedPolicy, observation: Any, state: Any, episode_start: Any, deterministic: bool, action_masks: Any
) -> tuple[Any, Any]:
    """Choose actions as `agents.api.model.Model.predict` says, for one observation or a batch.

    Raises:
        UserError: the observation does not fit the observation space or allows no action, or the state or
            `episode_start` does not fit the observation.
    """
    shown = now.config.params.observations
    observations = reader(shown.arguments["cleaning"])(now.own_spaces[0])
    codec = ActionCodec(now.own_spaces[1], now.rescale_action)
    try:
        if action_masks is not None and ACTION_MASK not in getattr(now.own_spaces[0], "spaces", {}):
            raise UserError(
                "action_masks are given, but the environment that the policy learnt in has none: its info and its "
                "methods name no legal actions, so leave them out"
            )
        observation = with_mask(_arrays(observation), _arrays(action_masks), now.own_spaces[1])
        one = observations.is_one(observation)
        obs = observations.encode([observation]) if one else observations.encode_batch(observation)
        rows = rows_of(obs)
        if isinstance(obs, dict) and any(len(leaf) != rows for leaf in obs.values()):
            held = ", ".join(f"{name} {len(leaf)}" for name, leaf in obs.items())
            raise UserError(f"parts of the observations are of unlike numbers of them ({held}): batch each part alike")
        MaskCheck(observations.space, codec.space)(obs)
        if episode_start is not None:
            episode_start = np.asarray(episode_start, bool)
            if episode_start.shape not in ((), (rows,)):
                raise UserError(
                    f"episode_start has shape {episode_start.shape}, but ({rows},) is expected, or one bool"
                )
            episode_start = np.full(rows, episode_start)
        of = set[tuple[int, ...]]()
        tree_map(lambda leaf: of.add(tuple(getattr(leaf, "shape", ())[:1])), state)
        if of - {(rows,)}:
            counts = " and ".join(str(*shape) or "no" for shape in sorted(of))
            raise UserError(f"the state is that of {counts} observations, but {rows} are given: {_GIVEN_BACK}")
        seen = None
        if shown.in_use:
            if state is not None and not (isinstance(state, tuple) and len(state) == 2):
                raise UserError(f"the state is {state!r:.60}: {_GIVEN_BACK}")
            state, seen = (None, None) if state is None else state
            observing = Observing(observations.space, **shown.arguments)
            if seen is not None:
                seen = _own(seen, observing.begun(obs))
            obs, seen = observing(obs, seen, episode_start)
        if state is not None:
            state = _own(state, now.policy.initial_carry(rows), now.policy.device)
    except BadData as error:
        spaces_of = getattr(now.own_spaces[0], "spaces", {})
        missing = ACTION_MASK in spaces_of and not (isinstance(observation, dict) and ACTION_MASK in observation)
        if missing and action_masks is None:
            raise UserError(
                f"which actions are legal is not said: predict(..., action_masks=...), as the environment's info or "
                f"action_masks() has it, of {spaces_of[ACTION_MASK]}"
            ) from error
        raise UserError(f"{error} (space: {now.own_spaces[0]})") from error
    action, state = now.policy.predict(obs, state, episode_start, deterministic)
    state = (state, seen) if shown.in_use else state
    actions = codec.decode(to_numpy(action))
    return (codec.each(actions)[0] if one else actions), state


def _arrays(given: Any) -> Any:
    """Return what a program brings, with arrays in the place of tensors, wherever they are and whatever made them."""
    if isinstance(given, list):
        return [_arrays(item) for item in given]
    if isinstance(given, dict | tuple):
        return tree_map(_arrays, given)
    return to_numpy(given.detach()) if isinstance(given, Tensor) else given


def _own(state: Any, mine: Any, device: torch.device | None = None) -> Any:
    """Return a state, as tensors where a device is given.

    Raises:
        UserError: it is not of the form of `mine`, which is of this policy and as many observations.
    """
    try:
        return like(state if device is None else tree_to_tensor(state, device), mine, "the state")
    except (TypeError, ValueError) as error:
        raise UserError(f"{error}: {_GIVEN_BACK}") from error
