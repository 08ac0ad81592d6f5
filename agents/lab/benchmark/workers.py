"""What a child process of the benchmark does, where it is not a command: `python -m ...workers TASK JSON`.

Each function prints its figures by returning them. What it does not measure it does not import.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

CAPACITY = 10_000  # transitions


def sb3(total_timesteps: int, seed: str, eval_episodes: int = 0, **arguments: Any) -> dict[str, Any]:
    """Train SB3 and, on demand, measure the policy greedily; arguments as `baselines.train_sb3` takes them."""
    import torch

    from agents.lab.baselines import evaluate_sb3, steady_rate, train_sb3

    number = int(seed)
    arguments = {"hyperparameters": {}, **arguments}
    model, points = train_sb3(total_timesteps=total_timesteps, seed=number, **arguments)
    steps, seconds = points[-1]
    figures: dict[str, Any] = {
        "steps": steps,
        "seconds": seconds,
        "whole_steps_per_s": steps / seconds,
        "steps_per_s": steady_rate(points),
        "threads": torch.get_num_threads(),
    }
    if eval_episodes:
        returns, _ = evaluate_sb3(
            model, arguments["env_id"], eval_episodes, 1_000_000 + number, arguments.get("env_kwargs")
        )
        figures["eval_mean"] = float(np.mean(returns))
    return figures


def step_native(num_envs: int, ticks: int) -> dict[str, Any]:
    """Step our CartPole with random actions."""
    from envs.make import make

    env = make("CartPole-v1", num_envs, vec="native")
    env.reset(0)
    return _stepped(env.step, num_envs, ticks)


def step_gymnasium(num_envs: int, ticks: int) -> dict[str, Any]:
    """Step Gymnasium's own vector CartPole with random actions."""
    import gymnasium

    env = gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    return _stepped(env.step, num_envs, ticks)


def _stepped(step: Any, num_envs: int, ticks: int) -> dict[str, Any]:
    actions = np.random.default_rng(0).integers(0, 2, (64, num_envs))
    for action in actions:
        step(action)
    began = perf_counter()
    for tick in range(ticks):
        step(actions[tick % 64])
    seconds = perf_counter() - began
    return {"steps": num_envs * ticks, "seconds": seconds, "steps_per_s": num_envs * ticks / seconds, "threads": 1}


def _observation(name: str) -> Any:
    """Return the space of observations."""
    from gymnasium import spaces

    if name == "pixels":
        return spaces.Box(0, 255, (4, 84, 84), np.uint8)
    return spaces.Box(-np.inf, np.inf, (4,), np.float32)


def replay_ours(observation: str) -> dict[str, Any]:
    """Return what our replay buffer takes for each transition."""
    import torch

    from agents.data.replay import ReplayBuffer
    from agents.run.memory import frame_axes

    space = _observation(observation)
    buffer = ReplayBuffer(CAPACITY, 1, torch.device("cpu"), frame_axes(space))
    obs, flag = np.zeros((1, *space.shape), space.dtype), np.zeros(1, bool)
    tick = {"obs": obs, "action": np.zeros(1, np.int64), "reward": np.zeros(1, np.float32), "next_obs": obs}
    buffer.add(tick | {"terminated": flag, "truncated": flag})
    held = vars(buffer) | {name: vars(frames) for name, frames in buffer.frames.items()}
    return {"bytes_per_transition": held_bytes(held) / CAPACITY}


def sampling(prioritized: bool) -> dict[str, Any]:
    """Draw minibatches of 256 from a full replay buffer of a million transitions."""
    import torch

    from agents.data.replay import ReplayBuffer
    from agents.data.samplers import PrioritizedSampler, UniformSampler

    torch.set_num_threads(1)
    random, capacity = torch.Generator().manual_seed(0), 1_000_000
    replay = ReplayBuffer(capacity, 1, torch.device("cpu"))
    options: tuple[Any, ...] = (replay, 0.99, 1, random)
    kind = partial(PrioritizedSampler, alpha=0.6, beta0=0.4, eps=1e-6) if prioritized else UniformSampler
    sampler = kind(*options)
    for _ in range(10):
        obs, flags = torch.zeros(capacity // 10, 1, 4), torch.zeros(capacity // 10, 1, dtype=torch.bool)
        tick = {"obs": obs, "action": flags.long(), "reward": flags.float(), "next_obs": obs}
        replay.extend(tick | {"terminated": flags, "truncated": flags})
    sampler.update_priorities(torch.arange(capacity), torch.rand(capacity, generator=random))
    seconds = []
    for _ in range(1_000):
        began = perf_counter()
        sampler.sample(256, 0.5)
        seconds.append(perf_counter() - began)
    return {"batches_per_s": 1 / float(np.median(seconds)), "threads": 1}


def replay_sb3(observation: str, optimized: bool = False) -> dict[str, Any]:
    """Return what SB3's replay buffer takes for each transition; `optimized`: with its `optimize_memory_usage`."""
    from gymnasium import spaces
    from stable_baselines3.common.buffers import ReplayBuffer

    buffer = ReplayBuffer(
        CAPACITY,
        _observation(observation),
        spaces.Discrete(2),
        optimize_memory_usage=optimized,
        handle_timeout_termination=not optimized,  # it has not both
    )
    return {"bytes_per_transition": held_bytes(vars(buffer)) / CAPACITY}


def held_bytes(held: Any) -> int:
    """Count the memory of all arrays and tensors within nested dicts, lists and tuples; what is shared, once."""
    total, end = 0, 0
    for start, stop in sorted(_memory(held)):
        total += max(stop - max(start, end), 0)
        end = max(end, stop)
    return total


def _memory(held: Any) -> Iterator[tuple[int, int]]:
    """Yield the addresses from and to which each array and tensor lies."""
    import torch

    if isinstance(held, dict):
        held = list(held.values())
    if isinstance(held, list | tuple):
        for item in held:
            yield from _memory(item)
    elif isinstance(held, np.ndarray):
        yield np.lib.array_utils.byte_bounds(held)
    elif isinstance(held, torch.Tensor):
        start = held.untyped_storage().data_ptr()
        yield start, start + held.untyped_storage().nbytes()


def warm() -> dict[str, Any]:
    """Import all that is measured, so that it lies in the system's cache, and name the GPU that PyTorch finds."""
    import stable_baselines3  # noqa: F401
    import torch

    import agents.run.runner  # noqa: F401

    return {"gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}


TASKS = {task.__name__: task for task in (sb3, step_native, step_gymnasium, replay_ours, replay_sb3, sampling, warm)}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](**json.loads(sys.argv[2]))))
