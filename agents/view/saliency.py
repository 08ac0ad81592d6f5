"""What an action depends on: how far each number that the agent sees moves what decides on it."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import Space

from agents.acting.policies import ModelPolicy
from agents.core.tree import tree_map
from agents.core.types import Policy
from agents.run.play import Moment
from agents.view.explanation.attribution import Question
from agents.view.explanation.decisions import DECIDING


def saliency(policy: Policy | None, moment: Moment, actions: Space, seen: Space) -> dict[str, np.ndarray]:
    """Return the sizes of the gradients of what decides on the action taken, by leaf, shaped as the leaf.

    What decides is as `agents.view.explanation.decisions.scores` has it; of several numbers the sizes are added up.
    Only leaves whose numbers have a gradient are among them, none that is read as codes; {} where nothing can be said.

    Args:
        actions, seen: canonical, of the actions and the observations.
    """
    if not isinstance(policy, ModelPolicy) or moment.obs is None or not DECIDING & moment.outputs.keys():
        return {}
    obs = tree_map(lambda leaf: np.asarray(leaf)[None], moment.obs)
    question = Question(policy, seen, actions, obs, moment.carry, np.asarray(moment.action)[None])
    inputs = question.inputs()
    total = {path: np.zeros(leaf.shape[1:]) for path, leaf in zip(question.continuous, inputs, strict=True)}
    decides = question.scores(*inputs, *question.fixed())[0]
    for score in decides if inputs and decides.requires_grad else ():
        found = torch.autograd.grad(score, inputs, retain_graph=True, allow_unused=True)
        for path, leaf in zip(total, found, strict=True):
            total[path] += 0 if leaf is None else leaf[0].abs().numpy(force=True)
    return question.without_codes(total)
