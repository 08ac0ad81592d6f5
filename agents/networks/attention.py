"""A memory that looks back: a gated transformer over the last steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

OPEN = 2.0  # bias of gates that hand their input on: a share sigmoid(2) = 0.88 of it at first


class Gate(nn.Module):
    """Adds what a layer says to what it was asked, as a GRU (Parisotto et al. 2019, arXiv:1910.06764, sec. 3.2)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.said = nn.Linear(size, 3 * size, bias=False)
        self.asked = nn.Linear(size, 2 * size, bias=False)
        self.reset = nn.Linear(size, size, bias=False)
        self.bias = nn.Parameter(torch.full((size,), OPEN))

    def forward(self, asked: Tensor, said: Tensor) -> Tensor:
        r, z, h = self.said(said).chunk(3, dim=-1)
        of_r, of_z = self.asked(asked).chunk(2, dim=-1)
        new = (h + self.reset((r + of_r).sigmoid() * asked)).tanh()
        return torch.lerp(new, asked, (self.bias - z - of_z).sigmoid())


class GTrXL(nn.Module):
    """One layer of a gated transformer (GTrXL: Parisotto et al. 2019, arXiv:1910.06764) over a sliding window.

    Each step attends to the last `window` steps of its episode, itself included. How far back a step lies adds a number
    to its score that is learnt for each head (Raffel et al. 2020, arXiv:1910.10683, sec. 2.1). The carry is the inputs
    of the last `window - 1` steps, each with a 1 after it, and zeros where there were none, `[N, (window - 1) *
    (size + 1)]`.

    Args:
        window: steps, at least 2.
        heads: of attention; they divide `size`.
    """

    def __init__(self, inputs: int, size: int, window: int, heads: int) -> None:
        super().__init__()
        self.features, self._window, self._heads = size, window, heads
        self.embed = nn.Identity() if inputs == size else nn.Linear(inputs, size)
        self.before_attention, self.before_feed = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query = nn.Linear(size, size, bias=False)
        self.key_value = nn.Linear(size, 2 * size, bias=False)
        self.mix = nn.Linear(size, size)
        self.feed = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))
        self.attended, self.fed = Gate(size), Gate(size)
        self.distance = nn.Parameter(torch.zeros(heads, window))

    def initial_carry(self, num_envs: int) -> Tensor:
        """Return the carry of `num_envs` episodes that start."""
        return self.distance.new_zeros(num_envs, (self._window - 1) * (self.features + 1))

    def forward(self, x: Tensor, carry: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `agents.networks.cells.Cell.forward`."""
        if start is None:
            output, carry = self.forward(x[None], carry, x.new_zeros(1, x.shape[0], dtype=torch.bool))
            return output[0], carry
        earlier, there = carry.unflatten(1, (self._window - 1, self.features + 1)).split([self.features, 1], dim=-1)
        x_NT = self.embed(x).transpose(0, 1)
        seen = torch.cat([earlier, x_NT], dim=1)
        episode = start.cumsum(0).t()  # 0 where the one of the carry goes on
        of_seen = torch.cat([torch.where(there.squeeze(-1) > 0, 0, -1), episode], dim=1)
        output = self.attended(x_NT, self._attend(x_NT, seen, episode, of_seen).relu())
        output = self.fed(output, self.feed(self.before_feed(output)).relu())
        kept = of_seen[:, 1 - self._window :, None] == episode[:, -1:, None]
        last = torch.cat([seen[:, 1 - self._window :], torch.ones_like(kept, dtype=x.dtype)], dim=-1)
        return output.transpose(0, 1), (last * kept).flatten(1)

    def _attend(self, x: Tensor, seen: Tensor, episode: Tensor, of_seen: Tensor) -> Tensor:
        """Return what steps `[N, T, size]` find in those seen, `[N, K, size]`, of which the last T are they themselves.

        `episode` and `of_seen` say which episode each is of, `[N, T]` and `[N, K]`.
        """
        steps, whole = x.shape[1], seen.shape[1]
        query = self.query(self.before_attention(x))
        key, value = self.key_value(self.before_attention(seen)).chunk(2, dim=-1)
        back = torch.arange(whole - steps, whole, device=x.device)[:, None] - torch.arange(whole, device=x.device)
        near = (back >= 0) & (back < self._window)
        same = (episode[:, :, None] == of_seen[:, None, :]) & near
        score = self.distance[:, back.clamp(0, self._window - 1)].masked_fill(~same[:, None], -torch.inf)
        query, key, value = (part.unflatten(-1, (self._heads, -1)).transpose(1, 2) for part in (query, key, value))
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=score)
        return self.mix(found.transpose(1, 2).flatten(2))
