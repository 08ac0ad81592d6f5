"""Which numbers of an observation a decision comes from: gradients, integrated gradients and occlusion, by Captum.

Gradients are those of Simonyan et al. 2014 (arXiv:1312.6034), integrated ones those of Sundararajan et al. 2017
(arXiv:1703.01365), and occlusion is that of Zeiler & Fergus 2014 (arXiv:1311.2901).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from numpy.typing import NDArray
from torch import Tensor

from agents.core.tree import named_leaves, to_numpy, to_tensor
from agents.networks.encoders import Encoder
from agents.networks.pictures import CodesCNN
from agents.view.explanation.decisions import scores
from agents.view.explanation.features import is_continuous, leaves_of, picture_leaves
from envs.errors import UserError

STEPS = 64  # of the integral, by the Gauss-Legendre rule
ROWS = 512  # observations in one pass
PATCHES = 10  # along each side of a picture

Leaves = dict[str, np.ndarray]  # path -> [K, B, *shape]


def refuse_without_captum() -> None:
    """Raise UserError where Captum is not installed."""
    if importlib.util.find_spec("captum") is None:
        raise UserError('to explain a policy takes the package captum: pip install "captum>=0.9"')


@dataclass(frozen=True)
class Question:
    """Why were these actions chosen?

    Args:
        policy: one of `agents.acting.policies`.
        obs_space, action_space: canonical.
        obs: NumPy observations `[B, ...]`.
        carry: what was remembered, one array `[B, ...]`, or () without memory.
        action: canonical, `[B, ...]`.
    """

    policy: Any
    obs_space: Space
    action_space: Space
    obs: Any
    carry: Any
    action: np.ndarray

    @property
    def continuous(self) -> list[str]:
        """Paths of the leaves whose numbers have a gradient."""
        return [path for path, leaf in leaves_of(self.obs_space).items() if is_continuous(leaf)]

    def without_codes(self, found: Leaves) -> Leaves:
        """Leave out the pictures that are read as codes too: between two codes is nothing that a gradient follows."""
        encoders = [part for part in self.policy.model.modules() if isinstance(part, Encoder)]
        pairs = [pair for one in encoders for pair in zip(one.keys or [""], one.leaves, strict=False)]
        coded = {path for path, leaf in pairs if isinstance(leaf, CodesCNN)}
        return {path: leaf for path, leaf in found.items() if path not in coded}

    def _tensor(self, array: Any) -> Tensor:
        return to_tensor(array, self.policy.device)

    def inputs(self, tree: Any = None) -> tuple[Tensor, ...]:
        """Return a copy of the leaves with a gradient, of these observations or of a tree of others, as floats."""
        tree = named_leaves(self.obs if tree is None else tree)
        return tuple(self._tensor(np.array(tree[path], np.float32)).requires_grad_() for path in self.continuous)

    def fixed(self) -> tuple[Tensor, ...]:
        """Return everything else that a score depends on."""
        others = [leaf for path, leaf in named_leaves(self.obs).items() if path not in self.continuous]
        carry = () if isinstance(self.carry, tuple) else (self.carry,)
        return tuple(map(self._tensor, (*others, *carry, self.action)))

    @torch.no_grad()
    def spread(self) -> NDArray[np.float64]:
        """Return the deviation of each score over the states, `[K]`, never 0."""
        found = to_numpy(self.scores(*self.inputs(), *self.fixed())).std(axis=0, dtype=np.float64)
        return np.where(found > 0, found, 1.0)

    def scores(self, *tensors: Tensor) -> Tensor:
        """Return the scores `[B, K]` for `inputs` and `fixed`, one after the other."""
        tree = named_leaves(self.obs)
        paths = [*self.continuous, *(path for path in tree if path not in self.continuous)]
        obs: Any = dict(zip(paths, tensors, strict=False))
        carry: Any = () if isinstance(self.carry, tuple) else tensors[len(paths)]
        outputs = self.policy.describe(obs if isinstance(self.obs, dict) else obs[""], carry)
        return scores(outputs, tensors[-1], self.action_space)


def gradients(question: Question) -> Leaves:
    """Return the gradient of each score by each number, path -> `[K, B, *shape]`, without what is read as codes."""
    from captum.attr import Saliency

    method = Saliency(question.scores)
    found = _each_score(question, lambda k, **more: method.attribute(target=k, abs=False, **more))
    return question.without_codes(found)


def integrated(question: Question, baseline: Any) -> Leaves:
    """Return how much each number adds to each score over that of a baseline, path -> `[K, B, *shape]`.

    All numbers together add up to the difference of the two scores; those that are read as codes are left out.

    Args:
        baseline: one observation, without a batch axis.
    """
    from captum.attr import IntegratedGradients

    method, base = IntegratedGradients(question.scores), _baselines(question, baseline)
    more = {"baselines": base, "n_steps": STEPS, "internal_batch_size": ROWS}
    found = _each_score(question, lambda k, **given: method.attribute(target=k, **given, **more))
    return question.without_codes(found)


def occluded(question: Question, baseline: Any, picture_axes: str = "auto") -> Leaves:
    """Return by how much a score falls where a patch of a picture is that of a baseline, path -> `[K, B, *shape]`."""
    from captum.attr import Occlusion

    layouts = picture_leaves(question.obs_space, picture_axes)
    shapes = []
    for path in question.continuous:
        shape = list(leaves_of(question.obs_space)[path].shape or ())
        if (layout := layouts.get(path)) is not None:
            for axis in (layout.side, layout.side + 1):
                shape[axis] = -(-shape[axis] // PATCHES)
        shapes.append(tuple(shape))
    method, base = Occlusion(question.scores), _baselines(question, baseline)
    more: Any = {"sliding_window_shapes": tuple(shapes), "strides": tuple(shapes), "baselines": base}
    found = _each_score(question, lambda k, **given: method.attribute(target=k, **given, **more))
    return {path: found[path] for path in layouts}


def _baselines(question: Question, baseline: Any) -> tuple[Tensor, ...]:
    return tuple(leaf.detach()[None] for leaf in question.inputs(baseline))


def _each_score(question: Question, attribute: Callable[..., tuple[Tensor, ...]]) -> Leaves:
    """Return what `attribute(k, inputs=..., additional_forward_args=...)` gives for each score k, stacked."""
    if not question.continuous:
        return {}
    inputs, fixed = question.inputs(), question.fixed()
    with torch.no_grad():
        count = question.scores(*inputs, *fixed).shape[1]
    found = []
    for k in range(count):
        given = attribute(k, inputs=inputs, additional_forward_args=fixed)
        found.append([to_numpy(leaf.detach()) for leaf in given])
    return {path: np.stack(leaves) for path, leaves in zip(question.continuous, zip(*found, strict=True), strict=True)}
