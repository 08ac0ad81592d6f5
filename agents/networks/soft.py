"""The networks of soft actor-critic methods: a squashed Gaussian policy, and critics of its actions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.core.config import SoftActorCriticConfig
from agents.core.types import Obs, Tree
from agents.networks.encoders import Encoder
from agents.networks.layers import ACTIVATIONS, MLP, BatchNorm, Ensemble, HiddenEnsemble
from agents.networks.models import Model
from agents.ops.critics import Least, Truncated
from agents.ops.distributions import SquashedGaussian, parameter_count
from agents.ops.gsde import smooth_gaussian

MOST_MEAN = 2.0  # of actions before the tanh, with gSDE: their deviation may be small far out


class Critics(Model):
    """Several critics of observations and actions, with an encoder of their own; each layer of all is one product.

    Attributes:
        values: what their numbers stand for.
    """

    def __init__(self, observation_space: Space, actions: int, config: SoftActorCriticConfig) -> None:
        super().__init__(observation_space, config)
        dropped = config.top_quantiles_to_drop_per_net
        self.values = Truncated(config.n_quantiles, dropped) if config.truncated_quantiles else Least()
        sizes, members = [self.features + actions, *config.net_arch, self.values.atoms], config.n_critics
        pairs = list(itertools.pairwise(sizes))
        kinds = [HiddenEnsemble] * len(config.net_arch) + [Ensemble]
        self.layers = nn.ModuleList(kind(members, *pair) for kind, pair in zip(kinds, pairs, strict=True))
        shapes = [(sizes[0],), *((members, 1, size) for size in sizes[1:-1])]
        norms = [BatchNorm(*shape) for shape in shapes] if config.batch_norm else []
        self.norms = nn.ModuleList(norms)
        self.activation = config.activation

    def forward(
        self, obs: Obs, action: Tensor, *, frozen: bool = False, batch: bool = False, learn: bool = False
    ) -> Tensor:
        """Return the numbers `[n, B, K]` that n critics give to actions `[B, d]` in [-1, 1].

        Args:
            frozen: the gradient goes through to the actions, and to no parameter.
            batch: normalise by the statistics of this batch, where there is batch normalisation.
            learn: let the running ones take them in.
        """
        features = self.encoder(obs)
        x = torch.cat([features.detach() if frozen else features, action], dim=-1)
        for i, layer in enumerate(self.layers):
            x = ACTIVATIONS[self.activation](x) if i else x
            if self.norms:
                norm: Any = self.norms[i]
                if learn:
                    norm.update(x)
                x = norm(x, batch, frozen)
            x = layer(x, frozen)
        return x


class SoftActorCritic(Model):
    """A policy and its critics, which have encoders of their own, normalised by the same statistics.

    Args:
        observation_space, action_space: canonical (envs.spaces), the actions in [-1, 1].
        ent_coef: weight of the entropy at the start, where it is learnt; None where it is not.

    Attributes:
        log_ent_coef: the logarithm of that weight, a parameter, or None.
    """

    def __init__(
        self, observation_space: Space, action_space: spaces.Box, config: SoftActorCriticConfig, ent_coef: float | None
    ) -> None:
        super().__init__(observation_space, config)
        self.size = parameter_count(action_space)
        self.torso = MLP(self.features, config.net_arch, config.activation)
        self.sde = config.sde
        self.head = nn.Linear(self.torso.features, self.size if config.sde.use_sde else 2 * self.size)
        deviation = torch.full((self.torso.features, self.size), config.log_std_init)
        self.log_std = nn.Parameter(deviation) if config.sde.use_sde else None
        self.critics = Critics(observation_space, self.size, config)
        self.critics.share_statistics(self)
        self.log_ent_coef = None if ent_coef is None else nn.Parameter(torch.tensor(math.log(ent_coef)))

    def act(self, obs: Obs, carry: Tree) -> tuple[Tensor, Tree]:
        """Return the parameters of the action distribution, which is all that acting needs, and the carry."""
        features, carry = self.look(obs, carry)
        latent = self.torso(features)
        output = self.head(latent)
        return output if self.log_std is None else torch.cat([output, latent], dim=-1), carry

    def distribution(self, parameters: Tensor) -> SquashedGaussian:
        """Return what the numbers that `act` returned stand for."""
        if self.log_std is not None:
            return SquashedGaussian(*smooth_gaussian(parameters, self.log_std, MOST_MEAN))
        mean, log_std = parameters.chunk(2, dim=-1)
        return SquashedGaussian(mean, log_std.clamp(-20, 2))

    def forward(self, obs: Obs, carry: Tree = (), start: Tensor | None = None) -> SquashedGaussian:
        """Return the action distribution of a batch `[B, ...]`."""
        return self.distribution(self.act(obs, carry)[0])

    def judge(self, obs: Obs, carry: Tree = (), start: Tensor | None = None) -> Tensor:
        """Return what the critics say of the policy's own actions `[n, B, K]`: all networks are called."""
        return self.critics(obs, self(obs).mode())

    def acting_path(self) -> tuple[Encoder, MLP, nn.Linear]:
        """Return the modules that `act` goes through."""
        return self.encoder, self.torso, self.head
