"""Nested state in files, without pickle.

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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.run.storage import atomic_file, disk, opened, read_json, refuse_foreign, write_text
from envs.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORMAT = "deep-rl-suite tree"
VERSION = 1
CHUNK = ".part"  # what the names of files end in that hold a chunk of a tensor
MOST_HEADER = 2**22  # bytes that say which tensors a file holds
_CHUNK_DTYPES = ("uint8", "bool", "int32", "int64", "float32")
_DIGEST = re.compile("[0-9a-f]{64}")  # of SHA-256
_KINDS = ("torch", "numpy", "scalar")


def write_tree(
    folder: Path, name: str, tree: dict[Any, Any], meta: dict[str, Any] | None = None, earlier: Path | None = None
) -> None:
    """Write `tree` and `meta` to `NAME.safetensors` and `NAME.json` in `folder`, which exists.

    Leaves: tensors (from any device), NumPy arrays and scalars, ints of any size, floats (inf and nan too), bools,
    None and strings; containers: lists, tuples, and dicts with string or integer keys. All come back as they were,
    except that tensors come back on the CPU. Each file is atomic; to replace both as one, use `atomic_folder`.

    Leaves may be `Chunks` too, of which each chunk is a file named by its checksum; they come back as `StoredChunks`.

    Args:
        earlier: a folder in which chunks that have not changed may lie already; they get a second name in `folder`.

    Raises:
        UserError: the disk is full or may not be written.
        TypeError: a leaf or a key is of another type.
    """
    tensors: dict[str, Tensor] = {}
    _write_chunks(tree, folder, earlier)
    body: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "meta": _encode(meta or {}, "meta", None),
        "tree": _encode(tree, "", tensors),
    }
    with atomic_file(folder / f"{name}.safetensors") as file:
        _save_tensors(tensors, file)
        body["tensors_sha256"] = _file_sha256(file)
    body["checksum"] = _json_sha256(body)
    write_text(folder / f"{name}.json", json.dumps(body, indent=1, allow_nan=False) + "\n")


def read_tree(folder: Path, name: str) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Read what `write_tree` wrote: `(tree, meta)`.

    Raises:
        UserError: a file is missing, torn, altered, foreign or malformed; the message says which file, and how.
    """
    json_file, tensor_file = folder / f"{name}.json", folder / f"{name}.safetensors"
    body = _read_body(json_file)
    tensors, _ = read_tensors(tensor_file, body["tensors_sha256"])
    try:
        tree, meta = _decode(body["tree"], tensors, folder), _decode(body["meta"], {}, folder)
        if not isinstance(tree, dict) or not isinstance(meta, dict):
            raise TypeError("tree and meta must be mappings")
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{json_file} is malformed: {type(error).__name__}: {error}") from error
    return tree, meta


def read_tensors(file: Path, sha256: str | None = None, *, follow: bool = False) -> tuple[dict[str, Tensor], str]:
    """Return what a safetensors file holds, by name, and its SHA-256, which must be `sha256` where that is given.

    Args:
        follow: as `opened` takes it.

    Raises:
        UserError: it is missing, no such file, altered, or larger than the memory that is free.
    """
    import safetensors.torch
    import torch

    from agents.run.memory import free_bytes  # and with it PyTorch

    with opened(file, free_bytes(torch.device("cpu")), follow=follow) as stream:
        header = int.from_bytes(stream.read(8), "little")  # its length; all of it is read into Python's objects
        if header > MOST_HEADER:
            raise UserError(
                f"{file} is malformed: its header is {header:,} bytes long, at most {MOST_HEADER:,} expected"
            )
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 is not None and digest != sha256:
        raise UserError(f"{file} is torn or was altered: it does not match its checksum")
    with disk("read", file):
        try:
            return safetensors.torch.load_file(file), digest
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            said = " ".join(str(error).split())  # PyTorch's of a shape that is none has lines of its own
            raise UserError(f"{file} is malformed: {said[:200]}") from error


