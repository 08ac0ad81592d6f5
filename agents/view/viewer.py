"""The picture that `watch` shows and records: the environment, and beside it what the policy makes of it.

`draw` is a pure function of a surface and of `ViewState`s, one for each agent that plays; time is
`agents.view.player`'s, and windows are `agents.view.window`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from agents.view.bars import Bar
from agents.view.canvas import BACK, LINE, MUTED, SIDE, TEXT, WARM, TextPainter, fitted, painted, rounded
from agents.view.keys import STRIP, TIMELINE, draw_help, draw_keys, draw_timeline
from agents.view.observation import Reading
from agents.view.sidebar import PAD, PANEL, SLIDER, draw_sidebar, slider_places
from envs.errors import UserError

if TYPE_CHECKING:
    from pygame import Rect, Surface

SIZE = (1120, 630)  # without the strip of keys
SMALLEST = (880, 620)  # holds the longest panel; a smaller picture is a larger one shrunk
WIDTHS = (160, 3840)
REACH = 6  # pixels above and below a line that a click still means it
_CELL_ROW, _MAX_CELL_ROWS, _VALUE, _TILE = 20, 6, 62, 96  # of what the agent sees


@dataclass(frozen=True, slots=True)
class ViewState:
    """All that `draw` needs to know of one agent.

    Attributes:
        frame: the environment's picture, uint8 `[H, W, 3]`.
        subtitle: which policy plays, e.g. "PPO · best · 50,000 steps".
        series: values so far in this episode, plotted under `series_title`.
        hidden: actions that found no room among `bars`.
        at: which of `series` is this moment's; None for the last.
        resets: at which of `series` memory began anew.
        distribution: title, returns `[K]` and their probabilities `[K]` of the action taken; None without any.
        checkpoints: steps of those there are, in order, drawn as a line if there are several.
        checkpoint: the step of what plays; None where that is not known.
        status: words over the picture, such as "paused"; "" for none.
        readings: each number that the agent sees.
        pictures: what the agent sees as pictures, uint8 `[H, W, 3]` each.
        salient: whether they show what the action depends on.
        keys: whether to show the strip of keys, and above it how far into the episode this is.
        help: whether to list all keys over the picture.
    """

    frame: np.ndarray
    title: str
    subtitle: str
    episode: str
    step: int
    ret: float
    reward: float
    series_title: str
    series: Sequence[float]
    bars_title: str
    bars: Sequence[Bar] = field(default=())
    hidden: int = 0
    at: int | None = None
    resets: Sequence[int] = ()
    distribution: tuple[str, np.ndarray, np.ndarray] | None = None
    checkpoints: Sequence[int] = ()
    checkpoint: int | None = None
    status: str = ""
    readings: Sequence[Reading] = ()
    pictures: Sequence[np.ndarray] = ()
    salient: bool = False
    keys: bool = False
    help: bool = False

    @property
    def position(self) -> int:
        """Which of `series` is this moment's."""
        return len(self.series) - 1 if self.at is None else self.at


