"""Our games play as MinAtar's do: the same pictures, rewards and ends for the same actions and random choices.

MinAtar (GPL) is no dependency: these tests run where it is installed (`pip install --no-deps minatar`), with
LONG_TESTS=1 for longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from envs.native.pixels import StickyGame
from envs.native.tasks.crossing import KINDS, LANES, Crossing
from envs.native.tasks.invaders import Invaders
from envs.native.tasks.submarine import Submarine
from envs.native.tasks.treasure import Treasure
from tests.marks import LONG

MinAtar = pytest.importorskip("minatar").Environment
N = 4
STEPS = 2400 if LONG else 300


class Chosen:
    """Stands in for NumPy's generator in one of MinAtar's games, and answers with what ours is given."""

    def __init__(self) -> None:
        self.numbers: list[float] = []

    def rand(self, *shape: int) -> Any:
        return np.array([self.numbers.pop(0) for _ in range(shape[0])]) if shape else self.numbers.pop(0)

    def randint(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        low, high = (0, low) if high is None else (low, high)
        drawn = [low + int(self.numbers.pop(0) * (high - low)) for _ in range(size or 1)]
        return np.array(drawn) if size else drawn[0]


def cars(uniform: float) -> list[float]:
    """Return what makes MinAtar's generator choose the speeds, then the directions, that ours reads from one number."""
    digits = [int(uniform * KINDS**LANES) // KINDS**i % KINDS for i in range(LANES)]
    return [(digit % 5 + 0.5) / 5 for digit in digits] + [0.25 + 0.5 * (digit >= 5) for digit in digits]


def sea(game: Any, uniform: np.ndarray) -> list[float]:
    """Return the numbers of an enemy, if one comes now, and then of a diver."""
    return [*(uniform[:3] if game.e_spawn_timer == 0 else ()), *(uniform[3:] if game.d_spawn_timer == 0 else ())]


def deep_sea(game: Any, state: np.ndarray, rng: np.random.Generator) -> None:
    """Give both sides the same level, oxygen and divers aboard."""
    level = rng.integers(0, 25)
    game.ramp_index, game.e_spawn_speed, game.move_speed = level, max(20 - level, 1), max(5 - level // 2, 2)
    game.oxygen, game.diver_count = int(rng.integers(50, 200)), int(rng.integers(0, 7))
    state[3:11] = game.oxygen, game.diver_count, 20, game.e_spawn_speed, 30, game.move_speed, level, 0


def fast_lanes(game: Any, state: np.ndarray, rng: np.random.Generator) -> None:
    level = rng.integers(0, 12)
    game.ramp_index, game.spawn_speed, game.move_speed = level, max(10 - level, 1), max(5 - level // 2, 1)
    game.ramp_timer = int(rng.integers(0, 20))
    state[3], state[5], state[6], state[7] = game.spawn_speed, game.move_speed, game.ramp_timer, level


def late_wave(game: Any, state: np.ndarray, rng: np.random.Generator) -> None:
    """Leave some aliens only, of a block that came down and moves quickly."""
    down, gone = rng.integers(0, 5), rng.random((4, 6)) < rng.random()
    gone[rng.integers(0, 4), rng.integers(0, 6)] = False
    game.enemy_move_interval = int(rng.integers(6, 13))
    game.alien_map[:] = 0
    game.alien_map[down : down + 4, 2:8] = ~gone
    state[1], state[2] = (~gone).T.reshape(-1) @ (1 << np.arange(24)), (~gone).sum()
    state[4], state[7] = down, game.enemy_move_interval


def as_it_is(game: Any, state: np.ndarray, rng: np.random.Generator) -> None:
    """Begin as the game does."""


# game -> MinAtar's name, the actions there, the numbers that a step takes, and other beginnings
TWINS: dict[StickyGame, tuple[str, list[int], Callable[..., list[float]], Callable[..., None]]] = {
    Treasure(sticky_action_prob=0.0): ("asterix", [0, 1, 2, 3, 4], lambda game, u: [*u], fast_lanes),
    Crossing(sticky_action_prob=0.0): ("freeway", [0, 2, 4], lambda game, u: cars(u[0]), as_it_is),
    Invaders(sticky_action_prob=0.0): ("space_invaders", [0, 1, 3, 5], lambda game, u: [], late_wave),
    Submarine(sticky_action_prob=0.0): ("seaquest", [0, 1, 2, 3, 4, 5], sea, deep_sea),
}


@pytest.mark.parametrize("ramping", [True, False])
@pytest.mark.parametrize("game", TWINS, ids=str)
def test_our_games_play_as_minatars(game, ramping):
    """Actions at random, but mostly those that end no episode, as tried out on our side."""
    name, actions, numbers, otherwise = TWINS[game]
    if not ramping:
        if not hasattr(game, "difficulty_ramping"):
            pytest.skip("the same at all times")
        game = type(game)(sticky_action_prob=0.0, difficulty_ramping=False)
    rng = np.random.default_rng(0)
    theirs = [MinAtar(name, sticky_action_prob=0.0, difficulty_ramping=ramping) for _ in range(N)]
    starts = np.full((game.uniforms, N), 0.5)
    states = game.init(np, starts)
    ended, rewards, ends = np.ones(N, bool), 0.0, 0
    for _ in range(STEPS):
        for i in np.flatnonzero(ended):
            theirs[i].env.random = Chosen()
            start = rng.random((game.uniforms, 1))
            if len(start):
                theirs[i].env.random.numbers = cars(start[0, 0])
            theirs[i].reset()
            states[:, i : i + 1] = game.init(np, start)
            (otherwise if rng.random() < 0.7 else as_it_is)(theirs[i].env, states[:, i], rng)
        uniform = rng.random((game.step_uniforms, N))
        action = rng.integers(0, len(actions), N)
        if isinstance(game, Crossing):
            action[rng.random(N) < 0.8] = 1
        for _ in range(4 if rng.random() < 0.98 else 0):
            _, _, over = game.step(np, states, action, uniform)
            action = np.where(over, rng.integers(0, len(actions), N), action)
        states, reward, ended = game.step(np, states, action, uniform)
        pictures = game.observe(np, states)
        for i, twin in enumerate(theirs):
            twin.env.random.numbers = numbers(twin.env, uniform[1:, i])
            # MinAtar's aliens that land come in again at the top, where one may be shot in the last step.
            landed = ended[i] and isinstance(game, Invaders) and twin.env.alien_map[-1].any()
            found = twin.act(actions[action[i]])
            assert found == (found[0] if landed else reward[i], ended[i])
            if game.env_id == Submarine.env_id:  # MinAtar counts -1 aboard after 6 have left, against its description
                twin.env.diver_count = max(twin.env.diver_count, 0)
            if not ended[i]:
                np.testing.assert_array_equal(pictures[i], twin.state())
        rewards, ends = rewards + reward.sum(), ends + ended.sum()
    assert rewards > 0
    assert ends > 0 or isinstance(game, Crossing)
