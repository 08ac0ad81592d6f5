"""Policies: how a model's outputs become actions. The one place where actions are chosen."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy import ndarray
from torch import Tensor

from agents.acting.numpy_inference import NumpyForward, NumpyRepeat, numpy_forward, numpy_repeat
from agents.core.config import ExplorationConfig
from agents.core.device import looked_at
from agents.core.schedules import linear
from agents.core.tree import restarted, rows_of, to_numpy, to_tensor, tree_map, tree_to_tensor
from agents.core.types import Act, Acted, Obs, Tree
from agents.core.watch import Watch
from agents.data.trajectory import Trajectory, has_pictures
from agents.networks.heads import Noise
from agents.networks.models import ActorCritic, ActorCriticOutput, QNetwork, QOutput, action_mask
from agents.networks.soft import SoftActorCritic
from agents.ops.distributions import SquashedGaussian, draw_noise, lowest, masked
from agents.ops.exploration import epsilon_greedy, legal_action, random_action
from agents.ops.gsde import exploration_matrices
from envs.errors import UserError, no_attribute

Progress = float | ndarray
INSTEAD = {  # what SB3's policies have
    "get_distribution": "inspect(obs, carry) says what is thought of a batch of observations",
    "predict_values": "inspect(obs, carry)['value'] are the values of a batch of observations",
    "evaluate_actions": "read(unroll(obs, carry), action) are log-probabilities and values",
    "obs_to_tensor": "predict and inspect take NumPy arrays, a batch of them",
    **dict.fromkeys(
        ("state_dict", "load_state_dict", "parameters", "optimizer", "forward", "q_net", "actor", "critic"),
        "model is the network, a torch.nn.Module",
    ),
}
UNROLL_ROWS = {"cpu": 2048}  # observations in one pass: what stays in the processor's cache; a GPU takes more


class ModelPolicy(ABC):
    """A model and how it acts. Feed-forward is an empty carry, greedy is noise that is None.

    Attributes:
        stream: name of the random stream that training draws its noise from.
    """

    stream: ClassVar[str]
    model: Any
    _on_tensors = False  # whether `choose` takes no NumPy parameters
    _watch: Watch | None = None
    _version = -1
    _forward: NumpyForward | NumpyRepeat | None = None
    _device: torch.device

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):  # a property, in which an attribute was missing
            return object.__getattribute__(self, name)
        raise no_attribute(self, name, INSTEAD)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy begins with, which looks at its own model anew."""
        return {name: value for name, value in vars(self).items() if name not in ("_watch", "_version", "_forward")}

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @property
    def recurrent(self) -> bool:
        """Whether the carry is more than ()."""
        return self.model.recurrent

    def initial_carry(self, num_envs: int) -> Tree:
        """Return the carry of episodes that start, `[N, ...]`."""
        return self.model.initial_carry(num_envs)

    @abstractmethod
    def draw_noise(self, shape: tuple[int, ...], progress: Progress, generator: torch.Generator) -> Tree:
        """Draw all randomness of `shape` calls of `step`, `[*shape, ...]`, on the generator's device.

        Args:
            shape: `[K, N]`, or `[N]` for one call.
            progress: part (0 to 1) of the training that is done: a number, or float64 `[K]`, one for each call.
        """

    @abstractmethod
    def choose(self, parameters: Any, mask: Tensor | None, noise: Tree) -> tuple[Any, Any]:
        """Return the action to store and the environment's, for what `model.act` returned.

        `parameters` and `noise` may be NumPy arrays where `mask` is None.
        """

    def step(self, obs: Obs, carry: Tree, noise: Tree) -> Acted:
        """Act on observations `[N, ...]`: a pure function of tensors on the model's device."""
        parameters, carry = self.model.act(obs, carry, *self.layer_noise(noise))
        return Acted(*self.choose(parameters, action_mask(obs), noise), carry)

    def layer_noise(self, noise: Tree) -> tuple[Noise, ...]:
        """Return what of the noise of a step the model itself takes, if anything."""
        return ()

    def unroll(self, obs: Obs, carry: Tree = (), start: Tensor | None = None) -> Any:
        """Return the model's outputs for a batch or for sequences: the numbers that `step` saw."""
        return self.model(obs, carry, start)

    def schedules(self, progress: float) -> dict[str, float]:
        """Return TensorBoard tag -> value of what changes over a training, when `progress` (0 to 1) of it is done."""
        return {}

    def actor(self) -> Act:
        """Return `step` for NumPy arrays or tensors, the quickest way there is until a module is changed.

        Raises:
            UserError: the model does not compute in float32.
        """
        forward = self._quickest()

        def act(obs: Obs, carry: Tree, noise: Tree) -> Acted:
            if forward is not None and len(obs) <= forward.max_rows:
                if noise is not None and type(noise[0]) is not ndarray:
                    noise = tree_map(to_numpy, noise)
                if forward.remember is None:
                    parameters = forward(to_numpy(obs), *self.layer_noise(noise))
                else:
                    parameters, carry = forward.step(to_numpy(obs), carry)
                if self._on_tensors:
                    with torch.no_grad():
                        action, env_action = self.choose(torch.from_numpy(parameters), None, noise)
                else:
                    action, env_action = self.choose(parameters, None, noise)
                return Acted(action, env_action, carry)
            with torch.no_grad():
                return self.step(tree_to_tensor(obs, device), carry, tree_to_tensor(noise, device))

        device = self._device
        return act

    def _quickest(self) -> NumpyForward | NumpyRepeat | None:
        """Return the model's computation through NumPy, if there is one; looked for anew if the model has changed."""
        if self._watch is None:
            self._watch = Watch(self.model)
        elif not isinstance(self._forward, NumpyForward):
            self._watch.train(False)  # training mode, with its dropout, is for updates
        version = self._watch.version()
        if version != self._version or (self._forward is not None and not self._forward.up_to_date):
            name, first = next(self.model.named_parameters())
            if first.dtype != torch.float32:
                raise UserError(f"parameter {name} is {first.dtype}: acting takes float32 (network.float())")
            self._device, self._forward = first.device, numpy_forward(self.model)
            if self._forward is None:
                self.model.eval()
                version, self._forward = self._watch.version(), numpy_repeat(self.model)
            self._version = version
        return self._forward

    @torch.no_grad()
    def predict(
        self,
        obs: Obs,
        state: Tree = None,
        episode_start: Any = None,
        deterministic: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[Any, Tree]:
        """Return the environment's actions for canonical observations `[N, ...]` and the next state, as SB3's does.

        Args:
            state: what the call before returned; None at the start.
            episode_start: where a new episode starts, bool `[N]`.
            deterministic: greedily, or with noise drawn from `generator`, by default one that follows PyTorch's own.

        Raises:
            UserError: they are no batch of canonical observations.
        """
        space = self.model.observation_space
        wanted = tree_map(lambda leaf: leaf.shape, space.spaces if isinstance(space, spaces.Dict) else space)
        if tree_map(lambda leaf: tuple(np.shape(leaf)[1:]) if np.ndim(leaf) else None, obs) != wanted:
            given = tree_map(lambda leaf: tuple(np.shape(leaf)), obs)
            raise UserError(
                f"policy.predict takes a batch of canonical observations, N times {wanted}; {given} given "
                "(predict of the model itself takes one, too)"
            )
        rows = rows_of(obs)
        state = self.initial_carry(rows) if state is None else state
        if episode_start is not None and self.recurrent:
            state = restarted(state, to_tensor(episode_start, self.device))
        noise = None
        if not deterministic:
            generator = generator or torch.Generator(self.device).manual_seed(int(torch.randint(2**63 - 1, ())))
            noise = self.draw_noise((rows,), 1.0, generator)
        acted = self.actor()(obs, state, noise)
        return acted.env_action, acted.carry

    @torch.no_grad()
    def inspect(self, obs: Obs, carry: Tree) -> dict[str, Tensor]:
        """Return what a viewer shows of a batch. See `agents.core.types.Policy`."""
        return self.describe(tree_to_tensor(obs, self.device), carry)

    @abstractmethod
    def describe(self, obs: Obs, carry: Tree) -> dict[str, Tensor]:
        """Return the same as `inspect` of tensors on the model's device, to be differentiated."""

    @abstractmethod
    def read(self, output: Any, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return what an output of `unroll` says of the actions taken, `[...]`, and the states' values."""

    @torch.no_grad()
    def evaluate(self, trajectory: Trajectory) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `read` says of a trajectory's actions, the values and the successors' values, `[T, N, ...]`.

        The policy does not change in a rollout, so this is worked out in one pass here rather than in each tick.
        """
        said, value = self._unroll_all(trajectory)
        last = self.model.value(trajectory.last_obs, trajectory.last_carry)
        next_value = torch.cat([value[1:], last[None]])
        if trajectory.final is not None:
            t, n, obs, carry = trajectory.final
            next_value[t, n] = self.model.value(obs, carry)
        elif trajectory.next_obs is not None and not self.recurrent:  # with memory `final` has them all
            cut = trajectory.truncated
            if not looked_at(cut) and not has_pictures(trajectory.next_obs):
                successors = tree_map(lambda leaf: leaf.flatten(0, 1), trajectory.next_obs)
                after = self.model.value(successors).unflatten(0, cut.shape)
                next_value = torch.where(cut.view(*cut.shape, *[1] * (after.dim() - cut.dim())), after, next_value)
            elif cut.any():
                next_value[cut] = self.model.value(tree_map(lambda leaf: leaf[cut], trajectory.next_obs))
        return said, value, next_value

    def _unroll_all(self, trajectory: Trajectory) -> tuple[Tensor, Tensor]:
        shape = trajectory.reward.shape
        if self.recurrent:
            return self.read(self.unroll(trajectory.obs, trajectory.carry, trajectory.start), trajectory.action)
        obs, action = tree_map(lambda leaf: leaf.flatten(0, 1), (trajectory.obs, trajectory.action))
        rows, found = UNROLL_ROWS.get(action.device.type, 65536), []
        for start in range(0, len(action), rows):
            part = slice(start, start + rows)
            output = self.unroll(tree_map(lambda leaf, part=part: leaf[part], obs))
            found.append(self.read(output, action[part]))
        said, values = (torch.cat(parts).unflatten(0, shape) for parts in zip(*found, strict=True))
        return said, values


def _matrices(model: ActorCritic | SoftActorCritic, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw what gSDE acts with: as a rollout begins and after every `sde_sample_freq` ticks of it."""
    assert model.log_std is not None
    features, size = model.log_std.shape
    return exploration_matrices(shape, (features, size), model.sde.sde_sample_freq, generator)


class ActorCriticPolicy(ModelPolicy):
    """Samples from the model's action distribution; greedy is its mode."""

    stream = "policy"

    def __init__(self, model: ActorCritic) -> None:
        self.model = model
        self._on_tensors = not isinstance(model.action_space, spaces.Discrete)

    def draw_noise(self, shape: tuple[int, ...], progress: Progress, generator: torch.Generator) -> Tensor:
        if self.model.sde.use_sde:
            return _matrices(self.model, shape, generator)
        return draw_noise(self.model.action_space, shape, generator, generator.device)

    def choose(self, parameters: Any, mask: Tensor | None, noise: Tree) -> tuple[Any, Any]:
        if self._on_tensors and noise is not None:
            noise = torch.as_tensor(noise)
        distribution = self.model.distribution(parameters, mask)
        action = distribution.mode() if noise is None else distribution.sample(noise)
        return action, distribution.to_env(action)

    def describe(self, obs: Obs, carry: Tree) -> dict[str, Tensor]:
        output = self.model.output(obs, carry)
        value = output.value if self.model.curiosity is None else output.value[..., 0]
        return {"value": value, **output.distribution.describe()}

    def read(self, output: ActorCriticOutput, action: Tensor) -> tuple[Tensor, Tensor]:
        return output.distribution.log_prob(action), output.value


class SquashedPolicy(ModelPolicy):
    """Samples from a squashed Gaussian, or at the beginning uniformly; greedy is its mode.

    What is stored is the squashed action, which is what critics are asked about.

    Args:
        model: its head stands for a squashed Gaussian.
        random_until: returns the part (0 to 1) of the training up to which actions are uniform.
    """

    stream = "policy"
    _on_tensors = True

    def __init__(self, model: SoftActorCritic, random_until: Callable[[], float]) -> None:
        self.model = model
        self._random_until = random_until

    def draw_noise(self, shape: tuple[int, ...], progress: Progress, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw for each environment whether its action is uniform, and standard normal numbers for either kind.

        With gSDE those of the policy's own actions are matrices.
        """
        uniform = np.broadcast_to(np.expand_dims(np.asarray(progress) < min(self._random_until(), 1.0), -1), shape)
        normal = torch.randn((*shape, self.model.size), generator=generator, device=generator.device)
        smooth = (_matrices(self.model, shape, generator),) if self.model.sde.use_sde else ()
        return to_tensor(uniform.copy(), generator.device), normal, *smooth

    def choose(self, parameters: Any, mask: Tensor | None, noise: Tree) -> tuple[Any, Any]:
        distribution = self.model.distribution(parameters)
        if noise is None:
            action = distribution.to_env(distribution.mode())
        else:
            uniform, normal, *smooth = map(torch.as_tensor, noise)
            # the distribution function of a normal number is uniform: 2 Phi(z) - 1 in [-1, 1]
            spread = torch.erf(normal * math.sqrt(0.5))
            action = torch.where(
                uniform[..., None], spread, distribution.to_env(distribution.sample(*smooth or [normal]))
            )
        return action, action

    def describe(self, obs: Obs, carry: Tree) -> dict[str, Tensor]:
        distribution, critics = self.model(obs), self.model.critics
        numbers = critics(obs, distribution.mode().tanh())
        shown = {"value": critics.values.value(numbers), **distribution.describe()}
        if critics.values.atoms > 1:  # quantiles of the return, and all of them are as likely
            shown["returns"] = numbers.transpose(0, 1).flatten(1)
            shown["return_probabilities"] = torch.full_like(shown["returns"], 1 / shown["returns"].shape[1])
        return shown

    def read(self, output: SquashedGaussian, action: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("its actions are learnt from one by one, and never by trajectory")


class EpsilonGreedyPolicy(ModelPolicy):
    """The action of the highest value, or with probability epsilon any legal one.

    Args:
        model: puts out action values.
        exploration: from which epsilon to which, over what part of the training.
    """

    stream = "exploration"

    def __init__(self, model: QNetwork, exploration: ExplorationConfig) -> None:
        self.model = model
        self._initial, self._final = exploration.exploration_initial_eps, exploration.exploration_final_eps
        self._fraction = exploration.exploration_fraction

    def epsilon(self, progress: Any) -> Any:
        """Return the chance of a random action when `progress` (0 to 1) of the training is done, or that of many."""
        if not self._fraction:
            return self._final
        return linear(self._initial, self._final, progress / self._fraction)

    def schedules(self, progress: float) -> dict[str, float]:
        return {"rollout/exploration_rate": self.epsilon(progress)}

    def layer_noise(self, noise: Tree) -> tuple[Noise, ...]:
        return (Noise(noise[2]),) if noise is not None and self.model.noise_size else ()

    def actor(self) -> Act:
        act = super().actor()
        if self.model.masked or self.recurrent or self.model.noise_size:
            return act

        def explore_or_act(obs: Obs, carry: Tree, noise: Tree) -> Acted:
            if noise is not None and type(noise[0]) is ndarray:
                exploring = np.count_nonzero(noise[0])
                if exploring == len(noise[0]):  # the model need not be asked
                    action = random_action(noise[1], self.model.n_actions)
                    return Acted(action, action, carry)
                if not exploring:
                    noise = None
            return act(obs, carry, noise)

        return explore_or_act

    def draw_noise(self, shape: tuple[int, ...], progress: Progress, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw for each environment whether it explores, a uniform number for the action it takes then, and what
        noisy layers take, if there are any.
        """
        epsilon = self.epsilon(progress)
        if isinstance(epsilon, ndarray):
            epsilon = to_tensor(epsilon.astype(np.float32)[:, None], generator.device)
        coin, uniform = torch.rand((2, *shape), generator=generator, device=generator.device)
        explore = coin < epsilon
        if not self.model.noise_size:
            return explore, uniform
        layers = torch.randn((*shape, self.model.noise_size), generator=generator, device=generator.device)
        return explore, uniform, layers

    def choose(self, parameters: Any, mask: Tensor | None, noise: Tree) -> tuple[Any, Any]:
        action = masked(parameters, mask).argmax(-1)
        if noise is not None:
            explore, uniform = noise[:2]
            random = random_action(uniform, self.model.n_actions) if mask is None else legal_action(uniform, mask)
            action = epsilon_greedy(action, explore, random)
        return action, action

    def describe(self, obs: Obs, carry: Tree) -> dict[str, Tensor]:
        q, atoms, behaviour = self.model.output(obs, carry)
        out = action_mask(obs) is not None or behaviour is not None
        shown = {"value": q.amax(dim=1), "q_values": q.masked_fill(q <= lowest(q), torch.nan) if out else q}
        if atoms is not None:
            shown["returns"], shown["return_probabilities"] = self.model.values.spread(atoms)
        return shown

    def read(self, output: QOutput, action: Tensor) -> tuple[Tensor, Tensor]:
        return output.q.gather(-1, action[..., None]).squeeze(-1), output.q.amax(-1)
