"""How far one action distribution is from another, in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agents.ops.distributions import Bernoulli, Categorical, Distribution, Gaussian, Joint, MultiCategorical
from envs.errors import UserError


def relative_entropy(one: Distribution, other: Distribution) -> Tensor:
    """Return KL(one || other) of each row, `[B]`: the mean of log one(a) - log other(a) over actions a of `one`.

    Both are of the same action space. That of squashed Gaussians is that of the Gaussians, as both are squashed alike.

    Raises:
        UserError: they are of different kinds, or of one that this is not known of.
    """
    match one, other:
        case Categorical(), Categorical():
            return (one.log_p.exp() * (one.log_p - other.log_p)).sum(dim=-1)
        case (MultiCategorical(), MultiCategorical()) | (Joint(), Joint()):
            parts: Any = zip(one.parts, other.parts, strict=True)  # type: ignore[attr-defined]
            return torch.stack([relative_entropy(*pair) for pair in parts]).sum(dim=0)
        case Bernoulli(), Bernoulli():
            p, logits, others = one.logits.sigmoid(), one.logits, other.logits
            log = torch.nn.functional.logsigmoid
            return (p * (log(logits) - log(others)) + (1 - p) * (log(-logits) - log(-others))).sum(dim=-1)
        case Gaussian(), Gaussian():
            moved = (one.mean - other.mean).square() * (-2 * other.log_std).exp()
            wider = 2 * (one.log_std - other.log_std)
            return 0.5 * (wider.exp() + moved - 1 - wider).sum(dim=-1)
    raise UserError(f"there is no relative entropy of {type(one).__name__} and {type(other).__name__}")
