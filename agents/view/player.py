"""What moves on with time and what the keys do, for one agent or several in step. It knows no screen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agents.run.storage import disk
from agents.view.canvas import png
from agents.view.lane import Lane
from agents.view.reel import BUDGET, Reel, Tape
from agents.view.show import Show
from agents.view.viewer import SIZE, ViewState, checkpoint_at, render, timeline_share
from envs.errors import UserError

AFTERGLOW = 1.2  # seconds that an episode's last picture stays
MAX_STEPS = 30  # between two pictures, so that keys are heard whatever the speed
SPEEDS = (1 / 8, 16)


class Player:
    """Plays shows beside one another, each episode from the same seed, until all of them have ended it.

    Args:
        shows: one or several; keys for checkpoints are the last one's.
        fps: steps per second at speed 1.
        episodes: how many to play; None for no end.
        reel: keeps what was seen, if there is one show; by default each has one.
    """

    def __init__(self, *shows: Show, fps: float, episodes: int | None = None, reel: Reel | None = None) -> None:
        self.lanes = [Lane(show, reel or Reel(BUDGET // len(shows))) for show in shows]
        self.fps, self.episodes = fps, episodes
        self.running, self.paused, self.speed = True, False, 1.0
        self.sees, self.salient, self.help = True, False, False
        self.message = ""
        self.size = SIZE  # of pictures that are saved
        self.changed = True  # since `states` was last asked
        self._due = self._glow = self._told = 0.0
        self.open(0)

    @property
    def tape(self) -> Tape:
        """What is shown of the first show."""
        return self.lanes[0].tape

    @property
    def over(self) -> bool:
        """Whether every show is at an episode's end."""
        return all(lane.over for lane in self.lanes)

    def open(self, index: int) -> None:
        """Begin an episode, or stop after the last."""
        if self.episodes is not None and index >= self.episodes:
            self.running = False
            return
        for lane in self.lanes:
            lane.open(index)
        self._moved()

    def _moved(self) -> None:
        self._glow, self.changed = AFTERGLOW, True

    def advance(self) -> None:
        """Take one step; those that have ended their episode wait for the others, and then the next one begins."""
        self._moved()
        going = [lane for lane in self.lanes if not lane.over] or self.lanes
        moved = [lane.advance() for lane in going]
        if not all(moved):
            self.open(max(lane.index for lane in self.lanes) + 1)

    def back(self) -> None:
        """Go back one step, from an episode's first to the last of the episode before it."""
        last = max(lane.at for lane in self.lanes)
        moved = [lane.back() for lane in self.lanes if lane.at == last]
        if not all(moved):
            self._tell("nothing before this is kept")
        self._moved()

    def seek(self, share: float) -> None:
        """Go to a step of the episode, as far as it is kept, by its share of the way from the first to the last."""
        longest = max(len(lane.tape.kept) for lane in self.lanes)
        at = round(min(max(share, 0.0), 1.0) * (longest - 1))
        for lane in self.lanes:
            lane.at = min(at, len(lane.tape.kept) - 1)
        self.paused = True
        self._moved()

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        if self.message:
            self._told -= seconds
            if self._told <= 0:
                self.message, self.changed = "", True
        if self.paused:
            return
        if self.over:
            self._glow -= seconds
            if self._glow <= 0:
                self.advance()
            return
        self._due = min(self._due + seconds * self.fps * self.speed, MAX_STEPS)
        while self._due >= 1 and not self.over and self.running:
            self._due -= 1
            self.advance()

    def press(self, key: str) -> None:
        """Do what a key stands for: a character, "left", "right", "home", "end" or "escape"; others do nothing."""
        self.changed = True
        match key:
            case "escape" if self.help:
                self.help = False
            case "q" | "escape":
                self.running = False
            case " ":
                self.paused = not self.paused
            case "right" | ".":
                self.paused = True
                self.advance()
            case "left" | ",":
                self.paused = True
                self.back()
            case "home":
                self.seek(0.0)
            case "end":
                self.seek(1.0)
            case "+" | "=":
                self.speed = min(self.speed * 2, SPEEDS[1])
            case "-":
                self.speed = max(self.speed / 2, SPEEDS[0])
            case "n" | "p":
                self._episode(1 if key == "n" else -1)
            case "[" | "]" | "{" | "}":
                self._choose(key)
            case "v":
                self.sees = not self.sees
            case "g":
                self.salient = not (self.salient and self.sees)
                self.sees = self.sees or self.salient
            case "m":
                self._forget()
            case "s":
                self._save()
            case "h" | "?":
                self.help = not self.help

    def click(self, size: tuple[int, int], point: tuple[int, int]) -> None:
        """Do what a click into a window of that size means: a step on the line below, or a checkpoint.

        While a button is held, points outside of the window come too, and count as those at its edge.
        """
        point = min(max(point[0], 0), size[0] - 1), min(max(point[1], 0), size[1] - 1)
        if (share := timeline_share(size, point, len(self.lanes))) is not None:
            self.seek(share)
        elif (found := checkpoint_at(size, point, self._states())) is not None:
            agent, checkpoint = found
            if checkpoint != self.lanes[agent].tape.panel.checkpoint:
                self._take(self.lanes[agent], checkpoint)

    def _episode(self, direction: int) -> None:
        """Go to the next episode or the one before; a new one begins after the last, for all at once."""
        if direction > 0 and all(lane.newest for lane in self.lanes):
            self.open(max(lane.index for lane in self.lanes) + 1)
            return
        ends = [lane.newest if direction > 0 else lane.oldest for lane in self.lanes]
        if direction < 0 and any(ends):
            self._tell("no earlier episode is kept")
        for lane in self.lanes:
            lane.tape, lane.at = lane.tape if any(ends) else lane.beside(direction), 0
        self._moved()

    def _forget(self) -> None:
        told = [lane.show.forget() for lane in self.lanes if lane.live]
        self._tell("its memory begins anew" if any(told) else "there is no memory to forget" if told else "not live")

    def _choose(self, key: str) -> None:
        lane = self.lanes[-1]
        now = lane.tape.panel.checkpoint
        steps = lane.show.checkpoints()
        within = [step for step in steps if now is None or (step < now if key in "[{" else step > now)]
        found = within[:1] if key in "]{" else within[-1:]
        if found:
            self._take(lane, found[0])
        else:
            self._tell(f"there is no {'later' if key in ']}' else 'earlier'} checkpoint")

    def _take(self, lane: Lane, checkpoint: int) -> None:
        """Play the episode that is shown once more, with another checkpoint."""
        try:
            lane.show.take(checkpoint)
        except UserError as error:  # a checkpoint may be torn; the one that is playing still plays
            self._tell(str(error))
            return
        self.open(self.tape.index)
        self._tell(f"checkpoint {checkpoint}")

    def _save(self) -> None:
        states, lane = self._states(), self.lanes[0]
        path = lane.show.folder / f"{lane.tape.panel.name}-frame{states[0].step}.png"
        try:
            with disk("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(render(*states, size=self.size)))
        except UserError as error:
            self._tell(str(error))
        else:
            print(f"Saved:  {path}")
            self._tell(f"saved {path.name}")

    def _tell(self, message: str) -> None:
        self.message, self._told, self.changed = message, 2.0, True

    def states(self) -> list[ViewState]:
        """Return what to draw now."""
        self.changed = False
        speed = "" if self.speed == 1 else f"{self.speed:g}x speed"
        first = [self.message, "paused" if self.paused else ""]
        told = []
        for i, lane in enumerate(self.lanes):
            place = "" if lane.live else f"step {lane.at + 1:,} of {len(lane.tape.kept):,}"
            parts = [*(first if not i else []), place, speed, lane.outcome if lane.over else ""]
            told.append(" · ".join(part for part in parts if part))
        states = self._states(keys=True, help=self.help)
        return [replace(state, status=status) for state, status in zip(states, told, strict=True)]

    def _states(self, **more: Any) -> list[ViewState]:
        return [lane.state(sees=self.sees, salient=self.salient, **more) for lane in self.lanes]
