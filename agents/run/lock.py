"""Who trains in a run folder: a lock that the system takes away from a process that ends, however it ends."""

from __future__ import annotations

import errno
import os
import platform
import stat
import time
from contextlib import suppress
from pathlib import Path

from agents.run.storage import disk
from envs.errors import UserError

FILE = "training.lock"
NO_LOCKS = "its file system has no locks: see to it that no other process trains in this folder"
_BEYOND = 2**30  # the byte that Windows locks, which nobody can read then
_TRIES, _PAUSE = 10, 0.05  # a look at a lock takes it for a moment; seconds
_UNKNOWN = {getattr(errno, name) for name in ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL")}
_held = set[int]()  # descriptors, which no copy of this process is to keep


def _let_go() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Lock:
    """The right to train in a folder, until it is closed.

    Attributes:
        note: what is to be said of it, or "".
    """

    def __init__(self, folder: Path) -> None:
        """Take it.

        Raises:
            UserError: another process trains there, or the file cannot be written.
        """
        self.note = ""
        with disk("write", folder / FILE):
            self._descriptor = _open(folder / FILE, os.O_RDWR | os.O_CREAT)
        try:
            for left in reversed(range(_TRIES)):
                if taken(self._descriptor, alone=True):
                    break
                if not left:
                    who = _owner(self._descriptor)
                    raise UserError(f"{folder} is being trained by {who}: wait until that has ended, or stop it")
                time.sleep(_PAUSE)
            os.truncate(self._descriptor, 0)
            os.write(self._descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
        except OSError as error:
            if error.errno not in _UNKNOWN:
                os.close(self._descriptor)
                raise UserError(f"cannot lock {folder / FILE}: {os.strerror(error.errno or 0).lower()}") from error
            self.note = NO_LOCKS
        except UserError:
            os.close(self._descriptor)
            raise
        _held.add(self._descriptor)

    def close(self) -> None:
        """Give it back; in a copy of the process that took it, do nothing."""
        if self._descriptor in _held:
            _held.remove(self._descriptor)
            os.close(self._descriptor)


def trainer_of(folder: Path) -> str | None:
    """Return who trains in a folder ("process 4711 on desk"), or None: nobody, as far as locks tell."""
    for way in (os.O_RDWR, os.O_RDONLY):  # another user's file may be read alone
        with suppress(OSError):
            descriptor = _open(folder / FILE, way)
            break
    else:
        return None
    try:
        return None if taken(descriptor, alone=False) else _owner(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _open(file: Path, how: int) -> int:
    """Open a file of a folder that may be a stranger's: no link is followed, and nothing waited for."""
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(file, how | careful, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file")
    return descriptor


def taken(descriptor: int, *, alone: bool) -> bool:
    """Take a lock, `alone` or beside others who look at it; return whether it was free. OSError: there are no locks."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        os.lseek(descriptor, _BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except PermissionError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _owner(descriptor: int) -> str:
    """Return what the file says of who has it locked."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    said = os.read(descriptor, 200).decode(errors="replace").strip()
    return said if said.startswith("process ") else "another process"
