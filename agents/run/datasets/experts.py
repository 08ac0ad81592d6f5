"""Scripted experts and the random policy: whom to record where there is no trained run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import Space

from agents.acting.evaluation import StatelessPolicy
from agents.core.tree import rows_of
from envs.actions import legal_sample
from envs.adapters.masks import ACTION_MASK
from envs.errors import UserError, did_you_mean

Rule = Callable[[np.ndarray], int]


def balance(obs: np.ndarray) -> int:
    """CartPole: push to where the pole is about to fall, a little against where the cart is and goes."""
    place, speed, angle, turning = obs
    return int(angle + 0.3 * turning + 0.02 * place + 0.05 * speed > 0)


def swing(obs: np.ndarray) -> int:
    """MountainCar: push along with the car, so that it gains energy; near rest to the left."""
    return 2 if obs[1] > 0 else 0


def land(obs: np.ndarray) -> int:
    """LunarLander: Gymnasium's own heuristic."""
    from gymnasium.envs.box2d.lunar_lander import heuristic

    class Discrete:
        """What the heuristic asks of an environment."""

        unwrapped = type("", (), {"continuous": False})()
        continuous = False

    return int(heuristic(Discrete(), obs))


HEURISTICS: dict[str, Rule] = {"CartPole-v1": balance, "MountainCar-v0": swing, "LunarLander-v3": land}
NAMES = ("heuristic", "random")


class Heuristic(StatelessPolicy):
    """A rule for one observation, applied to each of a batch.

    Raises:
        UserError: there is none for this environment.
    """

    def __init__(self, env_id: str) -> None:
        if env_id not in HEURISTICS:
            near = did_you_mean(env_id, list(HEURISTICS))
            raise UserError(f"heuristic: there is none for {env_id}, only for {', '.join(HEURISTICS)}.{near}")
        self._rule = HEURISTICS[env_id]

    def choose(self, obs: Any, generator: torch.Generator | None) -> np.ndarray:
        return np.array([self._rule(row) for row in np.asarray(obs)], np.int64)


class Random(StatelessPolicy):
    """Legal actions, all as likely, drawn from the space's own stream."""

    def __init__(self, action_space: Space) -> None:
        self._space = action_space

    def choose(self, obs: Any, generator: torch.Generator | None) -> np.ndarray:
        masks = obs[ACTION_MASK] if isinstance(obs, dict) and ACTION_MASK in obs else None
        rows = rows_of(obs)
        return np.array([legal_sample(self._space, None if masks is None else masks[row]) for row in range(rows)])
