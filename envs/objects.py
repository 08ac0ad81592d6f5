"""Environments given as Python objects: an id for each, by which everything else builds it."""

from __future__ import annotations

import copy
import os
import re
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import gymnasium

from envs.errors import UserError, words_of
from envs.native.base import is_dynamics
from envs.native.gym_env import native_spec

NAMESPACE = "given"  # of the ids made here: they are known to this process alone
_ids: dict[int, tuple[Any, str]] = {}  # id(object) -> the object, which is kept so that the number stays its own


def named(env: Any) -> tuple[str, dict[str, Any]]:
    """Return the id and the arguments by which `envs.make.make` builds an environment.

    Args:
        env: an id or a path, which stay as they are; a class (`gymnasium.Env` or `envs.native.base.Dynamics`), a
            function that returns an environment, or an environment: of one that `gymnasium.make` made others are made
            alike where a file can hold its arguments, any other is copied.

    Raises:
        UserError: it is none of these, or an environment that cannot be copied.
    """
    if isinstance(env, str | os.PathLike):
        return os.fspath(env), {}
    if hasattr(env, "num_envs"):
        raise UserError(
            f"{type(env).__name__} is many environments at once: give one, or what makes one, and n_envs={env.num_envs}"
        )
    if isinstance(env, gymnasium.Env):
        return _same_again(env)
    if not callable(env):
        raise UserError(
            f"{env!r} is no environment: give an id such as 'CartPole-v1', an environment, its class, or a function"
        )
    if home := _importable(env):
        return home, {}
    return _registered(env, getattr(env, "__name__", type(env).__name__)), {}


def _same_again(env: gymnasium.Env) -> tuple[str, dict[str, Any]]:
    spec = env.spec
    if spec is not None and not spec.additional_wrappers and spec.id in gymnasium.registry:
        kwargs = {key: value for key, value in spec.kwargs.items() if key != "render_mode"}
        usual = gymnasium.registry[spec.id]
        kwargs = {key: value for key, value in kwargs.items() if usual.kwargs.get(key, usual) is not value}
        if spec.max_episode_steps != usual.max_episode_steps:
            kwargs["max_episode_steps"] = spec.max_episode_steps
        if _is_plain(kwargs):
            return spec.id, kwargs
    name = type(env.unwrapped).__name__
    try:
        copy.deepcopy(env)
    except Exception as error:
        raise UserError(
            f"this {name} cannot be copied ({type(error).__name__}: {words_of(error)}): "
            "give its class, or a function that makes it"
        ) from error

    def another(render_mode: str | None = None) -> gymnasium.Env:
        made = copy.deepcopy(env)
        if render_mode is not None:
            made.unwrapped.render_mode = render_mode
        return made

    return _registered(another, name, key=env), {}


def _is_plain(value: Any) -> bool:
    """Whether a file can hold it."""
    if type(value) in (list, tuple, dict):
        return all(map(_is_plain, [*value, *value.values()] if isinstance(value, dict) else value))
    return type(value) in (str, int, float, bool, type(None))


def _importable(env: Callable[..., Any]) -> str | None:
    """Return "module:Class" of a class that any process can import under that name, or None."""
    module, name = getattr(env, "__module__", None), getattr(env, "__qualname__", "")
    if (
        not isinstance(env, type)
        or module in (None, "__main__")
        or getattr(sys.modules.get(module), name, None) is not env
    ):
        return None
    own_file = re.fullmatch(r".+_[0-9a-f]{8}", module)  # as `envs.locate.load_file` names what it loads
    return None if own_file else f"{module}:{name}"


def _registered(maker: Callable[..., Any], name: str, key: Any = None) -> str:
    """Register what makes an environment; the same object has the same id again."""
    key = maker if key is None else key
    if id(key) in _ids:
        return _ids[id(key)][1]
    stem = f"{NAMESPACE}/{re.sub(r'[^A-Za-z0-9_.-]+', '', name) or 'env'}"
    env_id = next(one for n in count(1) if (one := stem if n == 1 else f"{stem}-{n}") not in gymnasium.registry)
    if is_dynamics(maker):
        gymnasium.registry[env_id] = native_spec(env_id, maker)  # type: ignore[arg-type]
    else:
        gymnasium.register(env_id, entry_point=maker)
    _ids[id(key)] = key, env_id
    return env_id
