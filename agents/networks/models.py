"""The networks agents train: an encoder, a memory, torsos and heads, each an ordinary module.

One step takes a batch of observations `[N, ...]` and a carry; training takes batches `[B, ...]` without memory, and
sequences `[T, N, ...]` with the carry they begin with and where episodes start. Outputs have names.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.core.config import ActorCriticConfig, NetworkConfig, QNetworkConfig
from agents.core.tree import restarted, tree_map
from agents.core.types import Obs, Tree
from agents.networks.curiosity import Curiosity
from agents.networks.encoders import Encoder
from agents.networks.heads import QUIET, Noise, QHead
from agents.networks.layers import MLP, SpectralLinear, orthogonal
from agents.networks.memory import build_memory
from agents.networks.normalize import RunningNorm, ValueScale
from agents.ops.distributions import (
    Distribution,
    Gaussian,
    SquashedGaussian,
    before_tanh,
    deviation_count,
    distribution,
    masked,
    parameter_count,
)
from agents.ops.gsde import smooth_gaussian
from agents.ops.values import C51, Expected, Quantiles, Rescaled, Values, supported
from envs.adapters.masks import ACTION_MASK
from envs.errors import UserError


class ActorCriticOutput(NamedTuple):
    """The action distribution and the value `[...]` of each observation.

    With curiosity values are `[..., 2]`: of rewards, and of what is new.
    """

    distribution: Distribution
    value: Tensor


class QOutput(NamedTuple):
    """Action values `[..., A]`; those of illegal actions are below all others.

    `atoms` are the numbers that stand for each action's distribution of returns, `[..., A, K]`; None without one.
    `behaviour` are the logits of the policy that the data came from, `[..., A]`; None where that is not learnt.
    """

    q: Tensor
    atoms: Tensor | None = None
    behaviour: Tensor | None = None

    def of(self, action: Tensor) -> Tensor:
        """Return the numbers of one action of each row, `[B]` or `[B, K]`."""
        if self.atoms is None:
            return self.q.gather(1, action[:, None]).squeeze(1)
        return self.atoms[torch.arange(len(action), device=action.device), action]


def action_mask(obs: Obs) -> Tensor | None:
    """Return which actions are legal, bool `[..., A]`, where an observation says so."""
    return obs[ACTION_MASK] != 0 if isinstance(obs, dict) and ACTION_MASK in obs else None


class Model(nn.Module):
    """An encoder and, by configuration, a memory: from observations to `features` numbers.

    Attributes:
        observation_space: canonical, of what it reads.
        masked: whether observations say which actions are legal.
        auxiliary: what the encoder learns beside, from observations alone (`agents.networks.representation`), or None.
    """

    def __init__(self, observation_space: Space, config: NetworkConfig) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.encoder = Encoder(observation_space, config)
        self.memory = build_memory(config.recurrence, self.encoder.features)
        self.features = self.encoder.features if self.memory is None else self.memory.features
        self.masked = isinstance(observation_space, spaces.Dict) and ACTION_MASK in observation_space.spaces
        self.auxiliary: Any = None

    @property
    def recurrent(self) -> bool:
        """Whether there is a memory, so that training takes sequences."""
        return self.memory is not None

    def initial_carry(self, num_envs: int) -> Tree:
        """Return the carry of episodes that start, `[N, ...]`; () without memory."""
        return () if self.memory is None else self.memory.initial_carry(num_envs)

    def look(self, obs: Obs, carry: Tree) -> tuple[Tensor, Tree]:
        """Take in one step of observations `[N, ...]`; return the features `[N, F]` and the next carry."""
        features = self.encoder(obs)
        return (features, carry) if self.memory is None else self.memory(features, carry)

    def read(self, obs: Obs, carry: Tree, start: Tensor | None, next_obs: Obs | None = None) -> Tensor:
        """Return the features of a batch `[B, F]`, or, with memory, of sequences `[T, N, F]`.

        Args:
            obs, carry, start: see `forward`.
            next_obs: with memory, what came after each step of the sequences: the features are then of these, each
                seen with what is remembered of its own episode up to it.
        """
        if self.memory is None:
            return self.encoder(obs)
        assert start is not None
        features = self._encoded(obs).view(*start.shape, -1)
        if next_obs is None:
            return self.memory(features, carry, start)[0]
        carries = []
        for x, begins in zip(features.unbind(), start.unbind(), strict=True):
            _, carry = self.memory(x, restarted(carry, begins))
            carries.append(carry)
        return self.memory(self._encoded(next_obs), torch.cat(carries))[0].view(*start.shape, -1)

    def remember(self, obs: Obs, carry: Tree, start: Tensor) -> Tree:
        """Return the carry after sequences `[T, N, ...]` that begin with `carry`."""
        return self.memory(self._encoded(obs).view(*start.shape, -1), carry, start)[1]

    def _encoded(self, obs: Obs) -> Tensor:
        """Return what the encoder makes of sequences `[T, N, ...]`, one step after the other, `[T * N, F]`."""
        return self.encoder(tree_map(lambda leaf: leaf.flatten(0, 1), obs))

    def judge(self, obs: Obs, carry: Tree = (), start: Tensor | None = None) -> Any:
        """Do what `forward` does, and call those networks too that only learn, if there are any: all of an update."""
        flat = obs if start is None else tree_map(lambda leaf: leaf.flatten(0, 1), obs)
        if (curiosity := getattr(self, "curiosity", None)) is not None:
            curiosity.judge(flat)
        if self.auxiliary is not None:
            self.auxiliary(self.encoder(flat), flat)
        return self(obs, carry, start)

    def update_statistics(self, obs: Obs, valid: Tensor | None = None) -> None:
        """Let the normalisers take in observations `[B, ...]`, or `[T, N, ...]` with memory.

        Args:
            valid: with memory, False where they belong to no transition, `[T, N]`; None where all do.
        """
        if valid is not None:
            obs = tree_map(lambda leaf: leaf[valid], obs)
        elif self.memory is not None:
            obs = tree_map(lambda leaf: leaf.flatten(0, 1), obs)
        self.encoder.update_statistics(obs)
        if self.auxiliary is not None:
            self.auxiliary.follow(self.encoder, obs)

    def copy_encoder(self) -> None:
        """Make what is a copy of the encoder within the model one again, if there is any."""
        if self.auxiliary is not None:
            self.auxiliary.copy(self.encoder)

    def share_statistics(self, other: Model) -> None:
        """Use another model's normalisers, of the same structure, from now on."""
        for mine, theirs in zip(list(self.encoder.modules()), list(other.encoder.modules()), strict=True):
            for name, child in list(mine.named_children()):
                if isinstance(child, RunningNorm):
                    setattr(mine, name, getattr(theirs, name))


