"""From an observation of any canonical space to one feature vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.core.config import NetworkConfig
from agents.core.precision import Mixed, mixed
from agents.core.user_code import is_user_code, user_class
from agents.networks.layers import Ensemble
from agents.networks.normalize import RunningNorm
from agents.networks.pictures import (
    LARGE,
    CodesCNN,
    ImpalaCNN,
    NatureCNN,
    PictureEncoder,
    Rescale,
    SmallCNN,
    find_layout,
    layout_by,
    picture_layout,
)
from agents.networks.words import TextEncoder
from envs.adapters.masks import ACTION_MASK
from envs.errors import UserError
from envs.words import Tokens, Written

SYMBOLS = ("transformer", "gru")  # what reads texts and sequences by networks of our own
LONGEST = 100_000  # entries of a one-hot vector: beyond, a step of training takes seconds


class Counted(NamedTuple):
    """A layer that was called: name, kind, output without the batch axis, parameters, and multiply-adds of a row."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


def counted(module: nn.Module, *inputs: Any, call: Callable[..., Any] | None = None) -> list[Counted]:
    """Return the layers with weights that are called, in order. See `multiply_adds`."""
    return _called(module, *inputs, call=call)[1]


def multiply_adds(module: nn.Module, *inputs: Any, call: Callable[..., Any] | None = None) -> tuple[Any, int]:
    """Call a module once without training it, on a batch, and return its output and the multiply-adds of one row.

    Those of linear layers and convolutions are counted, as far as they are called as modules.

    Args:
        module: whose parts are counted.
        inputs: what it is called with.
        call: what is called instead of the module itself, such as a method of it.
    """
    output, layers = _called(module, *inputs, call=call)
    return output, sum(layer.multiply_adds for layer in layers)


_MULTIPLYING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Ensemble)


