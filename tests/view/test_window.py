"""What the keys and the clock do, without a screen; and where there is none."""

from __future__ import annotations

import os

import numpy as np
import pygame
import pytest
from gymnasium import spaces
from PIL import Image

from agents.run.play import Moment
from agents.view.keys import KEYS, STRIP, STRIP_KEYS
from agents.view.panel import Panel
from agents.view.player import AFTERGLOW, Player
from agents.view.reel import Reel
from agents.view.viewer import SIZE, SMALLEST, paint, render, timeline_share
from agents.view.window import open_screen, run_window
from agents.watch import EXAMPLES
from tests.view.fake_show import FakeShow


def step_of(player: Player) -> int:
    return player.states()[0].step


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
    assert "0.5x speed" in player.states()[0].status


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
    assert player.states()[0].status == "paused"
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
    assert (step_of(player), player.states()[0].status) == (3, said)
    player.tick(AFTERGLOW * 0.9)
    assert step_of(player) == 3
    player.tick(AFTERGLOW * 0.2)
    assert (step_of(player), show.opened) == (1, [0, 1])
    assert player.states()[0].series == [1.0]


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


def test_arrows_go_back_and_forth_through_what_was_seen():
    show = FakeShow(100)
    player = Player(show, fps=10)
    player.tick(0.95)
    assert step_of(player) == 10
    for _ in range(4):
        player.press("left")
    state = player.states()[0]
    assert (state.step, state.ret, int(state.frame[0, 0, 0])) == (6, 12.0, 6)
    assert state.status == "paused · step 6 of 10"
    assert (state.position, len(state.series)) == (5, 10)
    player.press("right")
    assert step_of(player) == 7
    player.press("end")
    player.press("right")
    assert (step_of(player), player.states()[0].status) == (11, "paused")
    player.press("home")
    assert step_of(player) == 1
    player.press(" ")
    player.tick(0.5)
    assert step_of(player) == 6  # what was seen plays again
    player.tick(0.9)
    assert step_of(player) == 15  # and goes on
    assert show.opened == [0]


def test_episodes_before_are_gone_back_to():
    show = FakeShow(5)
    player = Player(show, fps=10)
    player.tick(1.0)
    player.press("n")
    player.press("p")
    assert (player.tape.index, step_of(player), show.opened) == (0, 1, [0, 1])
    player.press("p")
    assert "no earlier episode is kept" in player.states()[0].status
    player.press("end")
    assert player.over
    player.press("right")
    assert (player.tape.index, step_of(player)) == (1, 1)
    player.press("left")
    assert (player.tape.index, step_of(player)) == (0, 5)
    player.press("n")
    assert (player.tape.index, show.opened) == (1, [0, 1])
    player.press("n")
    assert (player.tape.index, show.opened) == (2, [0, 1, 2])
    player.press("p")
    player.press("home")
    player.press("left")
    player.press("left")
    assert player.tape.index == 0
    player.press("home")
    player.press("left")
    assert "nothing before this is kept" in player.states()[0].status


def test_an_episode_that_was_left_is_followed_by_the_next():
    player = Player(FakeShow(50), fps=10)
    player.tick(0.5)
    player.press("n")
    player.press("p")
    player.tick(3.0)
    assert player.tape.index == 1


