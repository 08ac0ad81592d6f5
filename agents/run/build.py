"""From a configuration to the parts of a training, put together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from gymnasium import Space

from agents.acting.collector import Collector, TickCollector
from agents.acting.fused import FusedCollector
from agents.acting.policies import ModelPolicy
from agents.acting.state import ActorState
from agents.core import cycles
from agents.core.algorithm import Algorithm
from agents.core.config import AlgoConfig, OffPolicyConfig
from agents.core.device import choose_device, keep_freed_memory, on_one_thread, use_threads
from agents.core.precision import resolved_precision, set_precision, use_products
from agents.core.runtime import Runtime, resolved_mode
from agents.core.tree import tree_map
from agents.data.replay import ReplayBuffer
from agents.data.samplers import PrioritizedSampler, Sampler, SequenceSampler, UniformSampler
from agents.learning.learner import Learner
from agents.networks.augmentation import Augmentation
from agents.networks.encoders import multiply_adds, zeros
from agents.networks.parts import hold_still, scales
from agents.run import loops, registry
from agents.run.config import RunConfig
from agents.run.memory import (
    ParameterLimit,
    Place,
    frame_axes,
    free_bytes,
    refuse_too_large,
    refuse_too_large_network,
)
from agents.run.training import Training
from envs.api import VecEnv
from envs.errors import UserError
from envs.make import make
from envs.names import renamed
from envs.native.vec_env import NativeVecEnv
from envs.seeding import derive_seed
from envs.single import has_native

# Numbers of an array from which on PyTorch with several threads, and its compiler, are faster than NumPy and C++, where
# threads share products alone.
MANY, MANY_COMPILED = 150_000, 50_000
GPU_ENVS = 256  # native environments from which on a GPU has enough to do at each tick


def make_algorithm(
    name: str,
    observation_space: Space,
    action_space: Space,
    params: AlgoConfig,
    seed: int,
    most: int | None = None,
) -> Algorithm:
    """Build an algorithm on the CPU; its networks' first weights follow from `seed`, and nothing else is drawn.

    Args:
        most: bytes that its parameters may take; None for the memory that is free.

    Raises:
        UserError: there is no such algorithm, or it does not fit the spaces or its settings, or is too large.
    """
    kind: Any = registry.find(name).load()
    free = free_bytes(torch.device("cpu"))
    room = min(sys.maxsize if free is None else free, sys.maxsize if most is None else most)
    with torch.random.fork_rng(devices=[]), ParameterLimit(room), on_one_thread():
        torch.manual_seed(derive_seed(seed, "network"))
        return kind(observation_space, action_space, params)


def flops(model: Any, observation_space: Space, training: bool = False) -> int:
    """Return the multiply-adds that a model makes for one observation when it acts, or when it is trained on it."""
    call = getattr(model, "judge", None) if training else None
    return multiply_adds(model, *looked_at(model, observation_space), call=call)[1]


def largest(model: Any, rows: int) -> int:
    """Return how many numbers an update of a minibatch has in one array: a layer's, or pairs of two values' atoms."""
    layers = [weight.numel() // max(weight.shape[-1], 1) for weight in model.parameters() if weight.dim() > 1]
    pairs = [getattr(getattr(part, "values", None), "atoms", 1) ** 2 for part in model.modules()]
    return rows * max([*layers, *pairs])


def looked_at(model: Any, observation_space: Space) -> tuple[Any, ...]:
    """Return what a model is called with for one observation, of zeros, on its device."""
    device = next(model.parameters()).device
    obs = tree_map(lambda leaf: leaf.to(device), zeros(observation_space, 1))
    if not getattr(model, "recurrent", False):
        return (obs,)
    obs = tree_map(lambda leaf: leaf[None], obs)
    return obs, model.initial_carry(1), torch.ones(1, 1, dtype=torch.bool, device=device)


def build(config: RunConfig) -> Training:
    """Make environments, algorithm and buffers, and reset the environments.

    Raises:
        UserError: the environment, its spaces or the device do not fit the configuration.
    """
    params = config.params
    native = config.vec in ("auto", "native") and not config.wrappers and has_native(config.env)
    native &= not params.observations.in_use  # what changes observations speaks NumPy
    env_on_gpu = native and params.n_envs >= GPU_ENVS
    device, reason = choose_device(config.device, env_on_gpu=env_on_gpu, flops=0, batch_size=_batch_size(params))
    env = make(
        config.env,
        params.n_envs,
        vec=config.vec,
        device=device.type if native and device.type == "cuda" else "cpu",
        tensors=config.compile == "on" and device.type == "cpu",
        env_kwargs=config.env_kwargs,
        wrappers=config.wrappers,
        infos=config.metrics is not None,
        rescale_action=params.rescales_action,
        **params.observations.arguments,
    )
    return build_on(env, config, device, reason)


def _batch_size(params: AlgoConfig) -> int:
    return getattr(params, "batch_size", params.n_envs)


def build_on(
    env: VecEnv, config: RunConfig, device: torch.device, reason: str = "as set", runtime: Runtime | None = None
) -> Training:
    """Do what `build` does in environments that are there.

    Args:
        env: reset here.
        config: its `params` say how many environments there are.
        device: that of `env` where it speaks tensors; chosen anew by the network's size where it does not.
        reason: why that device.
        runtime: how updates and rollouts are run; by default as the configuration says.
    """
    cycles.as_usual()
    params, seed = config.params, config.seed
    spaces = env.observation_space, env.action_space
    env.names = renamed(env.names, config.action_names, config.observation_names, *spaces)
    refuse_too_large_network(env.observation_space, params, device)
    algorithm = make_algorithm(config.algo, env.observation_space, env.action_space, params, seed)
    if (demonstration := getattr(params, "demonstration", None)) is not None and demonstration.demonstrator:
        from agents.run.imitation import demonstrator

        algorithm.demonstrator = demonstrator(
            Path(demonstration.demonstrator), env, algorithm.model, params.rescales_action
        )
    weight = flops(algorithm.model, env.observation_space, training=True)
    if not env.capturable:
        device, reason = choose_device(config.device, env_on_gpu=False, flops=weight, batch_size=_batch_size(params))
    threads = use_threads(device, flops=weight, batch_size=_batch_size(params))
    keep_freed_memory()
    place = Place(params.replay.replay_storage, device) if isinstance(params, OffPolicyConfig) else None
    if place is None or not place.on_disk:
        where, carry = device if place is None else place.device, algorithm.policy.initial_carry(1)
        refuse_too_large(env.observation_space, env.action_space, params, where, carry, algorithm.successors)
    algorithm.to(device)
    precision = resolved_precision(config.precision, device)
    set_precision(algorithm, precision)
    use_products(precision)
    bf16, numbers = precision == "bf16", largest(algorithm.model, _batch_size(params))
    by_numpy = not bf16 and (threads == 1 or numbers < (MANY_COMPILED if config.compile == "on" else MANY))
    mode = resolved_mode(config.compile, device, by_numpy, bf16)
    runtime = runtime or Runtime(mode, device, by_numpy=by_numpy)
    augment = (
        Augmentation(env.observation_space, params.augment, params.network.picture_axes) if params.augment else None
    )
    hold_still(algorithm.model, config.freeze)
    learner = Learner(algorithm, runtime, seed, augment)
    for prefix, factor in scales(algorithm.model, config.lr_scale):
        learner.parameters.set_scale(prefix, factor)
    policy: Any = algorithm.policy
    noise = torch.Generator(device).manual_seed(derive_seed(seed, policy.stream))
    actor = ActorState.begin(env, policy, derive_seed(seed, "training"), noise)
    replay = sampler = imitation = None
    notes: list[str] = []
    if algorithm.data == "recorded":
        from agents.run import imitation as cloning  # here, as they load models, which are built here
        from agents.run import pretraining

        imitation = (cloning if algorithm.acts else pretraining).begin(algorithm, env, params, actor, seed)
    if algorithm.data == "replay":
        assert isinstance(params, OffPolicyConfig)
        assert place is not None
        replay, sampler = _replay(
            params, frame_axes(env.observation_space, params.network.picture_axes), place, runtime, seed
        )
        if (data := getattr(params, "recorded", None)) is not None and (data.data is not None or data.required):
            from agents.run.imitation import fill

            notes = fill(replay, policy, env, params)
    return Training(
        config=_resolved(
            config, algorithm, {"vec": env.backend, "device": device.type, "compile": mode, "precision": precision}
        ),
        env=env,
        algorithm=algorithm,
        learner=learner,
        collector=imitation.playback
        if imitation is not None
        else _collector(env, policy, actor, params, runtime, algorithm.successors),
        replay=replay,
        sampler=sampler,
        device_reason=reason,
        runtime=runtime,
        place=place,
        imitation=imitation,
        notes=notes if imitation is None else imitation.notes,
    )


def _resolved(config: RunConfig, algorithm: Algorithm, came_to: dict[str, str]) -> RunConfig:
    """Return a configuration with what its "auto"s came to, so that a resumed run does the same."""
    network = config.params.network
    network = network.model_copy(
        update={"encoder": getattr(getattr(algorithm.model, "encoder", None), "name", network.encoder)}
    )
    return config.model_copy(update=came_to | {"params": config.params.model_copy(update={"network": network})})


def _collector(
    env: VecEnv, policy: ModelPolicy, actor: ActorState, params: AlgoConfig, runtime: Runtime, successors: bool
) -> Collector:
    steps, off_policy = params.schedule_steps, isinstance(params, OffPolicyConfig)
    if isinstance(env, NativeVecEnv) and env.capturable:
        usual = max(params.replay.train_freq // env.num_envs, 1) if off_policy else params.n_steps  # type: ignore[attr-defined]
        return FusedCollector(
            env, policy, actor, ticks=usual, schedule_steps=steps, runtime=runtime, carries=off_policy
        )
    ticks = loops.YIELD_TICKS if off_policy else params.n_steps  # type: ignore[attr-defined]
    keeps = {"successors": off_policy or successors, "carries": off_policy}
    return TickCollector(env, policy, actor, ticks=ticks, schedule_steps=steps, **keeps)


def _replay(
    params: OffPolicyConfig, axes: dict[str, int | None], place: Place, runtime: Runtime, seed: int
) -> tuple[ReplayBuffer, Sampler]:
    settings = params.replay
    replay = ReplayBuffer(settings.buffer_size, params.n_envs, place.device, axes, place)
    generator = torch.Generator(place.device).manual_seed(derive_seed(seed, "replay"))
    per_round = settings.train_freq if settings.gradient_steps == -1 else settings.gradient_steps
    rounds = max(params.n_envs // settings.train_freq, 1)  # that fall due in one tick
    usual = min(rounds * per_round, loops.DRAWN) * params.sample_size
    how: Any = (replay, params.gamma, settings.n_step_returns, generator, usual, runtime.compiled)
    numbers = {name: getattr(settings, f"prioritized_replay_{name}") for name in ("alpha", "beta0", "eps")}
    if params.network.recurrence.memory is not None:
        if not settings.prioritized_replay:
            numbers["alpha"] = 0.0  # all sequences are as likely
        numbers |= {"eta": settings.prioritized_replay_eta, "burn_in": settings.burn_in}
        whole = settings.burn_in + settings.sequence_length
        if axes and 2 * whole > replay.rows:
            raise UserError(
                f"buffer_size {settings.buffer_size:,} is too small for sequences of {whole} steps (burn_in + "
                f"sequence_length): at least {2 * whole * params.n_envs:,} are needed, as pictures are stored once "
                "each, and of episodes of one step only half as many fit"
            )
        return replay, SequenceSampler(*how, **numbers, sequence_length=settings.sequence_length)
    return replay, PrioritizedSampler(*how, **numbers) if settings.prioritized_replay else UniformSampler(*how)
