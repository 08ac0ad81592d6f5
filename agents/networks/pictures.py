"""Pictures: where in an array their sides and channels lie, and the networks that read them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from envs.errors import UserError, listed

SMALLEST = 5  # pixels a side: anything smaller is a vector
LARGE = 36  # pixels a side: the smallest that NatureCNN's convolutions fit
VERY_LARGE = 100  # pixels a side: beyond, the description advises to resize
FLOAT_BOUNDS = {(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)}  # those that pictures of floats come in


@dataclass(frozen=True, slots=True)
class Layout:
    """How the axes of a picture are read.

    Attributes:
        shape: of one observation.
        side: the axis that is the height; the next one is the width, and all others are channels.
        rule: how it was decided where another reading was possible, else "".
    """

    shape: tuple[int, ...]
    side: int
    rule: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.shape[self.side], self.shape[self.side + 1]

    @property
    def area(self) -> int:
        return math.prod(self.size)

    @property
    def square(self) -> bool:
        return self.shape[self.side] == self.shape[self.side + 1]

    @property
    def channels(self) -> int:
        return math.prod(self.shape) // self.area

    def fold(self, x: Tensor) -> Tensor:
        """Return `[B, *shape]` as `[B, C, H, W]`; of two axes of channels, the later one runs faster."""
        sides = (self.side + 1, self.side + 2)
        x = x.permute(0, *(axis for axis in range(1, x.dim()) if axis not in sides), *sides)
        return x.unsqueeze(1) if x.dim() == 3 else x.flatten(1, -3)

    def __str__(self) -> str:
        height, width = self.size
        counts = self.shape[: self.side] + self.shape[self.side + 2 :] or (1,)
        notes = ", ".join(filter(None, [_CHANNELS[len(self.shape), self.side], self.rule]))
        channels = f"{' x '.join(map(str, counts))} channel{'s' if self.channels > 1 else ''}"
        return f"picture {height} x {width}, {channels}{f' ({notes})' if notes else ''}"


# (number of axes, the one that is the height) -> where the channels are
_CHANNELS = {(2, 0): "", (3, 0): "last axis", (3, 1): "first axis"}
_CHANNELS |= {(4, 0): "last two axes", (4, 1): "first and last axis", (4, 2): "first two axes"}


def find_layout(shape: tuple[int, ...]) -> Layout | None:
    """Return how an array is read as a picture, or None where its sides would be shorter than 5 pixels.

    Two axes are a grey picture. Of three, the first or the last is the channels: the one that leaves equal sides, else
    the one that leaves the larger picture, else the last. Of four, the first is a stack of such pictures; where that
    leaves no picture, the last two are channels.
    """
    readings = [Layout(shape, side) for axes, side in _CHANNELS if axes == len(shape)]
    readings = [reading for reading in readings if min(reading.size) >= SMALLEST]
    readings = [reading for reading in readings if len(shape) < 4 or reading.side > 0] or readings
    if len(readings) < 2:
        return readings[0] if readings else None
    one, other = readings
    best = max(readings, key=lambda reading: (reading.square, reading.area))
    if one.square != other.square:
        return replace(best, rule="equal sides taken for the picture's")
    if one.area != other.area:
        return replace(best, rule="longer sides taken for the picture's")
    return replace(best, rule="the first axis could be, too")


def picture_layout(space: Space) -> Layout | None:
    """Return how a canonical leaf space is read as a picture, or None where it holds none.

    Pictures are uint8, or floats with bounds of 0 and 1, 0 and 255, or -1 and 1.
    """
    if not isinstance(space, spaces.Box) or not (space.dtype == np.uint8 or _bounds(space) in FLOAT_BOUNDS):
        return None
    return find_layout(space.shape)


def layout_by(space: Space, axes: str) -> Layout | None:
    """Return how a canonical leaf space is read as a picture if `axes` may say so; None where it is read as none.

    Args:
        axes: "auto" as `picture_layout` finds it, "none" never, or the axes in letters, such as "chw": they count for
            every Box of as many axes, whatever its numbers, and letters other than h and w are channels.
    """
    if axes == "none":
        return None
    if axes == "auto" or not isinstance(space, spaces.Box) or len(space.shape) != len(axes):
        return picture_layout(space)
    layout = Layout(space.shape, axes.index("h"), rule="as set")
    if min(layout.size) < SMALLEST:
        height, width = layout.size
        raise UserError(
            f"picture_axes {axes} makes {space.shape} a picture of {height} x {width} pixels, and at least {SMALLEST} "
            "a side are needed: give other axes, or none"
        )
    return layout


def _bounds(space: spaces.Box) -> tuple[float, float] | None:
    """Return the bounds that all entries have, or None where they differ."""
    low, high = space.low.min(), space.high.max()
    return (float(low), float(high)) if (space.low == low).all() and (space.high == high).all() else None


class Rescale(nn.Module):
    """Numbers `[B, *shape]` of a Box with finite bounds to float32 in [0, 1], each entry by its own bounds.

    Attributes:
        description: dtype and factor in words, such as "uint8 / 255".
    """

    low: Tensor
    factor: Tensor

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        bounds = _bounds(space)
        low, high = (space.low, space.high) if bounds is None else bounds
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        bounded = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(bounded, low, 0), np.where(bounded, high, 1)  # without bounds, numbers stay as they are
        bounds = bounds if bounded.all() else (0, 1) if not bounded.any() else None
        self.shifted = bool(low.any())
        # not in the state: they follow from the space
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32), persistent=False)
        factor = 1 / np.where(high > low, high - low, 1)
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float32), persistent=False)
        match bounds:
            case None:
                how = "by its bounds to [0, 1]"
            case (0, 1):
                how = "as it is"
            case (0, highest):
                how = f"/ {highest:g}"
            case (lowest, highest):
                how = f"from [{lowest:g}, {highest:g}] to [0, 1]"
        self.description = f"{space.dtype} {how}"

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return (x - self.low if self.shifted else x) * self.factor


class PictureEncoder(nn.Module):
    """Convolutions and a linear layer: pictures `[B, *shape]` in any layout to `[B, features]`.

    A subclass says which layers. `Class(space)` takes a canonical Box space, and where the axes were set, their layout.

    Raises:
        UserError: the subclass lacks what it must say, or the space holds no picture, or one too small for the
            convolutions.
    """

    title: ClassVar[str]  # how descriptions call it
    smallest: ClassVar[int] = SMALLEST
    width: ClassVar[int]  # how many numbers come out

    def __init__(self, space: Space, layout: Layout | None = None) -> None:
        super().__init__()
        lacking = [name for name in ("title", "width") if not hasattr(self, name)]
        lacking += ["layers"] if type(self).layers is PictureEncoder.layers else []
        if lacking:
            raise UserError(
                f"{type(self).__name__} lacks {listed(lacking, 'and')}: a PictureEncoder has a `title`, a `width` (how "
                "many numbers it returns) and a method `layers(channels)` (yields the layers before the linear one)"
            )
        layout = layout or picture_layout(space)
        if layout is None or not isinstance(space, spaces.Box):
            raise UserError(f"{type(self).__name__} reads pictures, and {space} holds none")
        if min(layout.size) < self.smallest:
            raise UserError(
                f"the {self.title} takes pictures of at least {self.smallest} pixels a side, and this is a {layout}. "
                "For smaller ones there are the encoders small and impala."
            )
        self.layout = layout
        self.features = self.width
        self.rescale = Rescale(space)
        bits = self.bits(space)
        channels = layout.channels * (1 + bits)
        self.convolutions = nn.Sequential(*self.layers(channels), nn.Flatten())
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, channels, *layout.size)).shape[1]
        self.linear = nn.Sequential(nn.Linear(size, self.features), nn.ReLU())
        also = f" and as codes of {bits} bits" if bits else ""
        self.description = f"{layout}, {self.rescale.description}{also} -> {self.title}"
        if max(layout.size) > VERY_LARGE:
            millions = sum(parameter.numel() for parameter in self.parameters()) / 1e6
            self.description += f", {millions:.1f}M parameters: consider resizing the picture, to 84 x 84 for example"

    def layers(self, channels: int) -> Iterator[nn.Module]:
        """Yield the layers before the linear one."""
        raise NotImplementedError

    @staticmethod
    def bits(space: spaces.Box) -> int:
        """How many numbers besides its brightness the convolutions are given for each of a picture's."""
        return 0

    def planes(self, picture: Tensor) -> Tensor:
        """Return pictures `[B, *shape]` as the convolutions read them, float32 `[B, C, H, W]`."""
        return self.layout.fold(self.rescale(picture))

    def forward(self, picture: Tensor) -> Tensor:
        picture = self.planes(picture)
        if self.training:  # backward passes are the faster so; forward passes alone are not
            picture = picture.contiguous(memory_format=torch.channels_last)
        return self.linear(self.convolutions(picture))


