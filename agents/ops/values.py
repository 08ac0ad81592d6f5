"""What the numbers of an action-value network stand for: a value, a distribution's probabilities, or its quantiles.

Each kind says how a return distribution is read (`mean`), backed up from the next state (`backup`), and learnt
(`loss`). Dimensions: B batch, A actions, K numbers of one action's distribution, J those of its target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.ops.distributions import masked


class Values(Protocol):
    """How the numbers of an action stand for its return: K of them, or a single one without an axis of its own."""

    @property
    def atoms(self) -> int:
        """K, of what a network puts out."""
        ...

    def mean(self, atoms: Tensor) -> Tensor:
        """Return the expected return `[...]` of numbers `[..., K]`."""
        ...

    def backup(self, return_B: Tensor, discount_B: Tensor, next_BK: Tensor) -> Tensor:
        """Return the target `[B, J]`: return + discount * the next state's distribution."""
        ...

    def soft_backup(
        self, return_B: Tensor, discount_B: Tensor, next_BAK: Tensor, weight_BA: Tensor, shift_BA: Tensor
    ) -> Tensor:
        """Return the same of a policy's next action, which it takes with `weight`; `shift` is added to its return."""
        ...

    def loss(self, atoms_BK: Tensor, target_BJ: Tensor, tau_BK: Tensor | None) -> Tensor:
        """Return how far the taken actions' numbers are from their targets, `[B]`; `tau`: of sampled quantiles."""
        ...


@dataclass(frozen=True)
class Expected:
    """One number: the expected return. The loss is Huber's (Mnih et al. 2015)."""

    atoms: int = 1

    def mean(self, atoms: Tensor) -> Tensor:
        return atoms

    def backup(self, return_B: Tensor, discount_B: Tensor, next_BK: Tensor) -> Tensor:
        return torch.addcmul(return_B, discount_B, next_BK)

    def soft_backup(
        self, return_B: Tensor, discount_B: Tensor, next_BAK: Tensor, weight_BA: Tensor, shift_BA: Tensor
    ) -> Tensor:
        return self.backup(return_B, discount_B, ((next_BAK + shift_BA) * weight_BA).sum(1))

    def loss(self, atoms_BK: Tensor, target_BJ: Tensor, tau_BK: Tensor | None) -> Tensor:
        return F.smooth_l1_loss(atoms_BK, target_BJ, reduction="none")


@dataclass(frozen=True)
class Rescaled(Expected):
    """The expected return on a scale on which large ones are nearer (Pohlen et al. 2018, arXiv:1805.11593, eq. 2)."""

    def backup(self, return_B: Tensor, discount_B: Tensor, next_BK: Tensor) -> Tensor:
        return rescale(super().backup(return_B, discount_B, unscale(next_BK)))

    def soft_backup(
        self, return_B: Tensor, discount_B: Tensor, next_BAK: Tensor, weight_BA: Tensor, shift_BA: Tensor
    ) -> Tensor:
        return rescale(super().backup(return_B, discount_B, ((unscale(next_BAK) + shift_BA) * weight_BA).sum(1)))


