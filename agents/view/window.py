"""The window of `watch`: time, keys, and the screen."""

from __future__ import annotations

from typing import Any

from agents.run.play import HEADLESS, has_display
from agents.view.show import Show
from agents.view.viewer import SIZE, STRIP, ViewState, draw
from envs.errors import UserError

REFRESH = 60  # of the screen, per second
AFTERGLOW = 1.2  # seconds that an episode's last picture stays
MAX_STEPS = 30  # between two pictures, so that keys are heard whatever the speed
SPEEDS = (1 / 8, 16)
SMALLEST = (880, 590)  # holds the longest panel


class Player:
    """Plays a show: what moves on with time and what the keys do. It knows no screen.

    Args:
        fps: steps per second at speed 1.
        episodes: how many to play; None for no end.
    """

    def __init__(self, show: Show, fps: float, episodes: int | None = None) -> None:
        self.show, self.fps, self.episodes = show, fps, episodes
        self.running, self.paused, self.speed = True, False, 1.0
        self.message = ""
        self.changed = True  # since `state` was last asked
        self._due = self._glow = self._told = 0.0
        self.open(0)

    def open(self, index: int) -> None:
        """Begin an episode, or stop after the last."""
        if self.show.finished or (self.episodes is not None and index >= self.episodes):
            self.running = False
            return
        self.index = index
        self.panel, self._moments = self.show.open(index)
        self.advance()

    def advance(self) -> None:
        """Take one step; after an episode's last, the next one begins."""
        moment = next(self._moments, None)
        if moment is None:
            self.open(self.index + 1)
            return
        self.panel.see(moment)
        self.changed = True
        self._glow = AFTERGLOW

    @property
    def over(self) -> bool:
        return self.panel.outcome() != ""

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
        """Do what a key stands for: a character, "right" or "escape"; others do nothing."""
        self.changed = True
        match key:
            case "q" | "escape":
                self.running = False
            case " ":
                self.paused = not self.paused
            case "right" | ".":
                self.paused = True
                self.advance()
            case "+" | "=":
                self.speed = min(self.speed * 2, SPEEDS[1])
            case "-":
                self.speed = max(self.speed / 2, SPEEDS[0])
            case "n":
                self.open(self.index + 1)
            case "[" | "]":
                self._switch(1 if key == "]" else -1)

    def _switch(self, direction: int) -> None:
        try:
            name = self.show.switch(direction)
        except UserError as error:  # a checkpoint may be torn; the one that is playing still plays
            self._tell(str(error))
            return
        if name:
            self.open(self.index)
            self._tell(f"checkpoint {name}")
        else:
            self._tell(f"there is no {'later' if direction > 0 else 'earlier'} checkpoint")

    def _tell(self, message: str) -> None:
        self.message, self._told = message, 2.0

    def state(self) -> ViewState:
        """Return what to draw now."""
        self.changed = False
        speed = "" if self.speed == 1 else f"{self.speed:g}x speed"
        parts = (self.message, "paused" if self.paused else "", speed, self.panel.outcome())
        return self.panel.state(" · ".join(part for part in parts if part), keys=True)


def open_screen(title: str) -> Any | None:
    """Open a window and return its surface, or None where there is no display."""
    if not has_display():
        return None
    import pygame

    try:
        pygame.display.init()
        if pygame.display.get_driver() in HEADLESS:
            return None
        pygame.display.set_caption(title)
        return pygame.display.set_mode((SIZE[0], SIZE[1] + STRIP), pygame.RESIZABLE)
    except pygame.error:
        return None


def run_window(screen: Any, player: Player) -> None:
    """Play until the window is closed, a key ends it, or the last episode is over."""
    import pygame

    named = {pygame.K_RIGHT: "right", pygame.K_ESCAPE: "escape"}
    pygame.key.set_repeat(350, 45)
    clock = pygame.time.Clock()
    while player.running:
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                player.running = False
            elif event.type == pygame.KEYDOWN:
                player.press(named.get(event.key, event.unicode))
            elif event.type in (pygame.VIDEORESIZE, pygame.VIDEOEXPOSE):
                player.changed = True
        if player.changed and player.running:
            paint(screen, player.state())
            pygame.display.flip()
        player.tick(clock.tick(REFRESH) / 1000)


def paint(screen: Any, state: ViewState) -> None:
    """Draw onto a screen of any size; on one too small for the text, everything shrinks."""
    import pygame

    size = screen.get_size()
    if size[0] >= SMALLEST[0] and size[1] >= SMALLEST[1]:
        draw(screen, state)
        return
    canvas = pygame.Surface((max(size[0], SMALLEST[0]), max(size[1], SMALLEST[1])))
    draw(canvas, state)
    scale = min(size[0] / canvas.get_width(), size[1] / canvas.get_height())
    fitted = pygame.transform.smoothscale(canvas, [max(1, round(scale * side)) for side in canvas.get_size()])
    screen.fill((0, 0, 0))
    screen.blit(fitted, fitted.get_rect(center=screen.get_rect().center))
