"""The only constructor: an environment's id, a number of copies and a backend -> a `VecEnv`."""

from __future__ import annotations

import importlib.util
import inspect
import os
import statistics
import time
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from envs.adapters.checks import silenced
from envs.adapters.sync import SyncVecEnv
from envs.adapters.vector import adapt, in_processes
from envs.api import VecEnv
from envs.errors import UserError, did_you_mean
from envs.locate import env_label, locate, newer_version
from envs.native import DYNAMICS, Arrays, NativeVecEnv, NumpyArrays, TorchArrays, build_dynamics, parameters
from envs.spaces import ActionCodec, ObservationCodec

__all__ = ["VECS", "env_label", "make", "make_single", "reward_threshold", "spaces_of"]

VECS = ("auto", "native", "sync", "async", "vector")

_SLOW_STEP = 1e-3  # seconds: from here on a process for each environment pays
_EXTRAS = {"gymnasium.envs.box2d": "box2d", "gymnasium.envs.mujoco": "mujoco", "ale_py": "atari"}
_MODULES = {"box2d": "Box2D", "mujoco": "mujoco", "atari": "ale_py"}


def make(
    env_id: str,
    num_envs: int = 1,
    *,
    vec: str = "auto",
    device: str = "cpu",
    env_kwargs: dict[str, Any] | None = None,
    rescale_action: bool = False,
    render: bool = False,
    tensors: bool = False,
) -> VecEnv:
    """Build `num_envs` copies of an environment.

    Args:
        env_id: a registered id, "module:Id", "path/to/file.py:Class" or "path/to/file.py".
        num_envs: how many.
        vec: "native" (our own arrays), "sync" (one after the other), "async" (a process each), "vector"
            (the environment's own vector entry point), or "auto": native if it is one of ours, else sync,
            or async where a step takes longer than a millisecond. Sync and async give the same transitions.
        device: where native environments live: "cpu" or "cuda"; the others are always on the CPU.
        env_kwargs: passed to the environment's constructor; `max_episode_steps` sets the time limit.
        rescale_action: Box actions are in [-1, 1] and mapped onto the bounds, instead of clipped to them.
        render: `VecEnv.render` will be called.
        tensors: native environments take and return torch tensors on the CPU too, to be compiled.

    Raises:
        UserError: the environment cannot be built so; the message says why and what to do.
    """
    kwargs = dict(env_kwargs or {})
    if num_envs < 1:
        raise UserError(f"the number of environments must be at least 1, got {num_envs}")
    if vec not in VECS:
        raise UserError(f"vec must be one of {', '.join(VECS)}, got {vec!r}.{did_you_mean(vec, VECS)}")
    spec = locate(env_id)
    _check_kwargs(spec, kwargs)
    if vec == "auto":
        vec = _choose(env_id, spec, num_envs, kwargs)
    if vec == "native":
        return _native(spec, num_envs, device, kwargs, rescale_action, tensors)
    if vec == "vector":
        return adapt(_vector(spec, num_envs, kwargs, render), rescale_action)
    maker = partial(make_single, env_id, env_kwargs=kwargs, render_mode="rgb_array" if render else None)
    if vec == "async":
        maker().close()  # what cannot be built is told here, not by a dying process
        return in_processes([maker] * num_envs, rescale_action)
    return SyncVecEnv([maker() for _ in range(num_envs)], rescale_action)


def make_single(
    env_id: str, *, env_kwargs: dict[str, Any] | None = None, render_mode: str | None = None
) -> gymnasium.Env:
    """Build one environment as Gymnasium does, `render_mode` None, "rgb_array" or "human".

    Raises:
        UserError: as `make`.
    """
    kwargs = dict(env_kwargs or {})
    spec = locate(env_id)
    _check_kwargs(spec, kwargs)
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
        _check_renders(spec)
    with silenced():
        return _build(spec, lambda: gymnasium.make(spec, disable_env_checker=True, **kwargs), kwargs)


def spaces_of(env_id: str, env_kwargs: dict[str, Any] | None = None) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Return an environment's canonical observation space and action space."""
    env = make_single(env_id, env_kwargs=env_kwargs)
    try:
        return ObservationCodec(env.observation_space).space, ActionCodec(env.action_space).space
    finally:
        env.close()


def has_native(env_id: str) -> bool:
    """Return whether an environment is one of our own, which can live on a GPU."""
    return locate(env_id).id in DYNAMICS


def reward_threshold(env_id: str) -> float | None:
    """Return the mean return at which the environment's author calls it solved, if there is one."""
    return locate(env_id).reward_threshold


