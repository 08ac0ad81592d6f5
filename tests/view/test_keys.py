"""What each key changes on the screen, and where; and what a click means."""

from __future__ import annotations

import re

import numpy as np
import pygame
import pytest
from gymnasium import spaces

from agents.view.keys import KEYS, STRIP
from agents.view.player import Player
from agents.view.sidebar import PAD, PANEL, SLIDER
from agents.view.viewer import SIZE, SMALLEST, checkpoint_at
from agents.view.window import run_window
from tests.algos.making import make_ppo
from tests.view.fake_show import FakeShow

WIDTH, HEIGHT = SIZE[0], SIZE[1] + STRIP
LEFT, RIGHT = (0, WIDTH - PANEL), (WIDTH - PANEL, WIDTH)
CHANGES = {  # key -> columns and rows within which something changes, after `right` was pressed six times
    " ": (LEFT, (0, SIZE[1] // 2)),  # no "paused" over the picture any more
    "right": (RIGHT, (130, 200)),  # return and step
    "left": (RIGHT, (130, 200)),
    "home": ((0, WIDTH), (SIZE[1], HEIGHT)),  # the line below
    "end": (RIGHT, (0, 0)),  # nothing: the last step is shown
    "n": (RIGHT, (130, 200)),
    "p": (RIGHT, (130, 200)),
    "+": (LEFT, (0, SIZE[1] // 2)),
    "-": (LEFT, (0, SIZE[1] // 2)),
    "[": (RIGHT, (PAD + SLIDER[0], PAD + SLIDER[0] + SLIDER[1])),  # the line of checkpoints
    "]": (LEFT, (0, SIZE[1] // 2)),  # that checkpoint is torn: words
    "{": (RIGHT, (PAD + SLIDER[0], PAD + SLIDER[0] + SLIDER[1])),
    "}": (LEFT, (0, SIZE[1] // 2)),
    "v": (LEFT, (SIZE[1] - 100, SIZE[1])),  # what the agent sees
    "g": (LEFT, (SIZE[1] - 60, SIZE[1])),
    "m": (LEFT, (0, SIZE[1] // 2)),
    "s": (LEFT, (0, SIZE[1] // 2)),
    "h": (LEFT, (SIZE[1] // 2, SIZE[1])),
}
NAMED = {"right": pygame.K_RIGHT, "left": pygame.K_LEFT, "home": pygame.K_HOME, "end": pygame.K_END}


class Once(Player):
    """Stops a window after each picture."""

    def tick(self, seconds: float) -> None:
        self.running = False


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.quit()
    pygame.display.init()
    yield pygame.display.set_mode((WIDTH, HEIGHT))
    pygame.display.quit()


def after(screen: pygame.Surface, player: Player, key: str) -> np.ndarray:
    """Press a key as a keyboard does, and return what the screen shows then."""
    text = "" if key in NAMED else key
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=NAMED.get(key, pygame.K_a), unicode=text))
    player.running = True
    run_window(screen, player)
    return pygame.surfarray.array3d(screen)


def test_every_key_that_is_listed_is_tried() -> None:
    listed = {word for keys, _ in KEYS for word in keys.split()} - {"click", "q", "space", "←", "→"}
    assert listed <= CHANGES.keys()


@pytest.mark.parametrize("key", CHANGES)
def test_each_key_changes_the_pixels_it_is_for(key: str, screen: pygame.Surface, tmp_path) -> None:
    policy = make_ppo(spaces.Discrete(2), obs_space=spaces.Box(-1, 1, (4,))).policy
    show = FakeShow(20, policy=policy)
    show.folder = tmp_path
    player = Once(show, fps=10)
    for _ in range(6):
        before = after(screen, player, "right")
    now = after(screen, player, key)
    columns, rows = CHANGES[key]
    changed = (before != now).any(axis=2)
    assert changed[slice(*columns), slice(*rows)].any() == (rows != (0, 0))
    if key == "v":
        assert not changed[slice(*RIGHT)].any()
        np.testing.assert_array_equal(after(screen, player, key), before)
    if key == "g":
        warm = (now[:, SIZE[1] - 60 : SIZE[1]] == (243, 189, 106)).all(axis=2)
        assert warm.sum() > 20, "bars below the numbers"
        assert not changed[slice(*RIGHT)].any()
    if key == "m":
        chart = after(screen, player, "right")[slice(*RIGHT), 200:400]
        assert (chart == (243, 189, 106)).all(axis=2).any(axis=0).sum() > 100, "a line down the chart"


def test_quit_ends_it(screen: pygame.Surface) -> None:
    player = Player(FakeShow(), fps=1)
    after(screen, player, "q")
    assert not player.running


def test_a_click_on_the_line_of_checkpoints_takes_the_nearest() -> None:
    show = FakeShow(20)
    player = Player(show, fps=10)
    first, last = WIDTH - PANEL + PAD, WIDTH - PAD
    row = PAD + SLIDER[0] + 10
    assert checkpoint_at((WIDTH, HEIGHT), (first + 2, row), player.states()) == (0, 0)
    assert checkpoint_at((WIDTH, HEIGHT), ((first + last) // 2 + 20, row), player.states()) == (0, 1)
    assert checkpoint_at((WIDTH, HEIGHT), (last - 2, row), player.states()) == (0, 2)
    assert checkpoint_at((WIDTH, HEIGHT), (first + 2, row + 30), player.states()) is None
    small = (SMALLEST[0] // 2, SMALLEST[1] // 2)
    assert checkpoint_at(small, (small[0] - PAD // 2 - 2, row // 2), player.states()) == (0, 2)
    player.click((WIDTH, HEIGHT), (first + 2, row))
    assert (show.checkpoint, show.opened) == (0, [0, 0])
    player.click((WIDTH, HEIGHT), (first + 2, row))
    assert show.opened == [0, 0], "it plays already"


def test_two_beside_one_another_go_step_by_step_and_wait_for_the_longer() -> None:
    short, long = FakeShow(5), FakeShow(9)
    player = Player(short, long, fps=10)
    player.tick(0.65)
    assert [state.step for state in player.states()] == [5, 7]
    assert [re.sub("·.*", "", state.status) for state in player.states()] == ["terminated", ""]
    player.press("left")
    player.press("left")
    player.press("left")
    assert [state.step for state in player.states()] == [4, 4], "the longer comes back first"
    player.press("end")
    assert [state.step for state in player.states()] == [5, 7]
    player.press(" ")
    player.tick(0.5)
    assert player.over
    player.tick(2.0)
    assert (short.opened, long.opened) == ([0, 1], [0, 1])
    player.press("[")
    assert (short.checkpoint, long.checkpoint) == (1, 0), "checkpoints are the right one's"
    assert (short.opened, long.opened) == ([0, 1, 1], [0, 1, 1])
    player.press("p")
    assert {lane.tape.index for lane in player.lanes} == {1}
    size = (2 * SMALLEST[0], SMALLEST[1] + STRIP)
    left_slider = (SMALLEST[0] - PANEL + PAD + 1, PAD + SLIDER[0] + 10)
    assert checkpoint_at(size, left_slider, player.states()) == (0, 0)
    assert checkpoint_at(size, (SMALLEST[0] + left_slider[0], left_slider[1]), player.states()) == (1, 0)
