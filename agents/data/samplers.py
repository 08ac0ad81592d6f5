"""Which stored transitions an update learns from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from agents.data.replay import Batch, ReplayBuffer, assemble

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


class Sampler(Protocol):
    """Draws minibatches from one store."""

    generator: torch.Generator

    def sample(self, count: int) -> Batch:
        """Draw so many transitions; its `indices` name them, its `weight` corrects how likely each was."""
        ...

    def update_priorities(self, indices: Tensor, priorities: Tensor) -> None:
        """Take in what an update made of the transitions `indices`, `[B]`."""
        ...


class UniformSampler:
    """Every stored transition is equally likely, with replacement; rewards are summed over up to n steps.

    Args:
        replay: what is drawn from.
        gamma: discount factor.
        n_step_returns: rewards summed before bootstrapping.
        generator: on the device of `replay`.
        usual: how many transitions are mostly drawn; so many are assembled by a compiled function.
        compiled: compiles it.
    """

    def __init__(
        self,
        replay: ReplayBuffer,
        gamma: float,
        n_step_returns: int,
        generator: torch.Generator,
        usual: int = 0,
        compiled: Compile = lambda function: function,
    ) -> None:
        self.generator = generator
        self._replay, self._usual, self._n_step_returns = replay, usual, n_step_returns

        def plain(flat: dict[str, Any], index: Tensor, length: Tensor | None) -> Batch:
            return assemble(flat, replay.num_envs, index, length, gamma, n_step_returns)

        self._plain, self._compiled = plain, compiled(plain)

    def sample(self, count: int) -> Batch:
        """See `Sampler`."""
        index = self._replay.draw(count, self.generator)
        length = self._replay.length(index) if self._n_step_returns > 1 else None
        run = self._compiled if count == self._usual else self._plain  # one size is compiled, no more
        return run(self._replay.flat, index, length)

    def update_priorities(self, indices: Tensor, priorities: Tensor) -> None:
        """Nothing: all transitions stay equally likely."""
