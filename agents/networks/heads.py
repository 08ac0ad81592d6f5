"""Heads of action-value networks: dueling streams, noisy layers, quantiles at sampled places.

Randomness comes in as an argument, drawn by whoever acts or learns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agents.core.precision import Mixed, mixed
from agents.core.settings import Activation
from agents.networks.layers import ACTIVATIONS, NoisyLinear
from agents.ops.values import midpoints

COSINES = 64  # of IQN's embedding of a place (Dabney et al. 2018, eq. 4)


class Noise(NamedTuple):
    """What a head draws at random.

    Attributes:
        layers: of noisy layers, standard normal, `[B, D]` or `[1, D]`; None where there are none, or for their mean.
        tau: places of quantiles between 0 and 1, `[B, K]`; None for evenly spread ones.
    """

    layers: Tensor | None = None
    tau: Tensor | None = None


QUIET = Noise()


class Stream(Mixed):
    """A hidden layer, if `hidden` is not 0, and an output layer; both are noisy where `std` is given."""

    def __init__(
        self, inputs: int, hidden: int, outputs: int, activation: Activation, layer_norm: bool, std: float | None
    ) -> None:
        super().__init__()
        sizes = [inputs, *([hidden] if hidden else []), outputs]
        pairs = list(itertools.pairwise(sizes))
        self.layers = nn.ModuleList(nn.Linear(*pair) if std is None else NoisyLinear(*pair, std) for pair in pairs)
        self.noise_sizes = [] if std is None else [sum(pair) for pair in pairs]
        self.norm = nn.LayerNorm(hidden) if hidden and layer_norm else nn.Identity()
        self.activation = activation

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        parts: Sequence[Tensor | None] = [None] * len(self.layers)
        if noise is not None:
            parts = noise.split(self.noise_sizes, dim=-1)
        return self._through(-1, self._hidden(x, parts), parts)

    @mixed
    def _hidden(self, x: Tensor, parts: Sequence[Tensor | None]) -> Tensor:
        """Return what the last layer takes in."""
        return x if len(self.layers) == 1 else ACTIVATIONS[self.activation](self.norm(self._through(0, x, parts)))

    def _through(self, i: int, x: Tensor, parts: Sequence[Tensor | None]) -> Tensor:
        return self.layers[i](x, parts[i]) if self.noise_sizes else self.layers[i](x)


class QHead(Mixed):
    """From features to the return distribution of each action, `[..., A, K]`.

    Args:
        features: numbers in.
        hidden: width of a hidden layer of the stream, or of each; 0 for none.
        n_actions, atoms: A and K.
        dueling: values and advantages come from streams of their own (Wang et al. 2016, arXiv:1511.06581, eq. 9).
        noisy_std: sigma_0 of noisy layers; None for plain ones.
        sampled: the atoms are quantiles at places that `Noise.tau` gives (IQN).
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        n_actions: int,
        atoms: int,
        activation: Activation,
        *,
        layer_norm: bool,
        dueling: bool,
        noisy_std: float | None,
        sampled: bool,
    ) -> None:
        super().__init__()
        self.n_actions, self.atoms, self.sampled = n_actions, atoms, sampled
        each = 1 if sampled else atoms
        how = activation, layer_norm, noisy_std
        self.advantage = Stream(features, hidden, n_actions * each, *how)
        self.value = Stream(features, hidden, each, *how) if dueling else None
        self.embedding = nn.Linear(COSINES, features) if sampled else None
        sizes = [sum(stream.noise_sizes) for stream in self.streams]
        self.noise_split = sizes
        self.noise_size = sum(sizes)

    @property
    def streams(self) -> list[Stream]:
        """The one or two streams."""
        return [self.advantage] if self.value is None else [self.advantage, self.value]

    def forward(self, features: Tensor, noise: Noise = QUIET) -> Tensor:
        layers = noise.layers
        if self.embedding is not None:
            tau = midpoints(self.atoms, features) if noise.tau is None else noise.tau
            features = self._at_places(features, tau)
            layers = None if layers is None else layers[..., None, :]
        parts = [None, None] if layers is None else [*layers.split(self.noise_split, dim=-1), None]
        q = self._shaped(self.advantage(features, parts[0]), self.n_actions)
        if self.value is not None:
            q = self._shaped(self.value(features, parts[1]), 1) + q - q.mean(-2, keepdim=True)
        return q

    @mixed
    def _at_places(self, features: Tensor, tau: Tensor) -> Tensor:
        """Return the features of each quantile, `[..., K, F]`, for places `tau` `[..., K]`."""
        angles = math.pi * torch.arange(COSINES, dtype=features.dtype, device=features.device)
        places = self.embedding((tau[..., None] * angles).cos()).relu()  # type: ignore[misc]
        return features[..., None, :] * places

    def _shaped(self, numbers: Tensor, actions: int) -> Tensor:
        """Return a stream's output as `[..., actions, K]`."""
        return numbers.transpose(-1, -2) if self.sampled else numbers.unflatten(-1, (actions, self.atoms))
