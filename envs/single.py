"""One environment, as Gymnasium makes it; and what is known of an environment before it is made."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from envs.adapters import atari, box2d, minigrid, mujoco
from envs.adapters.checks import silenced
from envs.errors import UserError, did_you_mean, words_of
from envs.locate import Wrappers, locate, newer_version, wrapped
from envs.native.base import Dynamics, name_of, paints, parameters
from envs.native.gym_env import NativeEnv, native_task

_EXTRAS = {"gymnasium.envs.box2d": "box2d", mujoco.HOME: "mujoco", "ale_py": "atari"}
_MODULES = {"box2d": ("Box2D",), "mujoco": ("mujoco",), "atari": ("ale_py", "cv2")}


def make_single(
    env_id: str | EnvSpec,
    *,
    env_kwargs: dict[str, Any] | None = None,
    render_mode: str | None = None,
    wrappers: Wrappers = (),
) -> gymnasium.Env:
    """Build one environment as Gymnasium does, `render_mode` None, "rgb_array" or "human".

    Games of the Atari emulator come preprocessed; see `envs.adapters.atari`. Wrappers go around what Gymnasium makes.

    Raises:
        UserError: as `make`.
    """
    kwargs = dict(env_kwargs or {})
    spec = locate(env_id) if isinstance(env_id, str) else env_id
    check_kwargs(spec, kwargs, native=False)
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
        check_renders(spec)
    with building(spec, kwargs), mujoco.quiet(spec):
        if atari.is_game(spec):
            return wrapped(atari.make_game(spec, kwargs), wrappers)
        aimed = any("camera" in name for name in kwargs)
        spec, kwargs = _with_own(spec, kwargs)
        env = gymnasium.make(spec, disable_env_checker=True, **kwargs)
        for name in ("observation_space", "action_space"):
            if not isinstance(getattr(env, name, None), gymnasium.Space):
                raise UserError(f"{spec.id} has no {name}: its __init__ must set self.{name} to a gymnasium.Space")
        if render_mode == "rgb_array" and not aimed:
            mujoco.follow(env)
        return minigrid.in_planes(wrapped(box2d.repeatable(env), wrappers))


def _with_own(spec: EnvSpec, kwargs: dict[str, Any]) -> tuple[EnvSpec, dict[str, Any]]:
    """Return the specification with the arguments that the constructor has itself, and the other arguments.

    `gymnasium.make` keeps some names for itself ("max_episode_steps", "id"), even where a constructor has them too.
    """
    own = {name: kwargs[name] for name in _arguments(spec) or () if name in kwargs}
    limit = own.get("max_episode_steps")
    if limit is not None and spec.max_episode_steps is not None:
        spec = dataclasses.replace(spec, max_episode_steps=limit)  # or the registered limit would cut it short
    spec = dataclasses.replace(spec, kwargs={**spec.kwargs, **own})
    return spec, {name: value for name, value in kwargs.items() if name not in own}


def has_native(env_id: str) -> bool:
    """Return whether an environment has a native version, which can live on a GPU."""
    return native_task(locate(env_id)) is not None


def has_time_limit(env_id: str, env_kwargs: Mapping[str, Any]) -> bool:
    """Return whether an environment's episodes are known to be cut: by an argument, its registration, or its nature.

    One that counts the steps of its episodes by itself does not say so.
    """
    spec = locate(env_id)
    if "max_episode_steps" in env_kwargs or spec.max_episode_steps is not None:
        return (env_kwargs.get("max_episode_steps", spec.max_episode_steps) or -1) > 0
    return native_task(spec) is not None or atari.is_game(spec)


def reward_threshold(env_id: str) -> float | None:
    """Return the mean return at which the environment's author calls it solved, if there is one."""
    return locate(env_id).reward_threshold


