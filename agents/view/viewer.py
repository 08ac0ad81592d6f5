"""The picture that `watch` shows and records: the environment, and beside it what the policy makes of it.

`draw` is a pure function of a surface and a `ViewState`; windows, keys and time are `agents.view.window`'s.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import Space, spaces

from agents.ops.distributions import parameter_count
from agents.run.play import Moment
from envs.actions import Hybrid
from envs.errors import UserError

if TYPE_CHECKING:
    from pygame import Rect, Surface

SIZE = (1120, 630)  # without the strip of keys
SMALLEST = (880, 590)  # holds the longest panel; a smaller picture is a larger one shrunk
WIDTHS = (160, 3840)
MAX_BARS = 8
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
    ("v", "what the agent sees"),
    ("s", "save this picture as PNG"),
    ("h", "these keys"),
    ("q", "quit (or Esc)"),
)

STRIP = 44  # height of the strip of keys
TIMELINE = 5  # of which the line that says how far into the episode this is
_PANEL, _PAD, _ROW = 372, 26, 25
_LABEL = 132  # pixels that an action's name may take
_CELL_ROW, _MAX_CELL_ROWS, _VALUE, _TILE = 20, 6, 62, 96  # of what the agent sees
_BACK, _SIDE, _TRACK, _LINE = (15, 18, 26), (22, 26, 37), (36, 42, 58), (48, 55, 74)
_TEXT, _MUTED = (232, 236, 244), (139, 148, 170)
_QUIET, _ACCENT, _WARM = (84, 103, 146), (94, 206, 190), (243, 189, 106)


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of the panel's lower half: `start`, `end` and the dot `mark` are shares of its track."""

    label: str
    text: str
    start: float
    end: float
    mark: float | None = None
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class ViewState:
    """All that `draw` needs to know.

    Attributes:
        frame: the environment's picture, uint8 `[H, W, 3]`.
        subtitle: which policy plays, e.g. "PPO · best · 50,000 steps".
        series: values so far in this episode, plotted under `series_title`.
        hidden: actions that found no room among `bars`.
        at: which of `series` is this moment's; None for the last.
        status: words over the picture, such as "paused"; "" for none.
        readings: name and value of each number that the agent sees.
        pictures: what the agent sees as pictures, uint8 `[H, W, 3]` each.
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
    status: str = ""
    readings: Sequence[tuple[str, str]] = ()
    pictures: Sequence[np.ndarray] = ()
    keys: bool = False
    help: bool = False

    @property
    def position(self) -> int:
        """Which of `series` is this moment's."""
        return len(self.series) - 1 if self.at is None else self.at


def action_bars(
    moment: Moment, space: Space, names: Sequence[str] = (), most: int = MAX_BARS
) -> tuple[str, list[Bar], int]:
    """Return a title, a row for each action (at most `most`) and how many actions are left out.

    `names` are those of the actions, or of their parts; without any they are numbers.

    Probabilities are drawn from 0 to 1, Q-values from the lowest to the highest of the moment (NaN is an illegal
    action's), and Gaussians as mean +- std between the action's bounds, with a dot for the action taken. Of many
    actions the best are shown, the one taken always among them. Where no policy was asked, the action taken is all
    there is.
    """
    outputs, action = moment.outputs, np.atleast_1d(moment.action)
    if isinstance(space, Hybrid):
        return _part_bars(moment, space, names)
    if isinstance(space, spaces.Box):
        rows = [_dimension_bar(i, outputs, float(action[i]), space, names) for i in range(min(len(action), most))]
        return "action, mean ± std" if "mean" in outputs else "action", rows, len(action) - len(rows)
    labels, taken = _choices(action, space, names)
    if "q_values" in outputs:
        title, values = "Q-values", outputs["q_values"]
        legal = ~np.isnan(values)
        texts = [number(value) if allowed else "illegal" for value, allowed in zip(values.tolist(), legal, strict=True)]
        low, high = float(values[legal].min()), float(values[legal].max())
        ends = np.where(legal, 0.04 + 0.96 * (np.nan_to_num(values) - low) / max(high - low, 1e-9), 0.0)
    elif "probabilities" in outputs:
        title, ends = "action probabilities", outputs["probabilities"]
        texts = [f"{value:.2f}" for value in ends.tolist()]
    else:
        title, ends = "action", np.array(taken, np.float64)
        texts = [""] * len(labels)
    order = sorted(range(len(labels)), key=lambda i: (not taken[i], -ends[i]))[:most]
    rows = [Bar(labels[i], texts[i], 0, float(ends[i]), chosen=taken[i]) for i in sorted(order)]
    return title, rows, len(labels) - len(rows)


