"""The rules of the four games after MinAtar's, each in a small situation; `test_minatar` compares whole episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.errors import UserError
from envs.make import make
from envs.native.arrays import NumpyArrays
from envs.native.pixels import WIDE, StickyGame
from envs.native.tasks.crossing import CAR, KERB, SLOWNESS, Crossing
from envs.native.tasks.invaders import ALIEN, ALIEN_SHOT, FULL_BLOCK, GOES_LEFT, GOES_RIGHT, Invaders
from envs.native.tasks.submarine import (
    ABOARD,
    DIVER,
    ENEMY_SHOT,
    FISH,
    FRONT,
    GAUGE,
    OXYGEN,
    SHOT,
    SUB,
    Submarine,
)
from envs.native.tasks.submarine import _parts as parts
from envs.native.tasks.treasure import ENEMY, GOLD, TRAIL, Treasure
from envs.native.vec_env import NativeVecEnv

STAY = 0
GAMES = [Treasure, Crossing, Invaders, Submarine]
NEVER = 99  # steps until something that shall not happen
STILL = 5  # steps until an enemy or diver moves, at most


def begin(game: StickyGame, **scalars: int) -> np.ndarray:
    """Return the state `[k, 1]` at a start, some of its first rows (named as `ROWS` says) with other values."""
    state = game.init(np, np.full((game.uniforms, 1), 0.5))
    for name, value in scalars.items():
        state[ROWS[type(game)].index(name)] = value
    return state


def value(game: StickyGame, state: np.ndarray, name: str) -> int:
    return int(state[ROWS[type(game)].index(name), 0])


ROWS: dict[type[StickyGame], list[str]] = {
    Treasure: ["x", "y", "spawn_wait", "spawn_every", "move_wait", "move_every", "ramp_wait", "levels"],
    Crossing: ["y", "pace"],
    Invaders: [
        "x",
        "block",
        "count",
        "left",
        "top",
        "way",
        "move_wait",
        "move_every",
        "alien_reload",
        "reload",
        "alien_shot",
    ],
    Submarine: [
        "x",
        "y",
        "facing",
        "oxygen",
        "aboard",
        "enemy_wait",
        "enemy_every",
        "diver_wait",
        "move_every",
        "levels",
        "reload",
        "up",
    ],
}


def play(game: StickyGame, state: np.ndarray, *actions: int, chance: float = 0.99) -> tuple[np.ndarray, float, bool]:
    """Return the state after some actions, the sum of the rewards and whether it ended, in the last step only."""
    total, over = 0.0, False
    for action in actions:
        assert not over
        uniform = np.full((game.step_uniforms, 1), chance)
        state, reward, (over,) = game.step(np, state, np.array([action]), uniform)
        total += reward[0]
    return state, total, bool(over)


def cells(game: StickyGame, state: np.ndarray, channel: int) -> set[tuple[int, int]]:
    """Return the (column, row) that are lit in a channel."""
    (image,) = game.observe(np, state)
    assert set(np.unique(image)) <= {0, 1}
    return {(int(x), int(y)) for y, x in np.argwhere(image[:, :, channel])}


def lane(state: np.ndarray, row: int, *, at: int, way: int, gold: bool) -> None:
    state[8 + row - 1], state[16 + row - 1], state[24 + row - 1] = at, way, gold


@pytest.mark.parametrize("gold", [True, False])
@pytest.mark.parametrize(("at", "way", "moves_now"), [(6, 1, False), (7, -1, True)])
def test_gold_is_taken_and_an_enemy_ends_whoever_of_the_two_moved(gold, at, way, moves_now):
    game = Treasure(sticky_action_prob=0.0)
    state = begin(game, x=5, y=5, move_wait=0 if moves_now else 5)
    lane(state, 5, at=at, way=way, gold=gold)
    assert cells(game, state, GOLD if gold else ENEMY) == {(at, 5)}
    assert cells(game, state, TRAIL) == {(at - way, 5)}
    after, reward, over = play(game, state, 3)
    assert (reward, over) == (float(gold), not gold)
    if gold:
        assert cells(game, after, GOLD) == set()


def test_what_crossed_the_lanes_is_gone_and_newcomers_come_from_both_sides():
    game = Treasure(sticky_action_prob=0.0)
    state = begin(game, move_wait=0, spawn_wait=NEVER)
    lane(state, 1, at=9, way=1, gold=False)
    after, _, _ = play(game, state, STAY)
    assert cells(game, after, ENEMY) == set()
    for chance, place in ((0.1, (0, 1)), (0.9, (9, 8))):
        after, _, _ = play(game, begin(game, spawn_wait=0), STAY, chance=chance)
        assert cells(game, after, GOLD if chance < 1 / 3 else ENEMY) == {place}
    full = begin(game, spawn_wait=0)
    for row in range(1, 9):
        lane(full, row, at=0, way=1, gold=True)
    after, _, _ = play(game, full, STAY)
    assert len(cells(game, after, GOLD)) == 8


@pytest.mark.parametrize(("ramping", "spawn", "move"), [(True, 9, 4), (False, 10, 5)])
def test_treasure_gets_faster(ramping, spawn, move):
    game = Treasure(sticky_action_prob=0.0, difficulty_ramping=ramping)
    after, _, _ = play(game, begin(game, ramp_wait=-1, levels=1), STAY)
    assert (value(game, after, "spawn_every"), value(game, after, "move_every")) == (spawn, move)


def road(*, y: int, pace: int = 0, at: int = 0, wait: int = NEVER, speed: int = 1) -> np.ndarray:
    """Return a road whose cars stand still in column 0, but for the one in the walker's row or the row above."""
    state = begin(Crossing(), y=y, pace=pace)
    state[2:10], state[10:18], state[18:26] = 0, NEVER, 1
    row = y if 1 <= y <= 8 else 8
    state[2 + row - 1], state[10 + row - 1], state[18 + row - 1] = at, wait, speed
    return state


