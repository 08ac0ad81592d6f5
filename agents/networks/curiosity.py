"""Curiosity: rewards for what a network cannot predict yet, by which an agent seeks what it has not seen.

A kind is a subclass of `Curiosity` and a row of `KINDS`. It belongs to a model as one of its modules, so that its
parameters are trained with the model's; an algorithm takes `rewards` of what it has collected, and adds what it
learns by to its own loss (`add_learning`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.core.config import CuriosityConfig, NetworkConfig
from agents.core.tree import rows_of, tree_map
from agents.core.types import Obs
from agents.networks.encoders import ENCODERS, Encoder, Flat, one_hot, zeros
from agents.networks.layers import MLP, orthogonal
from agents.networks.normalize import RewardScale, RunningNorm
from agents.networks.pictures import layout_by
from agents.ops.distributions import deviation_count, distribution, parameter_count
from agents.ops.losses import mean
from envs.actions import Hybrid
from envs.adapters.masks import ACTION_MASK
from envs.words import Written

ROWS = 2048  # transitions in one pass: what stays in the processor's cache
CLIP = 5.0  # deviations from the mean (Burda et al. 2018, sec. 2.4)


class Surprise(NamedTuple):
    """What curiosity makes of transitions, `[B]` each: how new each is, and the loss that makes it less so."""

    bonus: Tensor
    loss: Tensor


class Whitened(nn.Module):
    """Observations whose numbers, those of pictures too, have mean 0 and deviation 1, and are clipped at +-`CLIP`.

    What is no number (Discrete, texts) stays as it is, and masks of actions are left out.

    Args:
        space: canonical.
        axes: which arrays are pictures, as `layout_by` takes them.

    Attributes:
        space: of what comes out.
    """

    def __init__(self, space: Space, axes: str = "auto") -> None:
        super().__init__()
        leaves: dict[str, Space] = {"": space}
        if isinstance(space, spaces.Dict):
            leaves = {key: leaf for key, leaf in space.items() if key != ACTION_MASK}
        self.keys = list(leaves) if isinstance(space, spaces.Dict) else None
        self.norms = nn.ModuleList(_white(leaf, axes) for leaf in leaves.values())
        found = {
            key: getattr(norm, "space", leaf) for (key, leaf), norm in zip(leaves.items(), self.norms, strict=True)
        }
        self.space: Space = spaces.Dict(found) if self.keys is not None else found[""]

    def _columns(self, obs: Obs) -> list[Any]:
        return [obs] if self.keys is None else [obs[key] for key in self.keys]

    def update(self, obs: Obs) -> None:
        """Let the statistics take in observations `[B, ...]`."""
        for norm, x in zip(self.norms, self._columns(obs), strict=True):
            if isinstance(norm, WhiteLeaf):
                norm.update(x)

    def forward(self, obs: Obs) -> Obs:
        found = [norm(x) for norm, x in zip(self.norms, self._columns(obs), strict=True)]
        return found[0] if self.keys is None else dict(zip(self.keys, found, strict=True))


class WhiteLeaf(nn.Module):
    """Numbers `[B, *shape]` with mean 0 and deviation 1: a picture stays one, all else becomes a vector."""

    def __init__(self, space: spaces.Box, axes: str) -> None:
        super().__init__()
        self.numbers = Flat(space)
        self.norm = RunningNorm(self.numbers.features, CLIP)
        # a picture is known by its bounds, outside which what comes out may lie
        is_picture = layout_by(space, axes) is not None
        self.space = spaces.Box(0, 1, space.shape) if is_picture else spaces.Box(-CLIP, CLIP, (self.numbers.features,))

    def update(self, x: Tensor) -> None:
        for rows in x.split(ROWS):
            self.norm.update(self.numbers.flat(rows))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.numbers.flat(x)).view(len(x), *self.space.shape)


def _white(space: Space, axes: str) -> nn.Module:
    is_number = isinstance(space, spaces.Box) and not isinstance(space, Written)
    return WhiteLeaf(space, axes) if is_number else nn.Identity()  # type: ignore[arg-type]


class Features(nn.Module):
    """An encoder of its own, hidden layers, and `size` numbers: what is predicted, or predicts it."""

    def __init__(self, space: Space, network: NetworkConfig, widths: tuple[int, ...], size: int) -> None:
        super().__init__()
        # what comes in is normalised already; and an encoder of the user's own is made for other numbers
        named = network.encoder if network.encoder in ENCODERS else "auto"
        self.encoder = Encoder(space, network.model_copy(update={"encoder": named, "norm_obs": False}))
        self.torso = MLP(self.encoder.features, widths, "relu")
        self.head = nn.Linear(self.torso.features, size)

    def forward(self, obs: Obs) -> Tensor:
        return self.head(self.torso(self.encoder(obs)))


class Curiosity(nn.Module):
    """Rewards for what is new. Subclasses define `build`, and `forward`, a pure function of transitions `[B, ...]`.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        config: its settings.
        network: which encoders read observations.
        scale: of its rewards.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        config: CuriosityConfig,
        network: NetworkConfig,
        scale: RewardScale,
    ) -> None:
        super().__init__()
        self.action_space = action_space
        self.whitened = Whitened(observation_space, network.picture_axes)
        self.scale = scale
        self.build(config, network)

    def build(self, config: CuriosityConfig, network: NetworkConfig) -> None:
        """Make its networks, which read `self.whitened.space`."""
        raise NotImplementedError

    def forward(self, obs: Obs, action: Tensor, next_obs: Obs) -> Surprise:
        raise NotImplementedError

    def judge(self, obs: Obs) -> Surprise:
        """Call all of its networks on observations `[B, ...]`, as if nothing had changed."""
        action: Tensor = zeros(self.action_space, rows_of(obs))
        return self(obs, action.to(next(self.parameters()).device), obs)

    @torch.no_grad()
    def rewards(
        self, obs: Obs, action: Tensor, next_obs: Obs, ends: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take in transitions, and return how new each of them is, and the reward for that, `[T, N]` each.

        Rewards are the former divided by the running deviation of their discounted return. What is not valid is worth
        nothing.

        Args:
            obs, action, next_obs: `[T, N, ...]`, each transition with its true successor.
            ends: where that return ends, bool `[T, N]`.
            valid: False on dummy transitions.
        """
        obs, action, next_obs = tree_map(lambda leaf: leaf.flatten(0, 1), (obs, action, next_obs))
        seen = next_obs if valid is None else tree_map(lambda leaf: leaf[valid.flatten()], next_obs)
        self.whitened.update(seen)
        found = []
        for start in range(0, rows_of(obs), ROWS):
            part = slice(start, start + ROWS)
            found.append(self(*tree_map(lambda leaf, part=part: leaf[part], (obs, action, next_obs))).bonus)
        bonus = torch.cat(found).view(ends.shape)
        bonus = bonus if valid is None else torch.where(valid, bonus, 0)
        return bonus, self.scale(bonus, ends, valid)


def learning_loss(curiosity: Any, minibatch: dict[str, Any], share: float) -> Tensor:
    """Return the mean loss of a share of a minibatch's transitions, a scalar.

    They lie evenly spaced in it: minibatches are shuffled, and of sequences so all times have a part.

    Args:
        curiosity: the module, or what stands for it while the loss is differentiated.
        minibatch: with `obs`, `action`, `next_obs` and, where there are dummies, `valid`: `[B, ...]`, or with `start`
            sequences `[T, n, ...]`.
        share: of the transitions.
    """
    data = {name: minibatch[name] for name in ("obs", "action", "next_obs", "valid") if name in minibatch}
    if minibatch.get("start") is not None:
        data = tree_map(lambda leaf: leaf.flatten(0, 1), data)
    rows = rows_of(data["obs"])
    count = max(round(share * rows), 1)
    if count < rows:
        action = data["action"]
        kept = torch.arange(count, device=action.device) * rows // count
        data = tree_map(lambda leaf: leaf[kept], data)
    valid = data.pop("valid", None)
    return mean(curiosity(*data.values()).loss, valid)


def add_learning(
    loss: Tensor, curiosity: Any, minibatch: dict[str, Any], config: CuriosityConfig
) -> tuple[Tensor, Tensor]:
    """Return a loss with that of curiosity added, and the latter; arguments as `learning_loss` has them."""
    learnt = learning_loss(curiosity, minibatch, config.curiosity_share)
    return torch.add(loss, learnt, alpha=config.curiosity_loss_coef), learnt.detach()


class RandomNetworkDistillation(Curiosity):
    """How wrong a network is about the outputs of a random one, which never changes (Burda et al. 2018,
    arXiv:1810.12894): little for observations like those seen often.

    The bonus is the mean squared error on the successor; the same error is the loss.
    """

    def build(self, config: CuriosityConfig, network: NetworkConfig) -> None:
        widths, size = config.curiosity_arch, config.curiosity_size
        self.target = Features(self.whitened.space, network, widths, size)
        self.predictor = Features(self.whitened.space, network, (*widths, *widths[-1:]), size)  # one layer more
        orthogonal(self.target, math.sqrt(2))
        orthogonal(self.predictor, math.sqrt(2))
        self.target.requires_grad_(False)

    def forward(self, obs: Obs, action: Tensor, next_obs: Obs) -> Surprise:
        seen = self.whitened(next_obs)
        error = (self.predictor(seen) - self.target(seen)).square().mean(-1)
        return Surprise(error, error)


class IntrinsicCuriosity(Curiosity):
    """How wrong a model is about what an action leads to, in features that tell which action it was (Pathak et al.
    2017, arXiv:1705.05363): what the agent has no influence on is not in them.

    The bonus is half the squared error of the predicted features (eq. 6); the loss is (1 - beta) that of the inverse
    model, -log p(action | both features), plus beta the forward model's (eq. 7). The features are learnt by the inverse
    model alone, lest they become easy to predict by being all the same (Burda et al. 2019, arXiv:1808.04355, sec. 2).
    """

    def build(self, config: CuriosityConfig, network: NetworkConfig) -> None:
        widths, size = config.curiosity_arch, config.curiosity_size
        self.beta = config.icm_beta
        self.code = ActionCode(self.action_space)
        self.features = Features(self.whitened.space, network, widths, size)
        self.inverse = _network(2 * size, widths[-1:], parameter_count(self.action_space))
        self.dynamics = _network(size + self.code.features, widths[-1:], size)

    def forward(self, obs: Obs, action: Tensor, next_obs: Obs) -> Surprise:
        now, then = self.features(self.whitened(obs)), self.features(self.whitened(next_obs))
        parameters = self.inverse(torch.cat([now, then], dim=-1))
        unit = parameters.new_zeros(deviation_count(self.action_space))
        which = distribution(self.action_space, parameters, unit)
        predicted = self.dynamics(torch.cat([now.detach(), self.code(action)], dim=-1))
        error = 0.5 * (predicted - then.detach()).square().sum(-1)
        return Surprise(error, self.beta * error - (1 - self.beta) * which.log_prob(action))


class ActionCode(nn.Module):
    """Actions as vectors `[B, features]`: choices one-hot, numbers as they are."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.parts = nn.ModuleList(map(ActionCode, space.parts.values()) if isinstance(space, Hybrid) else [])
        self.sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else []
        self.sizes = space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else self.sizes
        self.features = parameter_count(space)

    def forward(self, action: Tensor) -> Tensor:
        if isinstance(self.space, Hybrid):
            pairs = zip(self.parts, self.space.split(action), strict=True)
            return torch.cat([part(x) for part, x in pairs], dim=1)
        if not self.sizes:
            return action.float()
        columns = zip(action.view(len(action), -1).unbind(1), self.sizes, strict=True)
        return torch.cat([one_hot(x, size) for x, size in columns], dim=1)


def _network(inputs: int, widths: tuple[int, ...], outputs: int) -> nn.Module:
    torso = MLP(inputs, widths, "relu")
    return nn.Sequential(torso, nn.Linear(torso.features, outputs))


KINDS: dict[str, type[Curiosity]] = {"rnd": RandomNetworkDistillation, "icm": IntrinsicCuriosity}


def build_curiosity(
    observation_space: Space, action_space: Space, config: CuriosityConfig, network: NetworkConfig, scale: RewardScale
) -> Curiosity | None:
    """Return the curiosity that settings name; None for none."""
    if config.curiosity == "none":
        return None
    return KINDS[config.curiosity](observation_space, action_space, config, network, scale)
