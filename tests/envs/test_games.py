"""Our own games: their rules, told in pictures, and that the corridor needs a memory."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.errors import UserError
from envs.make import make
from envs.native.arrays import NumpyArrays
from envs.native.painters import PicturePainter
from envs.native.tasks.bricks import BALL, BRICK, FULL_WALL, PADDLE, TRAIL, Bricks
from envs.native.tasks.corridor import Corridor
from envs.native.vec_env import NativeVecEnv
from envs.single import reward_threshold

LEFT, STAY, RIGHT = 0, 1, 2
GAMES = [f"native/{name}-v0" for name in ("Treasure", "Crossing", "Submarine", "Invaders")]
NONE = np.empty((0, 1))  # of the random numbers that a step of these games takes


def wall(*cells: tuple[int, int]) -> int:
    """Return the wall with bricks at these (column, row)."""
    return sum(1 << (10 * y + x) for x, y in cells)


def bricks(*, paddle: int = 0, ball: tuple[int, int], across: int = 1, down: int = 1, bricks: int = FULL_WALL) -> Any:
    """Return one state of Bricks."""
    return np.array([paddle, *ball, across, down, *ball, bricks])[:, None]


def after(state: Any, *actions: int) -> tuple[list[int], list[int], int, float, bool]:
    """Return paddle and ball, its direction, the wall, the sum of the rewards, and whether the ball is lost."""
    total, lost = 0.0, False
    for action in actions:
        assert not lost
        state, reward, (lost,) = Bricks().step(np, state, np.array([action]), NONE)
        total += reward[0]
    paddle, x, y, across, down, _, _, left = state[:, 0].tolist()
    return [paddle, x, y], [across, down], left, total, bool(lost)


@pytest.mark.parametrize(
    ("start", "action", "places", "direction"),
    [
        ({"ball": (3, 5)}, STAY, [0, 4, 6], [1, 1]),
        ({"ball": (3, 5), "across": -1, "down": -1, "bricks": 0}, STAY, [0, 2, 4], [-1, -1]),
        ({"ball": (0, 5), "across": -1}, STAY, [0, 1, 6], [1, 1]),
        ({"ball": (9, 5)}, STAY, [0, 8, 6], [-1, 1]),
        ({"ball": (5, 0), "down": -1, "bricks": 0}, STAY, [0, 6, 1], [1, 1]),
        ({"ball": (9, 0), "down": -1, "bricks": 0}, STAY, [0, 8, 1], [-1, 1]),
        ({"ball": (3, 5), "paddle": 0}, LEFT, [0, 4, 6], [1, 1]),
        ({"ball": (3, 5), "paddle": 7}, RIGHT, [8, 4, 6], [1, 1]),
        ({"ball": (3, 5), "paddle": 8}, RIGHT, [8, 4, 6], [1, 1]),
        ({"ball": (3, 8), "paddle": 4}, STAY, [4, 4, 8], [-1, -1]),  # off the paddle's left cell
        ({"ball": (3, 8), "paddle": 3}, STAY, [3, 4, 8], [1, -1]),  # and its right one
        ({"ball": (3, 8), "paddle": 2}, RIGHT, [3, 4, 8], [1, -1]),  # the paddle moves first
        ({"ball": (5, 8), "paddle": 4, "across": -1}, STAY, [4, 4, 8], [-1, -1]),
    ],
)
def test_how_the_ball_flies(start, action, places, direction):
    got_places, got_direction, left, reward, lost = after(bricks(**start), action)
    assert (got_places, got_direction, reward, lost) == (places, direction, 0, False)
    assert left == start.get("bricks", FULL_WALL)


@pytest.mark.parametrize(
    ("ball", "across", "paddle"), [((3, 8), 1, 5), ((3, 8), 1, 2), ((9, 8), 1, 6), ((0, 8), -1, 2)]
)
def test_a_ball_beside_the_paddle_is_lost(ball, across, paddle):
    (_, _, row), _, _, reward, lost = after(bricks(ball=ball, across=across, paddle=paddle), STAY)
    assert (row, reward, lost) == (9, 0, True)


def test_a_brick_breaks_and_turns_the_ball_back():
    start = bricks(ball=(3, 4), down=-1)
    places, direction, left, reward, lost = after(start, STAY)
    assert (places, direction, reward, lost) == ([0, 4, 4], [1, 1], 1, False)
    assert left == FULL_WALL ^ wall((4, 3))
    above = bricks(ball=(3, 0), bricks=wall((4, 1), (9, 1)))
    assert after(above, STAY) == ([0, 4, 0], [1, -1], wall((9, 1)), 1, False)


def test_in_a_corner_of_bricks_the_ball_turns_back_sideways_too():
    start = bricks(ball=(3, 3), down=-1, bricks=wall((4, 2), (4, 3)))
    assert after(start, STAY) == ([0, 3, 3], [-1, 1], wall((4, 3)), 1, False)


def test_a_new_wall_stands_when_the_last_ball_is_caught():
    cleared = bricks(ball=(3, 4), down=-1, bricks=wall((4, 3)), paddle=8)
    _, _, left, reward, _ = after(cleared, STAY)
    assert (left, reward) == (0, 1)
    assert after(cleared, *[STAY] * 5)[2] == 0
    assert after(cleared, *[STAY] * 6)[2:] == (FULL_WALL, 1, False)


def test_an_episode_of_bricks_begins_anywhere_above_the_middle():
    starts = NativeVecEnv(Bricks(), 500, NumpyArrays())
    starts.reset(seed=0)
    paddle, x, y, across, down, _, _, left = starts.state
    assert (set(paddle), set(x), set(y), set(across), set(down)) == ({4}, set(range(10)), {4}, {-1, 1}, {1})
    assert (left == FULL_WALL).all()


def test_what_is_seen_of_bricks():
    state, _, _ = Bricks().step(np, bricks(ball=(3, 5), bricks=wall((0, 1), (9, 3)), paddle=5), np.array([STAY]), NONE)
    (image,) = Bricks().observe(np, state)
    assert set(np.unique(image)) == {0, 1}
    seen = {channel: {(x, y) for y, x in np.argwhere(image[:, :, channel])} for channel in range(4)}
    assert seen == {PADDLE: {(5, 9), (6, 9)}, BALL: {(4, 6)}, TRAIL: {(3, 5)}, BRICK: {(0, 1), (9, 3)}}


def follow(state: np.ndarray) -> np.ndarray:
    """Return the actions that keep the ball in play for ever: stay beneath where it will be."""
    paddle, x, _, across, *_ = state
    target = 9 - abs(9 - abs(x + across))
    return np.sign((target - (across > 0)).clip(0, 8) - paddle) + 1


def test_bricks_can_be_solved_and_not_by_chance():
    env = NativeVecEnv(Bricks(), 50, NumpyArrays())
    means = {}
    for name in ("follow", "random"):
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        total, over = np.zeros(50), np.zeros(50, bool)
        for _ in range(500):
            step = env.step(follow(env.state) if name == "follow" else rng.integers(0, 3, 50))
            total += step.reward * ~over
            over |= step.terminated
        means[name] = total.mean()
        assert over.any() == (name == "random")
    threshold = reward_threshold("native/Bricks-v0")
    assert threshold is not None
    assert means["random"] < 1
    assert threshold < means["follow"]


@pytest.mark.parametrize("length", [1, 4, 10])
def test_the_corridor(length):
    env = make("Corridor-v0", 2, env_kwargs={"length": length})
    sides = set()
    for seed in range(8):
        cue = env.reset(seed=seed)[:, 0]
        assert set(np.abs(cue)) == {1}
        sides |= set(cue)
        rng = np.random.default_rng(seed)
        for walked in range(length):  # actions do nothing here
            step = env.step(rng.integers(0, 2, 2))
            assert not (step.terminated | step.truncated).any()
            assert step.reward.tolist() == [0, 0]
            assert step.obs.tolist() == [[0, float(walked + 1 == length)]] * 2
        turn = (cue > 0).astype(np.int64) ^ [0, 1]  # the first turns to the cue's side, the second to the other
        step = env.step(turn)
        assert step.reward.tolist() == [1, 0]
        assert step.terminated.all()
    assert sides == {-1, 1}


def test_without_memory_the_corridor_is_a_coin_to_toss():
    """Two mazes that differ in the cue alone look the same from the first step on, and want opposite turns."""
    task = Corridor(length=3)
    state = task.init(np, np.array([[0.2, 0.8]]))
    np.testing.assert_array_equal(state[1], [-1, 1])
    for _ in range(task.length):
        state, _, _ = task.step(np, state, np.zeros(2, np.int64), NONE)
        one, other = task.observe(np, state)
        np.testing.assert_array_equal(one, other)
    for action in (0, 1):
        _, reward, ended = task.step(np, state, np.full(2, action), NONE)
        assert ended.all()
        assert reward.sum() == 1
    sides = NativeVecEnv(task, 2000, NumpyArrays()).reset(seed=0)[:, 0]
    assert abs(sides.mean()) < 0.1


@pytest.mark.parametrize("length", [0, -3, 10_000])
@pytest.mark.parametrize("build", [make, gymnasium.make])
def test_a_corridor_that_is_too_short_or_too_long_is_refused(length, build):
    arguments = {"length": length} if build is gymnasium.make else {"env_kwargs": {"length": length}}
    with pytest.raises(UserError, match=f"Corridor-v0: length must be from 1 to 9999, got {length}"):
        build("native/Corridor-v0", **arguments)


@pytest.mark.parametrize("task_id", ["native/Bricks-v0", "native/Corridor-v0", *GAMES])
def test_the_picture_shows_what_happens(task_id):
    env = gymnasium.make(task_id, render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert all(side % 2 == 0 for side in first.shape[:2])  # as videos need
    for _ in range(4):
        env.step(1)
    assert (env.render() != first).any()
    vec = make(task_id, 3)
    vec.reset(seed=0)
    assert vec.render(2).shape == first.shape
    env.close()
    vec.close()


@pytest.mark.parametrize("length", [1, 999])
def test_the_walker_turns_where_it_is_told_in_corridors_of_any_length(length):
    task = Corridor(length=length)
    state = np.array([length, 1.0, 0.0])[:, None]
    painter = task.painter("rgb_array")
    pictures = [painter.paint(task.step(np, state, np.array([turn]), NONE)[0][:, 0]) for turn in (0, 1)]
    before = painter.paint(state[:, 0])
    changed = [np.argwhere((picture != before).any(axis=2))[:, 0] for picture in pictures]
    assert changed[0].min() < before.shape[0] / 3
    assert changed[1].max() > before.shape[0] * 2 / 3


def test_a_window_shows_the_picture(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    env = gymnasium.make("native/Bricks-v0", render_mode="human")
    env.reset(seed=0)
    env.step(1)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    painter = Bricks().painter("rgb_array")
    assert isinstance(painter, PicturePainter)
    np.testing.assert_array_equal(shown, painter.paint(env.unwrapped._state[:, 0]))
    env.close()
    assert pygame.display.get_surface() is None
