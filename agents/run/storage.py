"""Files that are whole or not there, and nested state in them without pickle.

A tree (nested dicts whose leaves are tensors, arrays and plain values) becomes two files:
`NAME.safetensors` holds the numbers, `NAME.json` the structure, the plain values, and checksums of both.
PyTorch is imported only by the functions that handle tensors, so that commands start quickly.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORMAT = "deep-rl-suite tree"
VERSION = 1
PART = ".part"  # what the names of files end in that hold a part of a tensor
_PART_DTYPES = ("uint8", "bool", "int32", "int64", "float32")
_KINDS = ("torch", "numpy", "scalar")
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
def _atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it takes `path`'s place once it is whole and on the disk."""
    temporary = _temporary(path)
    try:
        with disk("write", path):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that a crash leaves either as it was or whole.

    Raises:
        UserError: the disk is full, the folder is missing or may not be written.
    """
    with _atomic_file(path) as temporary:
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


def write_tree(
    folder: Path, name: str, tree: dict[Any, Any], meta: dict[str, Any] | None = None, earlier: Path | None = None
) -> None:
    """Write `tree` and `meta` to `NAME.safetensors` and `NAME.json` in `folder`, which exists.

    Leaves: tensors (from any device), NumPy arrays and scalars, ints of any size, floats (inf and nan too), bools,
    None and strings; containers: lists, tuples, and dicts with string or integer keys. All come back as they were,
    except that tensors come back on the CPU. Each file is atomic; to replace both as one, use `atomic_folder`.

    Leaves may be `Parts` too, of which each part is a file named by its checksum; they come back as `StoredParts`.

    Args:
        earlier: a folder in which parts that have not changed may lie already; they get a second name in `folder`.

    Raises:
        UserError: the disk is full or may not be written.
        TypeError: a leaf or a key is of another type.
    """
    tensors: dict[str, Tensor] = {}
    _write_parts(tree, folder, earlier)
    body: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "meta": _encode(meta or {}, "meta", None),
        "tree": _encode(tree, "", tensors),
    }
    with _atomic_file(folder / f"{name}.safetensors") as file:
        _save_tensors(tensors, file)
        body["tensors_sha256"] = _file_sha256(file)
    body["checksum"] = _json_sha256(body)
    write_text(folder / f"{name}.json", json.dumps(body, indent=1, allow_nan=False) + "\n")


def read_tree(folder: Path, name: str) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Read what `write_tree` wrote: `(tree, meta)`.

    Raises:
        UserError: a file is missing, torn, altered, foreign or malformed; the message says which file, and how.
    """
    import safetensors.torch
    import torch

    from agents.run.memory import free_bytes  # and with it PyTorch

    json_file, tensor_file = folder / f"{name}.json", folder / f"{name}.safetensors"
    body = _read_body(json_file)
    with opened(tensor_file, free_bytes(torch.device("cpu"))) as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != body["tensors_sha256"]:
            raise UserError(f"{tensor_file} is torn or was altered: it does not match the checksum in {json_file.name}")
    with disk("read", tensor_file):
        try:
            tensors = safetensors.torch.load_file(tensor_file)
        except (safetensors.SafetensorError, KeyError) as error:
            raise UserError(f"{tensor_file} is malformed: {error}") from error
    try:
        tree, meta = _decode(body["tree"], tensors, folder), _decode(body["meta"], {}, folder)
        if not isinstance(tree, dict) or not isinstance(meta, dict):
            raise TypeError("tree and meta must be mappings")
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{json_file} is malformed: {type(error).__name__}: {error}") from error
    return tree, meta


def _write_parts(tree: Any, folder: Path, earlier: Path | None) -> None:
    """Write the parts of all `Parts` in a tree that do not lie in `earlier`."""
    from agents.core.parts import Parts

    if isinstance(tree, dict):
        for child in tree.values():
            _write_parts(child, folder, earlier)
    elif isinstance(tree, Parts):
        for i, (start, stop) in enumerate(tree.spans()):
            if earlier is not None and _linked(tree.digests[i], earlier, folder):
                continue
            content = tree.bytes_of(start, stop).data
            digest = hashlib.sha256(content).hexdigest()
            with disk("write", folder), _part_file(folder, digest).open("wb") as stream:
                stream.write(content)
            tree.digests[i] = digest


