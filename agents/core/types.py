"""The contracts between rooms: what an agent is, and what a loop yields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Obs = Any  # Tensor | dict[str, Tensor]


@dataclass(slots=True)
class Episode:
    """One finished episode: raw (undiscounted, unnormalised) return and length in steps."""

    ret: float
    length: int


@dataclass(slots=True)
class Progress:
    """What a loop yields each time it could be stopped, saved or looked at.

    Attributes:
        step: environment steps taken since the run began.
        metrics: TensorBoard tag -> value of the updates made since the last Progress; may be empty.
        episodes: those that finished since the last Progress.
        seconds: phase ("env", "act", "copy", "learn") -> time spent in it since the last Progress.
    """

    step: int
    metrics: Mapping[str, float | Tensor] = field(default_factory=dict)
    episodes: list[Episode] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Policy(Protocol):
    """What acting needs, and all that evaluation, watching and recording see of an agent."""

    device: torch.device

    def predict(self, obs: Obs, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Return canonical actions for a batch of observations (NumPy or tensors, `[N, ...]`).

        A stochastic policy draws from `generator`, never from the agent's own streams.
        """
        ...

    def inspect(self, obs: Obs) -> dict[str, Tensor]:
        """Return what the policy thinks of a batch: some of
        `value [N]`, `probabilities [N, A]`, `q_values [N, A]`, `mean [N, d]`, `std [N, d]`.
        """
        ...


class Agent(Policy, Protocol):
    """Networks, optimiser, random generators and counters; no environment, no logger, no file."""

    @property
    def network(self) -> nn.Module:
        """All that acting needs, normaliser statistics included."""
        ...

    def schedules(self, progress: float) -> dict[str, float]:
        """Return TensorBoard tag -> value of what changes over the run, when `progress` (0 to 1) of it is done."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training needs to go on bit for bit."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        ...


class OnPolicyAgent(Agent, Protocol):
    """An agent that learns from its own latest rollout; the data's types belong to `agents.data`."""

    def noise(self, n_steps: int, num_envs: int) -> Iterable[Tensor]:
        """Draw the randomness of `n_steps` calls of `act`."""
        ...

    def act(self, obs: Obs, noise: Tensor) -> Any:
        """Sample actions: `action` to store and `env_action` for the environment, each `[N, ...]`."""
        ...

    def sample(self, obs: Obs, noise: Tensor) -> Any:
        """Do the same as a pure function of tensors on the agent's device."""
        ...

    def evaluate(self, obs: Obs, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities and values of many observations and stored actions, each `[B]`."""
        ...

    def value(self, obs: Obs) -> Tensor:
        """Return V(obs), `[N]`."""
        ...

    def update(self, rollout: Any, progress: float) -> dict[str, float]:
        """Learn from a rollout when `progress` of the budget (0 to 1) is spent."""
        ...


class OffPolicyAgent(Agent, Protocol):
    """An agent that learns from transitions of any age."""

    def exploration(self, progress: Sequence[float], num_envs: int) -> Tensor:
        """Draw the actions of the next K ticks that are not greedy, int64 `[K, num_envs]`, -1 elsewhere."""
        ...

    def act(self, obs: Obs) -> Any:
        """Return greedy actions `[N]`, an array or a tensor."""
        ...

    def sample(self, obs: Obs, forced: Tensor) -> tuple[Tensor, Tensor]:
        """Act with a row of `exploration`, as a pure function of tensors: the action to store and the environment's."""
        ...

    def update(self, batch: Any, progress: float) -> dict[str, Tensor]:
        """Take one optimiser step."""
        ...

    def update_target(self) -> None:
        """Move the target network."""
        ...
