"""What a loss is, as data, for those that work it out at once: agents.learning knows no algorithm."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClippedSurrogate:
    """The loss of `ops.losses.ppo_policy_loss` plus that of `value_loss`, less an entropy bonus; and nothing else.

    Its minibatches have `obs`, `action`, `log_prob`, `value`, `advantage` and `return`, each `[B, ...]`, and its
    constants `clip_range` and, where a ratio may rise by another number than it may fall, `clip_range_high`. It hands
    out `policy`, `value` and `entropy`, scalars, and `log_ratio` `[B]`.

    Attributes:
        clip_range_vf: how far a value may move; None for no limit.
        vf_coef, ent_coef: weights of value loss and entropy.
        normalize_advantage: whether advantages are normalised in each minibatch.
    """

    clip_range_vf: float | None
    vf_coef: float
    ent_coef: float
    normalize_advantage: bool