class ActorCritic(Model):
    """Policy and value function over one encoder, with torsos of their own or a shared one.

    Weights begin orthogonal with gains sqrt(2) for torsos, 0.01 for the policy head, 1 for the value head (as SB3).

    Args:
        observation_space, action_space: canonical (envs.spaces).
        curiosity: trained with the rest; its rewards have values of their own.

    Attributes:
        value_scale: the scale of the value head's numbers; None where they are values.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        config: ActorCriticConfig,
        curiosity: Curiosity | None = None,
    ) -> None:
        super().__init__(observation_space, config)
        self.action_space = action_space
        self.squash = config.squash_output
        self.size = size = parameter_count(action_space)
        deviations = deviation_count(action_space)
        self.split_std = config.state_dependent_std
        self.sde = config.sde
        for name, given, fits in (
            ("use_sde", config.sde.use_sde, isinstance(action_space, spaces.Box)),
            ("state_dependent_std", config.state_dependent_std, deviations),
            ("squash_output", config.squash_output, deviations),
        ):
            if given and not fits:
                raise UserError(
                    f"{name} is for continuous actions, a Box; this environment has {action_space}: leave it out."
                )
        widths = config.torsos
        self.policy_torso = MLP(self.features, widths.pi, config.activation)
        self.value_torso = None if config.shared_torso else MLP(self.features, widths.vf, config.activation)
        self.policy_head = nn.Linear(self.policy_torso.features, size + deviations * self.split_std)
        heads = 1 if curiosity is None else 2
        self.value_head = nn.Linear((self.value_torso or self.policy_torso).features, heads)
        how = config.norm_value
        self.value_scale = None if how == "none" else ValueScale(heads, config.norm_value_rate, how == "popart")
        features = [self.policy_torso.features] if config.sde.use_sde else []
        deviation = torch.full((*features, deviations), config.log_std_init)
        self.log_std = nn.Parameter(deviation) if deviations and not self.split_std else None
        if config.ortho_init:
            orthogonal(self, math.sqrt(2))
            orthogonal(self.policy_head, 0.01)
            orthogonal(self.value_head, 1.0)
        if self.split_std:
            nn.init.constant_(self.policy_head.bias[size:], config.log_std_init)
        self.curiosity: Any = curiosity

    def act(self, obs: Obs, carry: Tree) -> tuple[Tensor, Tree]:
        """Return the parameters of the action distribution, which is all that acting needs, and the next carry."""
        features, carry = self.look(obs, carry)
        return self._head_and_features(self.policy_torso(features)), carry

    def _head_and_features(self, latent: Tensor) -> Tensor:
        """Return the head's output, and after it with gSDE what the noise is made of."""
        output = self.policy_head(latent)
        return torch.cat([output, latent.detach()], dim=-1) if self.sde.use_sde else output

    def value(self, obs: Obs, carry: Tree = ()) -> Tensor:
        """Return the value of one step's observations alone, `[N]`."""
        torso = self.policy_torso if self.value_torso is None else self.value_torso
        return self._values(torso(self.look(obs, carry)[0]))

    def _values(self, latent: Tensor) -> Tensor:
        """Return the values of what the value function's torso gives."""
        value = self.value_head(latent)
        return (value if self.value_scale is None else self.value_scale(value)).squeeze(-1)

    def output(self, obs: Obs, carry: Tree) -> ActorCriticOutput:
        """Return the output of one step's observations `[N, ...]`."""
        return self._heads(self.look(obs, carry)[0], action_mask(obs))

    def forward(self, obs: Obs, carry: Tree = (), start: Tensor | None = None) -> ActorCriticOutput:
        """Return the outputs of a batch `[B, ...]`, or of sequences `[T, N, ...]` from `carry` on."""
        return self._heads(self.read(obs, carry, start), action_mask(obs))

    def stored(self, action: Tensor) -> Tensor:
        """Return actions as `distribution` has them: those of a squashed one before the tanh, off the bounds."""
        return before_tanh(self.action_space, action) if self.squash else action

    def learn_scale(self, value: Tensor, returns: Tensor, valid: Tensor | None) -> Tensor | None:
        """Let the scale of values take in a rollout's returns `[T, N, ...]`, those of valid steps.

        That of a frozen head stays, as the head would change with it. Return what the head, as it is after that, puts
        out where it said `value`, `[T, N, ...]`; None where there is no scale.
        """
        scale = self.value_scale
        if scale is None:
            return None
        before = scale.normalized(value)
        if not self.value_head.weight.requires_grad:
            return before
        real = returns.flatten(0, 1) if valid is None else returns[valid]
        scale.update(real.view(len(real), len(scale.mean)), self.value_head)
        return scale.normalized(value) if scale.preserves else before

    def _heads(self, features: Tensor, mask: Tensor | None) -> ActorCriticOutput:
        latent = self.policy_torso(features)
        critic = latent if self.value_torso is None else self.value_torso(features)
        return ActorCriticOutput(self.distribution(self._head_and_features(latent), mask), self._values(critic))

    def distribution(self, parameters: Tensor, mask: Tensor | None = None) -> Distribution:
        """Return the action distribution that what `act` returned `[..., P]` stands for."""
        if self.sde.use_sde:
            assert self.log_std is not None
            return (SquashedGaussian if self.squash else Gaussian)(*smooth_gaussian(parameters, self.log_std))
        if not self.split_std:
            return distribution(self.action_space, parameters, self.log_std, self.squash, mask)
        parameters, log_std = parameters.tensor_split([self.size], dim=-1)
        return distribution(self.action_space, parameters, log_std.clamp(-20, 2), self.squash, mask)

    def acting_path(self) -> tuple[Encoder, MLP, nn.Linear]:
        """Return the modules that `act` goes through when there is no memory."""
        return self.encoder, self.policy_torso, self.policy_head


