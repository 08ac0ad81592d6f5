"""What a policy's outputs say of a decision: by how much it is made, how far two differ, and how undecided it is."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor

from agents.ops.distributions import parameter_count
from envs.actions import Hybrid

DECIDING = {"q_values", "probabilities", "mean"}  # outputs of which a policy must say one
LEAST = 1e-30  # probability whose logarithm is taken: that of 0 has no gradient


def scores(outputs: dict[str, Tensor], action: Tensor, space: Space) -> Tensor:
    """Return the numbers that a decision comes from, `[B, K]`, one for each choice or number of the action.

    Of a choice it is the preference for what is chosen: the action value, or the logarithm of the probability, less
    the mean of the other legal ones', whose action value is not NaN, or whose probability is above 0. Of a number it
    is the mean of its distribution.

    Args:
        outputs: as `agents.acting.policies.ModelPolicy.describe` returns them.
        action: canonical, `[B, ...]`.
        space: canonical, of the actions.
    """
    match space:
        case Hybrid():
            rest, found = dict(outputs), []
            for part, own in zip(space.parts.values(), space.split(action), strict=True):
                key = "mean" if isinstance(part, spaces.Box) else "probabilities"
                count = parameter_count(part)
                taken, rest[key] = rest[key][..., :count], rest[key][..., count:]
                found.append(scores({key: taken}, own, part))
            return torch.cat(found, dim=-1)
        case spaces.Box():
            return outputs["mean"]
        case spaces.MultiBinary():
            heads = outputs["probabilities"]
            logits = heads.clamp(min=LEAST).log() - (1 - heads).clamp(min=LEAST).log()
            return logits * (2 * action - 1)
    if "q_values" in outputs:
        legal = ~outputs["q_values"].isnan()
        numbers = torch.where(legal, outputs["q_values"], 0)
    else:
        legal, numbers = outputs["probabilities"] > 0, outputs["probabilities"].clamp(min=LEAST).log()
    if isinstance(space, spaces.MultiDiscrete):
        split = (part.split(space.nvec.tolist(), dim=-1) for part in (numbers, legal))
        return torch.stack(list(map(_preference, *split, action.unbind(dim=-1))), dim=-1)
    return _preference(numbers, legal, action)[:, None]


def _preference(numbers: Tensor, legal: Tensor, action: Tensor) -> Tensor:
    """Return the number `[B]` of the action taken less the mean of the others of `[B, A]` that are legal."""
    taken = action.long()[:, None]
    others = legal.scatter(-1, taken, False)
    mean = torch.where(others, numbers, 0).sum(-1) / others.sum(-1).clamp(min=1)
    return numbers.gather(-1, taken).squeeze(-1) - mean


def difference(space: Space, before: np.ndarray, after: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return how far canonical actions `[N, ...]` differ, `[N]`.

    A choice differs or not, 1 or 0; several count if one of them does. Numbers differ by the mean of their distances,
    each in units of its `spread`. Of actions of several parts it is the mean of theirs.
    """
    if isinstance(space, Hybrid):
        columns = zip(space.parts.values(), *map(space.split, (before, after, spread)), strict=True)
        return np.mean([difference(*column) for column in columns], axis=0)
    if not isinstance(space, spaces.Box):
        changed = before != after
        return changed.reshape(len(changed), -1).any(axis=1).astype(np.float64)
    before, after = (action.clip(space.low, space.high) for action in (before, after))
    return (np.abs(after - before) / np.maximum(spread, 1e-9)).mean(axis=1, dtype=np.float64)


def counts_changes(space: Space) -> bool:
    """Whether `difference` is the share of changed actions, and not a distance."""
    parts = space.parts.values() if isinstance(space, Hybrid) else [space]
    return not any(map(_is_box, parts))


def _is_box(space: Space) -> bool:
    return isinstance(space, spaces.Box)


def indecision(outputs: dict[str, np.ndarray], space: Space) -> float:
    """Return how undecided one decision is, larger where more; NaN where its outputs do not say.

    It is the entropy of the probabilities in nats; less the gap between the two best action values; or the sum of the
    logarithms of the deviations. `space` is canonical, of the actions.
    """
    if "probabilities" in outputs:
        p = outputs["probabilities"].astype(np.float64)
        parts = space.parts.values() if isinstance(space, Hybrid) else [space]
        coins = [np.full(parameter_count(s), isinstance(s, spaces.MultiBinary)) for s in parts if not _is_box(s)]
        p = np.append(p, 1 - p[np.concatenate(coins)])  # of a coin the probability of heads alone is there
        return float(-(p * np.log(p.clip(LEAST))).sum())
    if "q_values" in outputs:
        legal = np.sort(outputs["q_values"][~np.isnan(outputs["q_values"])])
        return float(legal[-2] - legal[-1]) if len(legal) > 1 else float("nan")
    return float(np.log(outputs["std"]).sum()) if "std" in outputs else float("nan")
