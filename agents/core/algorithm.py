"""What an algorithm is: a model, a policy, and the mathematics of its update. Nothing else.

An algorithm never names a device, a graph, a file or an environment: `agents.acting` collects its data,
`agents.learning` differentiates, clips, steps and compiles.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.core.config import AlgoConfig
from agents.core.objective import ClippedSurrogate
from agents.core.schedules import scheduled
from agents.core.types import Policy
from envs.errors import UserError


class Algorithm(nn.Module):
    """Base of all algorithms; subclasses set `model` and `policy` in `__init__` and define `prepare` and `loss`.

    As a module it holds every tensor that training needs (target networks, running statistics): `state_dict` and
    `to` include them.

    Args of every subclass:
        observation_space, action_space: canonical (envs.spaces).
        config: a `config_class`.

    Attributes:
        config_class: the hyperparameters' type.
        data: what it learns from: "rollout" (its own newest steps), "replay" (transitions of any age) or "recorded"
            (episodes that somebody else played; its settings then have a part `recorded`).
        optimizer_eps: keeps the optimiser's divisors from 0.
        model: the network that is trained: all parameters of it that require gradients.
        policy: acts with it.
        successors: whether rollouts must have the true successor of every transition, as replay always has.
        views: whether replayed batches have `augmented` beside `obs`, the same pictures changed once more, as rollouts
            always have where pictures are changed.
        acts: whether the policy is one; False where only a representation is learnt, which nothing can be played with.
        n_epochs, batch_size: how the Learner goes through prepared data; None takes all of it as one minibatch.
    """

    config_class: ClassVar[type[AlgoConfig]]
    data: ClassVar[Literal["rollout", "replay", "recorded"]] = "rollout"
    optimizer_eps: ClassVar[float] = 1e-8

    model: nn.Module
    policy: Policy
    successors: bool = False
    views: bool = False
    acts: ClassVar[bool] = True
    n_epochs: int = 1
    batch_size: int | None = None

    def __init__(self, config: AlgoConfig) -> None:
        super().__init__()
        self.config: Any = config

    @classmethod
    def discrete(cls, action_space: Space) -> spaces.Discrete:
        """Return an action space that must be Discrete.

        Raises:
            UserError: it is not.
        """
        if not isinstance(action_space, spaces.Discrete):
            others = "ppo or sac" if isinstance(action_space, spaces.Box) else "ppo"
            raise UserError(
                f"{cls.__name__} needs a Discrete action space; this environment has {action_space}. "
                f"Use --algo {others}."
            )
        return action_space

    def constants(self, progress: float) -> dict[str, float]:
        """Return the numbers that change over a run, for data begun when `progress` (0 to 1) of its budget was spent.

        `learning_rate` among them is the optimiser's; the others reach `prepare` and `loss`, and all the curves under
        `train/`.
        """
        return {"learning_rate": scheduled(self.config.learning_rate, progress)}

    def prepare(self, data: Any, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Turn a `Trajectory` or a replay `Batch` into what minibatches are made of; no gradients are recorded.

        Returns:
            Tensors by name: `[T, N, ...]` of a trajectory, `[B, ...]` of a batch. Of a trajectory, `obs`, `start` and
            `valid` are handed on by the Learner.
        """
        raise NotImplementedError

    def draw(self, rows: int, generator: torch.Generator) -> dict[str, Any]:
        """Return what the loss of a replayed batch of so many transitions takes at random, to be put beside it."""
        return {}

    def loss(self, model: nn.Module, minibatch: dict[str, Any], constants: dict[str, Tensor]) -> tuple[Tensor, Any]:
        """Return the loss of a minibatch, a scalar, and what `metrics` and `stop` read of it.

        A pure function: it looks at no value and draws no random number.

        Args:
            model: `self.model`, or what stands for it while the loss is differentiated: use this one.
            minibatch: what `prepare` returned and `obs`, `[B, ...]`; with memory `[T, n, ...]`, `start` and `carry`
                `[n, ...]` too, and `valid`, False on dummy transitions, where there are any (see `ops.losses.mean`).
            constants: those of the data, as scalar tensors.

        Returns:
            The loss, and a dict of detached tensors: scalars, or one entry for each transition. An entry `priority`
            `[B]` goes back to the sampler.
        """
        raise NotImplementedError

    @property
    def objective(self) -> ClippedSurrogate | None:
        """What `loss` is, where that can be said as data, and steps follow it as they follow any: see `paces`."""
        return None

    @property
    def stops_early(self) -> bool:
        """Whether `stop` is asked before each optimiser step, which costs waiting for the device."""
        return False

    def stop(self, aux: dict[str, Tensor], constants: dict[str, Tensor]) -> Tensor:
        """Return whether to end the minibatches before the optimiser step that `aux` belongs to, a bool scalar."""
        raise NotImplementedError

    @property
    def paces(self) -> bool:
        """Whether `pace` says the learning rate of each optimiser step."""
        return False

    def pace(self, aux: dict[str, Tensor]) -> Tensor:
        """Return the learning rate, a scalar, of the optimiser step that `aux` belongs to.

        What it keeps from step to step is a buffer, changed in place; `constants` names the one reached.
        """
        raise NotImplementedError

    def metrics(self, aux: dict[str, Tensor], data: dict[str, Any], constants: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return TensorBoard tag -> scalar of an update; names in no group of their own are of the group "train".

        Args:
            aux: what `loss` returned for its minibatches: scalars stacked `[M]`, the others one after the other.
            data: what `prepare` returned.
        """
        means = {name: values.mean() if values.dim() else values for name, values in aux.items()}
        return {name if "/" in name else f"train/{name}": value for name, value in means.items()}

    def follow_model(self) -> None:
        """Adapt what was made from `model` (such as a target network): the model has been changed since."""

    def copy_model(self) -> None:
        """Make what is a copy of `model` (such as a target network) one again: the model got other weights."""
        self.follow_model()

    def after_update(self, data: dict[str, Any]) -> None:
        """Change what is no parameter (such as running statistics) after the last optimiser step on prepared `data`."""

    def after_round(self, before: int, after: int) -> None:
        """Do what falls due between two counts of environment steps (such as target updates), after their updates."""


class RecordedAlgorithm(Algorithm):
    """Base of those that learn from recorded episodes, until they foretell those held out no better.

    Attributes:
        lowest, stale: the lowest loss on held-out episodes so far, and the passes over the data since.
    """

    data = "recorded"
    lowest: Tensor
    stale: Tensor

    def __init__(self, config: AlgoConfig) -> None:
        super().__init__(config)
        self.register_buffer("lowest", torch.tensor(math.inf))
        self.register_buffer("stale", torch.tensor(0))

    def judged(self, loss: float) -> bool:
        """Note the loss on held-out episodes after a pass; return whether the training has come to its end."""
        found = torch.tensor(loss, dtype=self.lowest.dtype)  # as it will be kept, or a rounded one would be lower
        better = bool(found < self.lowest)
        self.lowest.fill_(min(float(found), float(self.lowest)))
        self.stale.fill_(0 if better else int(self.stale) + 1)
        return self.done

    def look_again(self) -> None:
        """Forget how the held-out episodes were foretold: there is more to learn from now."""
        self.lowest.fill_(math.inf)
        self.stale.fill_(0)

    @property
    def done(self) -> bool:
        """Whether so many passes brought no lower loss that the training is over."""
        return 0 < self.config.patience <= int(self.stale)
