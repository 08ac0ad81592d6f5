"""What the keys are, and the strip below the picture that names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.view.canvas import ACCENT, LINE, MUTED, SIDE, TEXT, TRACK, TextPainter, rounded

if TYPE_CHECKING:
    from pygame import Rect, Surface

STRIP_KEYS = (
    ("space", "pause"),
    ("← →", "step"),
    ("p n", "episode"),
    ("+ -", "speed"),
    ("[ ]", "checkpoint"),
    ("h", "help"),
    ("q", "quit"),
)
KEYS = (
    ("space", "pause, go on"),
    ("← →", "one step back, one forward"),
    ("home end", "first step, last one"),
    ("click", "on the line below: to that step"),
    ("p n", "previous episode, next one"),
    ("+ -", "faster, slower"),
    ("[ ]", "checkpoint before, after"),
    ("{ }", "first checkpoint, last; or click"),
    ("v", "what the agent sees"),
    ("g", "what its action depends on"),
    ("m", "let it forget what it remembers"),
    ("s", "save this picture as PNG"),
    ("h", "these keys"),
    ("q", "quit (or Esc)"),
)
STRIP = 44  # height of the strip of keys
TIMELINE = 5  # of which the line that says how far into the episode this is
_EDGE, _ROW = 26, 29


def draw_keys(surface: Surface, strip: Rect, write: TextPainter) -> None:
    left = strip.left + _EDGE
    for key, does in STRIP_KEYS:
        left = _draw_key(surface, left, strip.centery + 2, key, does, write) + 22


def _draw_key(
    surface: Surface, left: int, middle: int, key: str, does: str, write: TextPainter, column: int = 0
) -> int:
    """Draw a key and what it does, which begins `column` pixels from the left at least; return where that ends."""
    import pygame

    cap = pygame.Rect(left, middle - 12, write.font(12, True).size(key)[0] + 16, 24)
    rounded(surface, cap, TRACK, 5)
    write(surface, key, 12, TEXT, True, center=cap.center)
    text = max(cap.right + 8, left + column)
    return write(surface, does, 12, MUTED if not column else TEXT, midleft=(text, middle)).right


def draw_timeline(surface: Surface, strip: Rect, share: float) -> None:
    """A line along the strip's upper edge: how much of the episode, as far as it is known, is behind this moment."""
    import pygame

    pygame.draw.rect(surface, LINE, (strip.left, strip.top, strip.width, TIMELINE))
    pygame.draw.rect(surface, ACCENT, (strip.left, strip.top, round(share * strip.width), TIMELINE))


def draw_help(surface: Surface, area: Rect, write: TextPainter) -> None:
    import pygame

    box = pygame.Rect(0, 0, 396, len(KEYS) * _ROW + 32)
    box.center = area.center
    rounded(surface, box, SIDE, 10)
    for i, (key, does) in enumerate(KEYS):
        _draw_key(surface, box.left + 24, box.top + 30 + i * _ROW, key, does, write, 104)
