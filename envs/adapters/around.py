"""A `VecEnv` around another one, which changes what is observed and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space

from envs import saved
from envs.api import Obs, Step, VecEnv
from envs.errors import UserError
from envs.names import Names


class Around:
    """Hands all on but observations, which subclasses change. See `envs.api.VecEnv`.

    Args:
        env: speaks NumPy.
        observation_space: canonical, of what comes out.
    """

    capturable = False
    names = Names()

    def __init__(self, env: VecEnv, observation_space: Space) -> None:
        self.env = env
        self._kept: dict[str, np.ndarray] = {}  # between two steps, by leaf
        self.num_envs, self.device, self.overlaps = env.num_envs, env.device, env.overlaps
        self.backend, self.backend_reason = env.backend, env.backend_reason
        self.observation_space, self.action_space, self.own_spaces = observation_space, env.action_space, env.own_spaces

    def _first(self, obs: Obs) -> Obs:
        """Take in the observations after a reset, and return those to act on."""
        raise NotImplementedError

    def _next(self, step: Step) -> Step:
        """Take in a step, and return it with other observations."""
        raise NotImplementedError

    def reset(self, seed: int) -> Obs:
        return self._first(self.env.reset(seed))

    def send(self, action: np.ndarray) -> None:
        self.env.send(action)

    def receive(self) -> Step:
        return self._next(self.env.receive())

    def step(self, action: np.ndarray) -> Step:
        return self._next(self.env.step(action))

    def state_dict(self) -> dict[str, Any]:
        return {"env": self.env.state_dict(), "kept": list(self._kept.values())}

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        found, mine = saved.entry(state, "kept", list), self._shapes()
        if len(found) != len(mine):
            raise UserError(f"the saved environment position has {len(found)} arrays of observations, not {len(mine)}")
        arrays = [
            saved.array(array, "kept", (self.num_envs, *shape), dtype)
            for array, (shape, dtype) in zip(found, mine.values(), strict=True)
        ]
        said = self.env.load_state_dict(saved.entry(state, "env", dict))
        self._kept = dict(zip(mine, arrays, strict=True))
        return said

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Return shape (of one environment) and dtype of what `_kept` holds, by leaf."""
        raise NotImplementedError

    def doubts(self) -> str | None:
        return self.env.doubts()

    def render(self, index: int = 0) -> np.ndarray:
        return self.env.render(index)

    def close(self) -> None:
        self.env.close()