@contextmanager
def building(spec: EnvSpec, kwargs: dict[str, Any]) -> Iterator[None]:
    """Whatever is raised while an environment is built becomes the message that helps."""
    try:
        with silenced():
            yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        home = _home(spec)
        for prefix, extra in _EXTRAS.items():
            if home.startswith(prefix) and any(importlib.util.find_spec(name) is None for name in _MODULES[extra]):
                fix = f'pip install -e ".[{extra}]"'
                raise UserError(f"{spec.id} needs a package that is not installed: {fix}") from error
        if isinstance(error, ImportError) and (newer := newer_version(spec)) is not None:
            raise UserError(f"{spec.id} is no longer supported: use {newer}") from error
        if isinstance(error, ModuleNotFoundError):
            raise UserError(f"{spec.id} needs the package {error.name!r}: pip install {error.name}") from error
        given = ", ".join(f"{key}={value!r}" for key, value in kwargs.items()) or "no arguments"
        raise UserError(
            f"{spec.id} could not be built with {given}: {type(error).__name__}: {words_of(error)}"
        ) from error


def _home(spec: EnvSpec) -> str:
    return spec.entry_point if isinstance(spec.entry_point, str) else ""


def _task(spec: EnvSpec, native: bool) -> type[Dynamics] | None:
    """Return the task that an environment follows, or None: where not `native`, one of Gymnasium's is its own."""
    return native_task(spec) if native or _creator(spec) is NativeEnv else None


def check_kwargs(spec: EnvSpec, kwargs: dict[str, Any], native: bool) -> None:
    """Refuse arguments that an environment, or its `native` version, does not take, as far as its signature tells.

    Raises:
        UserError: there is one.
    """
    accepted = _accepted(spec, native)
    if accepted is None:
        return
    for name in kwargs:
        if name not in accepted:
            listed = ", ".join(accepted) or "none"
            raise UserError(f"{spec.id} takes no argument {name!r}; it takes {listed}.{did_you_mean(name, accepted)}")


def _accepted(spec: EnvSpec, native: bool) -> list[str] | None:
    """Return the names of the arguments an environment takes, or None where its signature does not tell."""
    if (task := _task(spec, native)) is not None:
        return parameters(task)
    if atari.is_game(spec):
        return list(atari.PARAMETERS)
    taken = _arguments(spec)
    kept = {"render_mode"} if spec.entry_point is not None else {"render_mode", "num_envs"}
    return None if taken is None else sorted({*taken, "max_episode_steps"} - kept)


def _arguments(spec: EnvSpec) -> list[str] | None:
    creator = _creator(spec)
    if creator is None:
        return None
    found = inspect.signature(creator).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in found):
        return None
    return [parameter.name for parameter in found if parameter.kind is not parameter.VAR_POSITIONAL]


def _creator(spec: EnvSpec) -> Any:
    """Return what builds the environment, or None where it cannot be imported: building it will say why."""
    entry = spec.entry_point or spec.vector_entry_point
    try:
        with silenced():
            return load_env_creator(entry) if isinstance(entry, str) else entry
    except Exception:
        return None


def check_renders(env_id: str | EnvSpec, native: bool = False) -> None:
    """Refuse an environment, or its `native` version, that says of itself that it cannot be drawn.

    Raises:
        UserError: what it lacks.
    """
    spec = locate(env_id) if isinstance(env_id, str) else env_id
    task = _task(spec, native)
    if task is not None and not paints(task):
        raise UserError(f"{name_of(task)} cannot be drawn: it has no painter(render_mode)")
    creator = _creator(spec)
    metadata: Any = getattr(creator, "metadata", None) if inspect.isclass(creator) else None
    if isinstance(metadata, dict):  # of a wrapper's class it is a property
        modes = metadata.get("render_modes") or []
        if "rgb_array" not in modes:
            raise UserError(
                f"{spec.id} cannot be drawn: its metadata['render_modes'] is {modes}, without 'rgb_array':"
                " add that, and let render() return a picture"
            )
    arguments = _arguments(spec)
    if arguments is not None and "render_mode" not in arguments:
        what = "__init__" if inspect.isclass(creator) else "function"
        raise UserError(
            f"{spec.id} cannot be drawn: its {what} must take render_mode=None"
            f"{', and keep it as self.render_mode' if inspect.isclass(creator) else ''}"
        )
