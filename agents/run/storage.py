"""Files that are whole or not there, whoever put them there: how all of them are opened, read and written."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from envs.errors import UserError

MOST_VALUES = 1_000_000  # of a JSON file: 100 MB as Python's objects at most
LIMIT = 64 * 2**20  # bytes of a file that is read whole; a larger one is none of ours


@contextmanager
def disk(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError into one sentence: `with disk("write", path): ...`.

    Raises:
        UserError: "cannot write PATH: no space left on device", and the like.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise UserError(f"cannot {action} {_final(path)}: {reason}") from error


@contextmanager
def opened(file: Path, limit: int | None = LIMIT, *, follow: bool = False) -> Iterator[BufferedReader]:
    """Open a file that may have been put there by anybody: `with opened(file) as stream: ...`.

    Args:
        limit: the most bytes that it may have.
        follow: whether it may be a symbolic link, as a file that the user named may.

    Raises:
        UserError: it cannot be read, is larger, a link, or no file (a folder, a pipe or a device).
    """
    with disk("read", file):
        if not follow and file.is_symlink():
            raise UserError(f"{file} is a symbolic link, which is not followed: what a folder holds must lie in it")
        ways = ("O_NOCTTY", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT", *([] if follow else ["O_NOFOLLOW"]))
        descriptor = os.open(file, os.O_RDONLY | sum(getattr(os, way, 0) for way in ways))
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise UserError(f"cannot read {file}: it is no file, but {_kind(found.st_mode)}")
        with open(descriptor, "rb") as stream:
            if limit is not None and found.st_size > limit:
                most = f"{limit / 1e9:,.1f} GB" if limit >= 1e9 else f"{limit // 2**20} MB"
                raise UserError(f"{file} is foreign: it has {found.st_size:,} bytes, and ours at most {most}")
            yield stream


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"


def read_bytes(file: Path, limit: int = LIMIT, *, follow: bool = False) -> bytes:
    """Return what a file holds; arguments and errors as of `opened`."""
    with opened(file, limit, follow=follow) as stream:
        return stream.read(limit)


def refuse_links(folder: Path) -> None:
    """Refuse a folder in which, at any depth, lies anything but files and folders.

    Links lead elsewhere, for reading and for writing, and pipes are waited on for ever.

    Raises:
        UserError: there is one; or a folder cannot be read.
    """
    waiting = [str(folder)]
    while waiting:
        place = waiting.pop()
        with disk("read", Path(place)):
            try:
                entries = list(os.scandir(place))
            except FileNotFoundError:  # another process has just replaced it
                continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_symlink():
                raise UserError(
                    f"{entry.path} is a symbolic link, which is not followed: what {folder} holds must lie in it"
                )
            elif not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                raise UserError(f"{entry.path} is neither a file nor a folder, which is all that {folder} may hold")


def _temporary(path: Path) -> Path:
    """Name a hidden sibling of `path` that nothing else uses."""
    return path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")


def _final(path: Path) -> Path:
    """Return where a path lies once all temporary names in it have been replaced."""
    return Path(*(re.sub(r"^\.(.+)\.tmp-[0-9a-f]{12}$", r"\1", part) for part in path.parts))


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk itself (Windows opens no folders, so there it is left to chance)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it takes `path`'s place once it is whole and on the disk."""
    temporary = _temporary(path)
    try:
        with disk("write", path):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        with suppress(OSError):  # it is not there, or lies where nothing can be removed
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that a crash leaves either as it was or whole.

    Raises:
        UserError: the disk is full, the folder is missing or may not be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file as `write_bytes` does."""
    write_bytes(path, text.encode())


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it takes `path`'s place once it is whole, and vanishes on failure.

    A folder that was at `path` waits under a hidden name while it is replaced; `tidy` brings it back
    if the process dies at that very moment.

    Raises:
        UserError: the disk is full or may not be written.
    """
    temporary, previous = _temporary(path), _previous(path)
    try:
        with disk("write", path):
            temporary.mkdir(parents=True)
            yield temporary
            for written in sorted(temporary.rglob("*")):
                _sync(written)
            _sync(temporary)
            if path.exists():
                shutil.rmtree(previous, ignore_errors=True)
                path.rename(previous)
            temporary.rename(path)
            _sync(path.parent)
            shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """Be in a folder for a block; where this process is there already, nothing need be allowed."""
    before = Path.cwd()
    return_to(folder)
    try:
        yield
    finally:
        return_to(before)


def return_to(folder: Path) -> None:
    """Go to a folder that this process has been in, unless it is there still."""
    if Path.cwd() != folder:
        os.chdir(folder)


def remove_folder(path: Path) -> None:
    """Remove a folder if that can be done, at once: `tidy` clears away what is left if the process dies meanwhile."""
    with suppress(OSError):
        shutil.rmtree(path.rename(_temporary(path)), ignore_errors=True)


def tidy(folder: Path) -> None:
    """Clear away what a killed process left half written in `folder`, and finish half-done replacements.

    Only for a folder that no other process is writing.
    """
    with disk("tidy", folder):
        for left in folder.glob(".*.previous"):
            path = left.with_name(left.name[1 : -len(".previous")])
            if path.exists():
                shutil.rmtree(left)
            else:
                left.rename(path)
        for left in folder.glob(".*.tmp-*"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def read_json(file: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    content = read_bytes(file)
    try:
        body = parse_json(content)
    except ValueError as error:
        raise UserError(f"{file} is torn or malformed: it is no JSON ({error})") from error
    if not isinstance(body, dict):
        raise UserError(f"{file} is foreign or malformed: it holds no JSON object")
    return body


def refuse_foreign(file: Path, body: Mapping[str, Any], form: str, version: int) -> None:
    """Raise UserError unless what a JSON file holds says that it is of this format and version."""
    if body.get("format") != form:
        raise UserError(f"{file} is foreign: this program did not write it")
    if body.get("version") != version:
        raise UserError(f"{file} has format version {body.get('version')!r}; this program reads version {version}")


def to_json(values: Any) -> str:
    """Write plain values as JSON on one line; inf and nan, which JSON lacks, become null."""
    return json.dumps(_finite(values), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_json(content: bytes, most: int = MOST_VALUES) -> Any:
    """Read JSON that may be anything.

    Raises:
        ValueError: it is none, is nested too deeply, or holds text that no file of ours has (`refuse_unsound`), whole
            numbers of more than 64 bits, or more than `most` values (each with a comma or a bracket before it).
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > most:
        raise ValueError(f"it holds more than {most:,} values")
    try:  # bytes alone it would take for UTF-16 too, and with half surrogates
        body = json.loads(content.decode("utf-8-sig"), parse_int=whole_number)
        if b"\\u" in content:
            refuse_unsound(json.dumps(body, ensure_ascii=False))
        return body
    except RecursionError as error:
        raise ValueError(str(error)) from error


def whole_number(text: str) -> int:
    """Read a number of at most 64 bits, with or without a sign; ValueError where it has more."""
    if len(text) > 21 or not -(2**63) <= (number := int(text)) < 2**64:
        raise ValueError(f"{text[:20]}...: whole numbers have at most 64 bits")
    return number


def refuse_unsound(text: str) -> None:
    """Raise ValueError for text with half a surrogate pair, which no output can encode, or NUL, which no path has."""
    if "\\u0000" in text or "\0" in text:
        raise ValueError("it holds the character NUL")
    if not text.isascii():
        text.encode()
