"""What an encoder has learnt, by linear probes on recorded episodes, beside an untrained one and observations as such.

Ridge regression from the features to what is known of each step: the discounted reward to come, the action taken,
numbers of vectors that are observed, and, where episodes of a native environment can be played again from their seeds,
the environment's state.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from agents.core.tree import named_leaves, to_numpy, tree_to_tensor
from agents.data.dataset import Dataset
from agents.networks.encoders import one_hot
from agents.networks.models import ActorCritic, QNetwork
from agents.networks.representation import Representation, learns
from agents.ops.probes import probed, to_go
from envs.actions import ActionCodec, choices
from envs.adapters.masks import ACTION_MASK
from envs.errors import UserError
from envs.native.gym_env import DYNAMICS, NativeEnv
from envs.seeding import derive_seed
from envs.single import make_single
from envs.spaces import ObservationCodec

Floats = NDArray[np.float64]
ROWS = 4_096  # steps that are fitted to, and judged, at most
NUMBERS = 16_000_000  # of all features together, at most
PACKED = 2**16  # numbers of a state beyond which are flags packed together, and no quantity
TOGETHER = 1_024  # observations in one pass
ENCODER, UNTRAINED, RAW = "encoder", "untrained", "observation"
Table = dict[str, dict[str, float]]


def probe(model: Any, untrained: Any, learnt: Dataset, held: Dataset, gamma: float, seed: int) -> Table:
    """Return quantity -> whose features -> R2 on held-out steps.

    Args:
        model, untrained: on one device; the latter has its first weights.
        learnt, held: what is fitted to, and what is judged: data as the model sees them.
        gamma: of the reward to come.
        seed: of the steps that are chosen where there are many.

    Raises:
        UserError: the model has no encoder whose features are known, or no episode is held out.
    """
    if not len(held):
        raise UserError("a probe is judged on held-out episodes, and there are none: --held-out above 0, two or more")
    rows = [_chosen(data, seed) for data in (learnt, held)]
    parts = list(zip((learnt, held), rows, strict=True))
    known = [{name: array[at] for name, array in quantities(data, gamma).items()} for data, at in parts]
    shared = [name for name in known[0] if name in known[1]]
    found: Table = {name: {} for name in shared}
    for whose, network in ((ENCODER, model), (UNTRAINED, untrained), (RAW, None)):
        seen = [_features(network, data, at) for data, at in parts]
        for name in shared:
            told = [table[name][: len(array)] for table, array in zip(known, seen, strict=True)]
            found[name][whose] = probed(seen[0], told[0], seen[1], told[1])
    return found


def lines(found: Table) -> list[str]:
    """Say what was found, a line for each quantity."""
    width = max(map(len, found), default=0)
    head = "linear probes on held-out steps, R2 by ridge regression from features of"
    names = f"{head} the {ENCODER}, of an {UNTRAINED} one, and of the {RAW} itself:"
    return [
        names,
        *(f"  {name:{width}}  {'  '.join(f'{value:6.3f}' for value in row.values())}" for name, row in found.items()),
    ]


def quantities(data: Dataset, gamma: float) -> dict[str, Floats]:
    """Return what is known of each transition, by name, `[M, d]`."""
    found = {"reward to come": to_go(data.reward.astype(np.float64), data.lengths, gamma)[:, None]}
    action = data.action.reshape(len(data), -1)
    if data.action.dtype.kind == "i":
        counts = choices(ActionCodec(data.own_spaces[1]).space) or [2] * action.shape[1]
        columns = [one_hot(torch.from_numpy(x), n).numpy() for x, n in zip(action.T, counts, strict=True)]
        action = np.concatenate(columns, axis=1)
    found["action"] = action.astype(np.float64)
    for name, leaf in named_leaves(data.obs).items():
        if leaf.ndim == 2 and leaf.dtype == np.float32 and name != ACTION_MASK:
            found[f"observation {name}".rstrip()] = leaf[data.rows].astype(np.float64)
    if (states := native_states(data)) is not None:
        for index, row in enumerate(states.T):
            if np.abs(row).max() < PACKED:
                found[f"state {index}"] = row[:, None]
    return found


def native_states(data: Dataset) -> Floats | None:
    """Return the state that each transition began in, `[M, k]`, by playing the episodes again; None where none can be.

    That takes a native environment without wrappers that the data name, the seed of each episode, and the same rewards
    as recorded.
    """
    if data.env not in DYNAMICS or data.wrappers or any(seed is None for seed in data.seeds):
        return None  # no other environment is made: its name may be anybody's
    with closing(make_single(data.env, env_kwargs=data.env_kwargs)) as env:
        inner: Any = env.unwrapped
        if not isinstance(inner, NativeEnv):
            return None
        actions, found, rewards = ActionCodec(env.action_space), [], []
        for seed, start, length in zip(data.seeds, data.starts, data.lengths, strict=True):
            env.reset(seed=seed)
            for action in actions.each(actions.decode(data.action[start : start + length])):
                found.append(inner.state)
                rewards.append(env.step(action)[1])
    same = np.array_equal(np.array(rewards, np.float32), data.reward)
    return np.array(found, np.float64) if same else None


def _chosen(data: Dataset, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(derive_seed(seed, "probe")).permutation(len(data))[:ROWS]


@torch.no_grad()
def _features(network: Any, data: Dataset, at: NDArray[np.int64]) -> Floats:
    """Return features of the observations that some transitions begin with, `[K, F]`; of no network their numbers.

    Where these would be more than `NUMBERS` in all, they are of the first transitions only.
    """
    if network is None:
        space = ObservationCodec(data.own_spaces[0]).space

        def features(rows: NDArray[np.int64]) -> Floats:
            return _numbers(data.at(rows), space)
    else:
        read, device = reader(network), next(network.parameters()).device

        def features(rows: NDArray[np.int64]) -> Floats:
            obs = tree_to_tensor(data.at(rows), device)
            return to_numpy(read(obs)).astype(np.float64)

    rows = data.rows[at]
    rows = rows[: max(NUMBERS // features(rows[:1]).shape[1], 2)]
    return np.concatenate([features(part) for part in np.array_split(rows, -(-len(rows) // TOGETHER))])


def _numbers(obs: Any, space: Any) -> Floats:
    """Return observations as vectors `[K, F]`: numbers as they are, choices one-hot."""
    parts = []
    for name, leaf in named_leaves(obs).items():
        if name == ACTION_MASK:
            continue
        own = space[name] if name else space
        flat = leaf.reshape(len(leaf), -1)
        if isinstance(own, spaces.Discrete):
            flat = one_hot(torch.from_numpy(flat[:, 0]), int(own.n)).numpy()
        parts.append(flat.astype(np.float64))
    return np.concatenate(parts, axis=1)


def reader(network: Any) -> Any:
    """Return what makes features of observations: the encoder, and where that learns nothing, the hidden layers too.

    Raises:
        UserError: it is no network of which that is known.
    """
    if isinstance(network, Representation):
        return network
    if isinstance(network, ActorCritic | QNetwork):
        encoder, torso, _ = network.acting_path()
        if not learns(encoder) and network.memory is not None:
            raise UserError(
                "this network has no features of single observations: its encoder learns nothing, and its hidden "
                "layers read what its memory makes of whole episodes"
            )
        return encoder if learns(encoder) else torch.nn.Sequential(encoder, torso)
    raise UserError(f"a {type(network).__name__} has no encoder to probe: a run of pretrain, bc, ppo, dqn or pqn has")
