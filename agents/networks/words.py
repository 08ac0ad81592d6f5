"""Networks that read texts and sequences of symbols: an embedding of each word or symbol, and what puts them together.

A text (`envs.words.Written`) is read word by word: a word is what stands between characters that are no letters or
digits, in lower case, and is known by a hash, so that no list of words is needed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn

from envs.words import Tokens, Written

MOST_WORDS = 32  # of a text that are read
BUCKETS = 1_023  # numbers that words are hashed to, from 1 on
WIDTH, FEATURES, HEADS = 32, 64, 4
_PRIME, _BASE = 2**31 - 1, 1_000_003


class Words(nn.Module):
    """Texts uint8 `[B, L]` to the numbers of their words, int64 `[B, W]`, 1 to `BUCKETS`, and zeros after the last."""

    powers: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.count = min(MOST_WORDS, (length + 1) // 2)
        powers = [1]
        for _ in range(length - 1):
            powers.append(powers[-1] * _BASE % _PRIME)
        self.register_buffer("powers", torch.tensor(powers), persistent=False)

    def forward(self, text: Tensor) -> Tensor:
        x = text.long()
        upper = (x >= 65) & (x <= 90)
        x = torch.where(upper, x + 32, x)
        inside = ((x >= 97) & (x <= 122)) | ((x >= 48) & (x <= 57)) | (x >= 128)
        begins = inside & ~F.pad(inside[:, :-1], (1, 0))
        which = begins.long().cumsum(1)  # the word that a character is in or after, from 1 on
        place = torch.arange(x.shape[1], device=x.device).expand_as(x)
        first = torch.where(begins, place, 0).cummax(1).values
        terms = torch.where(inside, x * self.powers[place - first], 0)
        column = torch.where(inside & (which <= self.count), which, 0)  # 0 takes what is in no word that is read
        sums = x.new_zeros(len(x), self.count + 1).scatter_add(1, column, terms)[:, 1:]
        return torch.where(sums > 0, sums % _PRIME % BUCKETS + 1, 0)


class TextEncoder(nn.Module):
    """Texts or sequences of symbols to `[B, features]`: embeddings, and a network over them.

    Args:
        space: `Written`, `Tokens`, or a MultiDiscrete whose entries are symbols of one kind.
        kind: "transformer" (one layer of Vaswani et al. 2017, arXiv:1706.03762) or "gru".
    """

    def __init__(self, space: Space, kind: str) -> None:
        super().__init__()
        self.features = FEATURES
        self.words: Words | None = None
        if isinstance(space, Written):
            self.words = Words(space.shape[0])
            length, symbols, what = self.words.count, BUCKETS + 1, f"text, its first {space.shape[0]} bytes by words"
        else:
            assert isinstance(space, spaces.MultiDiscrete)
            length, symbols = len(space.nvec), int(space.nvec.max())
            what = f"sequence of at most {length} of {symbols - 1} symbols"
            if not isinstance(space, Tokens):
                symbols, what = symbols + 1, f"{length} of {symbols} symbols"
        self.shifted = isinstance(space, spaces.MultiDiscrete) and not isinstance(space, Tokens)
        self.embedding = nn.Embedding(symbols, WIDTH, padding_idx=0)
        reader: Any = Attention(length) if kind == "transformer" else Recurrent()
        self.reader = reader
        self.description = f"{what} -> {kind}"

    def forward(self, x: Tensor) -> Tensor:
        x = x.long() + 1 if self.shifted else x if self.words is None else self.words(x)
        x = x.reshape(x.shape[0], -1)
        return self.reader(self.embedding(x), x > 0)


class Attention(nn.Module):
    """One transformer layer over `[B, L, WIDTH]`, and the features of a symbol that stands before all of them."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(WIDTH) * 0.02)
        self.places = nn.Parameter(torch.randn(length + 1, WIDTH) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.mix = nn.Linear(WIDTH, 3 * WIDTH)
        self.joined = nn.Linear(WIDTH, WIDTH)
        self.hidden = nn.Linear(WIDTH, 2 * WIDTH)
        self.shrunk = nn.Linear(2 * WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, FEATURES)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        x = torch.cat([self.first.expand(len(x), 1, -1), x], dim=1) + self.places
        mask = F.pad(there, (1, 0), value=True)[:, None, None]
        q, k, v = self.mix(self.norms[0](x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q[:, :, :1], k, v, attn_mask=mask)  # the first symbol alone is asked for
        y = x[:, 0] + self.joined(seen.transpose(1, 2).flatten(1))
        y = y + self.shrunk(F.gelu(self.hidden(self.norms[1](y))))
        return torch.relu(self.out(y))


class Recurrent(nn.Module):
    """A GRU over `[B, L, WIDTH]`: what it holds after the last symbol."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(WIDTH, FEATURES)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        h = x.new_zeros(len(x), FEATURES)
        for symbol, is_there in zip(x.unbind(1), there.unbind(1), strict=True):
            h = torch.where(is_there[:, None], self.cell(symbol, h), h)
        return h
