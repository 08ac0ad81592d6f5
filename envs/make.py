"""The only constructor: an environment's id, a number of copies and a backend -> a `VecEnv`."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from envs.adapters import atari, box2d, minigrid, mujoco
from envs.adapters.checks import closed, silenced
from envs.adapters.cleaning import Cleaning, CleanVecEnv, reader
from envs.adapters.masks import ACTION_MASK, Source, WithMask, build_masked, legal_sample, mask_source
from envs.adapters.stacking import StackedVecEnv
from envs.adapters.sync import SyncVecEnv
from envs.adapters.threads import EnvPoolVecEnv, ThreadsVecEnv, envpool_difference, envpool_fault
from envs.adapters.vector import adapt
from envs.adapters.workers import WorkersVecEnv
from envs.api import VecEnv
from envs.errors import EnvError, UserError, did_you_mean, words_of
from envs.locate import Wrappers, env_label, locate, newer_version, wrapped
from envs.names import Names, names_of
from envs.native.arrays import Arrays, NumpyArrays, TorchArrays
from envs.native.base import Dynamics, build_dynamics, name_of, paints, parameters
from envs.native.gym_env import DYNAMICS, NativeEnv, native_task
from envs.native.vec_env import NativeVecEnv
from envs.processes import cores
from envs.spaces import Codec

__all__ = ["VECS", "check_renders", "env_label", "has_time_limit", "make", "make_single", "reward_threshold"]

VECS = ("auto", "native", "sync", "async", "vector", "envpool", "ale")

Masks = Source | Literal["unknown"] | None

MOST_COPIES = 10_000  # that are built one by one, as objects
_SLOW_TICK = 2e-3  # seconds that all environments take one after the other: from here on other processes pay
_EXTRAS = {"gymnasium.envs.box2d": "box2d", mujoco.HOME: "mujoco", "ale_py": "atari"}
_MODULES = {"box2d": ("Box2D",), "mujoco": ("mujoco",), "atari": ("ale_py", "cv2")}


def make(
    env_id: str,
    num_envs: int = 1,
    *,
    vec: str = "auto",
    device: str = "cpu",
    env_kwargs: dict[str, Any] | None = None,
    wrappers: Wrappers = (),
    rescale_action: bool = False,
    render: bool = False,
    tensors: bool = False,
    infos: bool = False,
    frame_stack: int = 1,
    cleaning: Cleaning = Cleaning(),  # noqa: B008 (frozen)
    around: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
) -> VecEnv:
    """Build `num_envs` copies of an environment.

    Args:
        env_id: a registered id, "module:Id", "path/to/file.py:Class" or "path/to/file.py".
        num_envs: how many.
        vec: "native" (our own arrays), "sync" (one after the other), "async" (a process for each core), "vector"
            (the environment's own vector entry point), "envpool" (EnvPool's C++ version), "ale" (the Atari
            emulator's own threads), or "auto": the first that there is of native, envpool, ale and vector, else
            sync or async, whichever a short measurement promises to be faster. `VecEnv.backend_reason` says why.
            Where a native task has an id of Gymnasium's, native is that task, and all others are Gymnasium's own.
            Sync and async give the same transitions, and look for action masks: they become a leaf of the
            observation, see `envs.adapters.masks`.
        device: where native environments live: "cpu" or "cuda"; the others are always on the CPU.
        env_kwargs: passed to the environment's constructor; `max_episode_steps` sets the time limit, unless the
            constructor has an argument of this name, which then gets it.
        wrappers: put around each environment in order, the first one innermost: "module:Wrapper",
            "file.py:Wrapper", or such a name -> arguments. The environment is then Gymnasium's own, in sync or async.
        rescale_action: Box actions are in [-1, 1] and mapped onto the bounds, instead of clipped to them.
        render: `VecEnv.render` will be called.
        tensors: native environments take and return torch tensors on the CPU too, to be compiled.
        infos: the environment's own `info` is wanted in `Step.infos`, where other versions of it may say other things:
            sync or async, or native, which says nothing.
        frame_stack: how many of an episode's last observations are shown together; with more than one, or with
            cleaning, native environments speak NumPy.
        cleaning: what becomes of numbers that are none.
        around: put around each environment of sync or async, outside of all else.

    Raises:
        UserError: the environment cannot be built so; the message says why and what to do.
    """
    kwargs = dict(env_kwargs or {})
    if num_envs < 1:
        raise UserError(f"the number of environments must be at least 1, got {num_envs}")
    if vec not in VECS:
        raise UserError(f"vec must be one of {', '.join(VECS)}, got {vec!r}.{did_you_mean(vec, VECS)}")
    spec = locate(env_id)
    _check_kwargs(spec, kwargs, native=vec in ("auto", "native") and not wrappers)
    if vec not in ("auto", "sync", "async") and (wrappers or (infos and vec != "native")):
        what = "wrappers go around Gymnasium's environments" if wrappers else "metrics read the environment's info"
        raise UserError(f"{what}, one by one: use --vec sync or --vec async, not --vec {vec}")
    codec = reader(cleaning)
    reason: str = "as set"
    masks: Masks = "unknown"
    if vec == "auto":
        single = partial(make_single, env_id, env_kwargs=kwargs, wrappers=wrappers)
        vec, reason, masks = _choose(single, spec, num_envs, kwargs, render, wrapped=bool(wrappers), infos=infos)
    env: VecEnv
    first: gymnasium.Env | None = None
    if vec == "native":
        layered = frame_stack > 1 or cleaning != Cleaning()
        where = ("cpu", False) if layered else (device, tensors)
        env = _native(spec, num_envs, where[0], kwargs, rescale_action, where[1], render)
    elif vec == "vector":
        env = adapt(_vector(spec, num_envs, kwargs, render), rescale_action, codec)
    elif vec in ("envpool", "ale"):
        if render:
            raise UserError(f"environments of --vec {vec} cannot be drawn: use --vec sync")
        env = (_envpool if vec == "envpool" else _ale)(env_id, spec, num_envs, kwargs, rescale_action, codec)
    elif num_envs > MOST_COPIES:
        raise UserError(f"n_envs {num_envs}: at most {MOST_COPIES:,} environments can be built one by one")
    else:
        # Another process does not know what this one has registered, but it can find what a file or module holds.
        name = gymnasium.registry.get(env_id, env_id)
        mode = "rgb_array" if render else None
        maker = partial(make_single, name, env_kwargs=kwargs, render_mode=mode, wrappers=wrappers)
        first = maker()
        if (source := mask_source(first) if masks == "unknown" else masks) is not None:
            maker, first = partial(build_masked, maker, source), WithMask(first, source)
            reason += f"; action masks from {source}"
        elif sentence := atari.raw_frames(spec, first.observation_space):
            reason += f"; {sentence}"
        if around is not None:
            maker, first = partial(_within, around, maker), around(first)
        with _further_copies():
            if vec == "async":
                env = WorkersVecEnv([maker] * num_envs, rescale_action, example=first, codec=codec)
            else:
                with ExitStack() as made:
                    made.callback(first.close)
                    envs = [first, *(_kept(made, maker()) for _ in range(num_envs - 1))]
                    env = SyncVecEnv(envs, rescale_action, codec=codec)
                    made.pop_all()
    env.backend_reason = reason
    names = names_of(spec.id, env.observation_space, env.action_space, first) if render else Names()
    if cleaning != Cleaning():
        env = CleanVecEnv(env, cleaning)
    if frame_stack > 1:
        env = StackedVecEnv(env, frame_stack)
    env.names = dataclasses.replace(names, frame_stack=frame_stack)
    return env


@contextmanager
def _further_copies() -> Iterator[None]:
    """Say that perhaps only one environment may run at a time, where the first could be built and others not."""
    try:
        yield
    except EnvError:
        raise
    except UserError as error:
        hint = "the first copy could be built, a further one not; if only one may run at a time, add --one-instance"
        raise UserError(f"{error} ({hint})") from error


def _within(around: Callable[[Any], Any], maker: Callable[[], Any]) -> Any:
    return around(maker())


def _kept(made: ExitStack, env: gymnasium.Env) -> gymnasium.Env:
    made.callback(env.close)
    return env


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
    _check_kwargs(spec, kwargs, native=False)
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
        _check_renders(spec, native=False)
    with _building(spec, kwargs), mujoco.quiet(spec):
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


def check_renders(env_id: str) -> None:
    """Raise a UserError where an environment says of itself that it cannot be drawn; `native` versions aside."""
    _check_renders(locate(env_id), native=False)


def reward_threshold(env_id: str) -> float | None:
    """Return the mean return at which the environment's author calls it solved, if there is one."""
    return locate(env_id).reward_threshold


def _choose(
    single: Callable[[], gymnasium.Env],
    spec: EnvSpec,
    num_envs: int,
    kwargs: dict[str, Any],
    render: bool,
    wrapped: bool,
    infos: bool,
) -> tuple[str, str, Masks]:
    """Return the backend for `vec="auto"`, why, and where action masks come from, if it is known.

    What must be tried is tried with one environment, which is closed again.
    """
    no_resume = "a resumed run begins new episodes"
    single_only = wrapped or infos
    if native_task(spec) is not None and not wrapped:
        which = "our own" if spec.id in DYNAMICS else "a native"
        return "native", f"{which} version, all environments in one array", "unknown"
    if spec.entry_point is None:
        if single_only:
            raise UserError(f"{spec.id} has a vector version alone, which takes neither wrappers nor metrics")
        return "vector", f"there is no other version; {no_resume}", "unknown"
    if not render and not single_only and atari.is_game(spec):
        return "ale", f"the emulator's own threads; {no_resume}", "unknown"
    pooled = not render and not single_only and envpool_fault(spec, kwargs) is None
    vectorised = spec.vector_entry_point is not None and not single_only
    asked = "with wrappers it is Gymnasium's environment; " if wrapped else "info is read; " if infos else ""
    alone = "there is one environment" if num_envs == 1 else "there is one core" if cores() == 1 else ""
    if alone and not pooled and not vectorised:
        return "sync", asked + alone, "unknown"
    with closed(single()) as trial:
        masks = mask_source(trial)
        spaces = trial.observation_space, trial.action_space
        if pooled and masks is None and envpool_difference(spec, *spaces) is None:
            return "envpool", f"EnvPool is installed and has it; {no_resume}", masks
        if vectorised and masks is None:
            with closed(_vector(spec, 1, kwargs, False)) as many:
                if spaces == (many.single_observation_space, many.single_action_space):
                    return "vector", f"it brings a vector version of its own; {no_resume}", masks
        if alone:
            return "sync", asked + alone, masks
        seconds = _seconds_per_step(trial if masks is None else WithMask(trial, masks))
    if seconds is None:
        return "sync", f"{asked}a step could not be timed, as it failed", masks
    vec = "async" if num_envs * seconds > _SLOW_TICK else "sync"
    which = "other processes pay" if vec == "async" else "too quick for other processes to pay"
    return vec, f"{asked}a step takes {seconds * 1e6:,.0f} us: {which}", masks


def _seconds_per_step(env: gymnasium.Env) -> float | None:
    """Return the median time of a random step, from about 20 ms of them; None where one fails.

    Args:
        env: its observations say which actions are legal, where anything does.
    """
    times: list[float] = []
    try:
        env.action_space.seed(0)
        observation, _ = env.reset(seed=0)
        while len(times) < 3 or (sum(times) < 0.02 and len(times) < 200):
            mask = observation.get(ACTION_MASK) if isinstance(observation, dict) else None
            action = env.action_space.sample() if mask is None else legal_sample(env.action_space, mask)
            start = time.perf_counter()
            observation, _, terminated, truncated, _ = env.step(action)
            times.append(time.perf_counter() - start)
            if terminated or truncated:
                observation, _ = env.reset()
    except (Exception, SystemExit):
        return None  # broken: the sync loop will say how
    return statistics.median(times)


def _native(
    spec: EnvSpec, num_envs: int, device: str, kwargs: dict[str, Any], rescale_action: bool, tensors: bool, render: bool
) -> NativeVecEnv:
    task = native_task(spec)
    if task is None:
        raise UserError(f"{spec.id} has no native version (those of {', '.join(DYNAMICS)} do): use --vec auto")
    if render:
        _check_renders(spec, native=True)
    try:
        arrays: Arrays = NumpyArrays() if device == "cpu" and not tensors else TorchArrays(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"there is no device {device!r} here for environments to live on: use --device cpu") from error
    return NativeVecEnv(build_dynamics(task, kwargs), num_envs, arrays, rescale_action)


def _vector(spec: EnvSpec, num_envs: int, kwargs: dict[str, Any], render: bool) -> gymnasium.vector.VectorEnv:
    if spec.vector_entry_point is None:
        raise UserError(f"{spec.id} has no vector version of its own: use --vec sync or --vec async")
    if render:
        kwargs = {**kwargs, "render_mode": "rgb_array"}
    with _building(spec, kwargs):
        return gymnasium.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)


