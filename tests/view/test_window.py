"""What the keys and the clock do, without a screen; and where there is none."""

from __future__ import annotations

import numpy as np
import pygame
import pytest
from gymnasium import spaces

from agents.run.play import Moment
from agents.view.show import Panel
from agents.view.viewer import SIZE, STRIP
from agents.view.window import AFTERGLOW, SMALLEST, Player, open_screen, paint, run_window
from envs.errors import UserError


class FakeShow:
    """Episodes of `length` steps; checkpoints 0, 1 and 2, the last of which is torn."""

    env_id, source, finished = "Fake-v0", "fake", False

    def __init__(self, length: int = 10, terminated: bool = True) -> None:
        self.length, self.terminated, self.checkpoint = length, terminated, 1
        self.opened: list[int] = []

    def open(self, index: int):
        self.opened.append(index)
        return Panel("Fake-v0", "fake", f"episode {index}", spaces.Discrete(2)), self._moments()

    def _moments(self):
        frame = np.zeros((40, 60, 3), np.uint8)
        for step in range(1, self.length + 1):
            last = step == self.length
            ends = (last and self.terminated, last and not self.terminated)
            outputs = {"value": np.float32(step), "probabilities": np.array([0.5, 0.5])}
            yield Moment(step, frame, outputs, np.array(1), 2.0, 2.0 * step, *ends)

    def switch(self, direction: int) -> str:
        if self.checkpoint + direction == 2:
            raise UserError("checkpoint 2 is torn")
        if self.checkpoint + direction < 0:
            return ""
        self.checkpoint += direction
        return str(self.checkpoint)

    def turns(self, episodes):
        raise NotImplementedError

    def record(self, index, fps):
        raise NotImplementedError

    def close(self) -> None:
        pass


def step_of(player: Player) -> int:
    return player.state().step


def test_time_moves_it_on_at_the_given_speed():
    player = Player(FakeShow(100), fps=20)
    assert step_of(player) == 1
    for _ in range(50):
        player.tick(0.02)
    assert step_of(player) == pytest.approx(21, abs=1)
    player.press("+")
    player.press("+")
    for _ in range(25):
        player.tick(0.02)
    assert step_of(player) == pytest.approx(61, abs=1)
    player.press("-")
    player.press("-")
    player.press("-")
    for _ in range(100):
        player.tick(0.02)
    assert step_of(player) == pytest.approx(81, abs=1)
    assert "0.5x speed" in player.state().status


def test_a_long_pause_of_the_machine_does_not_rush_through_the_episode():
    player = Player(FakeShow(1000), fps=30)
    player.tick(3600.0)
    assert step_of(player) == 31


def test_space_pauses_and_the_arrow_steps():
    player = Player(FakeShow(), fps=10)
    player.press(" ")
    player.tick(10.0)
    assert step_of(player) == 1
    player.press("right")
    player.press(".")
    assert step_of(player) == 3
    assert player.state().status == "paused"
    player.press(" ")
    player.tick(0.11)
    assert step_of(player) == 4


def test_the_arrow_stops_a_running_episode():
    player = Player(FakeShow(), fps=10)
    player.press("right")
    player.tick(5.0)
    assert step_of(player) == 2


@pytest.mark.parametrize(("terminated", "said"), [(True, "terminated"), (False, "time limit reached")])
def test_the_end_stays_for_a_while_and_the_next_episode_follows(terminated, said):
    show = FakeShow(3, terminated)
    player = Player(show, fps=10)
    player.tick(1.0)
    assert (step_of(player), player.state().status) == (3, said)
    player.tick(AFTERGLOW * 0.9)
    assert step_of(player) == 3
    player.tick(AFTERGLOW * 0.2)
    assert (step_of(player), show.opened) == (1, [0, 1])
    assert player.state().series == [1.0]


def test_a_step_beyond_the_end_begins_the_next_episode():
    show = FakeShow(2)
    player = Player(show, fps=10)
    player.press("right")
    player.press("right")
    assert (step_of(player), show.opened) == (1, [0, 1])