def _called(module: nn.Module, *inputs: Any, call: Callable[..., Any] | None) -> tuple[Any, list[Counted]]:
    found: list[Counted] = []
    names = {part: name for name, part in module.named_modules()}

    def count(layer: Any, _: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        each = 0
        if isinstance(layer, _MULTIPLYING):
            each = layer.weight.numel() if isinstance(layer, Ensemble) else first[0].numel() * layer.weight[0].numel()
        own = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
        shape = tuple(first.shape[1:]) if isinstance(first, Tensor) else ()
        found.append(Counted(names[layer], type(layer).__name__, shape, own, each))

    modes = {part: part.training for part in module.modules()}
    owners = [
        part
        for part in modes
        if isinstance(part, _MULTIPLYING) or (part is not module and any(True for _ in part.parameters(recurse=False)))
    ]
    hooks = [part.register_forward_hook(count) for part in owners]
    module.eval()  # statistics of batches stay untouched, and nothing is drawn
    try:
        with torch.no_grad():
            return (call or module)(*inputs), found
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes.items():
            part.training = training


class Flat(nn.Module):
    """Numbers of any shape to a float vector: bytes scaled by their bounds, floats normalised on demand.

    Attributes:
        scale: what brings bytes to [0, 1]; None for floats.
        norm: the running statistics of floats; None where nothing is normalised.
    """

    def __init__(self, space: spaces.Box, normalize: bool = False) -> None:
        super().__init__()
        self.features = math.prod(space.shape)
        self.scale = Rescale(space) if space.dtype == np.uint8 else None
        self.norm = RunningNorm(self.features) if normalize and self.scale is None else None
        numbers = self.scale.description if self.scale is not None else str(space.dtype)
        count = "1 number" if self.features == 1 else f"{self.features} numbers"
        shape = f" ({' x '.join(map(str, space.shape))})" if len(space.shape) > 1 else ""
        normalised = ", normalised by running statistics" if self.norm is not None else ""
        self.description = f"vector of {count}{shape}, {numbers}{normalised}"
        layout = find_layout(space.shape)
        if layout is not None and min(layout.size) >= LARGE and picture_layout(space) is None:
            self.description += "; as a picture of floats its bounds would have to be [0, 1], [0, 255] or [-1, 1]"

    def flat(self, x: Tensor) -> Tensor:
        """Return `x` as float32 `[B, features]`, before normalisation."""
        x = x if self.scale is None else self.scale(x)
        return x if x.dim() == 2 else x.reshape(x.shape[0], -1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.flat(x)
        return x if self.norm is None else self.norm(x)


class OneHot(nn.Module):
    """Discrete `[B]` or MultiDiscrete `[B, k]` to one-hot vectors side by side.

    Raises:
        UserError: they would be longer than `LONGEST`.
    """

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.features = sum(sizes)
        if self.features > LONGEST:
            raise UserError(
                f"an observation of {self.features:,} values would become as long a one-hot vector; "
                f"at most {LONGEST:,} are allowed. Observe the number's parts in a MultiDiscrete, or numbers in a Box, "
                "or give --encoder a class of your own (with torch.nn.Embedding, for example)."
            )
        low, high = min(sizes), max(sizes)
        values = f"{low if low == high else f'{low} to {high}'} values"
        self.description = f"one of {values}, one-hot" if len(sizes) == 1 else f"{len(sizes)} of {values}, one-hot"

    def forward(self, x: Tensor) -> Tensor:
        columns = x.reshape(x.shape[0], -1).unbind(dim=1)
        return torch.cat([one_hot(c, n) for c, n in zip(columns, self.sizes, strict=True)], dim=1)


def one_hot(x: Tensor, size: int) -> Tensor:
    """Return float32 `[B, size]`: 1 at the place that an entry of `x` `[B]` names. PyTorch's own looks at values."""
    return (x[:, None] == torch.arange(size, device=x.device)).float()


ENCODERS: dict[str, type[nn.Module]] = {
    "nature": NatureCNN,
    "small": SmallCNN,
    "codes": CodesCNN,
    "impala": ImpalaCNN,
    "flat": Flat,
}


class Encoder(Mixed):
    """One encoder for each leaf of a canonical observation space; their features are put side by side.

    A Dict's leaf "action_mask" is left out. A `PictureEncoder` that the configuration names reads each picture; any
    other class, a row of `ENCODERS` or the user's own, takes the place of all: it is made as `Class(space)` from the
    whole space, has `features`, and returns `[B, features]` for a batch of observations.

    Args:
        space: canonical (envs.spaces).
        config: its `encoder` and `norm_obs` are read.

    Attributes:
        features: how many numbers come out.
        keys: the Dict's leaves that `leaves` read, in order; None where the one encoder takes the observation whole.
        flops: multiply-adds for one observation (a class that takes the place of all may say them in `flops`).
        description: what was understood, a line for each leaf.
        name: the configuration's, or what its "auto" came to; "auto" where pictures are read in several ways.

    Raises:
        UserError: the space holds what no network reads, or the configuration's encoder does not fit it.
    """

    def __init__(self, space: Space, config: NetworkConfig) -> None:
        super().__init__()
        name, kind = config.encoder, _named(config.encoder)
        reads_pictures = kind is not None and issubclass(kind, PictureEncoder)
        whole = kind is not None and kind is not Flat and not reads_pictures
        leaves = {"observation": space}
        self.keys: list[str] | None = None
        if isinstance(space, spaces.Dict) and not whole:
            leaves = {key: leaf for key, leaf in space.items() if key != ACTION_MASK}
            self.keys = list(leaves)
            if not leaves:
                raise UserError(f"the observation holds nothing but {ACTION_MASK!r}, which no network reads")
        encoders = [_made(name, kind, space)] if whole else [_of_leaf(leaf, kind, config) for leaf in leaves.values()]
        self.leaves = nn.ModuleList(encoders)
        self.features = sum(encoder.features for encoder in encoders)
        pictures: set[type[nn.Module]] = {type(one) for one in encoders if isinstance(one, PictureEncoder)}
        names = [row for row, made in ENCODERS.items() if made in (pictures or {Flat})]
        self.name = name if kind is not None or len(names) > 1 else names[0]
        ignored = ""
        if config.norm_obs and not any(isinstance(one, Flat) and one.norm is not None for one in encoders):
            ignored = " (norm_obs is left to it)" if whole else " (norm_obs normalises vectors of floats alone)"
        self.description = "\n".join(
            f"{key}: {getattr(encoder, 'description', f'read by {name}')}{ignored}"
            for key, encoder in zip(leaves, encoders, strict=True)
        )
        fault = None if whole else _misfit(config, leaves.values())
        if reads_pictures and not pictures:
            fault = f"encoder {name} reads pictures, and there are none. Use auto, or a class of your own."
        if fault is not None:
            raise UserError(f"{fault} What was understood:\n{self.description}")
        counted = self._try(name, space)
        self.flops = int(getattr(encoders[0], "flops", counted)) if whole else counted

    def _try(self, name: str, space: Space) -> int:
        """Encode observations of zeros and return how many multiply-adds one takes."""
        try:
            out, flops = multiply_adds(self, zeros(space, 2))
        except Exception as error:
            raise UserError(f"encoder {name} fails on {space}: {type(error).__name__}: {error}") from error
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        if shape != (2, self.features):
            raise UserError(f"encoder {name} must return [B, features], (2, {self.features}) for 2, but gave {shape}")
        return flops

    def _columns(self, obs: Any) -> list[Any]:
        return [obs] if self.keys is None else [obs[key] for key in self.keys]

    @mixed
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


def _named(name: str) -> type[nn.Module] | None:
    """Return the class of an encoder, a row of `ENCODERS` or the user's own; None for "auto"."""
    if is_user_code(name):
        return user_class(name, nn.Module, "an encoder")
    return ENCODERS.get(name)


def _misfit(config: NetworkConfig, leaves: Iterable[Space]) -> str | None:
    """Say which setting is for observations that there are none of."""
    leaves, axes, how = list(leaves), config.picture_axes, config.text_encoder
    if axes not in ("auto", "none") and not any(
        isinstance(x, spaces.Box) and len(x.shape) == len(axes) for x in leaves
    ):
        return f"picture_axes {axes} is for Boxes of {len(axes)} axes, and there are none: leave it out."
    texts = (Written, Tokens, spaces.MultiDiscrete) if how in SYMBOLS else (Written,)
    if how != "auto" and not any(isinstance(leaf, texts) for leaf in leaves):
        what = "texts, sequences and MultiDiscrete" if how in SYMBOLS else "texts"
        return f"text_encoder {how} reads {what}, and there are none: leave it out."
    return None


def _of_leaf(space: Space, kind: type[nn.Module] | None, config: NetworkConfig) -> Any:
    named = config.text_encoder in SYMBOLS
    if isinstance(space, Written) and config.text_encoder != "auto" and not named:
        from agents.networks.pretrained import Pretrained  # here, as it imports PyTorch's compiler

        return Pretrained(space, config.text_encoder)
    if isinstance(space, Written | Tokens) or (isinstance(space, spaces.MultiDiscrete) and named):
        return TextEncoder(space, config.text_encoder if named else "transformer")
    match space:
        case spaces.Box():
            layout = layout_by(space, config.picture_axes)
            if layout is None or kind is Flat:
                return Flat(space, config.norm_obs)
            how = () if config.picture_axes == "auto" else (layout,)
            if kind is None:
                small = CodesCNN if CodesCNN.bits(space) > 1 else SmallCNN
                return (NatureCNN if min(layout.size) >= LARGE else small)(space, *how)
            return _made(config.encoder, kind, space, *how)
        case spaces.Discrete():
            return OneHot([int(space.n)])
        case spaces.MultiDiscrete():
            return OneHot(space.nvec.tolist())
    raise UserError(f"no network takes observations of {space}")


def _made(name: str, kind: Any, space: Space, *how: Any) -> Any:
    """Return an encoder of a named class, which must say its `features`."""
    try:
        encoder = kind(space, *how)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"encoder {name} cannot be made for {space}: {type(error).__name__}: {error}") from error
    features = getattr(encoder, "features", None)
    if type(features) is not int or features < 1:
        raise UserError(
            f"encoder {name} must have an attribute `features`, how many numbers it returns for an observation, "
            f"a whole number of at least 1; it has {features!r}"
        )
    return encoder


def zeros(space: Space, rows: int) -> Any:
    """Return a batch of canonical observations of zeros."""
    if isinstance(space, spaces.Dict):
        return {key: zeros(leaf, rows) for key, leaf in space.items()}
    dtype = {"uint8": torch.uint8, "float32": torch.float32}.get(str(space.dtype), torch.int64)
    return torch.zeros(rows, *(space.shape or ()), dtype=dtype)
