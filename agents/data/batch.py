"""Batches of transitions or of sequences, gathered from what a replay buffer holds: pure functions, to be compiled."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.core.tree import tree_map
from agents.data.frames import Named
from agents.ops.returns import n_step


class Batch(NamedTuple):
    """Sampled transitions: Q(obs, action) should become return_ + discount * max Q(next_obs).

    `indices` says which of the buffer's transitions they are, `[B]`; `weight` how much each counts, None where all
    count alike.

    With memory these are sequences, `[B, T, ...]`, and `indices` and `weight` are of those. They begin with `carry`
    `[B, ...]`; `start` says where another episode begins, and `last` which step is the last of each one's return:
    its `next_obs` is to bootstrap from.
    """

    obs: Any
    action: Tensor
    return_: Tensor
    discount: Tensor
    next_obs: Any
    indices: Tensor
    weight: Tensor | None = None
    carry: Any = None
    start: Tensor | None = None
    last: Tensor | None = None

    def split(self, size: int) -> Iterator[Batch]:
        """Cut it into batches of `size`, whose weights are divided by the largest of each."""
        if len(self.action) == size:
            yield self
            return
        for start in range(0, len(self.action), size):
            part: Batch = tree_map(lambda leaf, start=start: leaf[start : start + size], self)
            yield part if part.weight is None else part._replace(weight=part.weight / part.weight.amax())


def assemble(
    flat: dict[str, Any], num_envs: int, index: Tensor, length: Tensor | None, gamma: float, n_step_returns: int
) -> Batch:
    """Gather transitions and sum up to `n_step_returns` rewards of each; a pure function, to be compiled.

    A window ends where its episode does or after `length` transitions, whichever comes first, and bootstraps there
    with gamma to the power of its true length.

    Args:
        flat: `ReplayBuffer.flat`.
        num_envs: columns of the buffer.
        index: which, as `row * num_envs + column`, `[B]`.
        length: how many transitions from each on are stored, of which `n_step_returns` at most count, `[B]`; needed
            only where those are more than one.
    """

    take = partial(gather, flat)
    if length is None or n_step_returns == 1:
        last, return_, discount = index, take("reward", index), ~take("terminated", index) * gamma
    else:
        steps = torch.arange(n_step_returns, device=index.device) * num_envs
        window = (index[:, None] + steps) % len(flat["reward"])
        rewards, terminated, truncated = (
            take(key, window.flatten()).view(window.shape) for key in ("reward", "terminated", "truncated")
        )
        return_, offset, discount = n_step(rewards, terminated, truncated, length.clamp(max=n_step_returns), gamma)
        last = window.gather(1, offset[:, None]).squeeze(1)
    return Batch(take("obs", index), take("action", index), return_, discount, take("next_obs", last), index)


def gather(flat: dict[str, Any], key: str, where: Tensor) -> Any:
    """Return the rows `where`, int64 `[B]`, of one of the store's columns."""
    column = flat[key]
    if isinstance(column, dict):
        return {name: _rows(leaf, where) for name, leaf in column.items()}
    return _rows(column, where)


def _rows(leaf: Tensor | Named, where: Tensor) -> Tensor:
    return leaf.take(where) if isinstance(leaf, Named) else leaf.index_select(0, where)


def assemble_sequences(
    flat: dict[str, Any], num_envs: int, index: Tensor, length: int, gamma: float, n_step_returns: int
) -> Batch:
    """Gather sequences of `length` stored transitions; returns end where the episode or the sequence does.

    Args:
        flat, num_envs, gamma, n_step_returns: as `assemble` takes them.
        index: their first transitions, `[B]`.
        length: T, the transitions in each.
    """
    steps = torch.arange(length, device=index.device)
    where = (index[:, None] + steps * num_envs) % len(flat["reward"])
    obs, action, reward, terminated, truncated, next_obs = (
        tree_map(lambda leaf: leaf.unflatten(0, where.shape), gather(flat, key, where.flatten()))
        for key in ("obs", "action", "reward", "terminated", "truncated", "next_obs")
    )
    start = torch.zeros_like(terminated)  # what the first step begins with has been stored
    start[:, 1:] = (terminated | truncated)[:, :-1]
    window = (steps[:, None] + torch.arange(n_step_returns, device=index.device)).clamp(max=length - 1)
    rows = [column[:, window].flatten(0, 1) for column in (reward, terminated, truncated)]
    left = (length - steps).clamp(max=n_step_returns).repeat(len(index))
    return_, offset, discount = (column.view_as(where) for column in n_step(rows[0], rows[1], rows[2], left, gamma))
    carry = gather(flat, "carry", index)
    return Batch(obs, action, return_, discount, next_obs, index, None, carry, start, steps + offset)
