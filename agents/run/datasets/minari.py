"""Minari's folders: `data/main_data.hdf5`, a group for each episode, and `data/metadata.json` (Younis et al. 2024).

What Minari reads is written here, and what Minari wrote is read, without Minari: https://minari.farama.org. A file of
HDF5 may be anybody's: links, data kept in other files, and more than there is room for are refused.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from pydantic import TypeAdapter

from agents.data.dataset import Builder, Dataset
from agents.run.config import Wrapper
from agents.run.datasets.room import Room
from agents.run.datasets.spaces import from_minari, to_minari
from agents.run.storage import atomic_file, disk, opened, read_json, write_text
from envs.errors import UserError
from envs.spaces import children
from envs.words import is_text

DATA, FILE, ABOUT = "data", "main_data.hdf5", "metadata.json"
MOST_EPISODES = 1_000_000
VERSION = "0.5.4"  # of Minari's format, whose sets look like those written here
LEAST_PACKED = 2**16  # bytes of an array from which on it is compressed
PLACE = 16  # bytes that say where a text or a picture lies in a file
KEYS = ("rewards", "terminations", "truncations")


def h5() -> Any:
    """Return the package that reads HDF5.

    Raises:
        UserError: it is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise UserError('Minari\'s files need the package h5py: pip install -e ".[data]"') from None
    return h5py


@dataclass(slots=True)
class Episode:
    """One episode as the environment gave it: T + 1 raw observations, and T of everything else."""

    seed: int | None
    observations: list[Any] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminations: list[bool] = field(default_factory=list)
    truncations: list[bool] = field(default_factory=list)


def is_minari(path: Path) -> Path | None:
    """Return the folder in which a Minari set's files lie, or None: `path` itself or `path/data`."""
    return next((place for place in (path, path / DATA) if (place / ABOUT).is_file()), None)


