"""The window of `watch`: time, keys, and the screen."""

from __future__ import annotations

import os
from typing import Any

from agents.run.play import HEADLESS, has_display
from agents.run.storage import disk
from agents.view.reel import Reel, Tape
from agents.view.show import Show
from agents.view.viewer import SIZE, SMALLEST, STRIP, TIMELINE, ViewState, paint, png, render
from envs.errors import UserError

REFRESH = 60  # of the screen, per second
AFTERGLOW = 1.2  # seconds that an episode's last picture stays
MAX_STEPS = 30  # between two pictures, so that keys are heard whatever the speed
SPEEDS = (1 / 8, 16)
LINE_REACH = 6  # pixels above and below the timeline that a click still means it


class Player:
    """Plays a show: what moves on with time and what the keys do. It knows no screen.

    Args:
        fps: steps per second at speed 1.
        episodes: how many to play; None for no end.
    """

    def __init__(self, show: Show, fps: float, episodes: int | None = None, reel: Reel | None = None) -> None:
        self.show, self.fps, self.episodes = show, fps, episodes
        self.reel = reel or Reel()
        self.running, self.paused, self.speed = True, False, 1.0
        self.sees, self.help = True, False
        self.message = ""
        self.size = SIZE  # of pictures that are saved
        self.changed = True  # since `state` was last asked
        self._due = self._glow = self._told = 0.0
        self.open(0)

    def open(self, index: int) -> None:
        """Begin an episode, or stop after the last."""
        if self.show.finished or (self.episodes is not None and index >= self.episodes):
            self.running = False
            return
        self.index = index
        panel, self._moments = self.show.open(index)
        self.tape, self.at = self.reel.begin(index, panel), -1
        self.advance()

    def advance(self) -> None:
        """Take one step, from what was kept or of the environment; after an episode's last, the next one begins."""
        self._glow = AFTERGLOW
        if self.at + 1 < len(self.tape.kept):
            self._show(self.tape, self.at + 1)
            return
        if self.tape is not self.reel.tapes[-1]:
            self._show(self._beside(1), 0)
            return
        moment = next(self._moments, None)
        if moment is None:
            self.open(self.index + 1)
            return
        self.tape.panel.see(moment)
        self.reel.add(moment)
        self._show(self.tape, len(self.tape.kept) - 1)

    def back(self) -> None:
        """Go back one step, from an episode's first to the last of the episode before it."""
        if self.at > 0:
            self._show(self.tape, self.at - 1)
        elif self.tape is self.reel.tapes[0]:
            self._tell("nothing before this is kept")
        else:
            before = self._beside(-1)
            self._show(before, len(before.kept) - 1)

    def seek(self, share: float) -> None:
        """Go to a step of the episode, as far as it is kept, by its share of the way from the first to the last."""
        self._show(self.tape, round(min(max(share, 0.0), 1.0) * (len(self.tape.kept) - 1)))
        self.paused = True

    def _show(self, tape: Tape, at: int) -> None:
        self.tape, self.at, self.changed = tape, at, True

    def _beside(self, direction: int) -> Tape:
        return self.reel.tapes[self.reel.tapes.index(self.tape) + direction]

    @property
    def live(self) -> bool:
        """Whether what is shown is the last step that the environment took."""
        return self.tape is self.reel.tapes[-1] and self.at == len(self.tape.kept) - 1

    @property
    def over(self) -> bool:
        return self.at == len(self.tape.kept) - 1 and self.tape.panel.outcome() != ""

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
            case "n" if self.tape is not self.reel.tapes[-1]:
                self._show(self._beside(1), 0)
            case "n":
                self.open(self.index + 1)
            case "p" if self.tape is not self.reel.tapes[0]:
                self._show(self._beside(-1), 0)
            case "p":
                self._show(self.tape, 0)
                self._tell("no earlier episode is kept")
            case "[" | "]":
                self._switch(1 if key == "]" else -1)
            case "v":
                self.sees = not self.sees
            case "s":
                self._save()
            case "h" | "?":
                self.help = not self.help

    def _save(self) -> None:
        state = self._state(status="")
        path = self.show.folder / f"{self.tape.panel.name}-frame{state.step}.png"
        try:
            with disk("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(render(state, self.size)))
        except UserError as error:
            self._tell(str(error))
        else:
            print(f"Saved:  {path}")
            self._tell(f"saved {path.name}")

    def _switch(self, direction: int) -> None:
        try:
            name = self.show.switch(direction)
        except UserError as error:  # a checkpoint may be torn; the one that is playing still plays
            self._tell(str(error))
            return
        if name:
            self.open(self.tape.index)
            self._tell(f"checkpoint {name}")
        else:
            self._tell(f"there is no {'later' if direction > 0 else 'earlier'} checkpoint")

    def _tell(self, message: str) -> None:
        self.message, self._told = message, 2.0

    def state(self) -> ViewState:
        """Return what to draw now."""
        self.changed = False
        speed = "" if self.speed == 1 else f"{self.speed:g}x speed"
        place = "" if self.live else f"step {self.at + 1:,} of {len(self.tape.kept):,}"
        outcome = self.tape.panel.outcome() if self.over else ""
        parts = (self.message, "paused" if self.paused else "", place, speed, outcome)
        return self._state(status=" · ".join(part for part in parts if part), keys=True, help=self.help)

    def _state(self, **more: Any) -> ViewState:
        return self.tape.panel.state(self.tape.moment(self.at), sees=self.sees, **more)


def open_screen(title: str, size: tuple[int, int] = SIZE) -> Any | None:
    """Open a window for a picture of `size` and return its surface, or None where there is no display."""
    if not has_display():
        return None
    # Or SDL shows the window through OpenGL, in whose place MuJoCo's pictures are then drawn, or cannot be drawn.
    os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
    import pygame

    try:
        pygame.display.init()
        if pygame.display.get_driver() in HEADLESS:
            return None
        pygame.display.set_caption(title)
        return pygame.display.set_mode((size[0], size[1] + STRIP), pygame.RESIZABLE)
    except pygame.error:
        return None


def run_window(screen: Any, player: Player) -> None:
    """Play until the window is closed, a key ends it, or the last episode is over."""
    import pygame

    named = {
        pygame.K_LEFT: "left",
        pygame.K_RIGHT: "right",
        pygame.K_HOME: "home",
        pygame.K_END: "end",
        pygame.K_ESCAPE: "escape",
    }
    pygame.key.set_repeat(350, 45)
    clock = pygame.time.Clock()
    while player.running:
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                player.running = False
            elif event.type == pygame.KEYDOWN:
                player.press(named.get(event.key, event.unicode))
            elif event.type in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEMOTION):
                held = event.button == 1 if event.type == pygame.MOUSEBUTTONDOWN else event.buttons[0]
                if held and (share := timeline_share(screen.get_size(), event.pos)) is not None:
                    player.seek(share)
            elif event.type in (pygame.VIDEORESIZE, pygame.VIDEOEXPOSE):
                player.changed = True
        if player.changed and player.running:
            paint(screen, player.state())
            pygame.display.flip()
        player.tick(clock.tick(REFRESH) / 1000)


def timeline_share(size: tuple[int, int], point: tuple[int, int]) -> float | None:
    """Return where on the timeline of a window of that size a point lies, from 0 to 1; None where it is not on it."""
    shrink = max(1.0, SMALLEST[0] / size[0], SMALLEST[1] / size[1])
    top = size[1] - STRIP / shrink
    reach = LINE_REACH / shrink
    return point[0] / max(size[0] - 1, 1) if top - reach <= point[1] <= top + TIMELINE / shrink + reach else None
