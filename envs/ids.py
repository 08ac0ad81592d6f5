"""What an environment's id says by itself, before anything is imported."""

from __future__ import annotations

import re

_ATARI = re.compile(r"ALE/|.*(NoFrameskip|Deterministic)-v\d+$")


def is_atari(env_id: str) -> bool:
    """Return whether an id is of the form that games of the Atari emulator have."""
    return _ATARI.match(env_id) is not None