def write_episode(file: Path, episode: Episode, own_spaces: tuple[Space, Space]) -> None:
    """Write a file with one episode in it, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with atomic_file(file) as temporary, h5().File(temporary, "w") as whole:
        group = whole.create_group("episode")
        if episode.seed is not None:
            group.attrs["seed"] = np.uint64(episode.seed)
        group.attrs["total_steps"] = len(episode.rewards)
        _write(group, "observations", own_spaces[0], episode.observations)
        _write(group, "actions", own_spaces[1], episode.actions)
        group["rewards"] = np.array(episode.rewards, np.float64)
        group["terminations"] = np.array(episode.terminations, bool)
        group["truncations"] = np.array(episode.truncations, bool)


def _write(group: Any, name: str, space: Space, values: Sequence[Any]) -> None:
    """Write raw values of a space, one after the other; Dict and Tuple become groups."""
    if (parts := children(space)) is not None:
        inner, tuple_ = group.create_group(name), isinstance(space, spaces.Tuple)
        for key, part in parts:
            _write(inner, f"_index_{key}" if tuple_ else key, part, [value[key] for value in values])
    elif is_text(space):
        group.create_dataset(name, data=[str(value) for value in values], dtype=h5().string_dtype("utf-8"))
    else:
        array = np.array(values, space.dtype)
        packed = {"compression": "gzip", "compression_opts": 1} if array.nbytes >= LEAST_PACKED else {}
        group.create_dataset(name, data=array, **packed)


def write_set(folder: Path, parts: Sequence[Path], own_spaces: tuple[Space, Space], about: dict[str, Any]) -> None:
    """Put files with an episode each together into a set that Minari reads, in `folder/data`.

    Args:
        folder: exists.
        parts: what `write_episode` wrote.
        own_spaces: of observations and actions.
        about: what else its metadata say.

    Raises:
        UserError: it cannot be written.
    """
    steps = 0
    with disk("write", folder):
        (folder / DATA).mkdir()
        with h5().File(folder / DATA / FILE, "w", track_order=True) as whole:
            for index, part in enumerate(parts):
                with h5().File(part, "r") as one:
                    one.copy("episode", whole, f"episode_{index}")
                whole[f"episode_{index}"].attrs["id"] = index
                steps += int(whole[f"episode_{index}"].attrs["total_steps"])
        size = (folder / DATA / FILE).stat().st_size
    described = dict(zip(("observation_space", "action_space"), map(to_minari, own_spaces), strict=True))
    counted = {"total_episodes": len(parts), "total_steps": steps, "data_format": "hdf5", "jpeg_encoding": False}
    body = counted | {name: json.dumps(space) for name, space in described.items()} | about
    body |= {"minari_version": VERSION, "dataset_size": round(size / 1e6, 1)}
    write_text(folder / DATA / ABOUT, json.dumps(body))


def read_minari(folder: Path, room: Room) -> Dataset:
    """Read a Minari set.

    Args:
        folder: where its two files lie.
        room: how much may be read.

    Raises:
        UserError: it is torn or foreign, or too large.
    """
    about = read_json(folder / ABOUT)
    if about.get("data_format", "hdf5") != "hdf5":
        raise UserError(f"{folder / ABOUT}: data_format {str(about['data_format'])[:40]!r} given, hdf5 expected")
    try:
        own_spaces = from_minari(about["observation_space"]), from_minari(about["action_space"])
        count = about["total_episodes"]
        if type(count) is not int or not 0 < count <= MOST_EPISODES:
            raise ValueError(f"total_episodes is {count!r:.40}")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{folder / ABOUT}: not the metadata of a Minari set ({str(error)[:200]})") from error
    builder = Builder(own_spaces, *_origin(about))
    with opened(folder / FILE, None) as stream:
        try:
            with h5().File(stream, "r") as whole:
                reader = _Reader(room, bool(about.get("jpeg_encoding", True)), folder / FILE)
                for index in range(count):
                    reader.add(builder, reader.group(whole, f"episode_{index}"), own_spaces)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise UserError(f"{folder / FILE} is torn or foreign: {' '.join(str(error).split())[:200]}") from error
    return builder.finish()


def _origin(about: dict[str, Any]) -> tuple[str | None, dict[str, Any], list[Wrapper]]:
    """Return the environment that metadata name, its arguments and its wrappers, where they are plain."""
    try:
        if isinstance(ours := about.get("deep_rl_suite"), dict):
            name, kwargs = ours["env"], ours["env_kwargs"]
            wrappers = TypeAdapter(list[Wrapper]).validate_python(ours.get("wrappers", []))
        else:
            spec = json.loads(about["env_spec"])
            name, kwargs, wrappers = spec["id"], spec.get("kwargs") or {}, []
        return (name, kwargs, wrappers) if isinstance(name, str) and isinstance(kwargs, dict) else (None, {}, [])
    except (KeyError, ValueError, TypeError, RecursionError):
        return None, {}, []


class _Reader:
    """Reads what is plainly in a file, and counts how much that is."""

    def __init__(self, room: Room, jpeg: bool, file: Path) -> None:
        self._room, self._jpeg, self._file = room, jpeg, file

    def add(self, builder: Builder, group: Any, own_spaces: tuple[Space, Space]) -> None:
        obs, action = (self._tree(group, *pair) for pair in zip(("observations", "actions"), own_spaces, strict=True))
        reward, terminated, truncated = (self._array(self.dataset(group, name)) for name in KEYS)
        seed = group.attrs.get("seed")
        builder.add(obs, action, reward, terminated, truncated, None if seed is None else int(seed))

    def group(self, parent: Any, name: str) -> Any:
        return self._member(parent, name, h5().Group)

    def dataset(self, parent: Any, name: str) -> Any:
        """Return an array that lies in this file, of a kind that is read."""
        found = self._member(parent, name, h5().Dataset)
        if found.external or found.is_virtual:
            raise ValueError(f"{found.name} lies in another file")
        if found.shape is None:
            raise ValueError(f"{found.name} is empty")
        return found

    def _member(self, parent: Any, name: str, kind: type) -> Any:
        if not isinstance(parent.get(name, getlink=True), h5().HardLink):
            raise ValueError(f"{parent.name}/{name} is not there, or leads elsewhere")
        found = parent[name]
        if not isinstance(found, kind):
            raise ValueError(f"{parent.name}/{name} is no {kind.__name__.lower()}")
        return found

    def _array(self, found: Any) -> np.ndarray:
        if found.dtype.kind not in "biuf":
            raise ValueError(f"{found.name} is of {found.dtype}, which is not numbers")
        self._take(found, 4)
        return np.atleast_1d(found[()])

    def _take(self, found: Any, least: int) -> None:
        """Count an array, each number as `least` bytes or more; a chunk is read whole, and may be the larger."""
        numbers = max(math.prod(found.shape), math.prod(found.chunks or (0,)))
        self._room.take(numbers * max(found.dtype.itemsize, least), self._file)

    def _tree(self, parent: Any, name: str, space: Space) -> Any:
        if (parts := children(space)) is not None:
            inner, tuple_ = self.group(parent, name), isinstance(space, spaces.Tuple)
            found = {key: self._tree(inner, f"_index_{key}" if tuple_ else key, part) for key, part in parts}
            return tuple(found.values()) if tuple_ else found
        data = self.dataset(parent, name)
        if is_text(space):
            return list(self._texts(data, space.max_length))  # type: ignore[attr-defined]
        if self._jpeg and _is_image(space):
            return np.stack(list(self._pictures(data, space)))
        return self._array(data)

    def _texts(self, data: Any, longest: int) -> Iterator[str]:
        if h5().check_string_dtype(data.dtype) is None:
            raise ValueError(f"{data.name} is of {data.dtype}, texts expected")
        self._take(data, PLACE)
        for index in range(len(data)):
            text = data[index]
            text = text.decode() if isinstance(text, bytes) else str(text)
            self._room.take(4 * min(len(text), longest), self._file)
            yield text[: longest + 1]

    def _pictures(self, data: Any, space: Space) -> Iterator[np.ndarray]:
        """Yield JPEG pictures of the space's shape."""
        try:
            from PIL import Image
        except ImportError:
            raise UserError(f"{self._file} has JPEG pictures, which need the package pillow") from None
        shape: Any = space.shape
        self._take(data, PLACE)
        for index in range(len(data)):
            self._room.take(math.prod(shape), self._file)
            packed = np.asarray(data[index])
            if packed.dtype != np.uint8 or packed.ndim != 1:
                raise ValueError(f"{data.name} holds no JPEG pictures")
            try:
                with Image.open(io.BytesIO(packed.tobytes()), formats=["JPEG"]) as picture:
                    if (picture.height, picture.width) != shape[:2]:
                        raise ValueError(f"{data.name} has a picture of {picture.size}, not of {shape}")
                    read = np.asarray(picture, np.uint8).reshape(shape)
            except Image.DecompressionBombError as error:
                raise ValueError(f"{data.name} has a picture not of {shape}: {error}") from error
            yield read


def _is_image(space: Space) -> bool:
    """Whether Minari takes a space for pictures, which it may have written as JPEG."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3):
        return False
    large = min(space.shape[:2]) >= 32
    return large and bool((space.low == 0).all() and (space.high == 255).all())
