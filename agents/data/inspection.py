"""What is wrong with recorded episodes, and what becomes of it: pure functions of a `Dataset`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.core.tree import named_leaves
from agents.data.dataset import Dataset
from envs.actions import ActionCodec, Hybrid, bounds, is_canonical
from envs.errors import UserError
from envs.spaces import ObservationCodec, leaf_spaces

FAULTS = ("nan", "bounds", "broken", "duplicates", "unended")
MOST_FITTED, FEW = 20_000, 50  # transitions that rewards are fitted on: at the most, and at the least
FEW_EPISODES = 5  # whose first or last rewards say something
SHIFTED = 0.5  # of what is left unexplained of the rewards: rewards of another step leave less
Flags = NDArray[np.bool_]


def faults_of(data: Dataset) -> dict[str, Flags]:
    """Return which transitions have which fault, bool `[M]` for each of `FAULTS`.

    nan: a number of it is none, or infinite. bounds: an observation or an action is out of its declared bounds, or an
    action no choice. broken: the source's successor is not the next observation. duplicates: of an episode that has
    the observations, actions and rewards of one before it. unended: the last of an episode that breaks off.
    """
    spoilt, outside = not_finite(data), out_of_bounds(data)
    return {
        "nan": spoilt,
        "bounds": outside & ~spoilt,
        "broken": data.broken,
        "duplicates": np.repeat(duplicated(data), data.lengths),
        "unended": _unended(data),
    }


def _of_transitions(data: Dataset, rows: Flags) -> Flags:
    """Return which transitions begin or end with such an observation: of flags of the rows, those of `[M]`."""
    first = data.rows
    return rows[first] | rows[first + 1]


def _any(flags: NDArray[Any]) -> Flags:
    return np.asarray(flags.any(axis=tuple(range(1, flags.ndim))))


def not_finite(data: Dataset) -> Flags:
    """Return which transitions hold NaN or infinity in an observation, an action or the reward, `[M]`."""
    rows = np.zeros(len(data) + data.episodes, bool)
    for leaf in named_leaves(data.obs).values():
        if leaf.dtype.kind == "f":
            rows |= _any(~np.isfinite(leaf))
    return _of_transitions(data, rows) | _any(~np.isfinite(data.action)) | ~np.isfinite(data.reward)


def out_of_bounds(data: Dataset) -> Flags:
    """Return which transitions are out of what the spaces declare, `[M]`."""
    rows = np.zeros(len(data) + data.episodes, bool)
    for name, leaf in leaf_spaces(ObservationCodec(data.own_spaces[0]).space).items():
        if isinstance(leaf, spaces.Box) and leaf.dtype == np.float32:
            seen = named_leaves(data.obs)[name]
            rows |= _any((seen < leaf.low) | (seen > leaf.high))
    return _of_transitions(data, rows) | bad_actions(data)


def bad_actions(data: Dataset) -> Flags:
    """Return which actions are out of bounds or no choice, `[M]`."""
    space = ActionCodec(data.own_spaces[1]).space
    if not isinstance(space, spaces.Box | Hybrid):
        return no_choices(data)
    low, high = bounds(space)
    return _any((data.action < low) | (data.action > high)) | no_choices(data)


def no_choices(data: Dataset) -> Flags:
    """Return which actions are, or hold, a choice that there is not, `[M]`; bounds of numbers do not count."""
    space = ActionCodec(data.own_spaces[1]).space
    if isinstance(space, spaces.Box) or is_canonical(space, data.action):
        return np.zeros(len(data), bool)
    return np.array([not is_canonical(space, row[None]) for row in data.action])


def duplicated(data: Dataset) -> Flags:
    """Return which episodes are the same as one before them, `[E]`."""
    known: set[bytes] = set()
    found = np.zeros(data.episodes, bool)
    for episode, (start, length) in enumerate(zip(data.starts, data.lengths, strict=True)):
        rows, moves = slice(start + episode, start + episode + length + 1), slice(start, start + length)
        digest = hashlib.sha256()
        for array in (
            *(leaf[rows] for leaf in named_leaves(data.obs).values()),
            data.action[moves],
            data.reward[moves],
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
        found[episode] = digest.digest() in known
        known.add(digest.digest())
    return found


def _unended(data: Dataset) -> Flags:
    found, last = np.zeros(len(data), bool), data.lasts
    found[last] = ~(data.terminated | data.truncated)[last]
    return found


def constants(data: Dataset) -> dict[str, list[int]]:
    """Return the numbers of each vector observation that never change, where there are several observations."""
    found = {}
    for name, leaf in named_leaves(data.obs).items():
        if leaf.ndim == 2 and leaf.dtype.kind == "f" and len(leaf) > 1:
            still = np.flatnonzero((leaf == leaf[0]).all(axis=0))
            if still.size:
                found[name] = still.tolist()
    return found


def reward_shift(data: Dataset) -> int:
    """Return by how many steps the rewards are late (1) or early (-1), as far as the data tell; 0 for not.

    A reward is fitted, by least squares, to its transition: both observations, their squares and the action.
    Where the rewards of one step later or earlier are explained much better, they are
    those of the transitions.
    """
    leaves = [leaf for leaf in named_leaves(data.obs).values() if leaf.ndim == 2 and leaf.dtype.kind == "f"]
    inner = np.ones(len(data), bool)
    inner[data.starts] = inner[data.lasts] = False
    chosen = np.flatnonzero(inner & ~not_finite(data))[:MOST_FITTED]
    if not leaves or len(chosen) < FEW:
        return 0
    chosen = np.random.default_rng(0).permutation(chosen)  # fitted on some, compared on others of the same kind
    rows = data.rows[chosen]
    parts = [part.astype(np.float64) for leaf in leaves for part in (leaf[rows], leaf[rows + 1])]
    parts += [part**2 for part in parts] + [_columns(data.action[chosen])]
    features = np.column_stack([*parts, np.ones(len(chosen))])
    features /= np.abs(features).max(axis=0).clip(1e-9)
    half = len(chosen) // 2
    left = {}
    for shift in (0, 1, -1):
        reward = data.reward[chosen + shift].astype(np.float64)
        if reward.std() < 1e-9:
            return 0
        weights = np.linalg.lstsq(features[:half], reward[:half], rcond=1e-6)[0]
        rest = reward[half:]
        left[shift] = float(((rest - features[half:] @ weights) ** 2).mean() / max(rest.var(), 1e-12))
    best = min(left, key=left.__getitem__)
    return best if left[best] < SHIFTED * min(left[0], 1.0) else 0


def reward_edges(data: Dataset) -> int:
    """Return by how many steps the rewards look late (1) or early (-1) by the ends of episodes alone; 0 for not.

    Where rewards were moved, something else was put in the place that became free: the first rewards of all episodes,
    or the last ones of those that were cut by a time limit, which no environment pays, are a number that is no other
    reward. What is moved within an episode without a trace, such as rewards that are all the same, is not found.
    """
    first = np.zeros(len(data), bool)
    first[data.starts[data.lengths > 1]] = True
    last = np.zeros(len(data), bool)
    last[data.lasts[data.lengths > 1]] = True
    cut = last & data.truncated & ~data.terminated
    for edge, others, shift in ((first, ~first, 1), (cut, ~last, -1)):
        free, rest = np.unique(data.reward[edge]), data.reward[others]
        if edge.sum() >= FEW_EPISODES and len(free) == 1 and not (rest == free[0]).any():
            return shift
    return 0


def _columns(action: NDArray[Any]) -> NDArray[np.float64]:
    if action.ndim == 1:
        return (action[:, None] == np.unique(action)[:64]).astype(np.float64)
    return action.astype(np.float64)


def cleaned(data: Dataset, rules: Mapping[str, str]) -> tuple[Dataset, list[str]]:
    """Return the data as the rules leave them, and a sentence for each remark of their reader and for each fault.

    Args:
        rules: of each of `FAULTS`, what becomes of it: "keep", "drop" (the episodes that have it), "refuse", and of
            bounds "clip" (numbers to the declared bounds).

    Raises:
        UserError: a rule refuses what is there, or nothing is left.
    """
    said, kept = list(data.remarks), np.ones(data.episodes, bool)
    faults, episode = faults_of(data), data.episode
    for name in FAULTS:
        count = int(faults[name].sum())
        if not count:
            continue
        touched, rule = np.unique(episode[faults[name]]), rules[name]
        what = f"{WORDS[name]} in {len(touched):,} of {data.episodes:,} episodes ({count:,} transitions)"
        if rule == "refuse":
            least = "drop" if name != "bounds" else "clip, drop"
            raise UserError(f"the data have {what}: --data-{name} {least} or keep would go on with them")
        if rule == "drop":
            kept[touched] = False
        elif rule == "clip":
            data = clipped(data)
        said.append(f"the data have {what}: {DONE[rule]}")
    if not kept.any():
        raise UserError("nothing is left of the data: every episode has a fault that --data-... drop leaves out")
    return (data if kept.all() else data.take(np.flatnonzero(kept))), said


WORDS = {
    "nan": "NaN or infinity",
    "bounds": "numbers out of their declared bounds",
    "broken": "successors that are not the next observation",
    "duplicates": "episodes that are there already",
    "unended": "episodes that break off",
}
DONE = {"keep": "kept", "drop": "those episodes are left out", "clip": "taken to the nearest bound"}


def clipped(data: Dataset) -> Dataset:
    """Return the data with numbers within their declared bounds; choices stay as they are."""
    leaves = named_leaves(data.obs)
    for name, leaf in leaf_spaces(ObservationCodec(data.own_spaces[0]).space).items():
        if isinstance(leaf, spaces.Box) and leaf.dtype == np.float32:
            leaves[name] = np.clip(leaves[name], leaf.low, leaf.high)
    space = ActionCodec(data.own_spaces[1]).space
    action = np.clip(data.action, *bounds(space)) if isinstance(space, spaces.Box | Hybrid) else data.action
    return replace(data, obs=leaves if isinstance(data.obs, dict) else leaves[""], action=action)
