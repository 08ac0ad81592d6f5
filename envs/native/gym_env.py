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

from envs.native import tasks
from envs.native.base import Dynamics, build_dynamics, is_dynamics, observation
from envs.native.painters import Painter


def _discovered() -> Iterator[type[Dynamics]]:
    """Yield every task that a module of the folder `tasks` defines."""
    for found in pkgutil.iter_modules(tasks.__path__, f"{tasks.__name__}."):
        module = importlib.import_module(found.name)
        yield from (value for value in vars(module).values() if is_dynamics(value, module))


DYNAMICS: dict[str, type[Dynamics]] = {
    name: task for task in _discovered() for name in (task.env_id, f"native/{task.env_id}")
}


class NativeEnv(gymnasium.Env):
    """One environment of our own, as Gymnasium knows them; from one seed it starts as Gymnasium's does.

    Args:
        task: a key of `DYNAMICS`.
        render_mode: None, "rgb_array" or "human".
        parameters: of the dynamics. The time limit is Gymnasium's `TimeLimit`, put around by `gymnasium.make`.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012 (Gymnasium's declaration)

    def __init__(self, task: str, render_mode: str | None = None, **parameters: Any) -> None:
        self._dynamics = build_dynamics(DYNAMICS[task], parameters)
        self.observation_space = self._dynamics.observation_space
        self.action_space = self._dynamics.action_space
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self._dynamics.render_fps}
        self._state: np.ndarray = np.empty(0)
        self._painter: Painter | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._state = self._dynamics.init(np, self.np_random.random((self._dynamics.uniforms, 1)))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if isinstance(self.action_space, gymnasium.spaces.Discrete) and not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}")
        actions = np.asarray(action, self.action_space.dtype)[None]
        self._state, reward, terminated = self._dynamics.step(np, self._state, actions)
        return self._observe(), float(reward[0]), bool(terminated[0]), False, {}

    def render(self) -> Any:
        if self.render_mode is None:
            return None
        if self._painter is None:
            self._painter = self._dynamics.painter(self.render_mode)
        return self._painter.paint(self._state[:, 0])

    def close(self) -> None:
        if self._painter is not None:
            self._painter.close()
            self._painter = None

    def _observe(self) -> np.ndarray:
        if self.render_mode == "human":
            self.render()
        return observation(np, self._dynamics, self._state)[0]


for _id, _task in DYNAMICS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(
            _id,
            entry_point="envs.native.gym_env:NativeEnv",
            reward_threshold=_task.reward_threshold,
            max_episode_steps=_task().max_episode_steps,
            kwargs={"task": _task.env_id},
        )
