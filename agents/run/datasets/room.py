"""How much recorded data may be read, so that a file cannot fill the memory."""

from __future__ import annotations

from pathlib import Path

import torch

from agents.run.memory import free_bytes
from envs.errors import UserError

COPIES = 3  # of what is read, while episodes are put together
UNKNOWN = 4 * 2**30  # bytes that may be read where nobody says what is free


class Room:
    """Counts bytes that are about to be read.

    Args:
        most: how many there may be; None for a third of the memory that is free.
    """

    def __init__(self, most: int | None = None) -> None:
        free = free_bytes(torch.device("cpu"))
        self.most = most if most is not None else (UNKNOWN if free is None else free // COPIES)
        self.taken = 0

    def take(self, size: int, file: Path) -> None:
        """Count bytes.

        Raises:
            UserError: there is no room for them.
        """
        self.taken += size
        if self.taken > self.most:
            raise UserError(
                f"{file} holds more than {self.taken / 1e9:,.2f} GB of transitions, and there is room for "
                f"{self.most / 1e9:,.2f} GB: split it, or record fewer episodes"
            )