def _envpool(
    env_id: str, spec: EnvSpec, num_envs: int, kwargs: dict[str, Any], rescale_action: bool, codec: Codec
) -> EnvPoolVecEnv:
    if (fault := envpool_fault(spec, kwargs)) is not None:
        raise UserError(fault)
    with closed(make_single(env_id, env_kwargs=kwargs)) as env:
        if (difference := envpool_difference(spec, env.observation_space, env.action_space)) is not None:
            raise UserError(difference)
        space = env.observation_space
    limit = kwargs.get("max_episode_steps", spec.max_episode_steps)
    with _building(spec, kwargs):
        return EnvPoolVecEnv(spec, num_envs, limit, space, rescale_action, codec)


def _ale(
    env_id: str, spec: EnvSpec, num_envs: int, kwargs: dict[str, Any], rescale_action: bool, codec: Codec
) -> ThreadsVecEnv:
    if not atari.is_game(spec):
        raise UserError(f"{spec.id} is no game of the Atari emulator (ALE/Pong-v5 is one): use --vec auto")
    with _building(spec, kwargs):
        return ThreadsVecEnv(atari.make_games(spec, num_envs, kwargs), "ale", rescale_action, codec)


@contextmanager
def _building(spec: EnvSpec, kwargs: dict[str, Any]) -> Iterator[None]:
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


def _check_kwargs(spec: EnvSpec, kwargs: dict[str, Any], native: bool) -> None:
    """Refuse arguments that the environment does not take, as far as its signature tells."""
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


def _check_renders(spec: EnvSpec, native: bool) -> None:
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
