"""Vector environments that step in C++ threads of this process: EnvPool's, and the Atari emulator's (ALE) own.

Their randomness is a stream of their own, so no position of theirs can be restored, and two runs with the same seed
agree only on the same backend. How each tells of an episode's end:

* EnvPool resets on the next step (NEXT_STEP): the observation that comes with `terminated` or `truncated` is the
  final one, and the next transition is a dummy, whose action is ignored. It knows one flag and the time limit, so an
  episode that terminates just at its limit counts as truncated, where Gymnasium would set both flags.
* ALE is asked to reset on the same step (SAME_STEP): the final observation is in `infos["final_obs"]`, for every
  environment, and only the rows of those that ended mean anything.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from envs.actions import ActionCodec
from envs.adapters.checks import silenced
from envs.adapters.vector import GymVectorEnv
from envs.api import Step
from envs.spaces import Codec, ObservationCodec

_OLDEST = [1, 2, 2]  # EnvPool's


class ThreadsVecEnv(GymVectorEnv):
    """A vector environment whose threads step between `send` and `receive`. See `envs.api.VecEnv`."""

    overlaps = True

    def __init__(
        self, env: VectorEnv, backend: str, rescale_action: bool = False, codec: Codec = ObservationCodec
    ) -> None:
        super().__init__(env, rescale_action, codec)
        self.backend = backend
        self._threads: Any = env  # it has Gymnasium's API, and `send` and `recv`

    def send(self, action: np.ndarray) -> None:
        actions = self._actions.decode(action)
        with self._step_errors():
            self._threads.send(actions)

    def receive(self) -> Step:
        with self._step_errors():
            return self._finish(self._threads.recv())

    def step(self, action: np.ndarray) -> Step:
        self.send(action)
        return self.receive()


class EnvPoolVecEnv(ThreadsVecEnv):
    """EnvPool's version of an environment of Gymnasium's.

    Args:
        spec: the environment; `envpool_fault` must have found nothing against it.
        num_envs: how many.
        max_episode_steps: the time limit, or None for EnvPool's own.
        observation_space: Gymnasium's: EnvPool's has the same form, but not the bounds.
        rescale_action: actions are in [-1, 1], to be mapped onto the bounds.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        max_episode_steps: int | None,
        observation_space: Space,
        rescale_action: bool = False,
        codec: Codec = ObservationCodec,
    ) -> None:
        limit = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
        self._recipe: dict[str, Any] = {"task_id": spec.id, "num_envs": num_envs, **limit}
        super().__init__(self._make(0), "envpool", rescale_action, codec)
        self.observation_space = ObservationCodec(observation_space).space
        self.own_spaces = observation_space, self._actions.raw

    def _make(self, seed: int) -> Any:
        import envpool

        return envpool.make_gymnasium(**self._recipe, seed=seed)

    def _reset_all(self, seed: int) -> Any:
        self._env = self._threads = self._make(seed)  # a pool's seed is fixed when it is made
        return self._threads.reset()


def envpool_fault(spec: EnvSpec, kwargs: dict[str, Any]) -> str | None:
    """Return why EnvPool cannot make what `spec` and `kwargs` ask of Gymnasium, or None if it can, by its registry."""
    if not (isinstance(spec.entry_point, str) and spec.entry_point.startswith("gymnasium.envs.")):
        return f"EnvPool has no {spec.id}: use --vec auto"
    if importlib.util.find_spec("envpool") is None:
        return '--vec envpool needs a package that is not installed: pip install -e ".[envpool]"'
    version = importlib.metadata.version("envpool")
    if [int(part) for part in re.findall(r"\d+", version)[:3]] < _OLDEST:
        return f'EnvPool {version} is too old, as it is no gymnasium.vector.VectorEnv: pip install -e ".[envpool]"'
    import envpool

    if spec.id not in envpool.list_all_envs():
        return f"EnvPool has no {spec.id}: use --vec auto"
    if other := sorted(set(kwargs) - {"max_episode_steps"}):
        return (
            f"EnvPool's {spec.id} takes no argument but max_episode_steps here, got {', '.join(other)}: use --vec sync"
        )
    return None


def envpool_difference(spec: EnvSpec, observation_space: Space, action_space: Space) -> str | None:
    """Return how EnvPool's spaces differ from Gymnasium's (raw), or None if they are the same to an agent.

    Bounds of observations do not count: EnvPool gives none.
    """
    import envpool

    with silenced():
        pool = envpool.make_spec(spec.id)
        their_spaces = pool.gymnasium_observation_space, pool.gymnasium_action_space
    theirs, ours = ObservationCodec(their_spaces[0]).space, ObservationCodec(observation_space).space
    if _form(theirs) != _form(ours):
        return f"EnvPool's {spec.id} has observations {theirs}, Gymnasium's has {ours}: use --vec sync"
    theirs, ours = ActionCodec(their_spaces[1]).space, ActionCodec(action_space).space
    if theirs != ours:
        return f"EnvPool's {spec.id} has actions {theirs}, Gymnasium's has {ours}: use --vec sync"
    return None


def _form(space: Space) -> Any:
    """Return a canonical space without the bounds of its boxes."""
    if isinstance(space, spaces.Dict):
        return {key: _form(leaf) for key, leaf in space.spaces.items()}
    return (space.shape, space.dtype) if isinstance(space, spaces.Box) else space