def _write_chunks(tree: Any, folder: Path, earlier: Path | None) -> None:
    """Write those chunks of a tree that do not lie in `earlier`."""
    from agents.core.chunks import Chunks

    if isinstance(tree, dict):
        for child in tree.values():
            _write_chunks(child, folder, earlier)
    elif isinstance(tree, Chunks):
        for i, (start, stop) in enumerate(tree.spans()):
            if earlier is not None and _linked(tree.digests[i], earlier, folder):
                continue
            content = tree.bytes_of(start, stop).data
            digest = hashlib.sha256(content).hexdigest()
            tree.digests[i] = digest
            if (file := _chunk_file(folder, digest)).exists():  # another chunk is the same, perhaps an earlier file too
                continue
            with disk("write", folder), file.open("wb") as stream:
                stream.write(content)


def _linked(digest: str | None, earlier: Path, folder: Path) -> bool:
    """Give a chunk in `earlier` a second name in `folder`; return whether that was possible."""
    if digest is None:
        return False
    with suppress(OSError):  # it is gone, or this file system has no second names
        if not _chunk_file(folder, digest).exists():
            os.link(_chunk_file(earlier, digest), _chunk_file(folder, digest))
        return True
    return False


def _chunk_file(folder: Path, digest: str) -> Path:
    return folder / f"{digest}{CHUNK}"


def is_file_of(file: str, name: str) -> bool:
    """Whether `write_tree` writes a file of this name for the tree `name`."""
    chunk = file.endswith(CHUNK) and _DIGEST.fullmatch(file.removesuffix(CHUNK)) is not None
    return chunk or file in (f"{name}.json", f"{name}.safetensors")


def copy_tree(source: Path, name: str, folder: Path) -> None:
    """Copy what `write_tree` wrote to `source` as it is; whoever reads it says if it is torn.

    Raises:
        UserError: it cannot be read or written.
    """
    for file in sorted(each for each in source.iterdir() if is_file_of(each.name, name)):
        with opened(file, None) as stream, disk("write", folder), (folder / file.name).open("wb") as copy:
            shutil.copyfileobj(stream, copy)


def remove_tree(folder: Path, name: str) -> None:
    """Remove what `write_tree` wrote, where it is there."""
    for file in (folder / f"{name}.json", folder / f"{name}.safetensors", *folder.glob(f"*{CHUNK}")):
        with disk("remove", file):
            file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class StoredChunks:
    """A tensor that lies in files of `rows` rows each (the last may have fewer), named by their checksums."""

    folder: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    rows: int
    digests: list[str]

    @classmethod
    def of(cls, content: dict[str, Any], folder: Path) -> StoredChunks:
        """Make one of what `_encode` says of `Chunks`.

        Raises:
            LookupError, TypeError, ValueError: it does not say that.
        """
        import torch

        shape, rows, digests = (content[name] for name in ("shape", "rows", "files"))
        numbers = [rows, *shape]
        if not shape or any(type(number) is not int or not 0 <= number < 2**48 for number in numbers) or not rows:
            raise ValueError(f"shape {shape!r:.60} in chunks of {rows!r:.60} rows")
        if len(digests) != -(-shape[0] // rows) or not all(map(_DIGEST.fullmatch, digests)):
            raise ValueError(f"{len(digests)} files of {rows} rows hold {shape[0]}")
        dtype = getattr(torch, content["dtype"]) if content["dtype"] in _CHUNK_DTYPES else None
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
            file = _chunk_file(self.folder, digest)
            with opened(file, array.nbytes) as stream:
                whole = stream.readinto(array) == array.nbytes
            if not whole or hashlib.sha256(array).hexdigest() != digest:
                raise UserError(f"{file} is torn or was altered: it does not match the checksum in its name")


def _read_body(file: Path) -> dict[str, Any]:
    """Read and verify the JSON half."""
    body = read_json(file)
    checksum = body.pop("checksum", None)
    try:
        altered = checksum != _json_sha256(body)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is malformed: {error}") from error
    refuse_foreign(file, body, FORMAT, VERSION)
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
    from agents.core.chunks import Chunks

    if tensors is None:
        raise TypeError(f"{path}: {type(value).__name__} cannot be stored here")
    if isinstance(value, Chunks):
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
        return StoredChunks.of(content, folder)
    if tag != "$array" or value["kind"] not in _KINDS:
        raise ValueError(f"unknown value {value!r:.80}")
    tensor = tensors[content]
    if value["kind"] == "torch":
        return tensor
    return tensor.numpy() if value["kind"] == "numpy" else tensor.numpy()[()]
