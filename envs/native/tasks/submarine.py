"""Submarine: enemies, divers and oxygen under water, by the rules of MinAtar's Seaquest.

Source of the rules: Young & Tian (2019), arXiv:1903.03176.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from envs.api import Array
from envs.native.pixels import NOWHERE, SIDE, WIDE, Look, StickyGame, enqueue, heading, outside, pick, rows, seen

DEPTH = SIDE - 2  # the lowest row of the sea
BOARD = 6  # divers aboard, at most
OXYGEN = 200  # steps under water
SPAWN, DIVER_SPAWN = 20, 30  # steps between newcomers, of the enemies at first
MOVE, FASTEST, DIVER_MOVE = 5, 2, 5  # steps that enemies wait between moves, at first and at last, and that divers wait
RELOAD, ENEMY_RELOAD = 5, 10  # steps from one shot to the next
SUB_SHARE = 1 / 3
# More cannot be at sea: an enemy crosses it in 30 steps, once one may come in each of these, and a diver in 60; and of
# shots more cannot be in flight, of an enemy's own more than one.
ENEMIES, DIVERS, SHOTS = 30, 2, 2
SCALARS, KEPT = 12, (6, 3, 2)  # rows of the state; for each enemy, diver and shot
FRONT, BACK, SHOT, TRAIL, ENEMY_SHOT, FISH, SUB, GAUGE, ABOARD, DIVER = CHANNELS = range(10)
LEFT, UP, RIGHT, DOWN, FIRE = range(1, 6)


@dataclass(frozen=True, slots=True)
class Submarine(StickyGame):
    """Shoot enemies, take divers aboard and bring them up before the oxygen is used up.

    The submarine, two cells of which the front one counts, goes one cell left (action 1), up (2), right (3) or down
    (4) within rows 0 to 8, fires forward (5), once in 5 steps at most, or stays (0). Enemies come from the sides into
    rows 1 to 8, one every 20 steps, a submarine with probability 1/3, else a fish; none where another goes the other
    way in that row. They move every 6 steps; submarines fire 10 steps after they came and every 11 steps then. Shots
    fly one cell a step. An enemy that is shot is gone, reward 1. Who meets an enemy or its shot is lost: terminated.

    A diver comes every 30 steps and moves every 6. Whom the submarine meets is taken aboard, 6 at most. Under water
    there is oxygen for 200 steps; who begins a step with none is lost. Row 0 is the surface: there the submarine gets
    oxygen and one diver leaves, or, when all 6 are aboard, all do, reward 1 for each tenth of the oxygen that was left.
    Who comes up with no diver aboard is lost. Each time it comes up enemies come one step sooner, down to every step,
    and every other time they wait one step less between moves, down to 2.

    MinAtar's own code, against its description, counts -1 aboard after all 6 have left; here it is 0.

    Observations are uint8 `[10, 10, 10]`, 0 or 1; the channels are the submarine's front and back, its shots, trails
    (the cell behind each enemy and diver), the enemies' shots, fish, enemy submarines, in row 9 a bar for the oxygen
    from the left and one for the divers aboard from the right, its last cell free, and divers.

    The state's rows, int64, are the submarine's column, row, and direction (-1 or 1), the oxygen, the divers aboard,
    the steps until the next enemy and between enemies, until the next diver, that enemies wait between moves, how
    often it was harder, the steps until it may fire, and whether it is at the surface; places (see
    `envs.native.pixels`), directions and waits of what is in the sea: first the 30 enemies that came last, which also
    have the steps until they fire plus 1, 0 for fish, and the place and the direction of their shot; then 2 divers, and
    the submarine's 2 shots, without a wait; and the last action.

    Attributes:
        difficulty_ramping: whether it gets harder.
    """

    env_id: ClassVar[str] = "Submarine-v0"
    render_fps: ClassVar[int] = 15
    actions: ClassVar[int] = 6
    step_uniforms: ClassVar[int] = 6
    looks: ClassVar[Mapping[int, Look]] = {
        TRAIL: Look((62, 72, 100), 12),
        GAUGE: Look((110, 190, 220), 20),
        ABOARD: Look((240, 200, 80), 20),
        DIVER: Look((240, 200, 80), 20),
        FISH: Look((110, 190, 120), 24),
        SUB: Look((214, 84, 68), 28),
        BACK: Look((56, 110, 160), 24),
        FRONT: Look((86, 164, 232), 28),
        ENEMY_SHOT: Look((240, 130, 110), 10),
        SHOT: Look((250, 240, 210), 10),
    }

    difficulty_ramping: bool = True

    def begin(self, xp: Any, uniform: Array) -> Sequence[Array]:
        scalars = rows(xp, uniform, SIDE // 2, 0, -1, OXYGEN, 0, SPAWN, SPAWN, DIVER_SPAWN, MOVE, 0, 0, 1)
        sizes = (kept * length for kept, length in zip(KEPT, (ENEMIES, DIVERS, SHOTS), strict=True))
        return scalars, xp.concatenate([rows(xp, uniform, 0)] * sum(sizes))

    def play(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Sequence[Array], Array, Array]:
        x, y, facing, oxygen, aboard, enemy_wait, enemy_every, diver_wait, move_every, levels, reload, up = state[
            :SCALARS
        ]
        enemies, divers, shots = _parts(state)

        comes, side = _newcomer(xp, uniform[0], uniform[2])
        place, way = enemies[:2]
        barred = ((place // WIDE == comes // WIDE) & (way == -side)).any(0)
        loaded = (uniform[1] < SUB_SHARE) * (ENEMY_RELOAD + 1)
        new = xp.stack((comes, side, move_every, loaded, loaded * 0, loaded * 0))
        enemies = enqueue(xp, (enemy_wait == 0) & ~barred, new, enemies)
        enemy_wait = xp.where(enemy_wait == 0, enemy_every, enemy_wait)
        new = xp.stack((*_newcomer(xp, uniform[3], uniform[4]), rows(xp, x, DIVER_MOVE)[0]))
        divers = enqueue(xp, diver_wait == 0, new, divers)
        diver_wait = xp.where(diver_wait == 0, DIVER_SPAWN, diver_wait)

        fires = (action == FIRE) & (reload == 0)
        shots = enqueue(xp, fires, xp.stack((_at(x, y), facing)), shots)
        reload = xp.where(fires, RELOAD, reload)
        turn = heading(action, LEFT, RIGHT)
        x = (x + turn).clip(0, SIDE - 1)
        y = (y + heading(action, UP, DOWN)).clip(0, DEPTH)
        facing = xp.where(turn == 0, facing, turn)
        here = _at(x, y)

        there = shots[0] + shots[1]
        shots = xp.stack((there, shots[1])) * ~outside(there)
        place, way, wait, loaded, enemy_shot, shot_way = enemies
        struck, shots = _hits(xp, place, wait + (MOVE + 1) * (loaded > 0), shots)
        place, way, wait, loaded = enemies[:4] * ~struck
        aboard, divers = _board(xp, divers, aboard, here)

        lost = (place == here).any(0)
        moves = wait == 0
        place = place + way * moves
        wait = xp.where(moves, move_every, wait - 1)
        lost = lost | (place == here).any(0)
        run_into, shots = _hits(xp, place, wait, shots)
        enemy_fires = loaded == 1
        enemy_shot = xp.where(enemy_fires, place, enemy_shot)
        shot_way = xp.where(enemy_fires, way, shot_way)
        loaded = xp.where(enemy_fires, ENEMY_RELOAD + 1, loaded - (loaded > 1) * 1)
        lost = lost | (enemy_shot == here).any(0)
        enemy_shot = enemy_shot + shot_way
        lost = lost | (enemy_shot == here).any(0)
        flown = outside(enemy_shot)
        enemies = xp.concatenate(
            (
                xp.stack((place, way, wait, loaded)) * ~(run_into | outside(place)),
                xp.stack((enemy_shot, shot_way)) * ~flown,
            )
        )

        surfaces = (y == 0) & (up == 0)
        lost = lost | (oxygen <= 0) | (surfaces & (aboard == 0))
        full = surfaces & (aboard == BOARD)
        reward = (struck | run_into).sum(0) + full * _bar(oxygen)
        aboard = xp.where(full, 0, aboard - surfaces * 1)
        oxygen = xp.where(surfaces, OXYGEN, oxygen - (y > 0) * 1)
        harder = surfaces & self.difficulty_ramping & ((enemy_every > 1) | (move_every > FASTEST))
        move_every = move_every - (harder & (move_every > FASTEST) & (levels % 2 == 1)) * 1
        enemy_every = enemy_every - (harder & (enemy_every > 1)) * 1
        enemy_wait, diver_wait, reload = enemy_wait - 1, diver_wait - 1, (reload - 1).clip(0, RELOAD)
        scalars = (x, y, facing, oxygen, aboard, enemy_wait, enemy_every, diver_wait, move_every, levels + harder * 1)
        scalars = xp.stack((*scalars, reload, (y == 0) * 1))
        return (scalars, *(part.reshape(-1, len(x)) for part in (enemies, divers, shots))), reward, lost

    def observe(self, xp: Any, state: Array) -> Array:
        x, y, facing, oxygen, aboard = state[:5]
        here = _at(x, y)
        enemies, divers, shots = _parts(state)
        shown = (
            (FRONT, here[None]),
            (BACK, (here - facing)[None]),
            (SHOT, shots[0]),
            (TRAIL, enemies[0] - enemies[1]),
            (TRAIL, divers[0] - divers[1]),
            (ENEMY_SHOT, enemies[4]),
            (xp.where(enemies[3] > 0, SUB, FISH), enemies[0]),
            (DIVER, divers[0]),
        )
        image = seen(xp, len(CHANNELS), shown)
        columns = xp.arange(SIDE, device=state.device)
        image[:, -1, :, GAUGE] = columns < _bar(oxygen)[:, None]
        image[:, -1, :, ABOARD] = (columns < SIDE - 1) & (columns >= SIDE - 1 - aboard[:, None])
        return image


def _parts(state: Array) -> tuple[Array, Array, Array]:
    """Return what is kept of the enemies `[6, 30, N]`, the divers `[3, 2, N]` and the submarine's shots `[2, 2, N]`."""
    divers = SCALARS + ENEMIES * KEPT[0]
    shots = divers + DIVERS * KEPT[1]
    bounds = (SCALARS, divers, ENEMIES), (divers, shots, DIVERS), (shots, -1, SHOTS)
    enemies, divers, shots = (state[start:stop].reshape(-1, length, state.shape[1]) for start, stop, length in bounds)
    return enemies, divers, shots


