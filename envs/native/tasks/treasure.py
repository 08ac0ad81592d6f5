"""Treasure: gold and enemies on eight lanes, by the rules of MinAtar's Asterix.

Source of the rules: Young & Tian (2019), arXiv:1903.03176.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from envs.api import Array
from envs.native.pixels import SIDE, WIDE, Look, StickyGame, heading, pick, rows, seen

LANES = 8
GOLD_SHARE = 1 / 3
SPAWN, MOVE, RAMP = 10, 5, 100  # steps at first between newcomers, between moves, and from one level to the next
PLAYER, ENEMY, TRAIL, GOLD = CHANNELS = range(4)
LEFT, UP, RIGHT, DOWN = range(1, 5)


@dataclass(frozen=True, slots=True)
class Treasure(StickyGame):
    """Collect gold, and keep clear of enemies.

    The player goes one cell left (action 1), up (2), right (3) or down (4), or stays (0), within rows 1 to 8. These
    are lanes, each for one enemy or one piece of gold, which crosses the picture from one side to the other. Every 10
    steps a newcomer takes a free lane, from the left or the right, gold with probability 1/3; every 5 steps all of
    them move. Who touches gold, by whose move it may be, takes it, reward 1; who touches an enemy is lost: terminated.
    About every 100 steps there is a newcomer one step sooner, down to every step, and every other time all move one
    step sooner, too.

    Observations are uint8 `[10, 10, 4]`, 0 or 1; the channels are the player, enemies, trails (the cell behind each
    enemy and piece of gold) and gold.

    The state's rows, int64, are the player's column and row, the steps until the next newcomer and between them, until
    the next move and between them, until the next level and how many there were; of each lane the column, the
    direction (-1, 1, or 0 where it is empty) and whether it holds gold; and the last action.

    Attributes:
        difficulty_ramping: whether it gets faster.
    """

    env_id: ClassVar[str] = "Treasure-v0"
    render_fps: ClassVar[int] = 15
    actions: ClassVar[int] = 5
    step_uniforms: ClassVar[int] = 4
    looks: ClassVar[Mapping[int, Look]] = {
        TRAIL: Look((62, 72, 100), 12),
        GOLD: Look((240, 200, 80), 20),
        ENEMY: Look((214, 84, 68), 28),
        PLAYER: Look((86, 164, 232), 28),
    }

    difficulty_ramping: bool = True

    def begin(self, xp: Any, uniform: Array) -> Sequence[Array]:
        scalars = rows(xp, uniform, SIDE // 2, SIDE // 2, SPAWN, SPAWN, MOVE, MOVE, RAMP, 0)
        return scalars, rows(xp, uniform, *[-1] * LANES), rows(xp, uniform, *[0] * 2 * LANES)

    def play(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Sequence[Array], Array, Array]:
        x, y, spawn_wait, spawn_every, move_wait, move_every, ramp_wait, levels = state[:8]
        at, way, gold = state[8:-1].reshape(3, LANES, -1)
        comes, free = spawn_wait == 0, way == 0
        lane = free & comes & (free.cumsum(0) - 1 == pick(xp, uniform[2], free.sum(0)))
        side = 1 - 2 * pick(xp, uniform[0], 2)
        at = xp.where(lane, (1 - side) * (SIDE - 1) // 2, at)
        way = xp.where(lane, side, way)
        gold = xp.where(lane, (uniform[1] < GOLD_SHARE) * 1, gold)

        x = (x + heading(action, LEFT, RIGHT)).clip(0, SIDE - 1)
        y = (y + heading(action, UP, DOWN)).clip(1, LANES)
        moves = move_wait == 0
        here = xp.arange(1, LANES + 1, device=state.device)[:, None] == y
        met = here & (at == x)
        # What is met before the move and is gold is taken, and moves no more.
        way = way * ~(met & (gold == 1))
        at = at + way * moves
        met = met | (here & (at == x))
        taken = met & (gold == 1)
        way = way * ~(taken | (at < 0) | (at >= SIDE))
        at = xp.where(way == 0, -1, at)

        ramps = self.difficulty_ramping & ((spawn_every > 1) | (move_every > 1))
        rises = ramps & (ramp_wait < 0)
        spawn_wait = xp.where(comes, spawn_every, spawn_wait) - 1
        move_wait = xp.where(moves, move_every, move_wait) - 1
        move_every = move_every - (rises & (move_every > 1) & (levels % 2 == 1)) * 1
        spawn_every = spawn_every - (rises & (spawn_every > 1)) * 1
        ramp_wait = xp.where(rises, RAMP, ramp_wait - ramps * 1)
        scalars = (x, y, spawn_wait, spawn_every, move_wait, move_every, ramp_wait, levels + rises * 1)
        return (xp.stack(scalars), at, way, gold), taken.sum(0), (met & (gold == 0)).any(0)

    def observe(self, xp: Any, state: Array) -> Array:
        x, y = state[:2]
        at, way, gold = state[8:-1].reshape(3, LANES, -1)
        lanes = xp.arange(1, LANES + 1, device=state.device)[:, None] * WIDE + 1
        shown = (
            (PLAYER, (y * WIDE + x + 1)[None]),
            (TRAIL, lanes + at - way),
            (ENEMY + gold * (GOLD - ENEMY), lanes + at),
        )
        return seen(xp, len(CHANNELS), shown)