def _choose(env_id: str, spec: EnvSpec, num_envs: int, kwargs: dict[str, Any]) -> str:
    if spec.id in DYNAMICS:
        return "native"
    if spec.entry_point is None:
        return "vector"
    slow = num_envs > 1 and (os.cpu_count() or 1) > 1 and _seconds_per_step(env_id, kwargs) > _SLOW_STEP
    return "async" if slow else "sync"


def _seconds_per_step(env_id: str, kwargs: dict[str, Any]) -> float:
    """Return the median time of a random step, from about 20 ms of them."""
    env = make_single(env_id, env_kwargs=kwargs)
    times: list[float] = []
    try:
        env.action_space.seed(0)
        env.reset(seed=0)
        while len(times) < 3 or (sum(times) < 0.02 and len(times) < 200):
            action = env.action_space.sample()
            start = time.perf_counter()
            _, _, terminated, truncated, _ = env.step(action)
            times.append(time.perf_counter() - start)
            if terminated or truncated:
                env.reset()
    except Exception:
        return 0.0  # broken: the sync loop will say how
    finally:
        env.close()
    return statistics.median(times)


def _native(
    spec: EnvSpec, num_envs: int, device: str, kwargs: dict[str, Any], rescale_action: bool, tensors: bool
) -> NativeVecEnv:
    if spec.id not in DYNAMICS:
        raise UserError(f"{spec.id} has no native version (those of {', '.join(DYNAMICS)} do): use --vec auto")
    try:
        arrays: Arrays = NumpyArrays() if device == "cpu" and not tensors else TorchArrays(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"there is no device {device!r} here for environments to live on: use --device cpu") from error
    return NativeVecEnv(build_dynamics(spec.id, kwargs), num_envs, arrays, rescale_action)


def _vector(spec: EnvSpec, num_envs: int, kwargs: dict[str, Any], render: bool) -> gymnasium.vector.VectorEnv:
    if spec.vector_entry_point is None:
        raise UserError(f"{spec.id} has no vector version of its own: use --vec sync or --vec async")
    if render:
        kwargs = {**kwargs, "render_mode": "rgb_array"}
    with silenced():
        return _build(
            spec,
            lambda: gymnasium.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs),
            kwargs,
        )


def _build(spec: EnvSpec, build: Any, kwargs: dict[str, Any]) -> Any:
    """Call `build`; whatever it raises becomes the message that helps."""
    try:
        return build()
    except UserError:
        raise
    except Exception as error:
        home = spec.entry_point if isinstance(spec.entry_point, str) else ""
        for prefix, extra in _EXTRAS.items():
            if home.startswith(prefix) and importlib.util.find_spec(_MODULES[extra]) is None:
                fix = f'pip install -e ".[{extra}]"'
                raise UserError(f"{spec.id} needs a package that is not installed: {fix}") from error
        if isinstance(error, ImportError) and (newer := newer_version(spec)) is not None:
            raise UserError(f"{spec.id} is no longer supported: use {newer}") from error
        if isinstance(error, ModuleNotFoundError):
            raise UserError(f"{spec.id} needs the package {error.name!r}: pip install {error.name}") from error
        given = ", ".join(f"{key}={value!r}" for key, value in kwargs.items()) or "no arguments"
        raise UserError(f"{spec.id} could not be built with {given}: {type(error).__name__}: {error}") from error


def _check_kwargs(spec: EnvSpec, kwargs: dict[str, Any]) -> None:
    """Refuse arguments that the environment does not take, as far as its signature tells."""
    accepted = _accepted(spec)
    if accepted is None:
        return
    for name in kwargs:
        if name not in accepted:
            listed = ", ".join(accepted) or "none"
            raise UserError(f"{spec.id} takes no argument {name!r}; it takes {listed}.{did_you_mean(name, accepted)}")


def _accepted(spec: EnvSpec) -> list[str] | None:
    """Return the names of the arguments an environment takes, or None where its signature does not tell."""
    if spec.id in DYNAMICS:
        return parameters(DYNAMICS[spec.id])
    taken = _arguments(spec)
    return None if taken is None else sorted({*taken, "max_episode_steps"} - {"render_mode", "num_envs"})


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


def _check_renders(spec: EnvSpec) -> None:
    creator = _creator(spec)
    if not inspect.isclass(creator):
        return
    metadata: dict[str, Any] = getattr(creator, "metadata", {})
    modes = metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        raise UserError(f"{spec.id} cannot be drawn: its metadata['render_modes'] is {modes}, without 'rgb_array'")
    arguments = _arguments(spec)
    if arguments is not None and "render_mode" not in arguments:
        raise UserError(f"{spec.id} cannot be drawn: its constructor takes no render_mode")