def test_who_has_crossed_is_rewarded_and_begins_again_among_other_cars():
    game = Crossing(sticky_action_prob=0.0)
    state, reward, over = play(game, road(y=1), 1)
    assert (reward, over, value(game, state, "y")) == (1, False, KERB)
    assert state[18:26, 0].tolist() == [-1] * 6 + [5] * 2  # as 0.99 says
    assert state[10:18, 0].tolist() == [0] * 6 + [4] * 2
    state, reward, _ = play(game, road(y=2), 1)
    assert (reward, value(game, state, "y")) == (0, 1)


def test_the_walker_moves_in_every_third_step():
    game = Crossing(sticky_action_prob=0.0)
    found = []
    state = road(y=KERB, pace=2)
    for _ in range(9):
        state, _, _ = play(game, state, 1)
        found.append(value(game, state, "y"))
    assert found == [9, 9, 8, 8, 8, 7, 7, 7, 6]


@pytest.mark.parametrize(
    ("at", "wait", "speed", "hit"),
    [(4, 5, 2, True), (4, 0, 2, True), (3, 0, 2, True), (5, 0, -2, True), (3, 1, 2, False)],
)
def test_who_is_hit_is_back_at_the_kerb(at, wait, speed, hit):
    game = Crossing(sticky_action_prob=0.0)
    state, reward, over = play(game, road(y=5, at=at, wait=wait, speed=speed), STAY)
    assert (value(game, state, "y"), reward, over) == (KERB if hit else 5, 0, False)


def test_cars_come_back_at_the_other_side_and_their_trail_says_how_fast():
    game = Crossing(sticky_action_prob=0.0)
    state = road(y=9, at=9, wait=0, speed=3)
    moved, _, _ = play(game, state, STAY)
    assert (0, 8) in cells(game, moved, CAR)
    assert cells(game, moved, SLOWNESS + 2) == {(9, 8)}
    still, _, _ = play(game, moved, *[STAY] * 3)
    assert (0, 8) in cells(game, still, CAR)
    assert (1, 8) in cells(game, play(game, still, STAY)[0], CAR)


def test_all_speeds_are_as_likely():
    env = NativeVecEnv(Crossing(), 2000, NumpyArrays())
    env.reset(seed=0)
    speeds, counts = np.unique(env.state[18:26], return_counts=True)
    assert speeds.tolist() == [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]
    assert np.abs(counts / 1600 - 1).max() < 0.1


def test_an_alien_is_shot():
    game = Invaders(sticky_action_prob=0.0)
    state, total, over = play(game, begin(game, move_wait=NEVER, alien_reload=NEVER), 3, *[STAY] * 5)
    assert (total, over, value(game, state, "count")) == (1, False, 23)
    assert cells(game, state, ALIEN) == {(x, y) for x in range(2, 8) for y in range(4)} - {(5, 3)}


def test_shots_follow_one_another_in_five_steps_at_least():
    game = Invaders(sticky_action_prob=0.0)
    state = begin(game, move_wait=NEVER, alien_reload=NEVER, x=0)
    assert [len(cells(game, play(game, state, *[3] * n)[0], 4)) for n in (1, 5, 6, 9, 10, 11)] == [1, 1, 2, 2, 1, 2]