def _at(x: Array, y: Array) -> Array:
    """Return the place of a cell."""
    return y * WIDE + x + 1


def _bar(oxygen: Array) -> Array:
    """Return how many cells the bar for the oxygen has."""
    return oxygen * SIDE // OXYGEN


def _newcomer(xp: Any, side: Array, row: Array) -> tuple[Array, Array]:
    """Return place and direction of what comes from a side into a row, for two random numbers in [0, 1)."""
    way = 1 - 2 * pick(xp, side, 2)
    return _at((1 - way) * (SIDE - 1) // 2, 1 + pick(xp, row, DEPTH)), way


def _hits(xp: Any, place: Array, order: Array, shots: Array) -> tuple[Array, Array]:
    """Return which enemies, bool `[30, N]`, are at the place of a shot, and the shots that are left.

    Of several at one place the one with the least `order` is hit.
    """
    there = (place == shots[0][:, None]) & (shots[0][:, None] != NOWHERE)
    order = xp.where(there, order, ENEMIES)
    hit = there & (order == xp.amin(order, 1)[:, None])
    return hit.any(0), shots * ~hit.any(1)


def _board(xp: Any, divers: Array, aboard: Array, here: Array) -> tuple[Array, Array]:
    """Return how many divers are aboard, and those in the sea after their move, the one who came last going first."""
    left = []
    for i in range(DIVERS):
        place, way, wait = divers[:, i]
        moves = wait == 0
        there = place + way * moves
        taken = ((place == here) | (there == here)) & (aboard < BOARD)
        aboard = aboard + taken * 1
        left.append(xp.stack((there, way, xp.where(moves, DIVER_MOVE, wait - 1))) * ~(taken | outside(there)))
    return aboard, xp.stack(left, 1)
