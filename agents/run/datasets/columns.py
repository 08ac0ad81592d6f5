"""Transitions in columns, one row for each: NPZ files with the keys of D4RL and its kin, and CSV files."""

from __future__ import annotations

import csv
import io
import math
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from agents.core.tree import tree_map
from agents.data.dataset import Builder, Dataset
from agents.run.datasets.room import Room
from agents.run.datasets.spaces import DEEPEST
from agents.run.storage import opened
from envs.errors import UserError, did_you_mean
from envs.spaces import children

NAMES = {
    "observations": ("observations", "obs", "states"),
    "next_observations": ("next_observations", "next_obs", "next_states"),
    "actions": ("actions", "acts", "action"),
    "rewards": ("rewards", "rews", "reward"),
    "terminated": ("terminals", "terminated", "terminations"),
    "ended": ("dones", "done"),  # by termination or by a time limit, which "truncated" tells apart
    "truncated": ("timeouts", "truncated", "truncations"),
    "episode": ("episode", "episodes", "episode_id"),
}
ENDS = ("terminated", "ended", "truncated")
SINGLE = ("rewards", *ENDS, "episode")  # one number for each row
NEEDED = ("observations", "actions", "rewards")
PACKED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
MOST_MEMBERS, MOST_HEADER, MOST_LINE = 1_000, 10_000, 10**6
MOST_CHOICES = 2**31 - 1  # of a number, where no space says how many there are
Columns = dict[str, Any]  # by our names; observations of several arrays as dicts


def read_npz(file: Path, own_spaces: tuple[Space, Space] | None, room: Room) -> Dataset:
    """Read an NPZ file: no pickle, each member's size known before it is read.

    Args:
        file: the user's.
        own_spaces: the environment's; None to take what the numbers look like.
        room: how much may be read.

    Raises:
        UserError: it is torn, foreign or too large, or lacks a column.
    """
    found: dict[str, np.ndarray] = {}
    with opened(file, None, follow=True) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                if len(members) > MOST_MEMBERS:
                    raise ValueError(f"it has {len(members):,} members, at most {MOST_MEMBERS:,} expected")
                for member in members:
                    if (name := _column(member.filename)) is not None:
                        if name in found:
                            raise ValueError(f"it has two members {member.filename!r:.60}")
                        found[name] = _member(archive, member, file, room)
        except UserError:
            raise
        except Exception as error:  # a codec's own errors too, such as zlib.error
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{file} is torn or foreign: {said}") from error
    return from_columns(_gathered(found, file), own_spaces, file)


def _column(member: str) -> str | None:
    """Return the path of an array in an archive, such as "observations/camera"; None of what is no part of it."""
    path = member.removesuffix(".npy")
    if path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path) or ":" in path:
        raise ValueError(f"a member is called {member!r:.60}, which leads out of it")
    if path.count("/") > DEEPEST:
        raise ValueError(f"a member is called {member!r:.60}, which is more than {DEEPEST} folders deep")
    return path if member.endswith(".npy") and _meant(path.partition("/")[0]) else None