def test_the_aliens_go_sideways_and_at_the_edge_down_and_back():
    game = Invaders(sticky_action_prob=0.0)
    state = begin(game, move_wait=0, alien_reload=NEVER)
    assert cells(game, state, ALIEN) == cells(game, state, GOES_LEFT)
    one, _, _ = play(game, state, STAY)
    assert (value(game, one, "left"), value(game, one, "top"), value(game, one, "move_wait")) == (1, 0, 11)
    edge, _, _ = play(game, begin(game, move_wait=0, left=0), STAY)
    assert [value(game, edge, name) for name in ("left", "top", "way")] == [0, 1, 1]
    assert cells(game, edge, ALIEN) == cells(game, edge, GOES_RIGHT)
    holed, _, _ = play(game, begin(game, move_wait=0, left=0, block=FULL_BLOCK - 15), STAY)  # without its first column
    assert [value(game, holed, name) for name in ("left", "top", "way")] == [-1, 0, -1]


def test_few_aliens_move_quickly():
    game = Invaders(sticky_action_prob=0.0)
    state, _, _ = play(game, begin(game, move_wait=0, count=1, block=1, alien_reload=NEVER), STAY)
    assert value(game, state, "move_wait") == 0


@pytest.mark.parametrize(("ramping", "every"), [(True, 11), (False, 12)])
def test_a_new_block_comes_after_the_last_alien_and_is_faster(ramping, every):
    game = Invaders(sticky_action_prob=0.0, difficulty_ramping=ramping)
    state = begin(game, count=1, block=8, move_wait=NEVER, alien_reload=NEVER, top=3)  # in column 2, row 6
    state[11] = 7 * WIDE + 3
    after, reward, over = play(game, state, STAY)
    assert (reward, over) == (1, False)
    assert [value(game, after, name) for name in ("block", "count", "left", "top", "move_every")] == [
        FULL_BLOCK, 24, 2, 0, every,
    ]  # fmt: skip


@pytest.mark.parametrize(("x", "column"), [(5, 5), (0, 2), (9, 7)])
def test_the_nearest_alien_fires(x, column):
    game = Invaders(sticky_action_prob=0.0)
    state, _, _ = play(game, begin(game, x=x, alien_reload=0, move_wait=NEVER), STAY)
    assert cells(game, state, ALIEN_SHOT) == {(column, 3)}
    later, _, over = play(game, state, *[STAY] * 6)
    assert over == (x == 5)
    assert cells(game, later, ALIEN_SHOT) == {(column, 9)}


@pytest.mark.parametrize(("top", "x", "over"), [(6, 9, True), (5, 0, True), (5, 9, False)])
def test_aliens_that_arrive_end_it(top, x, over):
    game = Invaders(sticky_action_prob=0.0)
    assert play(game, begin(game, top=top, left=0, x=x, move_wait=0, alien_reload=NEVER), STAY)[2] == over


def sea(*, enemies: Any = (), divers: Any = (), shots: Any = (), **scalars: int) -> np.ndarray:
    """Return a sea with things at (column, row, direction), with the further rows of their kind."""
    quiet = {"enemy_wait": NEVER, "diver_wait": NEVER, "y": 5, "up": 0}
    state = begin(Submarine(), **quiet | scalars)
    for block, things in zip(parts(state), (enemies, divers, shots), strict=True):
        for i, (column, row, *rest) in enumerate(things):
            block[: 1 + len(rest), i, 0] = [row * WIDE + column + 1, *rest]
    return state


def test_a_fish_ahead_is_shot_and_one_behind_is_not():
    game = Submarine(sticky_action_prob=0.0)
    state = sea(enemies=[(3, 5, -1, STILL), (7, 5, -1, STILL)], x=5, facing=-1)
    assert cells(game, state, FRONT) == {(5, 5)}
    after, total, over = play(game, state, 5, STAY)
    assert (total, over) == (1, False)
    assert cells(game, after, FISH) == {(7, 5)}
    assert cells(game, after, SHOT) == set()


def test_a_fish_swims_into_a_shot():
    game = Submarine(sticky_action_prob=0.0)
    state = sea(enemies=[(8, 5, -1, 0)], shots=[(6, 5, 1)], x=2)
    after, total, _ = play(game, state, STAY)
    assert (total, cells(game, after, FISH), cells(game, after, SHOT)) == (1, set(), set())


@pytest.mark.parametrize(
    ("enemies", "over"), [([(6, 5, -1, 0)], True), ([(6, 5, -1, 1)], False), ([(6, 4, -1, 0)], False)]
)
def test_who_meets_an_enemy_is_lost(enemies, over):
    assert play(Submarine(sticky_action_prob=0.0), sea(enemies=enemies, x=5), STAY)[2] == over


def test_an_enemy_submarine_fires_and_its_shot_ends_it():
    game = Submarine(sticky_action_prob=0.0)
    state = sea(enemies=[(9, 5, -1, STILL, 2)], x=2)
    assert cells(game, state, SUB) == {(9, 5)}
    after, _, _ = play(game, state, STAY, STAY)
    assert cells(game, after, ENEMY_SHOT) == {(8, 5)}
    assert play(game, after, *[STAY] * 6)[2]
    assert not play(game, after, *[4] * 2, *[STAY] * 12)[2]
    assert cells(game, play(game, after, *[4] * 2, *[STAY] * 6)[0], ENEMY_SHOT) == {(0, 5)}
    assert cells(game, play(game, after, *[4] * 2, *[STAY] * 7)[0], ENEMY_SHOT) == set()


