"""Native environments as ordinary Gymnasium environments, registered with Gymnasium.

Importing this module registers "native/CartPole-v1" and so on, so that
`gymnasium.make("envs.native:native/CartPole-v1")` works from anywhere; those of our own invention also under their
plain ids, "Bricks-v0".
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from envs.native import tasks
from envs.native.base import Dynamics, Observed, build_dynamics, is_dynamics, name_of, painter_of, paints
from envs.native.painters import Painter


def _discovered() -> Iterator[type[Dynamics]]:
    """Yield every task that a module of the folder `tasks` defines."""
    for found in pkgutil.iter_modules(tasks.__path__, f"{tasks.__name__}."):
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            if is_dynamics(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                yield value


DYNAMICS: dict[str, type[Dynamics]] = {
    name: task for task in _discovered() for name in (name_of(task), f"native/{name_of(task)}")
}


class NativeEnv(gymnasium.Env):
    """One native environment, as Gymnasium knows them; from one seed it starts as Gymnasium's does.

    Args:
        task: a key of `DYNAMICS`, or a class like those.
        render_mode: None, "rgb_array" or "human".
        parameters: of the dynamics. The time limit is Gymnasium's `TimeLimit`, put around by `gymnasium.make`.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012 (Gymnasium's declaration)

    def __init__(self, task: str | type[Dynamics], render_mode: str | None = None, **parameters: Any) -> None:
        self._dynamics = build_dynamics(DYNAMICS[task] if isinstance(task, str) else task, parameters)
        self._observed = Observed(self._dynamics, self._dynamics.observation_space)
        self.observation_space = self._dynamics.observation_space
        self.action_space = self._dynamics.action_space
        self.render_mode = render_mode
        modes = self.metadata["render_modes"] if paints(type(self._dynamics)) else []
        self.metadata = {"render_modes": modes, "render_fps": self._dynamics.render_fps}
        self._state: np.ndarray = np.empty(0)
        self._painter: Painter | None = None

    @property
    def state(self) -> np.ndarray:
        """The dynamics' state, `[k]`."""
        return self._state[:, 0].copy()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Raises:
            ValueError: there are options, such as the bounds of the first state that Gymnasium's own environment takes.
        """
        if options:
            given = ", ".join(map(repr, options))
            raise ValueError(
                f"a native environment begins as it always does and takes no options at reset; given: {given}"
            )
        super().reset(seed=seed)
        self._state = self._dynamics.init(np, self.np_random.random((self._dynamics.uniforms, 1)))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if isinstance(self.action_space, gymnasium.spaces.Discrete) and not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}")
        dtype = np.float32 if isinstance(self.action_space, gymnasium.spaces.Box) else np.int64
        uniform = self.np_random.random((self._dynamics.step_uniforms, 1))
        self._state, reward, terminated = self._observed.step_numpy(
            self._state, np.asarray(action, dtype)[None], uniform
        )
        return self._observe(), float(reward[0]), bool(terminated[0]), False, {}

    def render(self) -> Any:
        if self.render_mode is None:
            return None
        if self._painter is None:
            self._painter = painter_of(self._dynamics, self.render_mode)
        return self._painter.paint(self._state[:, 0])

    def close(self) -> None:
        if self._painter is not None:
            self._painter.close()
            self._painter = None

    def _observe(self) -> Any:
        if self.render_mode == "human":
            self.render()
        obs = self._observed.observe(np, self._state)
        return {key: leaf[0] for key, leaf in obs.items()} if isinstance(obs, dict) else obs[0]


def native_spec(name: str, task: type[Dynamics]) -> EnvSpec:
    """Return the specification of a native environment that is not registered.

    Raises:
        UserError: the class breaks a rule of `Dynamics`.
    """
    limit = build_dynamics(task, {}).max_episode_steps
    creator: Any = NativeEnv
    return EnvSpec(name, creator, task.reward_threshold, max_episode_steps=limit, kwargs={"task": task})


def native_task(spec: EnvSpec) -> type[Dynamics] | None:
    """Return the task of an environment that has a native version, or None."""
    return spec.kwargs["task"] if spec.entry_point is NativeEnv else DYNAMICS.get(spec.id)


for _id, _task in DYNAMICS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(
            _id,
            entry_point="envs.native.gym_env:NativeEnv",
            reward_threshold=_task.reward_threshold,
            max_episode_steps=_task().max_episode_steps,
            kwargs={"task": name_of(_task)},
        )
