"""Which stored transitions an update learns from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from agents.core.saved import like, part
from agents.data.batch import Batch, assemble, assemble_sequences
from agents.data.replay import ReplayBuffer

Compile = Callable[..., Callable[..., Any]]  # `Runtime.compiled`


class Sampler(Protocol):
    """Draws minibatches from one store."""

    generator: torch.Generator

    def sample(self, count: int, progress: float) -> Batch:
        """Draw so many transitions; its `indices` name them, its `weight` corrects how likely each was.

        `progress` is the part (0 to 1) of the training that is done.
        """
        ...

    def update_priorities(self, indices: Tensor, priorities: Tensor) -> None:
        """Take in what an update made of the transitions or sequences `indices`, `[B]`: one number for each transition,
        those of sequences `[T * B]`; they may be on another device than the store.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what it needs to go on bit for bit, the store excepted."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; the generator's state, which fits one kind of device, comes last."""
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
        compiled: Compile = lambda function, *_: function,
    ) -> None:
        self.generator = generator
        self._replay, self._usual, self._gamma, self._n_step_returns = replay, usual, gamma, n_step_returns

        def plain(index: Tensor, length: Tensor | None) -> Batch:
            return assemble(replay.flat, replay.num_envs, index, length, gamma, n_step_returns)

        # it reads the store where that lies, and changes nothing in place
        self._plain, self._compiled = plain, compiled(plain, lambda: replay.version, list)

    def sample(self, count: int, progress: float) -> Batch:
        """See `Sampler`."""
        return self._assembled(self._replay.draw(count, self.generator))

    def _assembled(self, index: Tensor) -> Batch:
        length = self._replay.length(index) if self._n_step_returns > 1 else None
        run = self._compiled if len(index) == self._usual else self._plain  # one size is compiled, no more
        return run(index, length)

    def update_priorities(self, indices: Tensor, priorities: Tensor) -> None:
        """Nothing: all transitions stay equally likely."""

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
        self.generator.set_state(part(state, "generator"))


