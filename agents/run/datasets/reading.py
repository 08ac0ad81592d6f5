"""Recorded data by its path, whatever it is: a Minari folder, NPZ, CSV, or recorded episodes of `replays/`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from agents.core.tree import named_leaves, to_numpy, tree_map
from agents.data.dataset import Dataset, concatenated
from agents.run import code
from agents.run.datasets.columns import read_csv, read_npz
from agents.run.datasets.minari import is_minari, read_minari
from agents.run.datasets.room import Room
from agents.run.recording import MANIFEST, RecordedEpisode, load_episode, recorded_actions
from envs.actions import ActionCodec
from envs.api import VecEnv
from envs.errors import UserError
from envs.make import make
from envs.spaces import ObservationCodec

FORMS = "a Minari folder, a file .npz or .csv, or a folder or file of replays/"


def load_dataset(
    path: Path,
    own_spaces: tuple[Space, Space] | None = None,
    *,
    trust: code.Trust = False,
) -> Dataset:
    """Read recorded episodes.

    Args:
        path: of one of `FORMS`.
        own_spaces: the environment's, of observations and actions, which the data must fit; None to take those that
            the data name, or that its numbers look like.
        trust: as of `code.refuse`, for episodes of `replays/`, which are played again to be read.

    Raises:
        UserError: it is missing, torn, foreign or too large, or does not fit the spaces.
    """
    room, place = Room(), is_minari(path)
    if place is not None:
        found = read_minari(place, room)
    elif path.suffix.lower() in (".npz", ".csv"):
        found = (read_npz if path.suffix.lower() == ".npz" else read_csv)(path, own_spaces, room)
    elif path.suffix == ".json" or (path.is_dir() and list(_recorded(path))):
        found = read_replays([path] if path.suffix == ".json" else list(_recorded(path)), room, trust)
    else:
        what = "holds none" if path.is_dir() else "is none" if path.exists() else "is not there"
        raise UserError(f"{path}: recorded data expected, {FORMS}; it {what}")
    if own_spaces is not None:
        refuse_others(found, own_spaces, path)
    return found


def refuse_others(data: Dataset, own_spaces: tuple[Space, Space], path: Path) -> None:
    """Refuse data of other spaces than an environment's, their bounds aside.

    Raises:
        UserError: the message names both.
    """
    codecs = ObservationCodec, ActionCodec
    for what, codec, theirs, mine in zip(("observations", "actions"), codecs, data.own_spaces, own_spaces, strict=True):
        if _form(codec(theirs).space) != _form(codec(mine).space):
            raise UserError(f"{path}: its {what} are of {theirs}, and those of the environment of {mine}")


def _form(space: Space) -> str:
    """Write a canonical space without the bounds of Boxes, which recordings often lack."""
    if isinstance(space, spaces.Dict):
        return json.dumps({key: _form(leaf) for key, leaf in sorted(space.spaces.items())})
    return f"{space.shape} {space.dtype}" if isinstance(space, spaces.Box) else repr(space)


def _recorded(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.json")) if file.name != MANIFEST and not file.is_symlink()]


def read_replays(files: Sequence[Path], room: Room, trust: code.Trust = False) -> Dataset:
    """Play recorded episodes again, in the environment that they name; return what was seen.

    Raises:
        UserError: a file is no recorded episode, its environment cannot be made, or plays otherwise than it did; or
            the episodes are of several environments.
    """
    parts: list[Dataset] = []
    for file in files:
        parts.append(_played(load_episode(file, trust), file, room))
        one, other = parts[0], parts[-1]
        if (one.env, one.own_spaces) != (other.env, other.own_spaces):
            first, second = (f"{part.env} {part.env_kwargs or ''}".strip() for part in (one, other))
            raise UserError(
                f"{files[0]} is an episode of {first}, and {file} one of {second}: those of one environment, with the "
                "same wrappers, expected"
            )
    return concatenated(parts)


def _actions(env: VecEnv, episode: RecordedEpisode, file: Path) -> np.ndarray:
    try:
        return recorded_actions(env, episode)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _played(episode: RecordedEpisode, file: Path, room: Room) -> Dataset:
    same: dict[str, Any] = {
        "env_kwargs": episode.env_kwargs,
        "wrappers": episode.wrappers,
        "rescale_action": episode.rescale_action,
    }
    env = make(episode.env, vec="sync", **same)
    try:
        actions = _actions(env, episode, file)
        seen, rewards, ends = [env.reset(episode.seed)], [], (False, False)
        for row in actions:
            step = env.step(row[None])
            seen.append(step.next_obs)
            rewards.append(np.float32(step.reward[0]))
            ends = bool(step.terminated[0]), bool(step.truncated[0])
            room.take(sum(leaf.nbytes for leaf in named_leaves(seen[-1]).values()), file)
            if any(ends):
                break
    finally:
        env.close()
    with np.errstate(over="ignore"):  # of a recorded reward that is none of ours
        told = np.array(episode.rewards, np.float64).astype(np.float32)
    if rewards != told.tolist() or ends != (episode.terminated, episode.truncated):
        raise UserError(f"{file}: {episode.env} does not play as it did when this episode was recorded")
    count = len(rewards)
    terminated, truncated = np.zeros(count, bool), np.zeros(count, bool)
    terminated[-1], truncated[-1] = ends
    raw = ActionCodec(env.own_spaces[1], episode.rescale_action).decode(actions)
    obs = tree_map(lambda *rows: np.concatenate([to_numpy(row) for row in rows]), *seen)
    return Dataset(
        env.own_spaces,
        obs,
        ActionCodec(env.own_spaces[1]).encode(raw),
        np.array(rewards, np.float32),
        terminated,
        truncated,
        np.array([count], np.int64),
        [None],  # that of the episode's file is a vector environment's
        np.zeros(count, bool),
        episode.env,
        episode.env_kwargs,
    )
