"""Bricks: a paddle, a ball and a wall on 10 x 10 pixels, in the spirit of MinAtar's Breakout.

Source of the idea, of the channels and of the sizes: Young & Tian (2019), arXiv:1903.03176. The rules are our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from envs.api import Array
from envs.native.pixels import SIDE, Look, PixelGame, light

BOTTOM = SIDE - 1
TOP_ROW, ROWS = 1, 3  # of the wall
BELOW = TOP_ROW + ROWS
FULL_WALL = ((1 << ROWS * SIDE) - 1) << TOP_ROW * SIDE
CHANNELS = 4
PADDLE, BALL, TRAIL, BRICK = range(CHANNELS)


@dataclass(frozen=True, slots=True)
class Bricks(PixelGame):
    """Keep the ball in play with a paddle two cells wide, and break bricks with it.

    Cells are counted from the top left; the wall fills rows 1 to 3, and the paddle moves along row 9. In each step
    the paddle goes one cell left (action 0), stays (1) or goes one cell right (2), up to the walls; then the ball
    moves one cell diagonally:

    * The side walls turn it back sideways, the ceiling turns it down.
    * A brick in its way breaks, reward 1; the ball turns back up or down and slides one cell sideways instead. Where
      another brick stands there it stays and turns back sideways too.
    * On the paddle it bounces: it slides one cell sideways in row 8 and goes up next, to the left off the paddle's
      left cell and to the right off its right one. If the wall has been cleared, a new one is there.
    * Anywhere else in row 9 it is lost: terminated.

    An episode begins with a full wall, the paddle in the middle, and the ball in row 4, in any column, on its way down
    to the left or to the right. Observations are uint8 `[10, 10, 4]`, 0 or 1; the channels are the paddle, the ball,
    its trail (where it was before, so that one picture shows where it flies) and the bricks.

    The state's rows, int64, are the paddle's left cell, the ball's column and row, its direction across and down, its
    last column and row, and the wall, with the bit 10 row + column for each brick.

    Attributes:
        max_episode_steps: episodes are truncated after this many steps.
    """

    env_id: ClassVar[str] = "Bricks-v0"
    reward_threshold: ClassVar[float | None] = 30.0
    render_fps: ClassVar[int] = 15
    actions: ClassVar[int] = 3
    uniforms: ClassVar[int] = 2
    single: ClassVar[bool] = True
    looks: ClassVar[Mapping[int, Look]] = {
        BRICK: Look((214, 84, 68)),
        TRAIL: Look((62, 72, 100)),
        BALL: Look((250, 240, 210)),
        PADDLE: Look((86, 164, 232)),
    }

    max_episode_steps: int = 500

    def init(self, xp: Any, uniform: Array) -> Array:
        x = xp.asarray(uniform[0] * SIDE, dtype=xp.int64)
        across = xp.asarray(uniform[1] * 2, dtype=xp.int64) * 2 - 1
        paddle, row, wall = (xp.full_like(x, value) for value in (SIDE // 2 - 1, BELOW, FULL_WALL))
        return xp.stack((paddle, x, row, across, xp.ones_like(x), x, row, wall))

    def step(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Array, Array, Array]:
        paddle, x, y, across, down, _, _, wall = state
        paddle = (paddle + action - 1).clip(0, SIDE - 2)
        next_x, next_y = SIDE - 1 - abs(SIDE - 1 - abs(x + across)), abs(y + down)  # mirrored at the walls
        across, down = next_x - x, next_y - y
        # Flags are int64 0 or 1, which multiply where a branch would choose.
        place = _place(next_x, next_y)
        broken = (wall >> place) & 1
        wall = wall ^ (broken << place)
        corner = broken & (wall >> _place(next_x, y))
        side = next_x - paddle  # 0 and 1 are the paddle's cells
        arrived = next_y == BOTTOM
        caught = arrived & ((side | 1) == 1)
        bounced = broken + caught
        following = xp.empty_like(state)
        following[0] = paddle
        following[1] = next_x - corner * across
        following[2] = next_y - bounced * down
        following[3] = xp.where(caught, 2 * side - 1, across - 2 * corner * across)
        following[4] = down - 2 * bounced * down
        following[5] = x
        following[6] = y
        following[7] = xp.where(caught & (wall == 0), FULL_WALL, wall)
        return following, broken, arrived & ~caught

    def observe(self, xp: Any, state: Array) -> Array:
        paddle, x, y, _, _, last_x, last_y, wall = state
        count, device = len(x), state.device
        image = xp.zeros((count, SIDE, SIDE, CHANNELS), dtype=xp.uint8, device=device)
        places = xp.stack(
            (
                paddle * CHANNELS + (BOTTOM * SIDE * CHANNELS + PADDLE),
                paddle * CHANNELS + ((BOTTOM * SIDE + 1) * CHANNELS + PADDLE),
                (y * SIDE + x) * CHANNELS + BALL,
                (last_y * SIDE + last_x) * CHANNELS + TRAIL,
            )
        )
        light(xp, image, places)
        wall_bits = xp.asarray(wall >> TOP_ROW * SIDE, dtype=xp.int32)
        bricks = wall_bits[:, None] >> xp.arange(ROWS * SIDE, dtype=xp.int32, device=device)
        bricks &= 1
        image[:, TOP_ROW:BELOW, :, BRICK] = bricks.reshape(count, ROWS, SIDE)
        return image


def _place(x: Array, y: Array) -> Array:
    """Return the bit of the brick at a cell; below the wall bit 0, which is no brick's."""
    return (y * SIDE + x) * (y < BELOW)
