"""Whether a file's content was written by this user on this machine: an HMAC with a key that only they can read.

The key is made when it is first needed, in the folder where the system keeps a user's settings. It is no secret of
weight: whoever can read it can run code as the user anyway.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

_BYTES = 32  # of a key


def sign(content: bytes) -> str | None:
    """Return the signature of `content`, or None where no key can be kept."""
    try:
        file = _key_file()
        if (key := _key(file)) is None:
            file.parent.mkdir(parents=True, exist_ok=True)
            _make(file)
            key = _key(file)
    except (OSError, RuntimeError):  # no home folder, or one that cannot be written
        return None
    return None if key is None else _signature(key, content)


def made_here(content: bytes, signature: object) -> bool:
    """Whether `signature` is what `sign` returns for this content."""
    try:
        key = _key(_key_file())
    except (OSError, RuntimeError):
        return False
    if key is None or not isinstance(signature, str) or not signature.isascii():
        return False
    return hmac.compare_digest(_signature(key, content), signature)


def _signature(key: bytes, content: bytes) -> str:
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _key_file() -> Path:
    settings = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "deep-rl-suite" / "key"


def _key(file: Path) -> bytes | None:
    """Return the key in `file`; None if there is none, or it is not whole."""
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        key = stream.read(_BYTES)
    return key if len(key) == _BYTES else None


def _make(file: Path) -> None:
    """Write a new key that only the user can read; one that is there already stays, even if it came this moment."""
    temporary = file.with_name(f".key.tmp-{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(_BYTES))
        if file.exists() and _key(file) is None:
            file.unlink()  # a process died as it wrote it
        with suppress(FileExistsError):
            os.link(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
