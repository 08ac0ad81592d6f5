"""The window of `watch`: the screen, and what is heard of keyboard and mouse."""

from __future__ import annotations

import os
from typing import Any

from agents.run.play import HEADLESS, has_display
from agents.view.keys import STRIP
from agents.view.player import Player
from agents.view.viewer import SIZE, paint

REFRESH = 60  # of the screen, per second


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
                if held:
                    player.click(screen.get_size(), event.pos)
            elif event.type in (pygame.VIDEORESIZE, pygame.VIDEOEXPOSE):
                player.changed = True
        if player.changed and player.running:
            paint(screen, *player.states())
            pygame.display.flip()
        player.tick(clock.tick(REFRESH) / 1000)
