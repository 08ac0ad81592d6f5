"""Whether an exported policy does what the policy does, on the states of real episodes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from agents.acting.evaluation import PolicyPlayer, env_action
from agents.core.tree import to_numpy
from agents.lab.export.module import START, Exported, named
from agents.run.models import LoadedPolicy
from agents.run.play import policy_env
from envs.actions import ActionCodec
from envs.seeding import derive_seed
from envs.spaces import ObservationCodec

Runner = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """What was compared.

    Attributes:
        states: on how many observations.
        differing: on how many a discrete part of the action was another one.
        largest: the largest difference of a continuous part, in its own units; 0.0 without one.
    """

    states: int
    differing: int
    largest: float


def check(
    exported: Exported,
    run: Runner,
    loaded: LoadedPolicy,
    states: int,
    num_envs: int,
    report: Callable[[int, int], None],
) -> ExportCheck:
    """Play episodes greedily and ask both at every step; what the exported policy remembers is its own.

    Args:
        run: works out the exported policy: inputs by name, `[N, ...]`, to outputs by name.
        num_envs: rows that `run` is asked of at once.
        report: is told how many states have been compared, and of how many.

    Raises:
        UserError: the environment cannot be made.
    """
    with closing(policy_env(loaded, num_envs, vec="auto")) as env:
        rows = env.num_envs
        player, codec = (
            PolicyPlayer(loaded.policy, rows, None),
            ActionCodec(loaded.own_spaces[1], loaded.rescale_action),
        )
        given = {name: tensor.numpy() for name, tensor in exported.example(rows).items()}
        obs, start, seen, differing, largest = env.reset(derive_seed(0, "export")), np.ones(rows, bool), 0, 0, 0.0
        while seen < states:
            given |= raw_inputs(loaded, obs)
            if START in given:
                given[START] = start
            found = run(given)
            action = player.act(obs)
            expected = _parts(codec.decode(to_numpy(action)), codec)
            wrong, away = np.zeros(rows, bool), np.zeros(rows)
            for (key, space), part in zip(codec.leaves, expected, strict=True):
                ours = found[named("action", key)].reshape(rows, -1)
                theirs = np.asarray(part).reshape(rows, -1)
                if isinstance(space, spaces.Box):
                    away = np.maximum(away, np.abs(ours.astype(np.float64) - theirs).max(axis=1, initial=0.0))
                else:
                    wrong |= (ours != theirs).any(1)
            given |= {name.removeprefix("next_"): array for name, array in found.items() if name.startswith("next_")}
            step = env.step(env_action(env, action))
            valid = np.ones(rows, bool) if step.valid is None else to_numpy(step.valid)
            seen, differing = seen + int(valid.sum()), differing + int((wrong & valid).sum())
            largest = max(largest, float(away[valid].max(initial=0.0)))
            report(seen, states)
            obs, start = step.obs, to_numpy(step.starts)
            player.start(start)
        return ExportCheck(seen, differing, largest)


def raw_inputs(loaded: LoadedPolicy, obs: Any) -> dict[str, np.ndarray]:
    """Return the environment's own observations, by the names of inputs, for what a policy is shown `[N, ...]`."""
    codec, found = ObservationCodec(loaded.own_spaces[0]), {}
    count = loaded.config.params.observations.frame_stack
    for key, raw, canonical in codec.leaves:
        array = to_numpy(obs[key] if isinstance(codec.space, spaces.Dict) else obs)
        shape = canonical.shape or ()
        if count > 1 and array.shape[1:] != shape:
            array = array.reshape(len(array), count, *shape)[:, -1]
        if isinstance(raw, spaces.Discrete | spaces.MultiDiscrete):
            array = array.reshape(-1, *(raw.shape or ())) + np.asarray(raw.start, np.int64)
        elif isinstance(raw, spaces.MultiBinary):
            array = array.astype(np.int8)
        found[named("obs", key)] = array.reshape(len(array), *(raw.shape or ()))
    return found


def _parts(batch: Any, codec: ActionCodec) -> list[Any]:
    """Return the arrays of a decoded batch, in the order of `codec.leaves`."""
    if isinstance(batch, dict):
        batch = tuple(batch[key] for key in sorted(batch, key=str))
    return [part for child in batch for part in _parts(child, codec)] if isinstance(batch, tuple) else [batch]
