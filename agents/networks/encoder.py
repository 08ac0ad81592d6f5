"""From an observation of any canonical space to one feature vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.networks.normalize import RunningNorm
from envs.errors import UserError


def _layout(shape: tuple[int, ...]) -> tuple[int, int, int, bool]:
    """Return an image's height, width and channels, and whether the channels are the last axis, not the first.

    The shorter of the two axes is taken for the channels.
    """
    first, middle, last = shape
    return (first, middle, last, True) if last <= first else (middle, last, first, False)


def _shorter_side(space: Space) -> int:
    """Return the shorter side, in pixels, of a canonical leaf space of pictures (uint8, three axes), or 0."""
    if not isinstance(space, spaces.Box) or space.dtype != "uint8" or len(space.shape) != 3:
        return 0
    return min(_layout(space.shape)[:2])


def is_image(space: Space) -> bool:
    """Whether a canonical leaf space holds images: uint8, three axes, at least 36 pixels on each side.

    Smaller ones are work for a small network, which needs neither a GPU nor more than one thread.
    """
    return _shorter_side(space) >= 36


def has_image(space: Space) -> bool:
    """Whether any leaf of a canonical observation space is an image."""
    return any(is_image(leaf) for leaf in space.values()) if isinstance(space, spaces.Dict) else is_image(space)


class ImageEncoder(nn.Module):
    """Convolutions and a linear layer: images `[B, C, H, W]` or `[B, H, W, C]`, uint8, to `[B, features]`.

    Args:
        shape: of one image.
        convolutions: makes the layers for a number of channels.
        features: how many numbers come out.
    """

    def __init__(self, shape: tuple[int, ...], convolutions: Callable[[int], list[nn.Module]], features: int) -> None:
        super().__init__()
        height, width, channels, self.channels_last = _layout(shape)
        self.convolutions = nn.Sequential(*convolutions(channels), nn.Flatten())
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, channels, height, width)).shape[1]
        self.linear = nn.Sequential(nn.Linear(size, features), nn.ReLU())
        self.features = features

    def forward(self, image: Tensor) -> Tensor:
        if self.channels_last:
            image = image.permute(0, 3, 1, 2)
        return self.linear(self.convolutions(image.float() * (1 / 255)))


class NatureCNN(ImageEncoder):
    """The network of Mnih et al. (2015), for images of at least 36 pixels a side."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape, self._layers, 512)

    @staticmethod
    def _layers(channels: int) -> list[nn.Module]:
        return [
            nn.Conv2d(channels, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
        ]


class SmallCNN(ImageEncoder):
    """The network of MinAtar (Young & Tian 2019, arXiv:1903.03176), for images of a few pixels a side."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape, lambda channels: [nn.Conv2d(channels, 16, 3), nn.ReLU()], 128)


class Flat(nn.Module):
    """Numbers of any shape to a float vector, normalised by their running statistics on demand."""

    def __init__(self, space: spaces.Box, normalize: bool) -> None:
        super().__init__()
        self.features = math.prod(space.shape)
        self.scale = 1 / 255 if space.dtype == "uint8" else None
        self.norm = RunningNorm(self.features) if normalize and self.scale is None else None

    def flat(self, x: Tensor) -> Tensor:
        """Return `x` as float32 `[B, features]`, before normalisation."""
        x = x if x.dim() == 2 else x.reshape(x.shape[0], -1)
        return x.float() * self.scale if self.scale is not None else x

    def forward(self, x: Tensor) -> Tensor:
        x = self.flat(x)
        return x if self.norm is None else self.norm(x)


class OneHot(nn.Module):
    """Discrete `[B]` or MultiDiscrete `[B, k]` to one-hot vectors side by side."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.features = sum(sizes)

    def forward(self, x: Tensor) -> Tensor:
        columns = x.reshape(x.shape[0], -1).unbind(dim=1)
        return torch.cat([F.one_hot(c, n) for c, n in zip(columns, self.sizes, strict=True)], dim=1).float()


def _leaf_encoder(space: Space, norm_obs: bool) -> ImageEncoder | Flat | OneHot:
    match space:
        case spaces.Box() if is_image(space):
            return NatureCNN(space.shape)
        case spaces.Box() if _shorter_side(space) >= 5:
            return SmallCNN(space.shape)
        case spaces.Box():
            return Flat(space, norm_obs)
        case spaces.Discrete():
            return OneHot([int(space.n)])
        case spaces.MultiDiscrete():
            return OneHot(space.nvec.tolist())
    raise UserError(f"no network takes observations of {space}")


class Encoder(nn.Module):
    """One encoder for each leaf of a canonical observation space; their features are put side by side."""

    def __init__(self, space: Space, norm_obs: bool) -> None:
        super().__init__()
        leaves = dict(space.items()) if isinstance(space, spaces.Dict) else {"": space}
        self.keys = list(leaves) if isinstance(space, spaces.Dict) else None
        encoders = [_leaf_encoder(leaf, norm_obs) for leaf in leaves.values()]
        self.leaves = nn.ModuleList(encoders)
        self.features = sum(encoder.features for encoder in encoders)

    def _columns(self, obs: Any) -> list[Tensor]:
        return [obs] if self.keys is None else [obs[key] for key in self.keys]

    def forward(self, obs: Any) -> Tensor:
        if self.keys is None:
            return self.leaves[0](obs)
        pairs = zip(self.leaves, self._columns(obs), strict=True)
        return torch.cat([leaf(column) for leaf, column in pairs], dim=1)

    def update_statistics(self, obs: Any) -> None:
        """Let the normalisers, where there are any, take in a batch of observations."""
        for leaf, column in zip(self.leaves, self._columns(obs), strict=True):
            if isinstance(leaf, Flat) and leaf.norm is not None:
                leaf.norm.update(leaf.flat(column))
