"""One rollout of on-policy data, preallocated `[T, N, ...]`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.core.tree import tree_map
from agents.data.storage import allocate, writer


@dataclass(slots=True)
class Rollout:
    """T ticks of N environments, as the agent's update reads them.

    `next_value` is V of each transition's true successor; `valid` is False on dummy transitions, which belong
    to no minibatch, and None when there are none. `action` is as sampled: before clipping and squashing.
    """

    obs: Any
    action: Tensor
    log_prob: Tensor
    value: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_value: Tensor
    valid: Tensor | None


def following(value_TN: Tensor, last_N: Tensor) -> Tensor:
    """Return the value of what came next, where no episode ended: that of the next tick, and `last_N` at the end."""
    return torch.cat([value_TN[1:], last_N[None]])


class RolloutBuffer:
    """Takes ticks one by one and gives them back as a `Rollout` whose tensors it owns and reuses."""

    def __init__(self, n_steps: int, device: torch.device) -> None:
        self.n_steps = n_steps
        self.device = device
        self._rows: dict[str, Any] = {}
        self._writers: list[tuple[str, Any]] = []
        self._clear()

    def _clear(self) -> None:
        self._t = 0
        self._valid: list[tuple[int, Tensor]] = []
        self._final: list[tuple[int, Tensor, Any]] = []

    def add(self, tick: dict[str, Any]) -> None:
        """Store one tick `[N, ...]`, arrays or tensors: obs, action, reward, terminated, truncated."""
        if not self._rows:
            self._rows = {key: tree_map(self._allocate, value) for key, value in tick.items()}
            self._writers = [(key, tree_map(writer, rows)) for key, rows in self._rows.items()]
        for key, rows in self._writers:
            if isinstance(rows, dict):
                for leaf, array in rows.items():
                    array[self._t] = tick[key][leaf]
            else:
                rows[self._t] = tick[key]
        self._t += 1

    def _allocate(self, value: Any) -> Tensor:
        return allocate((self.n_steps, *value.shape), value, self.device)

    def add_final(self, rows: Tensor, obs: Any) -> None:
        """Note the final observations of the environments `rows` that were truncated in the last tick."""
        self._final.append((self._t - 1, rows, obs))

    def mark_valid(self, valid: Tensor) -> None:
        """Note which transitions of the last tick are real, `[N]`."""
        self._valid.append((self._t - 1, valid))

    @torch.no_grad()
    def finish(
        self, evaluate: Callable[[Any, Tensor], tuple[Tensor, Tensor]], value_of: Callable[[Any], Tensor], last_obs: Any
    ) -> Rollout:
        """Return the rollout; the buffer is empty afterwards.

        The policy does not change in a rollout, so what its update needs of it is worked out in one pass here
        rather than in each tick.

        Args:
            evaluate: takes observations and actions `[B, ...]` to log-probabilities and values, each `[B]`.
            value_of: takes observations `[B, ...]` to values `[B]`.
            last_obs: what follows the last tick, `[N, ...]`.
        """
        assert self._t == self.n_steps, "finish() wants a full rollout"
        rows = self._rows
        shape = rows["reward"].shape
        flat = {key: tree_map(lambda leaf: leaf.flatten(0, 1), rows[key]) for key in ("obs", "action")}
        log_prob, value = (column.view(shape) for column in evaluate(flat["obs"], flat["action"]))
        next_value = following(value, value_of(last_obs))
        if self._final:
            times = torch.cat([torch.full_like(envs, t) for t, envs, _ in self._final])
            columns = torch.cat([envs for _, envs, _ in self._final])
            final_obs = tree_map(lambda *parts: torch.cat(parts), *(obs for _, _, obs in self._final))
            next_value[times, columns] = value_of(final_obs)
        valid = None
        if self._valid:
            valid = torch.ones_like(rows["terminated"])
            for t, flags in self._valid:
                valid[t] = flags
        self._clear()
        return Rollout(**rows, log_prob=log_prob, value=value, next_value=next_value, valid=valid)