def _linked(digest: str | None, earlier: Path, folder: Path) -> bool:
    """Give a part in `earlier` a second name in `folder`; return whether that was possible."""
    if digest is None:
        return False
    with suppress(OSError):  # it is gone, or this file system has no second names
        if not _part_file(folder, digest).exists():
            os.link(_part_file(earlier, digest), _part_file(folder, digest))
        return True
    return False


def _part_file(folder: Path, digest: str) -> Path:
    return folder / f"{digest}{PART}"


def remove_tree(folder: Path, name: str) -> None:
    """Remove what `write_tree` wrote, where it is there."""
    for file in (folder / f"{name}.json", folder / f"{name}.safetensors", *folder.glob(f"*{PART}")):
        file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class StoredParts:
    """A tensor that lies in files of `rows` rows each (the last may have fewer), named by their checksums."""

    folder: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    rows: int
    digests: list[str]

    @classmethod
    def of(cls, content: dict[str, Any], folder: Path) -> StoredParts:
        """Make one of what `_encode` says of `Parts`.

        Raises:
            LookupError, TypeError, ValueError: it does not say that.
        """
        import torch

        shape, rows, digests = (content[name] for name in ("shape", "rows", "files"))
        numbers = [rows, *shape]
        if not shape or any(type(number) is not int or not 0 <= number < 2**48 for number in numbers) or not rows:
            raise ValueError(f"shape {shape!r:.60} in parts of {rows!r:.60} rows")
        if len(digests) != -(-shape[0] // rows) or not all(re.fullmatch("[0-9a-f]{64}", name) for name in digests):
            raise ValueError(f"{len(digests)} files of {rows} rows hold {shape[0]}")
        dtype = getattr(torch, content["dtype"]) if content["dtype"] in _PART_DTYPES else None
        if dtype is None:
            raise ValueError(f"dtype {content['dtype']!r:.60}")
        return cls(folder, dtype, tuple(shape), rows, list(digests))

    def read(self, into: Tensor) -> None:
        """Read it into a tensor of its dtype and shape, on the CPU.

        Raises:
            UserError: a file is missing, torn or altered.
        """
        import torch

        for i, digest in enumerate(self.digests):
            array = into[i * self.rows : (i + 1) * self.rows].reshape(-1).view(torch.uint8).numpy().data
            file = _part_file(self.folder, digest)
            with opened(file, array.nbytes) as stream:
                whole = stream.readinto(array) == array.nbytes
            if not whole or hashlib.sha256(array).hexdigest() != digest:
                raise UserError(f"{file} is torn or was altered: it does not match the checksum in its name")


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


def parse_json(content: bytes) -> Any:
    """Read JSON that may be anything.

    Raises:
        ValueError: it is none, is nested too deeply, or holds text that no file of ours has (`refuse_unsound`).
    """
    try:
        body = json.loads(content)
        if b"\\u" in content:
            refuse_unsound(json.dumps(body, ensure_ascii=False))
        return body
    except RecursionError as error:
        raise ValueError(str(error)) from error


def refuse_unsound(text: str) -> None:
    """Raise ValueError for text with half a surrogate pair, which no output can encode, or NUL, which no path has."""
    if "\\u0000" in text or "\0" in text:
        raise ValueError("it holds the character NUL")
    if not text.isascii():
        text.encode()


def _read_body(file: Path) -> dict[str, Any]:
    """Read and verify the JSON half."""
    body = read_json(file)
    checksum = body.pop("checksum", None)
    try:
        altered = checksum != _json_sha256(body)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is malformed: {error}") from error
    if body.get("format") != FORMAT:
        raise UserError(f"{file} is foreign: this program did not write it")
    if body.get("version") != VERSION:
        raise UserError(f"{file} has format version {body.get('version')!r}; this program reads version {VERSION}")
    if altered:
        raise UserError(f"{file} was altered: it does not match its own checksum")
    if missing := {"meta", "tree", "tensors_sha256"} - body.keys():
        raise UserError(f"{file} is malformed: it has no {', '.join(sorted(missing))}")
    return body


def _file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _json_sha256(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _save_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    import safetensors.torch

    file.touch()
    mode = stat.S_IMODE(file.stat().st_mode)
    try:
        # The library writes to a file of its own beside the one it is given, for nobody else to read: if the process
        # dies then, that file lies in a folder that `tidy` knows.
        with tempfile.TemporaryDirectory(prefix=f"{file.name}.tmp-", dir=file.parent) as place:
            whole = Path(place) / file.name
            safetensors.torch.save_file(tensors, whole)
            whole.chmod(mode)
            whole.replace(file)
    except safetensors.SafetensorError as error:  # it words the operating system's errors itself
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else 0, str(error)) from error


def _own_storage(tensor: Tensor, stored: dict[str, Tensor]) -> Tensor:
    """Return `tensor` on the CPU, contiguous, in memory that no tensor in `stored` shares (safetensors insists)."""
    tensor = tensor.detach().cpu().contiguous()
    storage = tensor.untyped_storage()
    shared = any(storage.data_ptr() == other.untyped_storage().data_ptr() for other in stored.values())
    return tensor.clone() if shared or storage.nbytes() != tensor.nbytes else tensor


def _encode(value: Any, path: str, tensors: dict[str, Tensor] | None) -> Any:
    """Return `value` as JSON; arrays go to `tensors`, named by their path. Only without `tensors` are they refused.

    What JSON cannot say is an object with one key that begins with "$".
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, dict):
        keys = list(value)
        if any(type(key) not in (str, int) for key in keys):
            raise TypeError(f"{path}: keys must be strings or integers, not {keys}")
        items = [(key, _encode(child, _join(path, key), tensors)) for key, child in value.items()]
        plain = all(isinstance(key, str) and not key.startswith("$") for key in keys)
        return dict(items) if plain else {"$items": items}
    if isinstance(value, list | tuple):
        children = [_encode(child, _join(path, i), tensors) for i, child in enumerate(value)]
        return children if isinstance(value, list) else {"$tuple": children}
    if type(value) is int:
        return value if value.bit_length() < 64 else {"$int": hex(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    from agents.core.parts import Parts

    if tensors is None:
        raise TypeError(f"{path}: {type(value).__name__} cannot be stored here")
    if isinstance(value, Parts):
        dtype = str(value.dtype).removeprefix("torch.")
        return {"$parts": {"dtype": dtype, "shape": list(value.shape), "rows": value.rows, "files": value.digests}}
    return _encode_array(value, path, tensors)


def _encode_array(value: Any, path: str, tensors: dict[str, Tensor]) -> dict[str, str]:
    import torch

    if isinstance(value, torch.Tensor):
        tensor, kind = value, "torch"
    elif isinstance(value, np.ndarray | np.generic):
        tensor = torch.from_numpy(np.array(value, order="C"))  # TypeError for strings, objects and foreign byte order
        kind = "numpy" if isinstance(value, np.ndarray) else "scalar"
    else:
        raise TypeError(f"{path}: {type(value).__name__} cannot be stored")
    tensors[path] = _own_storage(tensor, tensors)
    return {"$array": path, "kind": kind}


def _join(path: str, key: str | int) -> str:
    """Extend a path; a slash in a key is escaped, and an integer key marked, so that no two paths are alike."""
    part = f"#{key}" if isinstance(key, int) else re.sub(r"[~/#]", lambda found: f"~{ord(found[0]):02x}", key)
    return f"{path}/{part or '~'}" if path else part or "~"


def _decode(value: Any, tensors: dict[str, Tensor], folder: Path) -> Any:
    """Undo `_encode`; anything unexpected raises LookupError, TypeError or ValueError."""
    if isinstance(value, list):
        return [_decode(child, tensors, folder) for child in value]
    if not isinstance(value, dict):
        return value
    tag = next((key for key in value if key.startswith("$")), None)
    if tag is None:
        return {key: _decode(child, tensors, folder) for key, child in value.items()}
    content = value[tag]
    if tag == "$items":
        return {key: _decode(child, tensors, folder) for key, child in content}
    if tag == "$tuple":
        return tuple(_decode(child, tensors, folder) for child in content)
    if tag == "$int":
        return int(content, 16)
    if tag == "$float":
        return float(content)
    if tag == "$parts":
        return StoredParts.of(content, folder)
    if tag != "$array" or value["kind"] not in _KINDS:
        raise ValueError(f"unknown value {value}")
    tensor = tensors[content]
    if value["kind"] == "torch":
        return tensor
    return tensor.numpy() if value["kind"] == "numpy" else tensor.numpy()[()]