def _meant(name: str) -> str | None:
    return next((ours for ours, theirs in NAMES.items() if name in theirs), None)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: Path, room: Room) -> np.ndarray:
    """Read one array, whose header says how large it is."""
    if member.compress_type not in PACKED:  # the other codecs unpack all of what they are given at once
        raise ValueError(f"{member.filename} is neither stored nor deflated")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename} is of version {version} of the format")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream, max_header_size=MOST_HEADER)
        if dtype.hasobject or dtype.kind not in "biuf":
            raise ValueError(f"{member.filename} is of {dtype}, which is not numbers")
        if any(side < 0 for side in shape):
            raise ValueError(f"{member.filename} has the shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        room.take(math.prod(shape) * max(dtype.itemsize, 4), file)
        content = stream.read(size + 1)
        if len(content) != size:
            raise ValueError(f"{member.filename} does not have the {size:,} bytes that its header says")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def read_csv(file: Path, own_spaces: tuple[Space, Space] | None, room: Room) -> Dataset:
    """Read a CSV file with a header: obs_0, obs_1, ..., action (or action_0, ...), reward, terminated, truncated, and
    perhaps episode and next_obs_0, ...; arguments and errors as of `read_npz`.
    """
    with opened(file, None, follow=True) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        try:
            lines = csv.reader(_bounded(text))
            header = [name.strip() for name in next(lines, [])]
            if len(header) > MOST_MEMBERS or len(set(header)) < len(header):
                raise ValueError(f"its header has {len(header):,} columns, or one of them twice")
            places = _places(header)
            rows: list[list[float]] = []
            for number, line in enumerate(lines, 2):
                if not line:
                    continue
                if len(line) != len(header):
                    raise ValueError(f"line {number} has {len(line)} columns, and the header {len(header)}")
                room.take(32 * len(line), file)
                rows.append([_number(word, number) for word in line])
        except (ValueError, csv.Error) as error:
            raise UserError(f"{file} is torn or foreign: {str(error)[:200]}") from error
    table = np.array(rows).reshape(len(rows), len(header))
    arrays = {name: table[:, where] for name, where in places.items()}
    for name, array in arrays.items():
        if _meant(name) == "actions" and array.shape[1] == 1:
            arrays[name] = array[:, 0].astype(np.int64) if _whole(array) else array[:, 0]
    return from_columns(_gathered(arrays, file), own_spaces, file)


def _places(header: list[str]) -> dict[str, list[int]]:
    """Return where the columns of each array lie, in the order of their numbers.

    Raises:
        ValueError: a number is missing, or there twice.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for index, name in enumerate(header):
        stem = name.rstrip("0123456789")
        number = name[len(stem) :]
        stem = stem.removesuffix("_") if number else stem
        if _meant(stem):
            found.setdefault(stem, []).append((int(number or -1), index))
    for stem, columns in found.items():
        columns.sort()
        numbers = [number for number, _ in columns]
        if numbers not in ([-1], list(range(len(numbers)))):
            has = ", ".join(header[index] for _, index in columns)
            wanted = f"{stem} alone, or {stem}_0, {stem}_1 and so on, each once"
            raise ValueError(f"its header has {has[:80]}; {wanted}, expected")
    return {stem: [index for _, index in columns] for stem, columns in found.items()}


def _whole(array: np.ndarray) -> bool:
    """Whether all numbers are whole, and int64 holds them."""
    return bool(((array == np.rint(array)) & (np.abs(array) < np.float64(2**63))).all())


def _bounded(text: io.TextIOWrapper) -> Iterable[str]:
    while line := text.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise ValueError(f"a line has more than {MOST_LINE:,} characters")
        yield line


def _number(word: str, line: int) -> float:
    try:
        return float({"true": "1", "false": "0"}.get(word.strip().lower(), word))
    except ValueError:
        raise ValueError(f"line {line} has {word[:40]!r}, which is no number") from None


def _gathered(arrays: Mapping[str, np.ndarray], file: Path) -> Columns:
    """Return columns by our names, those of nested observations and actions as dicts.

    Raises:
        UserError: one is missing, has two names, or is not of its form.
    """
    found: Columns = {}
    called: dict[str, str] = {}
    for path, array in arrays.items():
        first, _, inner = path.partition("/")
        name = _meant(first)
        assert name is not None
        if (other := called.setdefault("terminated" if name == "ended" else name, first)) != first:
            raise UserError(f"{file} has {other} and {first}, which are two names of one column: keep one")
        if name in SINGLE:
            array = _single(array, path, file)
        *folders, last = [name, *inner.split("/")] if inner else [name]
        place = found
        for folder in folders:
            place = place.setdefault(folder, {}) if isinstance(place, dict) else place
        if not isinstance(place, dict) or last in place:
            raise UserError(f"{file} has {path!r} where another array lies")
        place[last] = array
    for name in NEEDED:
        if name not in found:
            has = ", ".join(sorted(arrays)) or "none that is known"
            near = did_you_mean(name, list(arrays))
            raise UserError(f"{file} has no {name} (as {', '.join(NAMES[name])}); it has {has}.{near}")
    if not found.keys() & {*ENDS, "episode"}:
        known = ", ".join(name for ours in ENDS for name in NAMES[ours])
        raise UserError(f"{file} does not say where episodes end: give {known}, or episode")
    return found


def _single(column: np.ndarray, path: str, file: Path) -> np.ndarray:
    """Return a column of one number for each row as `[N]`.

    Raises:
        UserError: it is of another shape, or its numbers are none that it may have.
    """
    name = _meant(path)
    if name is None or (column.ndim != 1 and column.shape[1:] != (1,)):
        raise UserError(f"{file}: {path[:60]} of the shape {column.shape} given, one array (N,) or (N, 1) expected")
    column = column.ravel()
    if name == "episode" and not np.isfinite(column).all():
        raise UserError(f"{file}: {path} has NaN or infinite numbers, those of episodes expected")
    if name in ENDS and len(others := column[(column != 0) & (column != 1)]):
        raise UserError(f"{file}: {path} has {others[0]}; 0, 1, True or False expected")
    return column


def from_columns(columns: Columns, own_spaces: tuple[Space, Space] | None, file: Path) -> Dataset:
    """Cut columns into episodes: after each end, and where the number of the episode changes.

    Where there are no next observations, the successor of an episode's last one is unknown: if that terminated the
    episode nothing depends on it; else the transition is left out, and its observation is the successor of the one
    before, as in D4RL's `qlearning_dataset`.

    Raises:
        UserError: they are not as long as one another, do not fit the spaces, or nothing is left of them.
    """
    count = len(columns["rewards"])
    for name, column in columns.items():
        for leaf in _leaves(column):
            if leaf.ndim < 1 or len(leaf) != count or not count or ("obs" in name and not leaf.size):
                raise UserError(f"{file}: {name} have shape {leaf.shape}, and there are {count:,} rewards")
    flags = {name: columns.get(name, np.zeros(count)).astype(bool) for name in ENDS}
    terminated, truncated = flags["terminated"] | (flags["ended"] & ~flags["truncated"]), flags["truncated"]
    ends = terminated | truncated
    if "episode" in columns:
        number = columns["episode"]
        ends[:-1] |= number[1:] != number[:-1]
    ends[-1] = True
    shown, acted, after = columns["observations"], columns["actions"], columns.get("next_observations")
    own_spaces = own_spaces or (_looks_like(shown, file), _looks_like_action(acted, file))
    shown, acted, after = (
        _shaped(columns, space)
        for columns, space in zip((shown, acted, after), (*own_spaces, own_spaces[0]), strict=True)
    )
    then = shown if after is None else after
    forms = [str(tree_map(lambda leaf: leaf.shape[1:], column)) for column in (shown, then)]
    if forms[0] != forms[1]:
        raise UserError(f"{file}: observations have the shape {forms[0]:.80}, and next_observations {forms[1]:.80}")
    builder, start, left_out = Builder(own_spaces), 0, 0
    try:
        for end in (np.flatnonzero(ends) + 1).tolist():
            stop = end - int(after is None and not terminated[end - 1])
            left_out += end - stop
            part, first, start = slice(start, stop), start, end
            if first == stop:
                continue
            truncated[stop - 1] |= truncated[end - 1]
            last = tree_map(lambda leaf, end=end: leaf[end - 1 : end], then)
            seen = tree_map(lambda leaf, part=part: leaf[part], shown)
            obs = tree_map(lambda *rows: np.concatenate(rows), seen, last)
            broken = None if after is None else _unlike(shown, after, first, end)
            chosen, reward = tree_map(lambda leaf, part=part: leaf[part], acted), columns["rewards"][part]
            builder.add(obs, chosen, reward, terminated[part], truncated[part], broken=broken)
    except ValueError as error:
        raise UserError(f"{file}, rows {first:,} to {end:,}: {str(error)[:300]}") from error
    if left_out == count:
        raise UserError(f"{file}: of none of its {count:,} transitions the successor is known: give next_observations")
    remarks = []
    if flags["ended"].any() and "truncated" not in columns:
        remarks.append("episodes end by dones alone: those that a time limit ended count as terminated")
    if left_out:
        remarks.append(
            f"{left_out:,} of {count:,} transitions are left out, as their successors are unknown: without "
            "next_observations those that end an episode which does not terminate"
        )
    return replace(builder.finish(), remarks=remarks)


def _leaves(column: Any) -> Iterable[np.ndarray]:
    if isinstance(column, dict | tuple):
        for part in column.values() if isinstance(column, dict) else column:
            yield from _leaves(part)
    else:
        yield column


def _unlike(shown: Any, after: Any, start: int, end: int) -> np.ndarray:
    """Return where the successor is not the next observation, in the transitions of an episode."""
    found = np.zeros(end - start, bool)
    for now, then in zip(_leaves(shown), _leaves(after), strict=True):
        one, other = now[start + 1 : end], then[start : end - 1]
        differs = one != other
        if now.dtype.kind == "f":
            differs &= ~(np.isnan(one) & np.isnan(other))
        found[:-1] |= differs.any(axis=tuple(range(1, differs.ndim)))
    return found


def _shaped(column: Any, space: Space) -> Any:
    """Return a column as the space has it: the parts of a Tuple are called 0, 1, ... in files, and one choice may be
    a row of one number.
    """
    if column is None:
        return None
    if (parts := children(space)) is not None:
        if not isinstance(column, dict) or {str(key) for key, _ in parts} - column.keys():
            return column  # encoding it says what is wrong
        found = {key: _shaped(column[str(key)], part) for key, part in parts}
        return tuple(found.values()) if isinstance(space, spaces.Tuple) else found
    if isinstance(column, dict):
        return column
    whole = isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
    if whole and column.dtype.kind == "f" and _whole(column):
        column = column.astype(np.int64)
    if (
        space.shape is not None
        and column.shape[1:] != space.shape
        and math.prod(column.shape[1:]) == math.prod(space.shape)
    ):
        column = column.reshape(len(column), *space.shape)
    return column


def _looks_like(column: Any, file: Path) -> Space:
    if isinstance(column, dict):
        return spaces.Dict({key: _looks_like(part, file) for key, part in column.items()})
    if column.dtype == np.uint8:
        return spaces.Box(0, 255, column.shape[1:], np.uint8)
    if column.dtype.kind in "iu" and column.ndim == 1:
        return spaces.Discrete(int(_choices(column, "observations", file)))
    return spaces.Box(-np.inf, np.inf, column.shape[1:], np.float32)


def _looks_like_action(column: Any, file: Path) -> Space:
    if isinstance(column, dict) or column.dtype.kind not in "iu":
        return _looks_like(column, file)
    counts = _choices(column, "actions", file)
    return spaces.Discrete(int(counts)) if column.ndim == 1 else spaces.MultiDiscrete(counts.ravel())


def _choices(column: np.ndarray, what: str, file: Path) -> Any:
    """Return how many choices whole numbers look like: those from 0 to the largest that is there.

    Raises:
        UserError: they are none that choices may have.
    """
    if not column.size or column.min() < 0 or column.max() >= MOST_CHOICES:
        seen = f"from {column.min()} to {column.max()}" if column.size else "none"
        raise UserError(
            f"{file}: {what} are whole numbers, {seen}; from 0 to {MOST_CHOICES - 1} expected, as no space is known"
        )
    return column.max(axis=0).astype(np.int64) + 1