@pytest.mark.parametrize(("row", "way", "come"), [(8, -1, True), (8, 1, False), (3, 1, True)])
def test_no_enemy_comes_where_another_goes_the_other_way(row, way, come):
    game = Submarine(sticky_action_prob=0.0)
    state = sea(enemies=[(4, row, way, STILL)], enemy_wait=0)
    after, _, _ = play(game, state, STAY)  # 0.99 stands for a fish from the right in row 8
    assert cells(game, after, FISH) == {(4, row)} | ({(9, 8)} if come else set())


@pytest.mark.parametrize(("oxygen", "over"), [(1, False), (0, True)])
def test_oxygen_runs_out(oxygen, over):
    assert play(Submarine(sticky_action_prob=0.0), sea(oxygen=oxygen), STAY)[2] == over


def test_oxygen_and_divers_are_seen():
    game = Submarine(sticky_action_prob=0.0)
    state = sea(oxygen=99, aboard=2)
    assert cells(game, state, GAUGE) == {(x, 9) for x in range(4)}
    assert cells(game, state, ABOARD) == {(7, 9), (8, 9)}


@pytest.mark.parametrize(
    ("aboard", "reward", "left", "over"), [(0, 0, None, True), (1, 0, 0, False), (5, 0, 4, False), (6, 5, 0, False)]
)
def test_surfacing_needs_a_diver_and_all_six_are_rewarded(aboard, reward, left, over):
    game = Submarine(sticky_action_prob=0.0)
    after, total, ended = play(game, sea(y=1, aboard=aboard, oxygen=100), 2)
    assert (total, ended) == (reward, over)
    if not over:
        assert (value(game, after, "aboard"), value(game, after, "oxygen")) == (left, OXYGEN)
        assert value(game, after, "enemy_every") == 19
        stays, _, ended = play(game, after, *[STAY] * 3)
        assert not ended
        assert value(game, stays, "aboard") == left


@pytest.mark.parametrize(("aboard", "taken"), [(0, True), (5, True), (6, False)])
def test_a_diver_is_taken_aboard(aboard, taken):
    game = Submarine(sticky_action_prob=0.0)
    after, _, over = play(game, sea(divers=[(6, 5, 1, STILL)], x=5, aboard=aboard), 3)
    assert (value(game, after, "aboard"), over) == (aboard + taken, False)
    assert cells(game, after, DIVER) == (set() if taken else {(6, 5)})


def test_there_is_room_for_all_that_can_be_at_sea():
    """At the highest level an enemy comes in every step, and none is dropped before it has crossed."""
    game = Submarine(sticky_action_prob=0.0)
    state = sea(enemy_wait=0, enemy_every=1, move_every=2, y=0, up=1)
    always = np.array([0.9, 0.1, 0.9, 0.9, 0.5, 0.5])[:, None]  # a fish from the left in row 8
    for step in range(60):
        state, _, _ = game.step(np, state, np.array([STAY]), always)
        assert (parts(state)[0][1] != 0).sum() == min(step + 1, 29)  # the first one leaves in its 30th step
    assert cells(game, state, FISH) == {(x, 8) for x in range(10)}


@pytest.mark.parametrize("game", GAMES)
def test_an_action_sticks_as_often_as_it_should(game):
    env = NativeVecEnv(game(sticky_action_prob=0.3), 4000, NumpyArrays())
    env.reset(seed=0)
    assert (env.state[-1] == 0).all()
    env.step(np.full(4000, 1))
    assert abs((env.state[-1] == 0).mean() - 0.3) < 0.03
    last = env.state[-1].copy()
    env.step(np.full(4000, 2))
    repeated = env.state[-1] == last
    assert abs(repeated.mean() - 0.3) < 0.03
    assert (env.state[-1][~repeated] == 2).all()
    assert game().sticky_action_prob == 0.1


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_probability_out_of_range_is_refused(value):
    with pytest.raises(UserError, match=f"Treasure-v0: sticky_action_prob must be from 0 to 1, got {value}"):
        make("Treasure-v0", 2, env_kwargs={"sticky_action_prob": value})


@pytest.mark.parametrize("game", GAMES)
def test_episodes_are_cut(game):
    env = NativeVecEnv(game(max_episode_steps=3), 2, NumpyArrays())
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.int64)) for _ in range(3)]
    assert [step.truncated.tolist() for step in ends] == [[False] * 2, [False] * 2, [True] * 2]
    assert not any(step.terminated.any() for step in ends)