class PrioritizedSampler(UniformSampler):
    """Transitions are drawn in proportion to |error|^alpha (Schaul et al. 2016, arXiv:1511.05952, sec. 3.3).

    New ones have the largest priority there has been, so that each is likely to be learnt from once. `weight` corrects
    the bias by (N P)^-beta, divided by the largest of the batch; beta rises to 1 by the end of the training.

    Args:
        alpha, beta0, eps: of priorities, (|error| + eps)^alpha, and of weights, at the start.
        others: as `UniformSampler` takes them.
    """

    def __init__(self, replay: ReplayBuffer, *others: Any, alpha: float, beta0: float, eps: float, **more: Any) -> None:
        super().__init__(replay, *others, **more)
        self._alpha, self._beta0, self._eps = alpha, beta0, eps
        self._priorities = Priorities(replay.rows * replay.num_envs, replay.device)
        self._largest = torch.ones((), device=replay.device)
        replay.news = []

    def sample(self, count: int, progress: float) -> Batch:
        """See `Sampler`."""
        self._take_in_news()
        priority, index = self._priorities.draw(count, self.generator)
        beta = self._beta0 + (1 - self._beta0) * min(progress, 1.0)
        weight = priority.div_(priority.amin()).pow_(-beta)  # N and the sum of all cancel
        return self._assembled(index)._replace(weight=weight)

    def _stored(self, index: Tensor) -> Tensor:
        """Return whether there is something to draw at these places, `[B]`."""
        return self._replay.holds(index)

    def _take_in_news(self) -> None:
        if news := self._replay.news:
            self._admit(torch.cat(news))
            news.clear()

    def _admit(self, written: Tensor) -> None:
        """Make what has been written likely to be drawn, and what has been forgotten impossible."""
        priority = self._largest.expand(len(written))
        if self._replay.frames:
            priority = torch.where(self._replay.holds(written), priority, 0)
        self._priorities.write(written, priority)

    def update_priorities(self, indices: Tensor, priorities: Tensor) -> None:
        """See `Sampler`; `priorities` are errors, which need not be powers yet."""
        indices, priorities = (given.to(self._replay.device) for given in (indices, priorities))
        raised = (priorities + self._eps) ** self._alpha
        self._largest = torch.maximum(self._largest, raised.max())
        self._priorities.write(indices, raised)

    def state_dict(self) -> dict[str, Any]:
        self._take_in_news()
        return {"priorities": self._priorities.numbers, "largest": self._largest, **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        found = like(part(state, "priorities"), self._priorities.numbers, "priorities")
        largest = like(part(state, "largest"), self._largest, "largest")
        if not found.sum().isfinite() or (found < 0).any() or not (largest.isfinite() and largest > 0):
            raise ValueError("priorities are numbers that are not negative, and finite")
        device = self._replay.device
        stored = self._stored(torch.arange(len(found), device=device)).to(found.device)
        if found[~stored].any() or (stored.any() and not found.any()):
            raise ValueError("priorities are not of what is stored")
        self._priorities.write(torch.arange(len(found), device=device), found.to(device))
        self._largest = largest.to(device)
        self._replay.news = []
        super().load_state_dict(state)


class SequenceSampler(PrioritizedSampler):
    """Draws whole sequences, for networks with memory (R2D2: Kapturowski et al. 2019, sec. 2.3 and 3).

    A sequence begins at any stored transition that enough others follow in its column, so it never crosses the write
    head; where it crosses the end of an episode, `Batch.start` says so. What is remembered at its beginning is what the
    actor remembered then. Its priority is eta times the largest of its errors and 1 - eta times their mean.

    Args:
        sequence_length: transitions that are learnt from.
        burn_in: transitions before those.
        eta: of priorities.
        others: as `PrioritizedSampler` takes them; with alpha 0 all sequences are as likely.
    """

    def __init__(self, *others: Any, sequence_length: int, burn_in: int, eta: float, **more: Any) -> None:
        super().__init__(*others, **more)
        self._length, self._eta = burn_in + sequence_length, eta

    def _assembled(self, index: Tensor) -> Batch:
        replay = self._replay
        return assemble_sequences(replay.flat, replay.num_envs, index, self._length, self._gamma, self._n_step_returns)

    def _stored(self, index: Tensor) -> Tensor:
        """Return whether all transitions of the sequences that begin there are stored, `[B]`."""
        return (self._replay.length(index) >= self._length) & self._replay.holds(index)

    def _admit(self, written: Tensor) -> None:
        """Let those sequences be drawn that are whole now, and those no longer that have been written over."""
        steps = (self._length - 1) * self._replay.num_envs
        changed = torch.cat([written, (written - steps) % len(self._priorities.numbers)])
        self._priorities.write(changed, torch.where(self._stored(changed), self._largest, 0))

    def update_priorities(self, indices: Tensor, priorities: Tensor) -> None:
        errors = priorities.view(-1, len(indices))
        super().update_priorities(indices, self._eta * errors.amax(0) + (1 - self._eta) * errors.mean(0))


class Priorities:
    """Numbers that are not negative, in blocks, for drawing by size.

    Every operation is a few array operations for a whole batch. The cumulative sums of all blocks are kept, and those
    in each block as shares of its sum: a block is looked up in the former, then a number in its block. They are worked
    out anew from what they are of, so they do not drift.
    """

    WIDTH = 64  # numbers in a block
    BELOW_ONE = 1 - 2.0**-22  # so far below that the sum times it is rounded to less than the sum

    def __init__(self, count: int, device: torch.device) -> None:
        self._count = count
        self._numbers = torch.zeros(-(-count // self.WIDTH) * self.WIDTH, device=device)
        self._within = torch.zeros_like(self._numbers).view(-1, self.WIDTH)
        self._sums = torch.zeros_like(self._within[:, 0])
        self._ones = torch.ones(self.WIDTH, device=device)
        self._fine = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have none
        self._blocks: tuple[Tensor, Tensor] | None = None  # cumulative sums of whole blocks, and just below their last

    @property
    def numbers(self) -> Tensor:
        """The numbers, `[count]`."""
        return self._numbers[: self._count]

    def write(self, index: Tensor, value: Tensor) -> None:
        """Set numbers `[B]`; of equal indices one of the values is taken."""
        self._numbers[index] = value
        block = index // self.WIDTH
        if len(index) > self.WIDTH:
            block = block.unique()
        within = self._numbers.view(-1, self.WIDTH).index_select(0, block).cumsum(1)
        last = within[:, -1:]
        self._sums[block] = last.squeeze(1)
        self._within[block] = (within / last).nan_to_num_()  # the last is exactly 1, or all are 0
        self._blocks = None

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` of the numbers, each as likely as it is large; return them and their indices.

        One that is 0 is never drawn, whatever rounding does. Blocks and numbers have random numbers of their own: one
        alone would be too coarse for the numbers of a large buffer.
        """
        if self._blocks is None:
            sums = self._sums.cumsum(0, dtype=self._fine)
            self._blocks = sums, sums[-1] * self.BELOW_ONE
        sums, end = self._blocks
        where: Any = {"generator": generator, "device": sums.device}
        block = torch.searchsorted(sums, torch.rand(count, dtype=self._fine, **where).mul_(end), right=True)
        part = torch.rand((count, 1), **where)  # less than 1
        before = self._within.index_select(0, block).le_(part)  # 1 or 0: counted, which is quicker than to search
        index = before.mv(self._ones).long().add_(block, alpha=self.WIDTH)
        return self._numbers.index_select(0, index), index
