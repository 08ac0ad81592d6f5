"""The networks agents train, put together from an encoder, torsos and heads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.core.config import Activation
from agents.networks.encoder import Encoder
from agents.ops.distributions import Distribution, distribution, parameter_count


def tanh(x: Tensor) -> Tensor:
    """Return tanh; compiled, through the sigmoid, for which the compiler has a kernel six times as fast."""
    return 2 * torch.sigmoid(2 * x) - 1 if torch.compiler.is_compiling() else torch.tanh(x)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
}


class MLP(nn.Module):
    """Linear layers with an activation after each.

    For small batches most of the time is Python's: this calls the kernels directly, a fourth of what a module for
    each layer and activation takes.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], activation: Activation) -> None:
        super().__init__()
        sizes = [inputs, *widths]
        layers = [nn.Linear(i, o) for i, o in itertools.pairwise(sizes)]
        self.layers = nn.ModuleList(layers)
        self.features = sizes[-1]
        self.activation = activation
        # the parameters keep their identity through load_state_dict, to() and deepcopy
        self._weights = [(layer.weight, layer.bias) for layer in layers]

    def forward(self, x: Tensor) -> Tensor:
        activation = _ACTIVATIONS[self.activation]
        if torch.compiler.is_compiling():  # the parameters are given from outside, by name
            for layer in self.layers:
                x = activation(layer(x))
            return x
        for weight, bias in self._weights:
            x = activation(F.linear(x, weight, bias))
        return x


def orthogonal(module: nn.Module, gain: float) -> None:
    """Initialise every linear and convolutional layer orthogonally, biases at 0 (Saxe et al. 2014)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class ActorCritic(nn.Module):
    """Policy and value function over one encoder, with torsos of their own or a shared one.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        net_arch, activation: the torsos' layers.
        shared_torso: whether the value head reads the policy's torso.
        ortho_init: gains sqrt(2) for torsos, 0.01 for the policy head, 1 for the value head (as SB3).
        state_dependent_std: whether the head puts out deviations too, rather than a parameter.
        squash: whether continuous actions pass through tanh.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        *,
        net_arch: tuple[int, ...],
        activation: Activation,
        norm_obs: bool = False,
        shared_torso: bool = False,
        ortho_init: bool = True,
        log_std_init: float = 0.0,
        state_dependent_std: bool = False,
        squash: bool = False,
    ) -> None:
        super().__init__()
        self.action_space = action_space
        self.squash = squash
        size = parameter_count(action_space)
        continuous = isinstance(action_space, spaces.Box)
        self.split_std = continuous and state_dependent_std
        self.encoder = Encoder(observation_space, norm_obs)
        self.policy_torso = MLP(self.encoder.features, net_arch, activation)
        self.value_torso = None if shared_torso else MLP(self.encoder.features, net_arch, activation)
        width = self.policy_torso.features
        self.policy_head = nn.Linear(width, 2 * size if self.split_std else size)
        self.value_head = nn.Linear(width, 1)
        self.log_std = nn.Parameter(torch.full((size,), log_std_init)) if continuous and not self.split_std else None
        if ortho_init:
            orthogonal(self, math.sqrt(2))
            orthogonal(self.policy_head, 0.01)
            orthogonal(self.value_head, 1.0)
        if self.split_std:
            nn.init.constant_(self.policy_head.bias[size:], log_std_init)

    def forward(self, obs: Any) -> tuple[Distribution, Tensor]:
        """Return the action distribution and the value `[B]` of a batch of observations."""
        features = self.encoder(obs)
        latent = self.policy_torso(features)
        critic = latent if self.value_torso is None else self.value_torso(features)
        return self.distribution(self.policy_head(latent)), self.value_head(critic).squeeze(-1)

    def policy(self, obs: Any) -> Distribution:
        """Return the action distribution alone, which is all that acting needs."""
        return self.distribution(self.policy_head(self.policy_torso(self.encoder(obs))))

    def value(self, obs: Any) -> Tensor:
        """Return the value `[B]` alone."""
        torso = self.policy_torso if self.value_torso is None else self.value_torso
        return self.value_head(torso(self.encoder(obs))).squeeze(-1)

    def distribution(self, parameters: Tensor) -> Distribution:
        """Return the action distribution that the policy head's output `[B, P]` stands for."""
        if not self.split_std:
            return distribution(self.action_space, parameters, self.log_std, self.squash)
        mean, log_std = parameters.chunk(2, dim=-1)
        return distribution(self.action_space, mean, log_std.clamp(-20, 2), self.squash)


class QNetwork(nn.Module):
    """Action values `[B, A]` for a Discrete action space; the head is a part of its own, to be exchanged."""

    def __init__(
        self,
        observation_space: Space,
        action_space: spaces.Discrete,
        *,
        net_arch: tuple[int, ...],
        activation: Activation,
        norm_obs: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(observation_space, norm_obs)
        self.torso = MLP(self.encoder.features, net_arch, activation)
        self.head = nn.Linear(self.torso.features, int(action_space.n))

    def forward(self, obs: Any) -> Tensor:
        return self.head(self.torso(self.encoder(obs)))
