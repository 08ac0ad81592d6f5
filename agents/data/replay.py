"""The replay ring: transitions by environment, so that n-step windows are rows of a column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.core.tree import place, tree_map
from agents.data.storage import allocate, writer
from agents.ops.returns import n_step


class Batch(NamedTuple):
    """Sampled transitions: Q(obs, action) should become return_ + discount * max Q(next_obs)."""

    obs: Any
    action: Tensor
    return_: Tensor
    discount: Tensor
    next_obs: Any

    def split(self, size: int) -> Iterator[Batch]:
        """Cut it into batches of `size`."""
        for start in range(0, len(self.action), size):
            yield Batch(*tree_map(lambda leaf, part=slice(start, start + size): leaf[part], self._asdict()).values())


class ReplayBuffer:
    """A ring of `capacity // num_envs` rows by `num_envs` columns, on one device; observations are stored raw.

    Each column has its own write head, which moves only for real transitions: dummies are not stored. Sampling
    is uniform over all stored transitions.
    """

    def __init__(self, capacity: int, num_envs: int, device: torch.device) -> None:
        self.rows = max(capacity // num_envs, 1)
        self.num_envs = num_envs
        self.device = device
        self._head = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._size = torch.zeros(num_envs, dtype=torch.int64, device=device)
        # As long as no dummy held a column back, all heads and sizes are the same and two numbers tell them.
        self._even: tuple[int, int] | None = (0, 0)
        self._columns = writer(torch.arange(num_envs, device=device))
        self._store: dict[str, Any] = {}
        self._writers: list[tuple[str, Any]] = []

    def __len__(self) -> int:
        return int(self.size.sum())

    @property
    def head(self) -> Tensor:
        """The row that each column writes next, `[N]`."""
        return self._head if self._even is None else self._head.fill_(self._even[0])

    @property
    def size(self) -> Tensor:
        """How many rows of each column are filled, `[N]`."""
        return self._size if self._even is None else self._size.fill_(self._even[1])

    def _allocate(self, value: Any) -> Tensor:
        return allocate((self.rows, self.num_envs, *value.shape[1:]), value, self.device)

    def _keep(self, store: dict[str, Any]) -> None:
        self._store = store
        self._writers = [(key, tree_map(writer, value)) for key, value in store.items()]

    def add(self, tick: dict[str, Any], valid: Any = None) -> None:
        """Store one tick, arrays or tensors: obs, action, reward, terminated, truncated, next_obs, each `[N, ...]`.

        Where `valid`, bool `[N]`, is False, nothing is stored.
        """
        if not self._store:
            self._keep({key: tree_map(self._allocate, value) for key, value in tick.items()})
        if valid is None and self._even is not None:
            row, size = self._even
            self._write(row, tick)
            self._even = (row + 1) % self.rows, min(size + 1, self.rows)
            return
        head, size, columns, step = writer(self.head), writer(self.size), self._columns, 1
        self._even = None
        if valid is not None:
            self.cut(~valid)
            tick = {key: tree_map(lambda new: new[valid], value) for key, value in tick.items()}
            columns, step = columns[valid], valid
        self._write((head[columns], columns), tick)
        head[:] = (head + step) % self.rows
        size[:] = (size + step).clip(max=self.rows)

    def extend(self, ticks: dict[str, Any]) -> None:
        """Store many ticks of tensors at once, each `[T, N, ...]` and without dummies, as `add` would one by one."""
        if self._even is None or not self._store:
            for tick in range(len(ticks["reward"])):
                self.add(tree_map(lambda rows, tick=tick: place(rows[tick], self.device), ticks))
            return
        row, size = self._even
        left, start = len(ticks["reward"]), 0
        while left:
            count = min(left, self.rows - row)
            for key, store in self._store.items():
                tree_map(
                    lambda to, rows, row=row, start=start, count=count: to[row : row + count].copy_(
                        rows[start : start + count]
                    ),
                    store,
                    ticks[key],
                )
            row, size, start, left = (
                (row + count) % self.rows,
                min(size + count, self.rows),
                start + count,
                left - count,
            )
        self._even = row, size

    def _write(self, index: Any, tick: dict[str, Any]) -> None:
        for key, rows in self._writers:
            if isinstance(rows, dict):
                for leaf, array in rows.items():
                    array[index] = tick[key][leaf]
            else:
                rows[index] = tick[key]

    def cut(self, columns: Any = ...) -> None:
        """Let no window go on after the newest transition of these columns: what follows is another episode."""
        if self._store:
            writer(self._store["truncated"])[writer(self.head)[columns] - 1, self._columns[columns]] = True

    def sample(self, batch_size: int, gamma: float, n_step_returns: int, generator: torch.Generator) -> Batch:
        """Draw `batch_size` transitions with replacement and sum up to `n_step_returns` rewards of each.

        A window ends where its episode does or at the write head, whichever comes first, and bootstraps there
        with gamma to the power of its true length.
        """
        index = self._draw(batch_size, generator)
        if n_step_returns == 1:
            last = index
            return_ = self._take("reward", index)
            discount = ~self._take("terminated", index) * gamma
        else:
            row, column = index // self.num_envs, index % self.num_envs
            steps = torch.arange(n_step_returns, device=self.device)
            window = (row[:, None] + steps) % self.rows * self.num_envs + column[:, None]
            rewards, terminated, truncated = (
                self._take(key, window.flatten()).view(window.shape) for key in ("reward", "terminated", "truncated")
            )
            ahead = (self.head[column] - row - 1) % self.rows + 1  # up to the write head
            return_, offset, discount = n_step(rewards, terminated, truncated, ahead.clamp(max=n_step_returns), gamma)
            last = window.gather(1, offset[:, None]).squeeze(1)
        return Batch(
            self._take("obs", index), self._take("action", index), return_, discount, self._take("next_obs", last)
        )

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw stored transitions as `row * num_envs + column`, `[count]`; the rows filled are always the first."""
        if self._even is not None:
            total = self._even[1] * self.num_envs
            return torch.randint(total, (count,), generator=generator, device=self.device)
        last_flat = self.size.cumsum(0)
        flat = (torch.rand(count, generator=generator, device=self.device, dtype=torch.float64) * last_flat[-1]).long()
        column = torch.searchsorted(last_flat, flat, right=True)
        return (flat - (last_flat - self.size)[column]) * self.num_envs + column

    def _take(self, key: str, index: Tensor) -> Any:
        """Gather stored values by `row * num_envs + column`."""
        return tree_map(lambda leaf: leaf.flatten(0, 1).index_select(0, index), self._store[key])

    def state_dict(self) -> dict[str, Any]:
        """Return the heads and the filled rows."""
        filled = int(self.size.max())
        store = {key: tree_map(lambda leaf: leaf[:filled], value) for key, value in self._store.items()}
        even = self._even is not None
        return {"rows": self.rows, "even": even, "head": self.head, "size": self.size, "store": store}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: the buffer has another capacity or number of environments.
        """
        if state["rows"] != self.rows or state["head"].shape != self.head.shape:
            raise ValueError(
                f"saved replay has {state['rows']} rows x {len(state['head'])}, this one {self.rows} x {self.num_envs}"
            )
        self._head.copy_(state["head"])
        self._size.copy_(state["size"])
        self._even = (int(self._head[0]), int(self._size[0])) if state["even"] else None

        def fill(saved: Tensor) -> Tensor:
            leaf = torch.empty((self.rows, *saved.shape[1:]), dtype=saved.dtype, device=self.device)
            leaf[: len(saved)] = saved
            return leaf

        self._keep({key: tree_map(fill, value) for key, value in state["store"].items()})
