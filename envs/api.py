"""The one contract every environment speaks: `Step` and `VecEnv`.

Arrays are `torch.Tensor` on `VecEnv.device` where `VecEnv.capturable`, and `numpy.ndarray` otherwise. An
observation is one array `[N, ...]`, or, for Dict and Tuple spaces, a flat dict of such arrays keyed by
the path to each leaf ("camera", "joints/0"). Leaf dtypes are float32, uint8 (images) and int64 (Discrete
and MultiDiscrete, counted from zero); see `envs.spaces`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from gymnasium import Space

from envs.names import Names

Array = Any
Obs = Any  # Array | dict[str, Array]


@dataclass(slots=True)
class Step:
    """What one tick of N environments returned.

    Attributes:
        obs: what to act on next, `[N, ...]`: already the first of a new episode where one ended.
        reward: float32 `[N]`, raw.
        terminated: bool `[N]`: a terminal state was reached, so nothing follows: cuts the bootstrap.
        truncated: bool `[N]`: the episode was cut from outside (a time limit): bootstraps from `next_obs`.
        next_obs: the true successor, `[N, ...]`: the final observation where an episode ended.
            It may be the same object as `obs` on a tick where none did.
        valid: bool `[N]`, or None when all are. False marks the dummy transition that a NEXT_STEP
            autoreset emits after an episode's end; it must reach no buffer and no statistic.
        infos: number of environment -> what its `info` held as its episode ended: numbers, text, small arrays, and
            dicts of these. Environments without any are left out; native ones have none.
    """

    obs: Obs
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: Obs
    valid: Array | None = None
    infos: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def starts(self) -> Array:
        """Where `obs` begins an episode, bool `[N]`: after an end, and after a dummy transition."""
        done = self.terminated | self.truncated
        return done if self.valid is None else done | ~self.valid


class VecEnv(Protocol):
    """N copies of one environment, stepped together, which begin a new episode by themselves.

    A step has two halves, so that a caller can work (learn) while environments in other processes or threads
    step: `send` hands the actions over and `receive` waits for what came of them. Where everything happens in
    this process, `send` only keeps the actions. After `send` comes `receive`, and nothing in between: neither
    another `send` nor `reset`, `state_dict`, `load_state_dict` or `render`; only `close` may come at any time.

    What `receive` returns reuses none of the arrays returned before: a caller may keep them, but must not write
    to them.
    """

    num_envs: int
    observation_space: Space  # of one environment, canonical (envs.spaces)
    action_space: Space  # of one environment, canonical
    own_spaces: tuple[Space, Space]  # of observations and actions, as the environment has them
    device: str  # "cpu" or "cuda"
    backend: str  # one of envs.make.VECS, but never "auto"
    backend_reason: str  # why that backend, in a few words; "" until envs.make.make has chosen it
    names: Names  # of actions and observations, where it was made to be drawn
    overlaps: bool  # whether environments step between `send` and `receive`, in other processes or threads
    capturable: bool  # whether it speaks tensors, and a step can be compiled or captured in a CUDA graph

    def reset(self, seed: int) -> Obs:
        """Begin an episode everywhere; all later randomness follows from `seed`."""
        ...

    def send(self, action: Array) -> None:
        """Hand over canonical actions: as `envs.actions` says, clipped or rescaled here.

        They must stay as they are until `receive` returns.
        """
        ...

    def receive(self) -> Step:
        """Wait for the step that `send` began, and return what came of it.

        Raises:
            EnvError: the environment raised, or returned NaN or infinity, a wrong shape or a wrong dtype.
        """
        ...

    def step(self, action: Array) -> Step:
        """`send`, and `receive` at once."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on from here."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Go back to a saved position; return one sentence for each thing that could not be restored.

        An environment that could not be put back begins a new episode: the caller's last observation is
        not its present one, so its next transition is a dummy, False in `Step.valid`.

        Raises:
            UserError: the position is damaged, or is that of other environments.
        """
        ...

    def doubts(self) -> str | None:
        """Try whether an episode follows from its seed and actions alone; say why not, or None where nothing is seen.

        To be called before a `reset`: an environment is played in.
        """
        ...

    def render(self, index: int = 0) -> np.ndarray:
        """Return environment `index` as an image, uint8 `[H, W, 3]`."""
        ...

    def close(self) -> None:
        """Free windows and processes."""
        ...


class InProcess:
    """The halves of a step that happens in this process: nothing begins before `receive`."""

    backend_reason = ""
    names = Names()
    overlaps = False
    _sent: Array

    def send(self, action: Array) -> None:
        self._sent = action

    def receive(self) -> Step:
        return self.step(self._sent)

    def step(self, action: Array) -> Step:
        raise NotImplementedError

    def doubts(self) -> str | None:
        return None
