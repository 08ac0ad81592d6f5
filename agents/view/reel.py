"""The last episodes that were watched, step by step, within a bound of memory."""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from agents.core.tree import tree_map
from agents.run.play import Moment

if TYPE_CHECKING:
    from agents.view.panel import Panel

BUDGET = 256 * 2**20  # bytes of moments
EPISODES = 8


@dataclass(frozen=True, slots=True)
class _Packed:
    """A moment with its frame compressed: frames that environments draw shrink to a twentieth in a millisecond."""

    moment: Moment
    pixels: bytes
    shape: tuple[int, ...]
    size: int


@dataclass(slots=True)
class Tape:
    """One episode as far as it was watched; `kept` are its last steps, all of them where there was room."""

    index: int
    panel: Panel
    kept: deque[_Packed] = field(default_factory=deque)

    def moment(self, at: int) -> Moment:
        """Return a kept moment as it was, counted from 0."""
        packed = self.kept[at]
        frame = np.frombuffer(zlib.decompress(packed.pixels), np.uint8).reshape(packed.shape)
        return replace(packed.moment, frame=frame)


class Reel:
    """Keeps the moments of the last `episodes` episodes in at most `budget` bytes.

    What is oldest goes first: whole episodes, and then the beginning of the last one. One moment is always kept.
    """

    def __init__(self, budget: int = BUDGET, episodes: int = EPISODES) -> None:
        self.budget, self.episodes = budget, episodes
        self.tapes: list[Tape] = []
        self.size = 0  # bytes

    def begin(self, index: int, panel: Panel) -> Tape:
        """Begin to keep episode `index`."""
        self.tapes.append(Tape(index, panel))
        while len(self.tapes) > self.episodes:
            self._drop_episode()
        return self.tapes[-1]

    def add(self, moment: Moment) -> None:
        """Keep the next moment of the last episode."""
        assert moment.frame is not None
        pixels = zlib.compress(moment.frame.tobytes(), 1)
        sizes = [len(pixels)]
        tree_map(lambda leaf: sizes.append(np.asarray(leaf).nbytes), (moment.obs, moment.outputs, moment.carry))
        size = sum(sizes)
        tape = self.tapes[-1]
        tape.kept.append(_Packed(replace(moment, frame=None), pixels, moment.frame.shape, size))
        self.size += size
        while self.size > self.budget and (len(self.tapes) > 1 or len(tape.kept) > 1):
            if len(self.tapes) > 1:
                self._drop_episode()
            else:
                self.size -= tape.kept.popleft().size

    def _drop_episode(self) -> None:
        self.size -= sum(packed.size for packed in self.tapes.pop(0).kept)
