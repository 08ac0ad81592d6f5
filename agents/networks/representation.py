"""What an encoder can learn from observations alone: to let them be put together again, or told apart.

A kind is a module of the model that it belongs to (`Model.auxiliary`), so that its parameters are trained with the
model's. Pretraining has no other loss; elsewhere `add_auxiliary` adds it to an algorithm's own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from gymnasium import Space
from torch import Tensor, nn

from agents.core.auxiliary import AuxiliaryConfig
from agents.core.config import NetworkConfig
from agents.core.tree import tree_map
from agents.core.types import Obs
from agents.networks.curiosity import WhiteLeaf, Whitened
from agents.networks.encoders import Encoder
from agents.networks.layers import MLP
from agents.networks.models import Model
from agents.networks.pictures import Layout, layout_by
from agents.networks.target import alike, follow, tensors
from agents.ops.losses import contrastive_loss, mean
from envs.errors import UserError

Objective = Literal["autoencoder", "curl"]
SIZE = 50  # numbers that are compared (CURL, table 3)
CHANNELS = 32  # of pictures as they are put together
COARSE = 12  # pixels a side, at most, with which that begins
HIDDEN = 64  # units before vectors


class PictureDecoder(nn.Module):
    """Features `[B, F]` to a picture `[B, C, H, W]`: a coarse one, doubled in size as often as it takes, and cut."""

    def __init__(self, features: int, layout: Layout) -> None:
        super().__init__()
        self.size = layout.size
        doublings = max(math.ceil(math.log2(max(self.size) / COARSE)), 0)
        coarse = [-(-side // 2**doublings) for side in self.size]
        self.begin = nn.Linear(features, CHANNELS * math.prod(coarse))
        layers: list[nn.Module] = [nn.Unflatten(1, (CHANNELS, *coarse)), nn.ReLU()]
        for _ in range(doublings):
            layers += [nn.ConvTranspose2d(CHANNELS, CHANNELS, 4, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(CHANNELS, layout.channels, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        height, width = self.size
        return self.layers(self.begin(features))[:, :, :height, :width]


class Reconstruction(nn.Module):
    """An autoencoder's second half: how far the observation that is put together is from the one that was seen.

    The error of an array is the mean of its squared differences, in deviations of each number, so that what is seldom
    lit counts as much as what often is; those of several arrays add up. What is no number is left out.

    Args:
        space: canonical.
        axes: which arrays are pictures, as `layout_by` takes them.
        features: that an encoder gives.

    Raises:
        UserError: the observation holds no numbers.
    """

    def __init__(self, space: Space, axes: str, features: int) -> None:
        super().__init__()
        self.whitened = Whitened(space, axes)
        leaves = {"": space} if self.whitened.keys is None else {key: space[key] for key in self.whitened.keys}  # type: ignore[index]
        self._layouts: dict[str, Layout | None] = {}
        decoders: list[nn.Module] = []
        for (key, leaf), norm in zip(leaves.items(), self.whitened.norms, strict=True):
            if isinstance(norm, WhiteLeaf):
                layout = self._layouts[key] = layout_by(leaf, axes)
                decoders.append(_vector_decoder(features, norm) if layout is None else PictureDecoder(features, layout))
        if not decoders:
            raise UserError(f"autoencoder puts numbers together again, and the observation {space} has none")
        self.decoders = nn.ModuleList(decoders)

    def follow(self, encoder: Encoder, obs: Obs) -> None:
        """Let the statistics take in observations `[B, ...]`."""
        self.whitened.update(obs)

    def copy(self, encoder: Encoder) -> None:
        """Do nothing: there is no copy of the encoder here."""

    def forward(self, features: Tensor, obs: Obs) -> Tensor:
        """Return the error for each observation, `[B]`, of what is put together of `features` `[B, F]`."""
        seen = self.whitened(obs)
        errors = []
        for (key, layout), decoder in zip(self._layouts.items(), self.decoders, strict=True):
            target = seen if self.whitened.keys is None else seen[key]
            target = target if layout is None else layout.fold(target)
            errors.append((decoder(features) - target).square().flatten(1).mean(1))
        return torch.stack(errors).sum(0)


def _vector_decoder(features: int, norm: WhiteLeaf) -> nn.Module:
    return nn.Sequential(MLP(features, (HIDDEN,), "relu"), nn.Linear(HIDDEN, norm.numbers.features))


class Contrast(nn.Module):
    """CURL (Laskin et al. 2020, arXiv:2004.04136): a changed picture must be told from those of other observations.

    Features become keys and queries of 50 numbers (a linear layer and LayerNorm, the end of CURL's own encoder), which
    are compared by a bilinear product. Keys come from an encoder of their own, which follows slowly.

    Args:
        encoder: that is trained.
        tau: share of it that is mixed into the keys' after each update; of rollouts, after all epochs of one.
    """

    def __init__(self, encoder: Encoder, tau: float) -> None:
        super().__init__()
        self.tau = tau
        self.project = nn.Sequential(nn.Linear(encoder.features, SIZE), nn.LayerNorm(SIZE))
        self.bilinear = nn.Parameter(torch.eye(SIZE) / math.sqrt(SIZE))
        self.keys = self._copied(encoder)

    def _copied(self, encoder: Encoder) -> nn.Module:
        return copy.deepcopy(nn.Sequential(encoder, self.project)).requires_grad_(False)

    def follow(self, encoder: Encoder, obs: Obs) -> None:
        """Move the keys' encoder towards the one in training."""
        follow(tensors(self.keys), tensors(nn.Sequential(encoder, self.project)), self.tau)

    def copy(self, encoder: Encoder) -> None:
        """Make the keys' encoder a copy of the one in training again."""
        online = nn.Sequential(encoder, self.project)
        if alike(self.keys, online):
            follow(tensors(self.keys), tensors(online), 1.0)
        else:
            self.keys = self._copied(encoder)

    def forward(self, features: Tensor, obs: Obs) -> Tensor:
        """Return the loss `[B]` of telling which observation `features` `[B, F]` of a changed one belong to."""
        with torch.no_grad():
            keys = self.keys(obs)
        return contrastive_loss(self.project(features) @ self.bilinear, keys)


class Representation(Model):
    """An encoder that is trained for its own sake.

    The encoder of vectors has nothing to learn, so that there the hidden layers after it are trained, under the names
    that policies, value functions and action values give theirs: `--from` finds layers by name.

    Attributes:
        features: how many numbers come out.
    """

    def __init__(self, space: Space, config: NetworkConfig, objective: Objective, tau: float, augment: Any) -> None:
        super().__init__(space, config)
        torso: nn.Module = nn.Identity()
        if not learns(self.encoder):
            torso = MLP(self.features, config.net_arch, config.activation)
            self.features = torso.features
        self.policy_torso = self.value_torso = self.torso = torso
        self.auxiliary = _made(objective, tau, space, config, self.encoder, self.features, augment)

    def forward(self, obs: Obs, carry: Any = (), start: Tensor | None = None) -> Tensor:
        """Return the features `[B, F]` of observations `[B, ...]`."""
        return self.torso(self.encoder(obs))

    def judge(self, obs: Obs, carry: Any = (), start: Tensor | None = None) -> Any:
        """Do all that an update calls; see `Model`."""
        return self.auxiliary(self(obs), obs)


def learns(encoder: nn.Module) -> bool:
    """Whether an encoder has anything to learn."""
    return any(parameter.requires_grad for parameter in encoder.parameters())


def _made(
    objective: Objective,
    tau: float,
    space: Space,
    network: NetworkConfig,
    encoder: Encoder,
    features: int,
    augment: Sequence[str],
) -> nn.Module:
    if objective == "autoencoder":
        return Reconstruction(space, network.picture_axes, features)
    if not augment:
        raise UserError("curl tells what has been changed from what is another, and augment is none: --augment crop")
    return Contrast(encoder, tau)


def build_auxiliary(space: Space, config: AuxiliaryConfig, network: NetworkConfig, model: Model, augment: Any) -> Any:
    """Return what the encoder of a model learns beside, by settings; None for nothing.

    Args:
        space: canonical, of observations.
        augment: how pictures are changed in updates.

    Raises:
        UserError: the encoder has nothing to learn, or that does not fit the observations.
    """
    if config.auxiliary == "none":
        return None
    if not learns(model.encoder):
        raise UserError(
            f"auxiliary {config.auxiliary} trains what reads pictures and texts, and there are none: leave it out"
        )
    encoder = model.encoder
    return _made(config.auxiliary, config.curl_tau, space, network, encoder, encoder.features, augment)


def auxiliary_loss(auxiliary: Any, read: Callable[[Obs], Tensor], minibatch: dict[str, Any]) -> Tensor:
    """Return the mean loss of a minibatch, a scalar.

    Args:
        auxiliary, read: the module and what makes features of observations, or what stands for them while the loss is
            differentiated.
        minibatch: with `obs` and, where pictures are changed, `augmented` and, where there are dummies, `valid`:
            `[B, ...]`, or with `start` sequences `[T, n, ...]`.
    """
    data = {name: minibatch[name] for name in ("obs", "augmented", "valid") if name in minibatch}
    if minibatch.get("start") is not None:
        data = tree_map(lambda leaf: leaf.flatten(0, 1), data)
    features = read(data.get("augmented", data["obs"]))
    return mean(auxiliary(features, data["obs"]), data.get("valid"))


def add_auxiliary(
    loss: Tensor, model: Any, minibatch: dict[str, Any], config: AuxiliaryConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a loss with that of a model's auxiliary added, if it has one, and the latter by its name."""
    if config.auxiliary == "none":
        return loss, {}
    learnt = auxiliary_loss(model.auxiliary, model.encoder, minibatch)
    return torch.add(loss, learnt, alpha=config.auxiliary_coef), {"auxiliary_loss": learnt.detach()}
