"""The replay ring: transitions by environment, so that n-step windows are rows of a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.core.tree import tree_map
from agents.data.storage import allocate, writer
from agents.ops.returns import n_step


@dataclass(slots=True)
class Batch:
    """Sampled transitions: Q(obs, action) should become return_ + discount * max Q(next_obs)."""

    obs: Any
    action: Tensor
    return_: Tensor
    discount: Tensor
    next_obs: Any


class ReplayBuffer:
    """A ring of `capacity // num_envs` rows by `num_envs` columns, on one device; observations are stored raw.

    Each column has its own write head, which moves only for real transitions: dummies are not stored. Sampling
    is uniform over all stored transitions.
    """

    def __init__(self, capacity: int, num_envs: int, device: torch.device) -> None:
        self.rows = max(capacity // num_envs, 1)
        self.num_envs = num_envs
        self.device = device
        self.head = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self.size = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._columns = writer(torch.arange(num_envs, device=device))
        self._store: dict[str, Any] = {}
        self._writers: dict[str, Any] = {}

    def __len__(self) -> int:
        return int(self.size.sum())

    def _allocate(self, value: Any) -> Tensor:
        return allocate((self.rows, self.num_envs, *value.shape[1:]), value, self.device)

    def _keep(self, store: dict[str, Any]) -> None:
        self._store = store
        self._writers = {key: tree_map(writer, value) for key, value in store.items()}

    def add(self, valid: Any = None, **tick: Any) -> None:
        """Store one tick, arrays or tensors: obs, action, reward, terminated, truncated, next_obs, each `[N, ...]`.

        Where `valid`, bool `[N]`, is False, nothing is stored.
        """
        if not self._store:
            self._keep({key: tree_map(self._allocate, value) for key, value in tick.items()})
        head, size, columns, step = writer(self.head), writer(self.size), self._columns, 1
        if valid is not None:
            self.cut(~valid)
            tick = {key: tree_map(lambda new: new[valid], value) for key, value in tick.items()}
            columns, step = columns[valid], valid
        index = (head[columns], columns)
        for key, value in tick.items():
            tree_map(lambda rows, new: rows.__setitem__(index, new), self._writers[key], value)
        head[:] = (head + step) % self.rows
        size[:] = (size + step).clip(max=self.rows)

    def cut(self, columns: Any = ...) -> None:
        """Let no window go on after the newest transition of these columns: what follows is another episode."""
        if self._store:
            self._writers["truncated"][writer(self.head)[columns] - 1, self._columns[columns]] = True

    def sample(self, batch_size: int, gamma: float, n_step_returns: int, generator: torch.Generator) -> Batch:
        """Draw `batch_size` transitions with replacement and sum up to `n_step_returns` rewards of each.

        A window ends where its episode does or at the write head, whichever comes first, and bootstraps there
        with gamma to the power of its true length.
        """
        last_flat = self.size.cumsum(0)
        flat = torch.rand(batch_size, generator=generator, device=self.device, dtype=torch.float64)
        flat = (flat * last_flat[-1]).long()
        column = torch.searchsorted(last_flat, flat, right=True)
        age = flat - (last_flat - self.size)[column]  # 0 is the oldest
        row = (self.head[column] - self.size[column] + age) % self.rows
        store = self._store
        if n_step_returns == 1:
            last_row = row
            return_ = store["reward"][row, column]
            discount = gamma * (~store["terminated"][row, column]).float()
        else:
            window = (row[:, None] + torch.arange(n_step_returns, device=self.device)) % self.rows
            index = (window, column[:, None])
            length = (self.size[column] - age).clamp(max=n_step_returns)
            return_, last, discount = n_step(
                store["reward"][index], store["terminated"][index], store["truncated"][index], length, gamma
            )
            last_row = window.gather(1, last[:, None]).squeeze(1)
        return Batch(
            obs=tree_map(lambda leaf: leaf[row, column], store["obs"]),
            action=store["action"][row, column],
            return_=return_,
            discount=discount,
            next_obs=tree_map(lambda leaf: leaf[last_row, column], store["next_obs"]),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the heads and the filled rows."""
        filled = int(self.size.max())
        store = {key: tree_map(lambda leaf: leaf[:filled], value) for key, value in self._store.items()}
        return {"rows": self.rows, "head": self.head, "size": self.size, "store": store}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: the buffer has another capacity or number of environments.
        """
        if state["rows"] != self.rows or state["head"].shape != self.head.shape:
            raise ValueError(
                f"saved replay has {state['rows']} rows x {len(state['head'])}, this one {self.rows} x {self.num_envs}"
            )
        self.head.copy_(state["head"])
        self.size.copy_(state["size"])

        def fill(saved: Tensor) -> Tensor:
            leaf = torch.empty((self.rows, *saved.shape[1:]), dtype=saved.dtype, device=self.device)
            leaf[: len(saved)] = saved
            return leaf

        self._keep({key: tree_map(fill, value) for key, value in state["store"].items()})
