"""What an action depends on: how far each number that the agent sees moves what the policy says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces

from agents.acting.policies import ModelPolicy
from agents.core.tree import tree_to_tensor
from agents.core.types import Policy
from agents.run.play import Moment
from agents.view.bars import choices
from envs.actions import Hybrid
from envs.adapters.masks import ACTION_MASK
from envs.words import Written

MOST_MEANS = 8  # dimensions of an action whose gradients are added up


def saliency(policy: Policy | None, moment: Moment, actions: Space, seen: Space) -> dict[str, np.ndarray]:
    """Return the sizes of the gradients of what the policy says of the action taken, by leaf, shaped as the leaf.

    That is the action value, the logarithm of the action's probability, or the mean of a continuous action, of which
    the sizes are added up over its dimensions. Only leaves of numbers are among them; {} where nothing can be said.

    Args:
        actions, seen: canonical, of the actions and the observations.
    """
    if not isinstance(policy, ModelPolicy) or moment.obs is None:
        return {}
    leaves = dict(seen.spaces) if isinstance(seen, spaces.Dict) else {"": seen}
    asked = [
        path
        for path, leaf in leaves.items()
        if isinstance(leaf, spaces.Box) and not isinstance(leaf, Written) and path != ACTION_MASK
    ]
    values = moment.obs if isinstance(moment.obs, dict) else {"": moment.obs}
    obs = {path: tree_to_tensor(np.asarray(value)[None], policy.device) for path, value in values.items()}
    inputs = [obs[path].float().requires_grad_() for path in asked]
    obs |= dict(zip(asked, inputs, strict=True))
    carry = tree_to_tensor(moment.carry, policy.device)
    told = _told(policy.describe(obs if isinstance(seen, spaces.Dict) else obs[""], carry), moment, actions)
    if not inputs or told is None or not told.requires_grad:
        return {}
    total = [torch.zeros_like(leaf) for leaf in inputs]
    for number in told[:MOST_MEANS]:
        found = torch.autograd.grad(number, inputs, retain_graph=True, allow_unused=True)
        total = [sum_ if one is None else sum_ + one.abs() for sum_, one in zip(total, found, strict=True)]
    return {path: leaf[0].numpy(force=True) for path, leaf in zip(asked, total, strict=True)}


def _told(outputs: dict[str, Any], moment: Moment, actions: Space) -> torch.Tensor | None:
    """Return the numbers that an action was chosen by; None where there are none."""
    if "mean" in outputs:
        return outputs["mean"][0]
    if isinstance(actions, Hybrid | spaces.Box):
        return None
    _, taken = choices(np.atleast_1d(moment.action), actions)
    if "q_values" in outputs:
        return outputs["q_values"][0][taken]
    if "probabilities" not in outputs:
        return None
    chances = outputs["probabilities"][0]
    if isinstance(actions, spaces.MultiBinary):
        chances = torch.where(torch.tensor(taken), chances, 1 - chances)
        return chances.log().sum()[None]
    return chances[taken].log().sum()[None]