def _part_bars(moment: Moment, space: Hybrid, names: Sequence[str]) -> tuple[str, list[Bar], int]:
    """Return the rows of all parts, of each so many that there is room for all; `names` are of the row's numbers."""
    most, rest, found, hidden = max(MAX_BARS // len(space.parts), 1), dict(moment.outputs), list[Bar](), 0
    given = space.split(np.array(names)) if (len(names),) == space.shape else [()] * len(space.parts)
    for (key, part), action, own in zip(space.parts.items(), space.split(moment.action), given, strict=True):
        outputs = dict[str, np.ndarray]()
        for name in ("mean", "std") if isinstance(part, spaces.Box) else ("probabilities",):
            if name in rest:
                outputs[name], rest[name] = np.split(rest[name], [parameter_count(part)])
        one = isinstance(part, spaces.Discrete)  # whose name is the whole part's
        _, bars, more = action_bars(replace(moment, outputs=outputs, action=action), part, () if one else own, most)
        title = f"{own if one and np.size(own) else key}: "
        found += [replace(bar, label=bar.label if np.size(own) and not one else title + bar.label) for bar in bars]
        hidden += more
    return "action", found[:MAX_BARS], hidden + len(found[MAX_BARS:])


def _choices(action: np.ndarray, space: Space, names: Sequence[str]) -> tuple[list[str], list[bool]]:
    """Return the label of each choice of a canonical action space, and whether it was taken."""
    match space:
        case spaces.Discrete():
            return _labels(int(space.n), names), [k == action[0] for k in range(int(space.n))]
        case spaces.MultiDiscrete():
            parts = _labels(len(space.nvec), names)
            pairs = [(k, choice) for k, n in enumerate(space.nvec.tolist()) for choice in range(n)]
            return [f"{parts[k]}: {choice}" for k, choice in pairs], [bool(action[k] == choice) for k, choice in pairs]
    return _labels(len(action), names), [bool(chosen) for chosen in action]


def _labels(count: int, names: Sequence[str]) -> list[str]:
    return list(names) if len(names) == count else [str(k) for k in range(count)]


def _dimension_bar(
    i: int, outputs: dict[str, np.ndarray], action: float, space: spaces.Box, names: Sequence[str]
) -> Bar:
    label = _labels(int(np.prod(space.shape)), names)[i]
    mean, std = (float(outputs[key][i]) if key in outputs else 0.0 for key in ("mean", "std"))
    low, high = float(space.low[i]), float(space.high[i])
    if not (np.isfinite(low) and np.isfinite(high)):
        high = max(1.0, abs(mean) + std, abs(action))
        low = -high
    start, end, mark = np.clip((np.array([mean - std, mean + std, action]) - low) / (high - low), 0, 1).tolist()
    if "mean" not in outputs:
        return Bar(label, f"{action:+.2f}", 0, 0, mark)
    return Bar(label, f"{mean:+.2f} ± {std:.2f}", start, end, mark)


def draw(surface: Surface, state: ViewState) -> None:
    """Paint a moment over the whole surface, whatever its size: picture at the left, panel at the right."""
    import pygame

    width, height = surface.get_size()
    bottom = height - (STRIP if state.keys else 0)
    write = _Writer()
    surface.fill(_BACK)
    panel = pygame.Rect(width - _PANEL, 0, _PANEL, bottom)
    left = pygame.Rect(0, 0, panel.left, bottom)
    seen = _Seen(state, left.width - 2 * _PAD, write)
    _draw_picture(surface, pygame.Rect(0, 0, left.width, bottom - seen.height), state, write)
    seen.draw(surface, pygame.Rect(_PAD, bottom - seen.height, left.width - 2 * _PAD, seen.height), write)
    pygame.draw.rect(surface, _SIDE, panel)
    _draw_panel(surface, panel.inflate(-2 * _PAD, -2 * _PAD), state, write)
    if state.keys:
        _draw_keys(surface, pygame.Rect(0, bottom, width, STRIP), write)
        _draw_timeline(surface, pygame.Rect(0, bottom, width, STRIP), state)
    if state.help:
        _draw_help(surface, left, write)


def paint(screen: Surface, state: ViewState) -> None:
    """Draw onto a screen of any size; on one too small for the text, everything shrinks."""
    import pygame

    size = screen.get_size()
    if size[0] >= SMALLEST[0] and size[1] >= SMALLEST[1]:
        draw(screen, state)
        return
    grow = max(least / side for least, side in zip(SMALLEST, size, strict=True))
    canvas = pygame.Surface([round(side * grow) for side in size])
    draw(canvas, state)
    screen.blit(pygame.transform.smoothscale(canvas, size), (0, 0))


def render(state: ViewState, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return what `paint` paints as a frame for a video, uint8 `[H, W, 3]`."""
    import pygame

    surface = pygame.Surface(size, 0, 24, (0xFF, 0xFF00, 0xFF0000, 0))  # in memory as R, G, B: nothing to convert
    paint(surface, state)
    rows = np.frombuffer(surface.get_buffer().raw, np.uint8).reshape(size[1], surface.get_pitch())
    return rows[:, : 3 * size[0]].reshape(size[1], size[0], 3)


def size_of(width: int | None) -> tuple[int, int]:
    """Return the size of a picture so wide, in the usual proportions and with even sides; None for the usual size.

    Raises:
        UserError: it is not from 160 to 3840.
    """
    if width is None:
        return SIZE
    if not WIDTHS[0] <= width <= WIDTHS[1]:
        raise UserError(f"--width: {width} given, {WIDTHS[0]} to {WIDTHS[1]} pixels expected.")
    return width + width % 2, 2 * round(width * SIZE[1] / SIZE[0] / 2)


def png(pixels: np.ndarray) -> bytes:
    """Return a picture, uint8 `[H, W, 3]`, as a PNG file."""
    import pygame

    file = io.BytesIO()
    pygame.image.save(pygame.surfarray.make_surface(pixels.swapaxes(0, 1)), file, "picture.png")
    return file.getvalue()


class _Writer:
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
        color: tuple[int, int, int] = _TEXT,
        bold: bool = False,
        width: int | None = None,
        **place: Any,
    ) -> Rect:
        """Write one line with its Rect attributes as `place` says, e.g. `topleft=(3, 4)`, cut to `width`."""
        font = self.font(size, bold)
        if width is not None and font.size(text)[0] > width:
            while text and font.size(text + "…")[0] > width:
                text = text[:-1]
            text += "…"
        image = font.render(text, True, color)
        rect = image.get_rect(**place)
        surface.blit(image, rect)
        return rect


def _smooth(size: tuple[int, int], color: tuple[int, int, int], paint: Callable[[Surface, int], None]) -> Surface:
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

    return _smooth(size, color, paint)


def _rounded(surface: Surface, rect: Rect, color: tuple[int, int, int], radius: int = 4, alpha: int = 255) -> None:
    surface.blit(_pill(rect.size, color, radius, alpha), rect)


def _fitted(pixels: np.ndarray, width: int, height: int) -> Surface:
    """Return a picture as large as it can be in the room there is."""
    import pygame

    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    if scale >= 4:
        scale = int(scale)  # so small a picture is made of pixels that are meant to be seen
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    resize = pygame.transform.scale if scale >= 4 else pygame.transform.smoothscale
    return resize(pygame.surfarray.make_surface(pixels.swapaxes(0, 1)), size)


def _draw_picture(surface: Surface, area: Rect, state: ViewState, write: _Writer) -> None:
    import pygame

    room = area.inflate(-2 * _PAD, -2 * _PAD)
    picture = _fitted(state.frame, room.width, room.height)
    place = picture.get_rect(center=room.center)
    surface.blit(picture, place)
    pygame.draw.rect(surface, _LINE, place.inflate(2, 2), 1, border_radius=3)
    if state.status and not state.help:
        text = write.font(13, True).size(state.status)
        pill = pygame.Rect(0, 0, min(text[0] + 26, room.width), 30)
        pill.midtop = (room.centerx, place.top + 12)
        _rounded(surface, pill, _BACK, 15, 225)
        write(surface, state.status, 13, _WARM, True, pill.width - 20, center=pill.center)


class _Seen:
    """The strip below the picture: what the agent sees, as pictures and as numbers with their names."""

    def __init__(self, state: ViewState, width: int, write: _Writer) -> None:
        self.pictures, self.readings = state.pictures, state.readings
        cell = _VALUE + max((write.font(12).size(name)[0] for name, _ in self.readings), default=0)
        self.columns = max(1, width // (cell + 18))
        self.rows = min(-(-len(self.readings) // self.columns), 1 if self.pictures else _MAX_CELL_ROWS)
        self.tiles = _TILE + 10 if self.pictures else 0
        self.height = 0
        if self.pictures or self.readings:
            self.height = 22 + self.tiles * bool(self.pictures) + self.rows * _CELL_ROW + _PAD - 6

    def draw(self, surface: Surface, box: Rect, write: _Writer) -> None:
        import pygame

        if not self.height:
            return
        write(surface, "what the agent sees", 12, _MUTED, topleft=box.topleft)
        top = box.top + 22
        left = box.left
        for number, pixels in enumerate(self.pictures):
            tile = _fitted(pixels, 2 * _TILE, _TILE)
            if left + tile.get_width() > box.right - 90 * (number + 1 < len(self.pictures)):
                more = f"and {len(self.pictures) - number} more"
                write(surface, more, 12, _MUTED, midleft=(left, top + _TILE // 2))
                break
            place = surface.blit(tile, (left, top))
            pygame.draw.rect(surface, _LINE, place.inflate(2, 2), 1)
            left += tile.get_width() + 10
        top += self.tiles
        width, room = box.width // self.columns, self.columns * self.rows
        shown = len(self.readings) if len(self.readings) <= room else room - 1
        for i in range(min(shown + 1, len(self.readings))):
            cell = pygame.Rect(
                box.left + i % self.columns * width, top + i // self.columns * _CELL_ROW, width - 18, _CELL_ROW
            )
            if i == shown:
                write(surface, f"and {len(self.readings) - shown:,} more", 12, _MUTED, midleft=cell.midleft)
                break
            name, text = self.readings[i]
            value = write(surface, text, 12, _TEXT, midright=cell.midright)
            write(surface, name, 12, _MUTED, width=value.left - cell.left - 8, midleft=cell.midleft)


def _draw_panel(surface: Surface, box: Rect, state: ViewState, write: _Writer) -> None:
    import pygame

    size = next((size for size in (21, 18, 16) if write.font(size, True).size(state.title)[0] <= box.width), 14)
    write(surface, state.title, size, _TEXT, True, box.width, midleft=(box.left, box.top + 12))
    write(surface, state.subtitle, 13, _MUTED, width=box.width, topleft=(box.left, box.top + 30))
    write(surface, state.episode, 13, _MUTED, width=box.width, topleft=(box.left, box.top + 50))
    top = box.top + 84
    column = box.width // 3
    for i, (name, value) in enumerate(
        (("return", number(state.ret)), ("step", f"{state.step:,}"), ("reward", number(state.reward)))
    ):
        left = box.left + i * column
        write(surface, name, 12, _MUTED, topleft=(left, top))
        write(surface, value, 20, _TEXT, True, column - 6, topleft=(left, top + 18))
    top += 66
    rows = len(state.bars) + (state.hidden > 0)
    bars_height = 30 + rows * _ROW if rows else 0
    plot = pygame.Rect(box.left, top, box.width, max(64, min(210, box.bottom - top - bars_height - 22)))
    _draw_series(surface, plot, state, write)
    if rows:
        _draw_bars(surface, pygame.Rect(box.left, plot.bottom + 22, box.width, bars_height), state, write)


def number(value: float) -> str:
    """Write a number in about seven characters."""
    size = abs(value)
    if size >= 999_999.5:
        return f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
    if size < 0.0005:
        return "0.00"
    digits = next(digits for below, digits in ((0.9995, 3), (99.995, 2), (9_999.95, 1), (1e6, 0)) if size < below)
    return f"{value:.{digits}f}"


def chart_range(series: Sequence[float]) -> tuple[float, float]:
    """Return the round numbers that a chart of `series` lies between.

    Of eight values or more, the most extreme 2% at either end (one at least) count only where the others already take
    a third of the height with them; so one wild value does not flatten all others.
    """
    values = np.sort(np.asarray(series, np.float64))
    low, high = float(values[0]), float(values[-1])
    if (count := len(values)) >= 8:
        cut = max(1, count // 50)
        inner = float(values[cut]), float(values[-1 - cut])
        if 0 < 3 * (inner[1] - inner[0]) < high - low:
            low, high = inner
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        margin = 0.1 * max(abs(low), abs(high)) or 1.0
        low, high = low - margin, high + margin
    unit = 10.0 ** np.floor(np.log10((high - low) / 2))
    step = unit * next(k for k in (1, 2, 5, 10) if (high - low) / (k * unit) <= 5)
    return float(np.floor(low / step + 1e-9) * step), float(np.ceil(high / step - 1e-9) * step)


def _draw_series(surface: Surface, box: Rect, state: ViewState, write: _Writer) -> None:
    """A line over the episode as far as it is known, with the bounds of its axis, and the value of this moment."""
    import pygame

    values, at = np.asarray(state.series, np.float64), state.position
    low, high = chart_range(state.series)
    write(surface, number(values[at]), 13, _ACCENT, True, topright=(box.right, box.top - 1))
    write(surface, state.series_title, 12, _MUTED, topleft=box.topleft)
    area = pygame.Rect(box.left, box.top + 24, box.width, box.height - 24)
    _rounded(surface, area, _TRACK, 6, 120)
    labels = [number(high), number(low)]
    axis = max(write.font(11).size(label)[0] for label in labels)
    inner = pygame.Rect(area.left + axis + 16, area.top + 10, area.width - axis - 28, area.height - 20)
    for label, y in zip(labels, (inner.top, inner.bottom), strict=True):
        write(surface, label, 11, _MUTED, midright=(inner.left - 6, y))
        pygame.draw.line(surface, _LINE, (inner.left, y), (inner.right, y))
    across = np.linspace(0, 1, max(len(values), 2))
    # where the bounds leave values out, the line runs along the edge
    down = 1 - np.clip((np.broadcast_to(values, len(across)) - low) / (high - low), 0, 1)

    def paint(large: Surface, scale: int) -> None:
        x = (inner.left - area.left + across * inner.width) * scale
        y = (inner.top - area.top + down * inner.height) * scale
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        floor = (inner.bottom - area.top) * scale
        if at + 1 < len(values):
            pygame.draw.lines(large, (*_QUIET, 255), False, points[at:], 2 * scale)
        if at or len(values) == 1:
            done = points[: at + 1] if at else points
            pygame.draw.polygon(large, (*_ACCENT, 38), [(done[0][0], floor), *done, (done[-1][0], floor)])
            pygame.draw.lines(large, (*_ACCENT, 255), False, done, 2 * scale)
        pygame.draw.circle(large, (*_ACCENT, 255), points[at] if len(values) > 1 else points[-1], 4 * scale)

    surface.blit(_smooth(area.size, _ACCENT, paint), area)


def _draw_bars(surface: Surface, box: Rect, state: ViewState, write: _Writer) -> None:
    import pygame

    write(surface, state.bars_title, 12, _MUTED, topleft=box.topleft)
    label = min(_LABEL, max(write.font(13, True).size(bar.label)[0] for bar in state.bars)) + 12
    digits = max(60, *(write.font(13).size(bar.text)[0] + 12 for bar in state.bars))  # no jitter as digits come and go
    for i, bar in enumerate(state.bars):
        middle = box.top + 30 + i * _ROW + _ROW // 2
        color = _ACCENT if bar.chosen else _QUIET
        strong = _TEXT if bar.chosen else _MUTED
        write(surface, bar.label, 13, strong, bar.chosen, label - 12, midleft=(box.left, middle))
        write(surface, bar.text, 13, strong, midright=(box.right, middle))
        track = pygame.Rect(box.left + label, middle - 6, box.width - label - digits, 12)
        _rounded(surface, track, _TRACK, 6)
        start, end = (round(share * track.width) for share in (bar.start, bar.end))
        if end > start:
            _rounded(surface, pygame.Rect(track.left + start, track.top, max(end - start, 4), track.height), color, 6)
        if bar.mark is not None:
            dot = pygame.Rect(0, 0, 8, 18)
            dot.center = (track.left + round(bar.mark * track.width), middle)
            _rounded(surface, dot, _ACCENT, 4)
    if state.hidden:
        more = f"and {state.hidden:,} more"
        write(surface, more, 12, _MUTED, topleft=(box.left + label, box.top + 34 + len(state.bars) * _ROW))


def _draw_keys(surface: Surface, strip: Rect, write: _Writer) -> None:
    left = strip.left + _PAD
    for key, does in STRIP_KEYS:
        left = _draw_key(surface, left, strip.centery + 2, key, does, write) + 22


def _draw_key(surface: Surface, left: int, middle: int, key: str, does: str, write: _Writer, column: int = 0) -> int:
    """Draw a key and what it does, which begins `column` pixels from the left at least; return where that ends."""
    import pygame

    cap = pygame.Rect(left, middle - 12, write.font(12, True).size(key)[0] + 16, 24)
    _rounded(surface, cap, _TRACK, 5)
    write(surface, key, 12, _TEXT, True, center=cap.center)
    text = max(cap.right + 8, left + column)
    return write(surface, does, 12, _MUTED if not column else _TEXT, midleft=(text, middle)).right


def _draw_timeline(surface: Surface, strip: Rect, state: ViewState) -> None:
    """A line along the strip's upper edge: how much of the episode, as far as it is known, is behind this moment."""
    import pygame

    last = len(state.series) - 1
    share = state.position / last if last else 1.0
    pygame.draw.rect(surface, _LINE, (strip.left, strip.top, strip.width, TIMELINE))
    pygame.draw.rect(surface, _ACCENT, (strip.left, strip.top, round(share * strip.width), TIMELINE))


def _draw_help(surface: Surface, area: Rect, write: _Writer) -> None:
    import pygame

    box = pygame.Rect(0, 0, 396, len(KEYS) * 29 + 32)
    box.center = area.center
    _rounded(surface, box, _SIDE, 10)
    for i, (key, does) in enumerate(KEYS):
        _draw_key(surface, box.left + 24, box.top + 30 + i * 29, key, does, write, 104)
