"""What rooms hand one another: how an action was chosen, and what a training yields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Obs = Any  # Tensor | dict[str, Tensor]
Tree = Any  # nested dicts and tuples of tensors; () is empty


class Acted(NamedTuple):
    """What acting on a batch of N observations gives.

    Attributes:
        action: as chosen, which is what is stored, `[N, ...]`.
        env_action: as the environment takes it, `[N, ...]`.
        carry: the recurrent state after the step, `[N, ...]`; () without memory.
    """

    action: Any
    env_action: Any
    carry: Tree


Act = Callable[[Obs, Tree, Tree], Acted]  # observations, carry and noise (None: greedily)


class Policy(Protocol):
    """What evaluation, watching and recording need of a policy, whoever trained it."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def initial_carry(self, num_envs: int) -> Tree:
        """Return the recurrent state at an episode's start, `[N, ...]`; () without memory."""
        ...

    def draw_noise(self, shape: tuple[int, ...], progress: float, generator: torch.Generator) -> Tree:
        """Draw all randomness of `shape` calls (of one environment each) at `progress` (0 to 1) of the training."""
        ...

    def schedules(self, progress: float) -> dict[str, float]:
        """Return TensorBoard tag -> value of what changes over a training, when `progress` (0 to 1) of it is done."""
        ...

    def actor(self) -> Act:
        """Return the quickest way to act on NumPy or tensor observations, good until parameters change."""
        ...

    def inspect(self, obs: Obs, carry: Tree) -> dict[str, Tensor]:
        """Return what the policy computes for a batch: some of
        `value [N]`, `probabilities [N, A]`, `q_values [N, A]` (NaN: illegal), `mean [N, d]`, `std [N, d]`, and of
        each action's distribution of returns `returns [N, A, K]` and `return_probabilities [N, A, K]`, or of that of
        the most likely action, `[N, K]`.
        """
        ...


@dataclass(slots=True)
class Episodes:
    """Episodes that ended: raw (undiscounted) returns and lengths in steps, oldest first.

    Where many ended at once on a GPU, `returns` and `lengths` hold the newest only, and stay there until they are read.

    Attributes:
        count: how many ended.
        returns, lengths: one entry for each; on a device those after the first `count` are not filled.
        infos: what `info` held at the end of each (`envs.api.Step.infos`), {} where that was nothing; () if it was
            nothing for all of them.
    """

    count: int | Tensor = 0
    returns: NDArray[np.float64] | Tensor = field(default_factory=lambda: np.empty(0))
    lengths: NDArray[np.int64] | Tensor = field(default_factory=lambda: np.empty(0, np.int64))
    infos: Sequence[dict[str, Any]] = ()

    def read(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the returns and lengths as arrays on the host."""
        kept = min(int(self.count), len(self.returns))
        returns, lengths = self.returns, self.lengths
        if isinstance(returns, Tensor):
            returns = returns.cpu().numpy()
        if isinstance(lengths, Tensor):
            lengths = lengths.cpu().numpy()
        return returns[:kept], lengths[:kept]


def successes(infos: Iterable[Mapping[str, Any]]) -> list[float]:
    """Return `info["is_success"]` (1 for yes, 0 for no) of those episodes whose infos have it, as SB3 reads it."""
    found = [info["is_success"] for info in infos if isinstance(info.get("is_success"), bool | int | float)]
    return [float(success) for success in found]


@dataclass(slots=True)
class Iteration:
    """What came of collecting and updating once: yielded where a training can be stopped, saved or looked at.

    Attributes:
        step: environment steps taken since the run began.
        metrics: TensorBoard tag -> value of the updates made in it; may be empty.
        latest: TensorBoard tag -> value of what changes over the run (rates, counters), as it is now.
        episodes: those that ended in it, in parts.
        seconds: phase ("env", "act", "copy", "learn") -> time spent in it; "compile" is the part of all that which
            went into first calls, where there were any: programs are compiled, captured or compared in them.
        data: the rollout that was learnt from, good until the next one; None off-policy.
    """

    step: int
    metrics: Mapping[str, float | Tensor] = field(default_factory=dict)
    latest: Mapping[str, float] = field(default_factory=dict)
    episodes: list[Episodes] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    data: Any = None
