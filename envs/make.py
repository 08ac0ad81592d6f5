"""The only constructor: an environment's id, a number of copies and a backend -> a `VecEnv`."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any, Literal

import gymnasium
from gymnasium.envs.registration import EnvSpec

from envs.actions import ActionCodec
from envs.adapters import atari
from envs.adapters.checks import closed
from envs.adapters.cleaning import Cleaning, CleanVecEnv, reader
from envs.adapters.masks import ACTION_MASK, Source, WithMask, allowed_sample, mask_source
from envs.adapters.stacking import StackedVecEnv
from envs.adapters.sync import SyncVecEnv
from envs.adapters.threads import EnvPoolVecEnv, ThreadsVecEnv, envpool_difference, envpool_fault
from envs.adapters.vector import adapt
from envs.adapters.workers import WorkersVecEnv
from envs.api import VecEnv
from envs.errors import EnvError, UserError, did_you_mean
from envs.locate import Wrappers, locate
from envs.names import Names, names_of
from envs.native.arrays import Arrays, NumpyArrays, TorchArrays
from envs.native.base import build_dynamics
from envs.native.gym_env import DYNAMICS, native_task
from envs.native.vec_env import NativeVecEnv
from envs.processes import cores
from envs.single import building, check_kwargs, check_renders, make_single
from envs.spaces import Codec

VECS = ("auto", "native", "sync", "async", "vector", "envpool", "ale")

Masks = Source | Literal["unknown"] | None

MOST_COPIES = 10_000  # that are built one by one, as objects
_SLOW_TICK = 2e-3  # seconds that all environments take one after the other: from here on other processes pay


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
    check_kwargs(spec, kwargs, native=vec in ("auto", "native") and not wrappers)
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
    told: Source | None = None
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
            told = source
        elif sentence := atari.raw_frames(spec, first.observation_space):
            reason += f"; {sentence}"
        for layer in (None if told is None else partial(WithMask, source=told), around):
            if layer is not None:
                maker, first = partial(_within, layer, maker), layer(first)
        if vec == "async":
            codec(first.observation_space)  # whose errors are not those of a further copy
            ActionCodec(first.action_space, rescale_action)
            with _further_copies():
                env = WorkersVecEnv([maker] * num_envs, rescale_action, example=first, codec=codec)
        else:
            with ExitStack() as made:
                envs = [made.enter_context(closing(first))]
                with _further_copies():
                    envs += [made.enter_context(closing(maker())) for _ in range(num_envs - 1)]
                env = SyncVecEnv(envs, rescale_action, codec=codec)
                made.pop_all()
    if told is None and ACTION_MASK in getattr(env.observation_space, "spaces", ()):
        told = "observation"
    env.backend_reason = reason if told is None else f"{reason}; action masks from {told}"
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
            action = env.action_space.sample() if mask is None else allowed_sample(env.action_space, mask)
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
        own = ", ".join(name for name in DYNAMICS if "/" not in name)
        raise UserError(f"{spec.id} has no native version (those of {own} do): use --vec auto")
    if render:
        check_renders(spec, native=True)
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
    with building(spec, kwargs):
        return gymnasium.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)


def _envpool(
    env_id: str, spec: EnvSpec, num_envs: int, kwargs: dict[str, Any], rescale_action: bool, codec: Codec
) -> EnvPoolVecEnv:
    if (fault := envpool_fault(spec, kwargs)) is not None:
        raise UserError(fault)
    with closed(make_single(env_id, env_kwargs=kwargs)) as env:
        if (difference := envpool_difference(spec, env.observation_space, env.action_space)) is not None:
            raise UserError(difference)
        if (source := mask_source(env)) is not None:
            raise UserError(
                f"{spec.id} gives action masks ({source}), which EnvPool's version does not: use --vec sync"
            )
        space = env.observation_space
    limit = kwargs.get("max_episode_steps", spec.max_episode_steps)
    with building(spec, kwargs):
        return EnvPoolVecEnv(spec, num_envs, limit, space, rescale_action, codec)


def _ale(
    env_id: str, spec: EnvSpec, num_envs: int, kwargs: dict[str, Any], rescale_action: bool, codec: Codec
) -> ThreadsVecEnv:
    if not atari.is_game(spec):
        raise UserError(f"{spec.id} is no game of the Atari emulator (ALE/Pong-v5 is one): use --vec auto")
    with building(spec, kwargs):
        return ThreadsVecEnv(atari.make_games(spec, num_envs, kwargs), "ale", rescale_action, codec)
