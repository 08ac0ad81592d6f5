"""What names say by themselves, before anything is imported: an environment's id, and a file of the user's own."""

from __future__ import annotations

import re

FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>[\w./-]+))?")  # "path/to/file.py:Name", or the path alone
_ATARI = re.compile(r"ALE/|.*(NoFrameskip|Deterministic)-v\d+$")


def is_atari(env_id: str) -> bool:
    """Return whether an id is of the form that games of the Atari emulator have."""
    return _ATARI.match(env_id) is not None