@dataclass(frozen=True)
class C51:
    """Logits of returns spread evenly from `v_min` to `v_max` (C51: Bellemare et al. 2017, arXiv:1707.06887)."""

    v_min: float
    v_max: float
    atoms: int = 51

    def support(self, like: Tensor) -> Tensor:
        """Return the returns `[K]`, of the type and on the device of another tensor."""
        return torch.linspace(self.v_min, self.v_max, self.atoms, dtype=like.dtype, device=like.device)

    def mean(self, atoms: Tensor) -> Tensor:
        return (atoms.softmax(-1) * self.support(atoms)).sum(-1)

    def spread(self, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Return the returns that numbers `[..., K]` stand for and their probabilities, `[..., K]` each."""
        return self.support(atoms).expand_as(atoms), atoms.softmax(-1)

    def backup(self, return_B: Tensor, discount_B: Tensor, next_BK: Tensor) -> Tensor:
        return self.project(return_B, discount_B, next_BK.softmax(-1))

    def project(self, return_B: Tensor, discount_B: Tensor, probability_BK: Tensor) -> Tensor:
        """Return the probabilities of return + discount * z on the support (algorithm 1).

        Each atom's mass goes to the two nearest of the support, by their distance; written as triangles of height 1
        around the support's atoms, so that no mass is lost where a return falls on an atom.
        """
        support_K = self.support(probability_BK)
        moved_BK = torch.addcmul(return_B[:, None], discount_B[:, None], support_K).clamp(self.v_min, self.v_max)
        step = (self.v_max - self.v_min) / (self.atoms - 1)
        # in units of the support's distance; rounding cannot make the last atom's share other than what is left
        place_BK = ((moved_BK - self.v_min) / step).clamp(0, self.atoms - 1)
        share_BKK = (
            1 - (place_BK[:, None, :] - torch.arange(self.atoms, device=place_BK.device)[:, None]).abs()
        ).clamp(min=0)
        return (share_BKK * probability_BK[:, None, :]).sum(-1)

    def soft_backup(
        self, return_B: Tensor, discount_B: Tensor, next_BAK: Tensor, weight_BA: Tensor, shift_BA: Tensor
    ) -> Tensor:
        shifted_BA = torch.addcmul(return_B[:, None], discount_B[:, None], shift_BA)
        discounts_BA = discount_B[:, None].expand_as(shifted_BA)
        projected = self.project(shifted_BA.flatten(), discounts_BA.flatten(), next_BAK.flatten(0, 1).softmax(-1))
        return (projected.view_as(next_BAK) * weight_BA[..., None]).sum(1)

    def loss(self, atoms_BK: Tensor, target_BJ: Tensor, tau_BK: Tensor | None) -> Tensor:
        """The cross-entropy to the target's probabilities (eq. 7)."""
        return -(target_BJ * atoms_BK.log_softmax(-1)).sum(-1)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of the return: at fixed places (QR-DQN: Dabney et al. 2017, arXiv:1710.10044), or at sampled ones
    (IQN: Dabney et al. 2018, arXiv:1806.06923), where `loss` is told which.
    """

    atoms: int = 200

    def mean(self, atoms: Tensor) -> Tensor:
        return atoms.mean(-1)

    def spread(self, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Return the returns that numbers `[..., K]` stand for and their probabilities, `[..., K]` each."""
        return atoms, torch.full_like(atoms, 1 / atoms.shape[-1])

    def backup(self, return_B: Tensor, discount_B: Tensor, next_BK: Tensor) -> Tensor:
        return torch.addcmul(return_B[:, None], discount_B[:, None], next_BK)

    def soft_backup(
        self, return_B: Tensor, discount_B: Tensor, next_BAK: Tensor, weight_BA: Tensor, shift_BA: Tensor
    ) -> Tensor:
        mixed_BK = ((next_BAK + shift_BA[..., None]) * weight_BA[..., None]).sum(1)
        return self.backup(return_B, discount_B, mixed_BK)

    def loss(self, atoms_BK: Tensor, target_BJ: Tensor, tau_BK: Tensor | None) -> Tensor:
        """The quantile Huber loss (QR-DQN eq. 10, IQN eq. 3): a sum over quantiles, a mean over the target's."""
        tau = midpoints(atoms_BK.shape[-1], atoms_BK) if tau_BK is None else tau_BK
        error_BKJ = target_BJ[:, None, :] - atoms_BK[:, :, None]
        huber_BKJ = F.huber_loss(error_BKJ, torch.zeros_like(error_BKJ), reduction="none")
        weight_BKJ = (tau[..., None] - (error_BKJ < 0).to(tau.dtype)).abs()
        return (weight_BKJ * huber_BKJ).mean(-1).sum(-1)


def midpoints(count: int, like: Tensor) -> Tensor:
    """Return the middles of `count` equal parts of 0 to 1."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) / count


def soft_policy(q_BA: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the softmax policy of action values, and -temperature * its log-probabilities, `[B, A]` each.

    An action with no probability, such as an illegal one, has 0 in both.
    """
    log_pi = _log_softened(q_BA, temperature)
    pi = log_pi.exp()
    return pi, torch.where(pi > 0, -temperature * log_pi, 0)


def _log_softened(q_BA: Tensor, temperature: float) -> Tensor:
    return ((q_BA - q_BA.amax(-1, keepdim=True)) / temperature).log_softmax(-1)


def munchausen_bonus(q_BA: Tensor, action_B: Tensor, alpha: float, temperature: float, least: float) -> Tensor:
    """Return what is added to the rewards of the actions taken, `[B]`: alpha * [temperature * log pi(a|s)] clipped.

    Vieillard et al. 2020, arXiv:2007.14430, eq. 2. The clipping is to [`least`, 0]. The logarithm is worked out by
    itself: float32 has no number for the probability of an action that is a little worse than the best one.
    """
    log_pi_B = _log_softened(q_BA, temperature).gather(1, action_B[:, None]).squeeze(1)
    return alpha * (temperature * log_pi_B).clamp(least, 0)


def conservative_gap(q_BA: Tensor, action_B: Tensor) -> Tensor:
    """Return log sum_a exp Q(s, a) - Q(s, a taken), `[B]`, which CQL(H) makes small (Kumar et al. 2020, eq. 4).

    arXiv:2006.04779. Actions whose values are masked add nothing.
    """
    return q_BA.logsumexp(-1) - q_BA.gather(1, action_B[:, None]).squeeze(1)


def large_margin(q_BA: Tensor, shown_B: Tensor, margin: float) -> Tensor:
    """Return max_a [Q(s, a) + margin where a is not the one shown] - Q(s, a shown), `[B]`, which is never below 0.

    Hester et al. 2018, "Deep Q-learning from demonstrations", arXiv:1704.03732, eq. 2. It is 0 where the action shown
    is worth more than every other by the margin. Actions whose values are masked add nothing.
    """
    shown_B1 = shown_B[:, None]
    of_shown_B1 = q_BA.gather(1, shown_B1)
    others_BA = torch.where(torch.arange(q_BA.shape[1], device=q_BA.device) == shown_B1, q_BA, q_BA + margin)
    return others_BA.amax(-1) - of_shown_B1.squeeze(1)


def supported(q_BA: Tensor, logits_BA: Tensor, threshold: float) -> Tensor:
    """Return action values with those below all others that are less likely than `threshold` times the likeliest.

    Discrete BCQ (Fujimoto et al. 2019, arXiv:1910.01708); the likeliest action itself always stays.

    Args:
        logits_BA: of the policy that the data came from.
    """
    return masked(q_BA, logits_BA - logits_BA.amax(-1, keepdim=True) >= math.log(threshold))


def behaviour_loss(logits_BA: Tensor, action_B: Tensor) -> Tensor:
    """Return -log of the probability that the actions taken have, `[B]`."""
    return -logits_BA.log_softmax(-1).gather(1, action_B[:, None]).squeeze(1)


def rescale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return h(x) = sign(x)(sqrt(|x| + 1) - 1) + epsilon x (Pohlen et al. 2018, arXiv:1805.11593, prop. A.1)."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + epsilon * x


def unscale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return the inverse of `rescale` (the same, prop. A.2, written without differences of almost equal numbers)."""
    root = (1 + 4 * epsilon * (x.abs() + 1 + epsilon)).sqrt()
    y = 2 * (x.abs() + 1 + epsilon) / (root + 1)
    return x.sign() * (y - 1) * (y + 1)
