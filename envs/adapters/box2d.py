"""Gymnasium's Box2D environments that keep one physical world over all their episodes.

In what order a world's contacts are worked out depends on what has been in it before, so that the same seed and actions
lead elsewhere after other episodes (github.com/Farama-Foundation/Gymnasium/issues/728). LunarLander makes a new world
at each reset; here the others get one too.
"""

from __future__ import annotations

from typing import Any

import gymnasium

_KEEPING = ("gymnasium.envs.box2d.bipedal_walker", "gymnasium.envs.box2d.car_racing")


def repeatable(env: gymnasium.Env) -> gymnasium.Env:
    """Return `env` in such a way that its episodes follow from their seeds and actions alone."""
    keeps = any(base.__module__ in _KEEPING for base in type(env.unwrapped).__mro__)
    return FreshWorld(env) if keeps else env


class FreshWorld(gymnasium.Wrapper):
    """Gives an environment of Box2D a new world before each reset."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        inner: Any = self.env.unwrapped
        inner._destroy()  # bodies of the old world, which `reset` would look for in the new one
        inner.world = type(inner.world)(gravity=inner.world.gravity)
        return self.env.reset(seed=seed, options=options)
