"""What pictures of `watch` are drawn with: colours, text, smooth shapes, and numbers in few letters."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pygame import Rect, Surface

BACK, SIDE, TRACK, LINE = (15, 18, 26), (22, 26, 37), (36, 42, 58), (48, 55, 74)
TEXT, MUTED = (232, 236, 244), (139, 148, 170)
QUIET, ACCENT, WARM = (84, 103, 146), (94, 206, 190), (243, 189, 106)
MOST_LINES = 2_048  # of text that are kept as pictures, as most are the same from one frame to the next
_lines: dict[tuple[Any, ...], Surface] = {}


def number(value: float) -> str:
    """Write a number in about seven characters; "nan" and "inf" are written as such."""
    size = abs(value)
    if not size < 999_999.5:
        return f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
    if size < 0.0005:
        return "0.00"
    digits = next(digits for below, digits in ((0.9995, 3), (99.995, 2), (9_999.95, 1), (1e6, 0)) if size < below)
    return f"{value:.{digits}f}"


def painted(size: tuple[int, int], paint: Callable[[Surface], None]) -> np.ndarray:
    """Return what is painted on a surface of that size, uint8 `[H, W, 3]`."""
    import pygame

    surface = pygame.Surface(size, 0, 24, (0xFF, 0xFF00, 0xFF0000, 0))  # in memory as R, G, B: nothing to convert
    paint(surface)
    rows = np.frombuffer(surface.get_buffer().raw, np.uint8).reshape(size[1], surface.get_pitch())
    return rows[:, : 3 * size[0]].reshape(size[1], size[0], 3)


def png(pixels: np.ndarray) -> bytes:
    """Return a picture, uint8 `[H, W, 3]`, as a PNG file."""
    import pygame

    file = io.BytesIO()
    pygame.image.save(pygame.surfarray.make_surface(pixels.swapaxes(0, 1)), file, "picture.png")
    return file.getvalue()


class TextPainter:
    """Text in matplotlib's DejaVu Sans, the same on every machine.

    Made anew for each picture: a font outlives neither `pygame.quit` nor the environments that call it.
    """

    def __init__(self) -> None:
        import pygame

        pygame.font.init()
        self._fonts: dict[tuple[int, bool], Any] = {}
        origin = importlib.util.find_spec("matplotlib")
        assert origin is not None
        assert origin.origin is not None
        self._folder = Path(origin.origin).parent / "mpl-data" / "fonts" / "ttf"

    def font(self, size: int, bold: bool = False) -> Any:
        import pygame

        if (size, bold) not in self._fonts:
            file = self._folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
            self._fonts[size, bold] = pygame.font.Font(file, size)
        return self._fonts[size, bold]

    def __call__(
        self,
        surface: Surface,
        text: str,
        size: int,
        color: tuple[int, int, int] = TEXT,
        bold: bool = False,
        width: int | None = None,
        **place: Any,
    ) -> Rect:
        """Write one line with its Rect attributes as `place` says, e.g. `topleft=(3, 4)`, cut to `width`."""
        line = text, size, color, bold, width
        if (image := _lines.get(line)) is None:
            if len(_lines) >= MOST_LINES:
                _lines.clear()
            image = _lines[line] = self._line(*line)
        rect = image.get_rect(**place)
        surface.blit(image, rect)
        return rect

    def _line(self, text: str, size: int, color: tuple[int, int, int], bold: bool, width: int | None) -> Surface:
        font = self.font(size, bold)
        if width is not None and font.size(text)[0] > width:
            while text and font.size(text + "…")[0] > width:
                text = text[:-1]
            text += "…"
        image: Surface = font.render(text, True, color)
        return image


def smooth(size: tuple[int, int], color: tuple[int, int, int], paint: Callable[[Surface, int], None]) -> Surface:
    """Paint at three times the size and shrink, which is how pygame comes to smooth edges."""
    import pygame

    large = pygame.Surface((size[0] * 3, size[1] * 3), pygame.SRCALPHA)
    large.fill((*color, 0))
    paint(large, 3)
    return pygame.transform.smoothscale(large, size)


@lru_cache(maxsize=1024)
def _pill(size: tuple[int, int], color: tuple[int, int, int], radius: int, alpha: int) -> Surface:
    import pygame

    def paint(large: Surface, scale: int) -> None:
        pygame.draw.rect(large, (*color, alpha), large.get_rect(), border_radius=radius * scale)

    return smooth(size, color, paint)


def rounded(surface: Surface, rect: Rect, color: tuple[int, int, int], radius: int = 4, alpha: int = 255) -> None:
    surface.blit(_pill(rect.size, color, radius, alpha), rect)


def fitted(pixels: np.ndarray, width: int, height: int) -> Surface:
    """Return a picture as large as it can be in the room there is."""
    import pygame

    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    if scale >= 4:
        scale = int(scale)  # so small a picture is made of pixels that are meant to be seen
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    resize = pygame.transform.scale if scale >= 4 else pygame.transform.smoothscale
    return resize(pygame.surfarray.make_surface(pixels.swapaxes(0, 1)), size)
