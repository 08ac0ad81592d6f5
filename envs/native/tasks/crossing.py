"""Crossing: a road of eight lanes to be crossed, by the rules of MinAtar's Freeway.

Source of the rules: Young & Tian (2019), arXiv:1903.03176.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from envs.api import Array
from envs.native.pixels import SIDE, WIDE, Look, StickyGame, heading, pick, rows, seen

LANES = 8
SPEEDS = 5
KINDS = 2 * SPEEDS  # of cars: their speeds, to the left and to the right
COLUMN = 4  # of the walker
KERB = SIDE - 1
PACE = 3  # steps between two of the walker
WALKER, CAR, SLOWNESS = range(
    3
)  # and four channels more: the trail is in SLOWNESS - 1 + what the car's speed is called
CHANNELS = SLOWNESS + SPEEDS
UP, DOWN = 1, 2


@dataclass(frozen=True, slots=True)
class Crossing(StickyGame):
    """Cross the road between the cars, again and again.

    The walker, in column 4, begins at the kerb, row 9, and goes one cell up (action 1) or down (2), or stays (0); a
    move takes three steps, in which no other is made. At row 0 it has crossed: reward 1, it is back at the kerb, and
    all cars get new speeds. In each of the rows 1 to 8 one car drives, to the left or to the right, one cell in every
    second to sixth step, and comes back at the other side. A walker that is hit is back at the kerb. Nothing
    terminates an episode.

    Observations are uint8 `[10, 10, 7]`, 0 or 1; the channels are the walker, cars, and for each of the five speeds,
    the fastest first, the cells behind the cars that have it.

    The state's rows, int64, are the walker's row and the steps until it may move; of each car the column, the steps
    until it moves, and its speed: how many steps it waits between moves, negative to the left; and the last action.
    """

    env_id: ClassVar[str] = "Crossing-v0"
    render_fps: ClassVar[int] = 30
    actions: ClassVar[int] = 3
    uniforms: ClassVar[int] = 1
    step_uniforms: ClassVar[int] = 2
    looks: ClassVar[Mapping[int, Look]] = {
        **{SLOWNESS + i: Look((150 - 22 * i, 150 - 18 * i, 160 - 14 * i), 20 - 3 * i) for i in range(SPEEDS)},
        CAR: Look((214, 84, 68), 28),
        WALKER: Look((250, 240, 210), 20),
    }

    max_episode_steps: int = 2500

    def begin(self, xp: Any, uniform: Array) -> Sequence[Array]:
        speed = _speeds(xp, uniform[0])
        return rows(xp, uniform, KERB, PACE), speed * 0, abs(speed), speed

    def play(self, xp: Any, state: Array, action: Array, uniform: Array) -> tuple[Sequence[Array], Array, Array]:
        y, pace = state[:2]
        at, wait, speed = state[2:-1].reshape(3, LANES, -1)
        step = heading(action, UP, DOWN) * (pace == 0)
        y = (y + step).clip(0, KERB)
        pace = xp.where(step == 0, pace, PACE)
        crossed = y == 0
        y = xp.where(crossed, KERB, y)
        speed = xp.where(crossed, _speeds(xp, uniform[0]), speed)
        wait = xp.where(crossed, abs(speed), wait)

        drives = wait == 0
        following = (at + xp.sign(speed) * drives) % SIDE
        lane = xp.arange(1, LANES + 1, device=state.device)[:, None] == y
        hit = (lane & ((at == COLUMN) | (following == COLUMN))).any(0)
        y = xp.where(hit, KERB, y)
        wait = xp.where(drives, abs(speed), wait - 1)
        return (xp.stack((y, (pace - 1).clip(0, PACE))), following, wait, speed), crossed, y < 0

    def observe(self, xp: Any, state: Array) -> Array:
        at, _, speed = state[2:-1].reshape(3, LANES, -1)
        lanes = xp.arange(1, LANES + 1, device=state.device)[:, None] * WIDE + 1
        behind = (at - xp.sign(speed)) % SIDE
        shown = (
            (WALKER, (state[:1] * WIDE + COLUMN + 1)),
            (CAR, lanes + at),
            (SLOWNESS - 1 + abs(speed), lanes + behind),
        )
        return seen(xp, CHANNELS, shown)


def _speeds(xp: Any, uniform: Array) -> Array:
    """Return speeds `[8, N]`, each as likely, of which each is a decimal digit of one random number in [0, 1)."""
    digits = pick(xp, uniform, KINDS**LANES) // KINDS ** xp.arange(LANES, device=uniform.device)[:, None] % KINDS
    return (digits % SPEEDS + 1) * (digits // SPEEDS * 2 - 1)
