"""Invaders: a block of aliens that comes down, by the rules of MinAtar's Space Invaders.

Source of the rules: Young & Tian (2019), arXiv:1903.03176.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from envs.api import Array
from envs.native.pixels import NOWHERE, SIDE, WIDE, Look, StickyGame, enqueue, heading, rows, seen

BOTTOM = SIDE - 1
COLUMNS, ROWS = 6, 4  # of the block
BLOCK = COLUMNS * ROWS
FULL_BLOCK = (1 << BLOCK) - 1
TOP_ROW = FULL_BLOCK // ((1 << ROWS) - 1)  # its bits, of which those of the other rows follow by a shift
FIRST_LEFT = 2  # column of a new block
RELOAD, ALIEN_RELOAD = 5, 10  # steps from one shot to the next
SLOWEST, FASTEST = 12, 6  # steps between moves, of the first waves and of the last
SHOTS = 2  # no more are in flight at once: one is gone after 9 steps
CANNON, ALIEN, GOES_LEFT, GOES_RIGHT, SHOT, ALIEN_SHOT = CHANNELS = range(6)
LEFT, RIGHT, FIRE = range(1, 4)


@dataclass(frozen=True, slots=True)
class Invaders(StickyGame):
    """Shoot the aliens before they arrive.

    The cannon, in row 9, goes one cell left (action 1) or right (2), fires (3) or stays (0); it fires once in 5 steps
    at most. Its shots fly up, one cell a step. A block of aliens, 6 by 4, moves sideways every 12 steps, and every n
    steps when fewer than 12, n, are left; where it would leave the picture it goes one cell down and turns instead.
    Every 10 steps the lowest alien of the column that is nearest to the cannon, the left one of two, fires, and its
    shot flies down, one cell a step. An alien that is shot is gone, reward 1. After the last one a new block comes,
    which moves one step sooner, down to every 6 steps. Where an alien or a shot of theirs meets the cannon, and where
    the block would leave the picture below, it is over: terminated.

    Observations are uint8 `[10, 10, 6]`, 0 or 1; the channels are the cannon, the aliens, the aliens again if they go
    left, or if they go right, the cannon's shots and the alien's.

    The state's rows, int64, are the cannon's column, the block with the bit 4 column + row for each alien, its number
    of aliens, its left column and top row, its direction (-1 or 1), the steps until it moves and between its moves,
    until the aliens fire and until the cannon may; the places (see `envs.native.pixels`) of the alien's shot and of the
    cannon's; and the last action.

    Attributes:
        difficulty_ramping: whether each block is faster than the last one.
    """

    env_id: ClassVar[str] = "Invaders-v0"
    render_fps: ClassVar[int] = 15
    actions: ClassVar[int] = 4
    step_uniforms: ClassVar[int] = 1
    looks: ClassVar[Mapping[int, Look]] = {
        ALIEN: Look((110, 190, 120), 28),
        GOES_LEFT: Look((70, 130, 90), 12),
        GOES_RIGHT: Look((150, 220, 150), 12),
        ALIEN_SHOT: Look((214, 84, 68), 10),
        SHOT: Look((250, 240, 210), 10),
        CANNON: Look((86, 164, 232), 28),
    }

    difficulty_ramping: bool = True

    def begin(self, xp: Any, uniform: Array) -> Sequence[Array]:
        block = FULL_BLOCK, BLOCK, FIRST_LEFT, 0, -1, SLOWEST, SLOWEST
        return (rows(xp, uniform, SIDE // 2, *block, ALIEN_RELOAD, 0, NOWHERE, *[NOWHERE] * SHOTS),)

    def play(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Sequence[Array], Array, Array]:
        x, block, count, left, top, way, move_wait, move_every, alien_reload, reload, alien_shot = state[:11]
        shots = state[11:-1]
        fires = (action == FIRE) & (reload == 0)
        reload = xp.where(fires, RELOAD, reload)
        cannon = BOTTOM * WIDE + x + 1
        shots = enqueue(xp, fires, cannon[None], shots[None])[0]
        x = (x + heading(action, LEFT, RIGHT)).clip(0, BOTTOM)
        cannon = BOTTOM * WIDE + x + 1

        shots = (shots - WIDE).clip(NOWHERE, SIDE * WIDE)
        alien_shot = alien_shot + WIDE * (alien_shot != NOWHERE)
        alien_shot = alien_shot * (alien_shot < SIDE * WIDE)
        over = (alien_shot == cannon) | _holds(block, _spot(xp, left, top, cannon))

        moves = move_wait == 0
        edge = xp.where(way < 0, 0, BOTTOM) - left  # of the block's columns, the one that is at the picture's edge
        at_edge = (edge >= 0) & ((block >> ROWS * edge.clip(0, COLUMNS)) % (1 << ROWS) > 0)
        sinks, goes = moves & at_edge, moves & ~at_edge
        bottom = BOTTOM - top  # of its rows, the one that is at the picture's bottom
        landed = sinks & (bottom < ROWS) & (((block >> bottom) & TOP_ROW) > 0)
        way = xp.where(sinks, -way, way)
        left, top = left + way * goes, top + sinks * 1
        move_wait = xp.where(moves, xp.minimum(count, move_every), move_wait)
        over = over | landed | _holds(block, _spot(xp, left, top, cannon))

        columns = xp.arange(COLUMNS, device=state.device)[:, None]
        distance = left + columns - x
        empty = (block >> ROWS * columns) % (1 << ROWS) == 0
        column = (abs(distance) * 2 + (distance > 0) + empty * 4 * SIDE).argmin(0)
        aliens = (block >> ROWS * column) % (1 << ROWS)
        lowest = (aliens > 1) * 1 + (aliens > 3) * 1 + (aliens > 7) * 1
        alien_fires = alien_reload == 0
        alien_shot = xp.where(alien_fires, (top + lowest).clip(0, BOTTOM) * WIDE + left + column + 1, alien_shot)
        alien_reload = xp.where(alien_fires, ALIEN_RELOAD, alien_reload)

        spots = _spot(xp, left, top, shots)
        hit = _holds(block, spots)
        shots = shots * ~hit
        block = block - ((hit * 1) << spots).sum(0)
        killed = hit.sum(0)
        count = count - killed
        cleared = count == 0
        if self.difficulty_ramping:
            move_every = move_every - (cleared & (move_every > FASTEST)) * 1
        scalars = (
            x,
            xp.where(cleared, FULL_BLOCK, block),
            xp.where(cleared, BLOCK, count),
            xp.where(cleared, FIRST_LEFT, left),
            (top - landed * 1) * ~cleared,  # in the picture at an end, too
            way,
            move_wait - 1,
            move_every,
            alien_reload - 1,
            (reload - 1).clip(0, RELOAD),
            alien_shot,
        )
        return (xp.stack(scalars), shots), killed, over

    def observe(self, xp: Any, state: Array) -> Array:
        x, block, _, left, top, way = state[:6]
        bits = xp.arange(BLOCK, device=state.device)[:, None]
        aliens = ((top + bits % ROWS) * WIDE + left + bits // ROWS + 1) * ((block >> bits) & 1)
        shown = (
            (CANNON, (BOTTOM * WIDE + x + 1)[None]),
            (ALIEN, aliens),
            (xp.where(way < 0, GOES_LEFT, GOES_RIGHT), aliens),
            (ALIEN_SHOT, state[10:11]),
            (SHOT, state[11:-1]),
        )
        return seen(xp, len(CHANNELS), shown)


def _spot(xp: Any, left: Array, top: Array, place: Array) -> Array:
    """Return the bit that a block at `left` and `top` has for a place, or one that is never set where it has none."""
    column, row = place % WIDE - 1 - left, place // WIDE - top
    inside = (place != NOWHERE) & (column >= 0) & (column < COLUMNS) & (row >= 0) & (row < ROWS)
    return xp.where(inside, ROWS * column + row, BLOCK)


def _holds(block: Array, spot: Array) -> Array:
    """Return whether there is an alien, bool."""
    return (block >> spot) % 2 == 1