def test_the_line_is_clicked_on():
    player = Player(FakeShow(101), fps=10)
    player.tick(3.0)
    player.tick(3.0)
    player.seek(0.5)
    assert (step_of(player), player.paused) == (31, True)
    width, height = SIZE[0], SIZE[1] + STRIP
    assert timeline_share((width, height), (0, height - STRIP)) == 0
    assert timeline_share((width, height), (width - 1, height - STRIP + 2)) == 1
    assert timeline_share((width, height), (5, height - STRIP - 20)) is None
    assert timeline_share((440, 295), (439, 295 - STRIP // 2)) == 1  # in a window half as large as the smallest


@pytest.mark.parametrize("out", [5, 5_000])
def test_dragging_out_of_the_window_stays_at_its_edge(out):
    player = Player(FakeShow(101), fps=10)
    player.tick(3.0)
    player.seek(0.5)
    width, height = SIZE[0], SIZE[1] + STRIP
    player.click((width, height), (width + out, height - STRIP))
    assert step_of(player) == 31
    player.click((width, height), (-out, height - STRIP))
    assert step_of(player) == 1
    player.click((width, height), (width + out, 20))


def test_a_switch_of_checkpoint_plays_the_episode_that_is_shown():
    show = FakeShow(3)
    player = Player(show, fps=10)
    player.press("n")
    player.press("p")
    player.press("[")
    assert show.opened == [0, 1, 0]


def test_a_picture_is_saved_as_it_is_shown(tmp_path, capsys):
    show = FakeShow(10)
    show.folder = tmp_path / "replays" / "Fake-v0"
    player = Player(show, fps=10)
    player.press("right")
    player.press("s")
    path = show.folder / "episode-frame2.png"
    assert f"saved {path.name}" in player.states()[0].status
    assert str(path) in capsys.readouterr().out
    with Image.open(path) as image:
        assert image.size == SIZE
        np.testing.assert_array_equal(np.asarray(image), render(player.tape.panel.state(player.tape.moment(1))))
    show.folder = path  # a file, so nothing can be put there
    player.press("s")
    assert "cannot write" in player.states()[0].status


def test_help_and_what_the_agent_sees_come_and_go():
    player = Player(FakeShow(10), fps=10)
    assert (player.states()[0].help, len(player.states()[0].readings)) == (False, 4)
    player.press("h")
    player.press("v")
    assert (player.states()[0].help, len(player.states()[0].readings)) == (True, 0)
    player.press("escape")
    assert (player.states()[0].help, player.running) == (False, True)


def test_every_key_that_is_listed_does_something_and_every_command_lists_it():
    assert {key for key, _ in STRIP_KEYS} <= {key for key, _ in KEYS}
    for key, _ in KEYS:
        for word in key.split():
            assert word in EXAMPLES, word


def test_memory_is_bounded_and_the_oldest_goes_first():
    rng = np.random.default_rng(0)
    reel = Reel(budget=200_000, episodes=3)

    def add() -> None:
        frame = rng.integers(0, 256, (100, 100, 3), np.uint8)  # 30 kB that cannot be compressed
        step = len(reel.tapes[-1].kept) + 1
        reel.add(Moment(step, frame, {}, np.array(0), 0.0, 0.0, False, False, obs=np.zeros(4)))
        assert reel.size <= 200_000

    for index in range(5):
        reel.begin(index, None)
        add()
    assert [tape.index for tape in reel.tapes] == [2, 3, 4]
    for _ in range(5):
        add()
    assert [tape.index for tape in reel.tapes] == [4]
    assert [packed.moment.step for packed in reel.tapes[0].kept] == [1, 2, 3, 4, 5, 6]
    add()
    assert [packed.moment.step for packed in reel.tapes[0].kept] == [2, 3, 4, 5, 6, 7]
    assert reel.size == sum(packed.size for packed in reel.tapes[0].kept)
    reel = Reel(budget=10, episodes=3)
    reel.begin(0, None)
    reel.add(Moment(1, np.zeros((9, 9, 3), np.uint8), {}, np.array(0), 0.0, 0.0, False, False))
    assert len(reel.tapes[0].kept) == 1


def test_the_player_goes_on_where_the_beginning_was_dropped():
    player = Player(FakeShow(100), fps=10, reel=Reel(budget=1000))
    player.tick(2.0)
    assert step_of(player) == 21
    player.press("home")
    state = player.states()[0]
    assert 1 < state.step < 21
    assert state.position == state.step - 1


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
    assert "checkpoint 0" in player.states()[0].status
    player.press("[")
    assert "no earlier checkpoint" in player.states()[0].status
    player.press("]")
    player.press("]")
    assert show.checkpoint == 1
    assert "checkpoint 2 is torn" in player.states()[0].status
    player.tick(0.5)
    player.tick(3.0)
    assert "torn" not in player.states()[0].status


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
    state = Player(FakeShow(), fps=1).states()[0]
    small, whole = pygame.Surface((SMALLEST[0] // 2, SMALLEST[1] // 2)), pygame.Surface(SMALLEST)
    paint(small, state)
    paint(whole, state)
    shrunk = pygame.transform.smoothscale(whole, small.get_size())
    difference = pygame.surfarray.array3d(small).astype(int) - pygame.surfarray.array3d(shrunk)
    assert np.abs(difference).mean() < 1
    assert pygame.surfarray.array3d(small).std() > 5


def test_the_window_leaves_opengl_to_the_environment(monkeypatch):
    """Where SDL shows a window through OpenGL, MuJoCo draws into that window's place."""
    monkeypatch.setenv("SDL_FRAMEBUFFER_ACCELERATION", "")
    monkeypatch.delenv("SDL_FRAMEBUFFER_ACCELERATION")
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.setenv("DISPLAY", ":9999")
    said = []
    monkeypatch.setattr(pygame.display, "init", lambda: said.append(os.environ.get("SDL_FRAMEBUFFER_ACCELERATION")))
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "dummy")
    open_screen("title")
    assert said == ["0"]