def test_it_stops_after_the_episodes_asked_for():
    player = Player(FakeShow(2), fps=10, episodes=2)
    player.press("n")
    assert player.running
    player.tick(1.0)
    player.tick(AFTERGLOW * 1.1)
    assert not player.running


def test_it_stops_once_the_show_has_nothing_more():
    show = FakeShow(length=2)
    player = Player(show, fps=1)
    player.press("n")
    assert player.running
    show.finished = True
    player.press("n")
    assert not player.running
    assert show.opened == [0, 1]


@pytest.mark.parametrize("key", ["q", "escape"])
def test_keys_that_end_it(key):
    player = Player(FakeShow(), fps=10)
    player.press(key)
    assert not player.running


def test_speed_has_bounds():
    player = Player(FakeShow(), fps=10)
    for _ in range(20):
        player.press("=")
    assert player.speed == 16
    for _ in range(20):
        player.press("-")
    assert player.speed == 1 / 8


def test_checkpoints_are_switched_and_what_is_missing_or_torn_is_said():
    show = FakeShow()
    player = Player(show, fps=10)
    player.tick(0.5)
    player.press("[")
    assert (show.checkpoint, show.opened, step_of(player)) == (0, [0, 0], 1)
    assert "checkpoint 0" in player.state().status
    player.press("[")
    assert "no earlier checkpoint" in player.state().status
    player.press("]")
    player.press("]")
    assert show.checkpoint == 1
    assert "checkpoint 2 is torn" in player.state().status
    player.tick(0.5)
    player.tick(3.0)
    assert "torn" not in player.state().status


def test_the_panel_plots_the_value_or_else_the_return():
    panel = Panel("a", "b", "c", spaces.Discrete(2))
    frame = np.zeros((4, 4, 3), np.uint8)
    panel.see(Moment(1, frame, {}, np.array(0), 1.5, 1.5, False, False))
    panel.see(Moment(2, frame, {}, np.array(0), 1.5, 3.0, True, False))
    assert (panel.state().series_title, panel.state().series) == ("return", [1.5, 3.0])
    assert panel.outcome() == "terminated"


@pytest.mark.parametrize("driver", ["dummy", "offscreen"])
def test_no_window_is_opened_on_a_driver_without_a_screen(monkeypatch, driver):
    monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    assert open_screen("title") is None


def test_no_window_is_opened_on_linux_without_a_display(monkeypatch):
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert open_screen("title") is None


def test_a_display_that_does_not_answer_counts_as_none(monkeypatch):
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.setenv("DISPLAY", ":9999")

    def refuse(*args):
        raise pygame.error("cannot open display")

    monkeypatch.setattr(pygame.display, "set_mode", refuse)
    assert open_screen("title") is None


def test_the_loop_hears_keys_and_draws(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.quit()
    pygame.display.init()
    screen = pygame.display.set_mode((SIZE[0], SIZE[1] + STRIP))
    player = Player(FakeShow(), fps=1)
    for key, text in ((pygame.K_SPACE, " "), (pygame.K_RIGHT, ""), (pygame.K_q, "q")):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key, unicode=text))
    run_window(screen, player)
    assert step_of(player) == 2
    player.running = True
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    run_window(screen, player)
    assert not player.running
    pygame.display.quit()


def test_a_small_window_shows_everything_smaller():
    state = Player(FakeShow(), fps=1).state()
    small, whole = pygame.Surface((SMALLEST[0] // 2, SMALLEST[1] // 2)), pygame.Surface(SMALLEST)
    paint(small, state)
    paint(whole, state)
    shrunk = pygame.transform.smoothscale(whole, small.get_size())
    difference = pygame.surfarray.array3d(small).astype(int) - pygame.surfarray.array3d(shrunk)
    assert np.abs(difference).mean() < 1
    assert pygame.surfarray.array3d(small).std() > 5
