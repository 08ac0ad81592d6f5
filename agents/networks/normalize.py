"""Running statistics that live in the network, so they travel with its weights and freeze outside training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from agents.core.device import looked_at
from agents.ops import recurrences


class RunningNorm(nn.Module):
    """Shift and scale vectors to mean 0 and variance 1, clipped to +-`clip`.

    The statistics change only in `update`, which the training step calls; acting never touches them.

    Attributes:
        mean, var: of all rows seen, `[size]`.
        remainder: what float32 leaves out of `mean`, `[size]`: without it a large mean would hide small deviations,
            and no longer move once a batch is a small share of all.
        count: rows seen.
        frozen: whether `update` leaves them as they are.
    """

    mean: Tensor
    remainder: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int, clip: float = 10.0) -> None:
        super().__init__()
        self.clip, self.frozen = clip, False
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("remainder", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, batch: Tensor) -> None:
        """Take in a batch `[B, size]` (Chan et al. 1979, parallel variance).

        All is computed relative to the batch's first row, so that a constant is its own mean, and its variance 0.
        """
        rows = batch.shape[0]
        if rows == 0 or self.frozen:
            return
        total = self.count + rows
        share = rows / total
        first = batch[0]
        batch = batch - first
        delta = (first - self.mean) + (batch.mean(dim=0) - self.remainder)
        variance = batch.var(dim=0, unbiased=False)
        self.var += share * (variance - self.var + delta * (delta * (1 - share)))
        moved = self.remainder + share * delta
        mean = self.mean + moved
        self.remainder.copy_(moved - (mean - self.mean))
        self.mean.copy_(mean)
        self.count.copy_(total)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.setdefault(f"{prefix}remainder", torch.zeros_like(self.mean))  # earlier models have none
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) * (self.var + 1e-8).rsqrt()).clamp(-self.clip, self.clip)


class ValueScale(nn.Module):
    """Turn a value head's numbers into values: times the deviation of returns, plus their mean.

    Each rollout counts in these statistics with the share `rate`; the first ones all count alike.

    Args:
        heads: numbers K that the head puts out.
        preserves: change the head along with the statistics, so that its values stay what they are (PopArt, van
            Hasselt et al. 2016, arXiv:1602.07714, sec. 2.2).

    Attributes:
        mean, var: of returns, `[K]`.
        count: rollouts seen.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, heads: int, rate: float, preserves: bool) -> None:
        super().__init__()
        self.rate, self.preserves = rate, preserves
        self.register_buffer("mean", torch.zeros(heads))
        self.register_buffer("var", torch.ones(heads))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def deviation(self) -> Tensor:
        """The deviation of returns, `[K]`, and no less than 1e-4 (the paper's bound)."""
        return self.var.sqrt().clamp(min=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the values `[..., K]` of a head's numbers."""
        return x * self.deviation + self.mean

    def normalized(self, value: Tensor) -> Tensor:
        """Return what a head would have to put out for values `[..., K]`, or `[...]` where K is 1."""
        return (value - self.mean) / self.deviation

    @torch.no_grad()
    def update(self, returns: Tensor, head: nn.Linear) -> None:
        """Take in the returns `[B, K]` of a rollout, before `head` is trained on them."""
        if not len(returns):
            return
        before, was = self.deviation, self.mean.clone()
        self.count += 1
        share = (1 / self.count).clamp(min=self.rate)
        var, mean = torch.var_mean(returns, dim=0, correction=0)
        moved = mean - self.mean
        self.var.copy_(self.var + share * (var - self.var + (1 - share) * moved.square()))
        self.mean += share * moved
        if self.preserves:
            head.weight *= (before / self.deviation)[:, None]
            head.bias.copy_((before * head.bias + was - self.mean) / self.deviation)


class RewardScale(nn.Module):
    """Divide rewards by the running deviation of each environment's discounted return (as SB3's VecNormalize).

    With `gamma` 0 that is the deviation of rewards themselves, which may be those of any transitions.

    Args:
        episodic: whether returns end with episodes: one that is begun anew, by a reset of all environments or after a
            dummy transition, then begins at 0.
    """

    returns: Tensor

    def __init__(self, num_envs: int, gamma: float, clip: float = 10.0, episodic: bool = True) -> None:
        super().__init__()
        self.gamma = gamma
        self.clip = clip
        self.episodic = episodic
        self.statistics = RunningNorm(1)
        self.register_buffer("returns", torch.zeros(num_envs))

    @torch.no_grad()
    def forward(self, reward_TN: Tensor, done_TN: Tensor, valid_TN: Tensor | None = None) -> Tensor:
        """Take in a rollout's raw rewards `[T, N]`, those of valid transitions, and return them scaled."""
        return_TN = self._returns(reward_TN, done_TN, valid_TN) if self.gamma else reward_TN
        real = return_TN.flatten() if valid_TN is None else return_TN[valid_TN]
        self.statistics.update(real[:, None])
        return (reward_TN * (self.statistics.var + 1e-8).rsqrt()).clamp(-self.clip, self.clip)

    def _returns(self, reward_TN: Tensor, done_TN: Tensor, valid_TN: Tensor | None) -> Tensor:
        decay: Tensor | float = self.gamma
        if valid_TN is not None:  # what is no transition leaves the return as it is, or begins the next episode's
            decay, reward_TN = torch.where(valid_TN, self.gamma, 1.0), torch.where(valid_TN, reward_TN, 0)
            done_TN = done_TN | ~valid_TN if self.episodic else done_TN
        if not looked_at(reward_TN):
            kept_TN = decay * torch.cat([torch.ones_like(done_TN[:1]), ~done_TN[:-1]])
            begun_TN = torch.cat([torch.addcmul(reward_TN[:1], kept_TN[:1], self.returns), reward_TN[1:]])
            return_TN = recurrences.linear_recurrence(kept_TN, begun_TN)
            self.returns.copy_(return_TN[-1] * ~done_TN[-1])
            return return_TN
        return_TN = torch.empty_like(reward_TN)
        running_N = self.returns
        for t in range(reward_TN.shape[0]):
            return_TN[t] = running_N = running_N * (decay[t] if isinstance(decay, Tensor) else decay) + reward_TN[t]
            running_N = running_N * ~done_TN[t]
        self.returns.copy_(running_N)
        return return_TN
