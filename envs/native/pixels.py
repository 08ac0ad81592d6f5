"""What games on 10 x 10 pixels share: how cells are counted, lit and drawn, and actions that stick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from envs.api import Array
from envs.errors import UserError
from envs.native.base import Dynamics
from envs.native.painters import PicturePainter

SIDE = 10
# Places are counted on a board with one more column at each side, which takes what has left the picture: a thing's
# place is row * WIDE + column + 1, and 0, beside the picture, is the place of what does not exist.
WIDE = SIDE + 2
NOWHERE = 0

CELL = 32  # pixels of the drawn picture
BACKGROUND = (16, 20, 32)


@dataclass(frozen=True, slots=True)
class Look:
    """How what a channel shows is drawn: a square of `size` pixels, at most `CELL`, in the middle of its cell."""

    colour: tuple[int, int, int]
    size: int = CELL


class PixelGame(Dynamics):
    """A game seen as uint8 `[10, 10, channels]`, 0 or 1.

    Attributes:
        actions: how many there are.
        looks: channel -> how it is drawn, those on top last.
    """

    actions: ClassVar[int]
    looks: ClassVar[Mapping[int, Look]]

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(0, 1, (SIDE, SIDE, len(self.looks)), np.uint8)

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(self.actions)

    def painter(self, render_mode: str) -> PicturePainter:
        return PicturePainter(self._picture, render_mode, self.env_id, self.render_fps)

    def _picture(self, state: np.ndarray) -> np.ndarray:
        (cells,) = self.observe(np, state[:, None])
        picture = np.full((SIDE, CELL, SIDE, CELL, 3), BACKGROUND, np.uint8)  # row, down, column, across, colour
        for channel, look in self.looks.items():
            rim = (CELL - look.size) // 2
            inner = slice(rim, CELL - rim)
            rows, columns = cells[:, :, channel].nonzero()
            picture[rows, inner, columns, inner] = look.colour
        picture[:, 0] = picture[:, :, :, 0] = BACKGROUND  # a gap between cells
        return picture.reshape(SIDE * CELL, SIDE * CELL, 3)


@dataclass(frozen=True, slots=True)
class StickyGame(PixelGame):
    """A game whose last action is taken once more, whatever is chosen, with some probability in each step.

    A subclass has `begin` and `play` in place of `init` and `step`; both return the state in parts, `[k, N]` each,
    without the action that was taken last, 0 at first, which is the last row of the state.

    Attributes:
        sticky_action_prob: probability that an action is repeated.
        max_episode_steps: episodes are truncated after this many steps.

    Raises:
        UserError: the probability is not from 0 to 1.
    """

    sticky_action_prob: float = 0.1
    max_episode_steps: int = 5000

    def __post_init__(self) -> None:
        if not 0 <= self.sticky_action_prob <= 1:
            raise UserError(f"{self.env_id}: sticky_action_prob must be from 0 to 1, got {self.sticky_action_prob}")

    def init(self, xp: Any, uniform: Array) -> Array:
        return xp.concatenate((*self.begin(xp, uniform), rows(xp, uniform, 0)))

    def step(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Array, Array, Array]:
        action = xp.where(uniform[0] < self.sticky_action_prob, state[-1], action)
        parts, reward, terminated = self.play(xp, state, action, uniform[1:])
        return xp.concatenate((*parts, action[None])), reward, terminated

    def begin(self, xp: Any, uniform: Array) -> Sequence[Array]:
        """Return the parts of initial states for random numbers `[uniforms, N]`."""
        raise NotImplementedError

    def play(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Sequence[Array], Array, Array]:
        """Return the parts of the next states, the rewards and whether each terminated.

        Args:
            xp: the array module.
            state: with the last action, which plays no part here.
            action: int64 `[N]`, what is done.
            uniform: `[step_uniforms - 1, N]`.
        """
        raise NotImplementedError


def rows(xp: Any, like: Array, *values: int) -> Array:
    """Return int64 `[len(values), N]`, each row of one value, for as many environments as `like`, `[..., N]`, has."""
    count, device = like.shape[-1], like.device
    return xp.stack([xp.full((count,), value, dtype=xp.int64, device=device) for value in values])


def pick(xp: Any, uniform: Array, count: Any) -> Array:
    """Return an int64 from 0 to `count` - 1, each as likely, for random numbers in [0, 1)."""
    return xp.asarray(uniform * count, dtype=xp.int64)


def heading(action: Array, backward: int, forward: int) -> Array:
    """Return -1 where the action is `backward`, 1 where it is `forward`, else 0."""
    return (action == forward) * 1 - (action == backward) * 1


def outside(place: Array) -> Array:
    """Whether a place is in the columns beside the picture, where what does not exist is, too."""
    return (place + 1) % WIDE < 2


def enqueue(xp: Any, comes: Array, new: Array, queue: Array) -> Array:
    """Return `queue` `[k, length, N]` with `new` `[k, N]` in front of it, the last one dropped, where `comes` `[N]`."""
    return xp.where(comes, xp.concatenate((new[:, None], queue[:, :-1]), 1), queue)


def light(xp: Any, image: Array, cells: Array) -> None:
    """Set numbers of pictures `[N, ...]` to 1: those at `cells` `[c, N]` of each, laid out in a row."""
    device = cells.device
    size = image.shape[1] * image.shape[2] * image.shape[3]
    lit = xp.full(cells.shape, 1, dtype=xp.uint8, device=device)  # a number would be copied to a GPU every time
    image.reshape(-1)[cells + xp.arange(len(image), device=device) * size] = lit


def seen(xp: Any, channels: int, shown: Sequence[tuple[int, Array]]) -> Array:
    """Return pictures `[N, 10, 10, channels]` of what is at places `[c, N]`, for pairs of a channel and such places."""
    cells = xp.concatenate([places * channels + channel for channel, places in shown])
    image = xp.zeros((cells.shape[1], SIDE, WIDE, channels), dtype=xp.uint8, device=cells.device)
    light(xp, image, cells)
    return image[:, :, 1:-1]