def draw(surface: Surface, *states: ViewState) -> None:
    """Paint moments over the whole surface, whatever its size, one agent beside the other.

    Each has its picture at the left and its panel at the right.
    """
    import pygame

    width, height = surface.get_size()
    bottom = height - (STRIP if states[0].keys else 0)
    write = TextPainter()
    surface.fill(BACK)
    for i, state in enumerate(states):
        left, right = (width * k // len(states) for k in (i, i + 1))
        _draw_agent(surface.subsurface((left, 0, right - left, bottom)), state, write)
        if i:
            pygame.draw.line(surface, BACK, (left, 0), (left, bottom), 3)
        if state.keys:
            last = len(state.series) - 1
            strip = pygame.Rect(left, bottom, right - left, STRIP)
            draw_timeline(surface, strip, state.position / last if last else 1.0)
    if states[0].keys:
        draw_keys(surface, pygame.Rect(0, bottom, width, STRIP), write)
    if states[0].help:
        draw_help(surface, pygame.Rect(0, 0, width // len(states) - PANEL, bottom), write)


def _draw_agent(surface: Surface, state: ViewState, write: TextPainter) -> None:
    import pygame

    width, bottom = surface.get_size()
    panel = pygame.Rect(width - PANEL, 0, PANEL, bottom)
    left = pygame.Rect(0, 0, panel.left, bottom)
    seen = _Seen(state, left.width - 2 * PAD, write)
    _draw_picture(surface, pygame.Rect(0, 0, left.width, bottom - seen.height), state, write)
    seen.draw(surface, pygame.Rect(PAD, bottom - seen.height, left.width - 2 * PAD, seen.height), write)
    pygame.draw.rect(surface, SIDE, panel)
    draw_sidebar(surface, panel.inflate(-2 * PAD, -2 * PAD), state, write)


def _growth(size: tuple[int, int], agents: int) -> float:
    """Return by how much a picture of so many agents has to be drawn larger than a screen of that size."""
    return max(1.0, agents * SMALLEST[0] / size[0], SMALLEST[1] / size[1])


def paint(screen: Surface, *states: ViewState) -> None:
    """Draw onto a screen of any size; on one too small for the text, everything shrinks."""
    import pygame

    size = screen.get_size()
    grow = _growth(size, len(states))
    if grow == 1:
        draw(screen, *states)
        return
    canvas = pygame.Surface([round(side * grow) for side in size])
    draw(canvas, *states)
    screen.blit(pygame.transform.smoothscale(canvas, size), (0, 0))


def render(*states: ViewState, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return what `paint` paints as a frame for a video, uint8 `[H, W, 3]`."""
    return painted(size, lambda surface: paint(surface, *states))


def timeline_share(size: tuple[int, int], point: tuple[int, int], agents: int = 1) -> float | None:
    """Return where on the timeline of a window of that size a point lies, from 0 to 1; None where it is not on it."""
    grow = _growth(size, agents)
    top, reach, width = size[1] - STRIP / grow, REACH / grow, size[0] / agents
    on = top - reach <= point[1] <= top + TIMELINE / grow + reach
    return min(point[0] % width / max(width - 1, 1), 1.0) if on else None


def checkpoint_at(size: tuple[int, int], point: tuple[int, int], states: Sequence[ViewState]) -> tuple[int, int] | None:
    """Return whose checkpoint, and which step, a point of a window of that size means; None where it is on no line."""
    grow = _growth(size, len(states))
    width = size[0] * grow / len(states)
    agent, x = divmod(point[0] * grow, width)
    checkpoints = states[int(agent)].checkpoints
    y, share = point[1] * grow - PAD - SLIDER[0], (x - (width - PANEL + PAD)) / (PANEL - 2 * PAD)
    if len(checkpoints) < 2 or not 0 <= y <= SLIDER[1] or not 0 <= share <= 1:
        return None
    return int(agent), checkpoints[int(np.abs(slider_places(checkpoints) - share).argmin())]


def size_of(width: int | None, agents: int = 1) -> tuple[int, int]:
    """Return the size of a picture so wide, in the usual proportions and with even sides; None for the usual size.

    Raises:
        UserError: it is not from 160 to 3840.
    """
    usual = SIZE if agents == 1 else (agents * SMALLEST[0], SMALLEST[1])
    if width is None:
        return usual
    if not WIDTHS[0] <= width <= WIDTHS[1]:
        raise UserError(f"--width: {width} given, {WIDTHS[0]} to {WIDTHS[1]} pixels expected.")
    return width + width % 2, 2 * round(width * usual[1] / usual[0] / 2)


def _draw_picture(surface: Surface, area: Rect, state: ViewState, write: TextPainter) -> None:
    import pygame

    room = area.inflate(-2 * PAD, -2 * PAD)
    picture = fitted(state.frame, room.width, room.height)
    place = picture.get_rect(center=room.center)
    surface.blit(picture, place)
    pygame.draw.rect(surface, LINE, place.inflate(2, 2), 1, border_radius=3)
    if state.status and not state.help:
        text = write.font(13, True).size(state.status)
        pill = pygame.Rect(0, 0, min(text[0] + 26, room.width), 30)
        pill.midtop = (room.centerx, place.top + 12)
        rounded(surface, pill, BACK, 15, 225)
        write(surface, state.status, 13, WARM, True, pill.width - 20, center=pill.center)


class _Seen:
    """The strip below the picture: what the agent sees, as pictures and as numbers with their names."""

    def __init__(self, state: ViewState, width: int, write: TextPainter) -> None:
        self.pictures, self.readings, self.salient = state.pictures, state.readings, state.salient
        cell = _VALUE + max((write.font(12).size(name)[0] for name, _, _ in self.readings), default=0)
        self.columns = max(1, width // (cell + 18))
        self.rows = min(-(-len(self.readings) // self.columns), 1 if self.pictures else _MAX_CELL_ROWS)
        self.tiles = _TILE + 10 if self.pictures else 0
        self.height = 0
        if self.pictures or self.readings:
            self.height = 22 + self.tiles * bool(self.pictures) + self.rows * _CELL_ROW + PAD - 6

    def draw(self, surface: Surface, box: Rect, write: TextPainter) -> None:
        import pygame

        if not self.height:
            return
        title = write(surface, "what the agent sees", 12, MUTED, topleft=box.topleft)
        if self.salient:
            write(surface, "and what its action depends on", 12, WARM, topleft=(title.right + 6, box.top))
        top = box.top + 22
        left = box.left
        for number, pixels in enumerate(self.pictures):
            tile = fitted(pixels, 2 * _TILE, _TILE)
            if left + tile.get_width() > box.right - 90 * (number + 1 < len(self.pictures)):
                more = f"and {len(self.pictures) - number} more"
                write(surface, more, 12, MUTED, midleft=(left, top + _TILE // 2))
                break
            place = surface.blit(tile, (left, top))
            pygame.draw.rect(surface, LINE, place.inflate(2, 2), 1)
            left += tile.get_width() + 10
        top += self.tiles
        width, room = box.width // self.columns, self.columns * self.rows
        shown = len(self.readings) if len(self.readings) <= room else room - 1
        for i in range(min(shown + 1, len(self.readings))):
            cell = pygame.Rect(
                box.left + i % self.columns * width, top + i // self.columns * _CELL_ROW, width - 18, _CELL_ROW
            )
            if i == shown:
                write(surface, f"and {len(self.readings) - shown:,} more", 12, MUTED, midleft=cell.midleft)
                break
            name, text, weight = self.readings[i]
            if weight:  # how salient it is, as a bar beneath
                line = pygame.Rect(cell.left, cell.bottom - 3, max(round(weight * cell.width), 1), 3)
                pygame.draw.rect(surface, WARM, line)
            if i + 1 == len(self.readings):  # what is last may be a long text
                needed = sum(write.font(12).size(one)[0] for one in (name, text)) + 8
                cell.width = min(max(cell.width, needed), box.right - cell.left)
            left = cell.width - min(write.font(12).size(name)[0], cell.width // 2) - 8  # a text may be long
            value = write(surface, text, 12, TEXT, width=left, midright=cell.midright)
            write(surface, name, 12, MUTED, width=value.left - cell.left - 8, midleft=cell.midleft)
