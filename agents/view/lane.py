"""One of the agents that are watched: which step of which of its episodes is shown, back and forth."""

from __future__ import annotations

from typing import Any

from agents.view.reel import Reel, Tape
from agents.view.show import Show
from agents.view.viewer import ViewState


class Lane:
    """Where one show is: `at` is the place of the step that is shown on its `tape`."""

    def __init__(self, show: Show, reel: Reel) -> None:
        self.show, self.reel = show, reel

    def open(self, index: int) -> None:
        """Begin an episode, at its first step."""
        self.index = index
        panel, self._moments = self.show.open(index)
        self.tape, self.at = self.reel.begin(index, panel), -1
        self.advance()

    def advance(self) -> bool:
        """Take one step, from what was kept or of the environment; return False after the last episode's last."""
        if self.at + 1 < len(self.tape.kept):
            self.at += 1
        elif not self.newest:
            self.tape, self.at = self.beside(1), 0
        else:
            moment = next(self._moments, None)
            if moment is None:
                return False
            self.tape.panel.see(moment)
            self.reel.add(moment)
            self.at = len(self.tape.kept) - 1
        return True

    def back(self) -> bool:
        """Go back one step, from an episode's first to the last of the one before; return False where none is kept."""
        if self.at > 0:
            self.at -= 1
            return True
        if self.oldest:
            return False
        before = self.beside(-1)
        self.tape, self.at = before, len(before.kept) - 1
        return True

    def beside(self, direction: int) -> Tape:
        """Return the tape before (-1) or after (1)."""
        return self.reel.tapes[self.reel.tapes.index(self.tape) + direction]

    @property
    def newest(self) -> bool:
        return self.tape is self.reel.tapes[-1]

    @property
    def oldest(self) -> bool:
        return self.tape is self.reel.tapes[0]

    @property
    def live(self) -> bool:
        """Whether what is shown is the last step that the environment took."""
        return self.newest and self.at == len(self.tape.kept) - 1

    @property
    def over(self) -> bool:
        """Whether what is shown is the last step of an episode that came to its end."""
        return self.at == len(self.tape.kept) - 1 and self.outcome != ""

    @property
    def outcome(self) -> str:
        return self.tape.panel.outcome()

    def state(self, **more: Any) -> ViewState:
        """Return what to draw; `more` as `Panel.state` takes it."""
        return self.tape.panel.state(self.tape.moment(self.at), **more)