class NatureCNN(PictureEncoder):
    """The network of Mnih et al. (2015), for pictures of at least 36 pixels a side."""

    title, smallest, width = "nature CNN", LARGE, 512

    def layers(self, channels: int) -> Iterator[nn.Module]:
        for inputs, outputs, kernel, stride in ((channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)):
            yield nn.Conv2d(inputs, outputs, kernel, stride)
            yield nn.ReLU()


class SmallCNN(PictureEncoder):
    """The network of MinAtar (Young & Tian 2019, arXiv:1903.03176), for pictures of a few pixels a side."""

    title, width = "small CNN", 128

    def layers(self, channels: int) -> Iterator[nn.Module]:
        yield nn.Conv2d(channels, 16, 3)
        yield nn.ReLU()


class CodesCNN(SmallCNN):
    """`SmallCNN` for bytes that may be brightness or codes of kinds, whose brightness hardly differs.

    It reads each byte as brightness and as its binary digits. A picture of floats has no codes, and is read as
    `SmallCNN` reads it.
    """

    powers: Tensor

    def __init__(self, space: spaces.Box, layout: Layout | None = None) -> None:
        super().__init__(space, layout)
        self.register_buffer("powers", 2.0 ** torch.arange(self.bits(space))[:, None, None], persistent=False)

    @staticmethod
    def bits(space: spaces.Box) -> int:
        return int((space.high - space.low).max()).bit_length() if space.dtype == np.uint8 else 0

    def planes(self, picture: Tensor) -> Tensor:
        codes = self.layout.fold(picture.float() - self.rescale.low).unsqueeze(2)
        return torch.cat([super().planes(picture), ((codes / self.powers).floor() % 2).flatten(1, 2)], dim=1)


class Residual(nn.Module):
    """Two convolutions whose output is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        self.layers = nn.Sequential(nn.ReLU(), convolutions[0], nn.ReLU(), convolutions[1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ImpalaCNN(PictureEncoder):
    """The residual network of Espeholt et al. (2018, arXiv:1802.01561, figure 3, right), without its memory."""

    title, width = "impala ResNet", 256

    def layers(self, channels: int) -> Iterator[nn.Module]:
        for inputs, outputs in ((channels, 16), (16, 32), (32, 32)):
            yield nn.Conv2d(inputs, outputs, 3, padding=1)
            yield nn.MaxPool2d(3, stride=2, padding=1)
            yield Residual(outputs)
            yield Residual(outputs)
        yield nn.ReLU()