class QNetwork(Model):
    """Action values for a Discrete action space, or the distributions of returns whose means they are.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        curiosity: trained with the rest; what it rewards is part of the values.

    Attributes:
        values: what the head's numbers stand for.
        noise_size: standard normal numbers that noisy layers take for each row; 0 without any.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: spaces.Discrete,
        config: QNetworkConfig,
        curiosity: Curiosity | None = None,
    ) -> None:
        super().__init__(observation_space, config)
        self.curiosity: Any = curiosity
        self.n_actions = parameter_count(action_space)
        self.values = values_of(config)
        self.bounded = config.spectral_norm
        widths, how = config.net_arch, (config.activation, config.layer_norm)
        self.threshold, self.behaviour = config.bcq_threshold, None
        if self.threshold:
            torso = MLP(self.features, widths, *how)
            self.behaviour = nn.Sequential(torso, nn.Linear(torso.features, self.n_actions))
        if not (config.dueling or config.noisy or config.distribution != "none"):
            self.torso = MLP(self.features, widths, *how)
            self.head: nn.Linear | QHead = nn.Linear(self.torso.features, self.n_actions)
            self.noise_size = 0
            if config.spectral_norm:
                _bound(self.torso.layers, -1)
            return
        sampled = config.distribution == "iqn"
        # the last hidden layer belongs to the streams; but IQN's places are of learnt features, not of numbers seen
        hidden = 0 if not widths or (sampled and len(widths) == 1) else widths[-1]
        self.torso = MLP(self.features, widths[:-1] if hidden else widths, *how)
        self.head = QHead(
            self.torso.features,
            hidden,
            self.n_actions,
            self.values.atoms,
            config.activation,
            layer_norm=config.layer_norm,
            dueling=config.dueling,
            noisy_std=config.noisy_std if config.noisy else None,
            sampled=sampled,
        )
        self.noise_size = self.head.noise_size
        if config.spectral_norm and not hidden:
            _bound(self.torso.layers, -1)
        elif config.spectral_norm:
            for stream in self.head.streams:
                _bound(stream.layers, -2)

    def bring_bounds_up_to_date(self) -> None:
        """Let layers that are bounded by their spectral norm follow their weights, which each update changes."""
        for layer in self.modules() if self.bounded else ():
            if isinstance(layer, SpectralLinear):
                layer.refresh()

    def act(self, obs: Obs, carry: Tree, noise: Noise = QUIET) -> tuple[Tensor, Tree]:
        """Return the action values that decide, of one step's observations, not masked, and the next carry."""
        features, carry = self.look(obs, carry)
        mask = None if self.behaviour is None else action_mask(obs)
        return self.choice(self._heads(features, mask, noise)), carry

    def value(self, obs: Obs, carry: Tree = ()) -> Tensor:
        """Return the value of the best action of one step's observations, `[N]`; 0 where there is no legal one."""
        best, mask = self.output(obs, carry).q.amax(-1), action_mask(obs)
        return best if mask is None else torch.where(mask.any(-1), best, 0)

    def output(self, obs: Obs, carry: Tree) -> QOutput:
        """Return the output of one step's observations `[N, ...]`, its values those that decide."""
        found = self._heads(self.look(obs, carry)[0], action_mask(obs), QUIET)
        return found._replace(q=self.choice(found))

    def forward(
        self,
        obs: Obs,
        carry: Tree = (),
        start: Tensor | None = None,
        noise: Noise = QUIET,
        next_obs: Obs | None = None,
    ) -> QOutput:
        """Return the action values of a batch `[B, ...]`, or of sequences `[T, N, ...]` from `carry` on.

        With memory and `next_obs`, the values are of what came after each step (see `read`).
        """
        mask = action_mask(obs if next_obs is None else next_obs)
        return self._heads(self.read(obs, carry, start, next_obs), mask, noise)

    def choice(self, output: QOutput) -> Tensor:
        """Return the action values that decide: those of actions that the data hardly have are below all others."""
        return output.q if output.behaviour is None else supported(output.q, output.behaviour, self.threshold)

    def _heads(self, features: Tensor, mask: Tensor | None, noise: Noise) -> QOutput:
        latent = self.torso(features)
        behaviour = None if self.behaviour is None else masked(self.behaviour(features), mask)
        if not isinstance(self.head, QHead):
            return QOutput(masked(self.head(latent), mask), None, behaviour)
        atoms = self.head(latent, noise)
        if isinstance(self.values, Expected):
            return QOutput(masked(atoms.squeeze(-1), mask), None, behaviour)
        return QOutput(masked(self.values.mean(atoms), mask), atoms, behaviour)

    def acting_path(self) -> tuple[Encoder, MLP, nn.Module]:
        """Return the modules that `act` goes through when there is no memory, or no path of layers alone."""
        return self.encoder, self.torso, self.head if self.behaviour is None else self.behaviour


def _bound(layers: nn.ModuleList, place: int) -> None:
    """Bound a layer by its spectral norm: the last hidden one alone (Gogianu et al. 2021, arXiv:2105.05246)."""
    layer: Any = layers[place]
    layers[place] = SpectralLinear(layer)


def values_of(config: QNetworkConfig) -> Values:
    """Return what an action-value network's numbers stand for."""
    if config.distribution == "c51":
        return C51(config.v_min, config.v_max, config.n_atoms)
    if config.distribution == "none":
        return Rescaled() if config.rescale_values else Expected()
    return Quantiles(config.n_quantiles)
