"""The picture of `watch`: what the panel says, that nothing overlaps, and that colours are where they should be."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pygame
import pytest
from gymnasium import spaces

from agents.run.play import Moment
from agents.view import canvas
from agents.view.bars import Bar, action_bars
from agents.view.charts import chart_range
from agents.view.keys import KEYS, STRIP
from agents.view.observation import Reading
from agents.view.viewer import SIZE, SMALLEST, ViewState, draw, render
from envs.actions import Hybrid

GREEN = (10, 200, 40)


def moment(outputs, action) -> Moment:
    action = np.asarray(action)
    return Moment(
        1, None, {key: np.asarray(value, np.float32) for key, value in outputs.items()}, action, 1, 1, False, False
    )


def state(**changes) -> ViewState:
    frame = np.zeros((100, 150, 3), np.uint8)
    frame[:] = GREEN
    plain = ViewState(
        frame=frame,
        title="CartPole-v1",
        subtitle="PPO · best · 20,480 steps",
        episode="seed 0 · most likely actions",
        step=12,
        ret=12.0,
        reward=1.0,
        series_title="value estimate",
        series=[1.0, 3.0, 2.0],
        bars_title="action probabilities",
        bars=[Bar("0", "0.25", 0, 0.25), Bar("1", "0.75", 0, 0.75, chosen=True)],
    )
    return dataclasses.replace(plain, **changes)


LONG = state(
    title="ALE/MontezumaRevengeNoFrameskip-v4-with-a-tail",
    subtitle="PPO · 123,456,789,012 steps after a very long training indeed",
    step=1_234_567,
    ret=-123456789.0,
    reward=-0.0000123,
    series=[-1e9, 1e12, -123456.7],
    bars=[Bar(f"{i}: 100", "-123456", 0.1, 0.9, 0.5, chosen=i == 2) for i in range(8)],
    hidden=1_000_000,
    status="checkpoint 123456789 · paused · 16x speed",
    keys=True,
    at=1,
    readings=[Reading(f"the quantity number {i}", "-1.23e-12", i / 60) for i in range(60)],
    pictures=[],
)
MISSION = "use the key to open the door and then get to the goal"
TEXTS = state(readings=[Reading("direction", "3"), Reading("mission", MISSION)])
PICTURES = state(pictures=[np.zeros((84, 84, 3), np.uint8)] * 12, readings=[Reading("gauge", "0.5")] * 20, keys=True)


@pytest.mark.parametrize("size", [SIZE, (SIZE[0], SIZE[1] + STRIP), SMALLEST, (1800, 600), (900, 1400)])
@pytest.mark.parametrize(
    "what",
    [state(), LONG, dataclasses.replace(LONG, keys=False), PICTURES, TEXTS],
    ids=["plain", "long", "video", "pictures", "texts"],
)
def test_no_text_overlaps_another_or_leaves_the_picture(monkeypatch, size, what):
    written: list[tuple[str, pygame.Rect]] = []
    write = canvas.TextPainter.__call__

    def spy(self, surface, text, *args, **kwargs):
        rect = write(self, surface, text, *args, **kwargs)
        written.append((text, rect))
        return rect

    monkeypatch.setattr(canvas.TextPainter, "__call__", spy)
    surface = pygame.Surface(size)
    draw(surface, what)
    assert len(written) > 10
    for text, rect in written:
        assert surface.get_rect().contains(rect), text
    for (text, rect), (other_text, other) in itertools.combinations(written, 2):
        assert not rect.colliderect(other), f"{text!r} overlaps {other_text!r}"


def test_a_text_that_is_seen_last_has_the_room_that_is_left():
    shorter = dataclasses.replace(TEXTS, readings=[*TEXTS.readings[:1], Reading("mission", MISSION[:-4])])
    assert not np.array_equal(render(TEXTS), render(shorter))


@pytest.mark.parametrize("shape", [(100, 150), (400, 100), (84, 84), (1, 1), (2000, 30), (1080, 1920)])
def test_the_frame_is_scaled_to_fit_and_keeps_its_proportions(shape):
    frame = np.zeros((*shape, 3), np.uint8)
    frame[:] = GREEN
    pixels = render(state(frame=frame))
    green = (np.abs(pixels.astype(int) - GREEN) < 12).all(axis=2)
    rows, columns = green.any(axis=1).nonzero()[0], green.any(axis=0).nonzero()[0]
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert columns[-1] < SIZE[0] - 372
    assert rows[0] >= 24
    assert rows[-1] < SIZE[1] - 24
    assert width == pytest.approx(height * shape[1] / shape[0], abs=1.5)
    assert green[rows[0] + 2 : rows[-1] - 1, columns[0] + 2 : columns[-1] - 1].all()
    assert height > 0.8 * 578 or width > 0.8 * 696  # the room there is


def test_drawing_is_a_pure_function_that_survives_pygame_quit():
    """Environments that draw with pygame quit it when they are closed."""
    first = render(LONG)
    pygame.quit()
    pygame.init()
    np.testing.assert_array_equal(render(LONG), first)
    assert first.dtype == np.uint8
    assert first.shape == (SIZE[1], SIZE[0], 3)


def test_bars_are_as_long_as_they_say_and_the_chosen_one_stands_out():
    """The chosen action's 0.75 in the accent colour is three times as long as the other's 0.25."""
    bars = render(state())[400:, SIZE[0] - 372 :].astype(int)
    quiet, accent = (
        (np.abs(bars - color) < 5).all(axis=2).sum(axis=1).max() for color in (canvas.QUIET, canvas.ACCENT)
    )
    assert quiet > 40
    assert accent == pytest.approx(3 * quiet, rel=0.08)


def test_a_rising_series_rises():
    def heights(series) -> np.ndarray:
        panel = render(state(series=series, bars=[]))[:, SIZE[0] - 372 + 36 : SIZE[0] - 40]
        line = (np.abs(panel.astype(int) - canvas.ACCENT) < 25).all(axis=2)
        line[:200] = False  # the figures above
        return np.array([column.nonzero()[0].min() for column in line.T if column.any()])

    rising, falling = heights([0, 1, 2, 3, 4]), heights([4, 3, 2, 1, 0])
    assert rising[0] - rising[-1] > 100
    assert falling[-1] - falling[0] > 100
    assert np.ptp(heights([7.0, 7.0, 7.0])[:-12]) <= 1


@pytest.mark.parametrize("series", [[0.0], [5.0] * 3, list(range(20_000)), [1e-12, 2e-12], [-1e30, 1e30]])
def test_any_series_can_be_drawn(series):
    assert (render(state(series=series)) != render(state(series=[1.0, 2.0, 0.5]))).any()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (-1e-7, "0.00"), (0.0421, "0.042"), (-0.9996, "-1.00"), (-1.234, "-1.23"), (99.994, "99.99"),
     (99.996, "100.0"), (-1234.56, "-1234.6"), (9999.96, "10000"), (999_999, "999999"), (1_234_567, "1.23e6"),
     (-1e12, "-1.00e12"), (float("nan"), "nan"), (float("-inf"), "-inf")],
)  # fmt: skip
def test_numbers_stay_short(value, text):
    assert canvas.number(value) == text


def test_probabilities():
    title, rows, hidden = action_bars(moment({"probabilities": [0.2, 0.8]}, 1), spaces.Discrete(2))
    assert (title, hidden) == ("action probabilities", 0)
    assert [(row.label, row.text, row.chosen) for row in rows] == [("0", "0.20", False), ("1", "0.80", True)]
    assert [row.end for row in rows] == pytest.approx([0.2, 0.8])


def test_q_values_span_the_track_from_worst_to_best():
    title, rows, _ = action_bars(moment({"q_values": [-101, -99, -100]}, 1), spaces.Discrete(3))
    assert title == "Q-values"
    assert [row.end for row in rows] == pytest.approx([0.04, 1.0, 0.52])
    assert [row.text for row in rows] == ["-101.0", "-99.00", "-100.0"]
    _, rows, _ = action_bars(moment({"q_values": [3, 3]}, 0), spaces.Discrete(2))
    assert [row.end for row in rows] == pytest.approx([0.04, 0.04])


def test_of_many_actions_the_best_are_shown_and_the_one_taken_always():
    probabilities = np.linspace(0.01, 0.09, 20)
    _, rows, hidden = action_bars(moment({"probabilities": probabilities}, 3), spaces.Discrete(20))
    assert [row.label for row in rows] == ["3", "13", "14", "15", "16", "17", "18", "19"]
    assert [row.chosen for row in rows] == [True] + [False] * 7
    assert hidden == 12


def test_multi_discrete_and_multi_binary_mark_every_part():
    outputs = {"probabilities": [0.1, 0.9, 0.2, 0.3, 0.5]}
    _, rows, _ = action_bars(moment(outputs, [1, 2]), spaces.MultiDiscrete([2, 3]))
    assert [row.label for row in rows] == ["0: 0", "0: 1", "1: 0", "1: 1", "1: 2"]
    assert [row.chosen for row in rows] == [False, True, False, False, True]
    _, rows, _ = action_bars(moment({"probabilities": [0.4, 0.6, 0.7]}, [0, 1, 1]), spaces.MultiBinary(3))
    assert [row.chosen for row in rows] == [False, True, True]


def test_gaussians_lie_between_the_bounds():
    outputs = {"mean": [0.0, 1.9], "std": [0.5, 0.5]}
    title, rows, _ = action_bars(moment(outputs, [1.0, 5.0]), spaces.Box(-2, 2, (2,)))
    assert title == "action, mean ± std"
    assert rows[0].text == "+0.00 ± 0.50"
    assert (rows[0].start, rows[0].end, rows[0].mark) == pytest.approx((0.375, 0.625, 0.75))
    assert (rows[1].start, rows[1].end, rows[1].mark) == pytest.approx((0.85, 1.0, 1.0))


def test_gaussians_without_bounds_get_room():
    outputs = {"mean": [3.0], "std": [1.0]}
    _, rows, _ = action_bars(moment(outputs, [-4.0]), spaces.Box(-np.inf, np.inf, (1,)))
    assert (rows[0].start, rows[0].end, rows[0].mark) == pytest.approx((0.75, 1.0, 0.0))


def test_without_a_policy_the_action_taken_is_shown():
    title, rows, _ = action_bars(moment({}, 1), spaces.Discrete(3))
    assert title == "action"
    assert [(row.text, row.end, row.chosen) for row in rows] == [("", 0, False), ("", 1, True), ("", 0, False)]
    _, rows, hidden = action_bars(moment({}, np.full(11, 0.5)), spaces.Box(-1, 1, (11,)))
    assert (rows[0].text, rows[0].mark, rows[0].end, len(rows), hidden) == ("+0.50", 0.75, 0, 8, 3)


def test_illegal_actions_are_called_so():
    title, rows, hidden = action_bars(moment({"q_values": [np.nan, -2.0, np.nan, 3.0]}, 3), spaces.Discrete(4))
    assert (title, hidden) == ("Q-values", 0)
    assert [row.text == "illegal" for row in rows] == [True, False, True, False]
    assert [row.end for row in rows] == pytest.approx([0.0, 0.04, 0.0, 1.0])
    assert [row.chosen for row in rows] == [False, False, False, True]


HYBRID = Hybrid(
    {
        "aim": spaces.Box(-2, 2, (2,)),
        "go": spaces.Discrete(3),
        "pick": spaces.MultiDiscrete([2, 2]),
        "fly": spaces.Box(0, 1, (1,)),
    }
)


def test_hybrid_actions_have_rows_of_each_part():
    outputs = {"mean": [0.0, 1.0, 0.5], "std": [0.5, 0.5, 0.1], "probabilities": [0.2, 0.7, 0.1, 0.4, 0.6, 0.8, 0.2]}
    action = np.array([1.0, 0.0, 0, 1, 0, 0.25], np.float32)
    title, rows, hidden = action_bars(moment(outputs, action), HYBRID)
    assert (title, hidden) == ("action", 3), "three rows found no room: two for each of four parts"
    assert [(row.label, row.text, row.chosen) for row in rows] == [
        ("aim: 0", "+0.00 ± 0.50", False),
        ("aim: 1", "+1.00 ± 0.50", False),
        ("go: 0", "0.20", True),
        ("go: 1", "0.70", False),
        ("pick: 0: 1", "0.60", True),
        ("pick: 1: 0", "0.80", True),
        ("fly: 0", "+0.50 ± 0.10", False),
    ]
    names = ("x", "y", "way", "left", "right", "lift")
    _, rows, _ = action_bars(moment({}, action), HYBRID, names)
    assert [row.label for row in rows] == ["x", "y", "way: 0", "way: 1", "left: 1", "right: 0", "lift"]


def test_names_of_actions_stand_beside_their_bars():
    _, rows, _ = action_bars(moment({"probabilities": [0.2, 0.8]}, 1), spaces.Discrete(2), ("left", "right"))
    assert [row.label for row in rows] == ["left", "right"]
    _, rows, _ = action_bars(moment({}, [0.5, 0.1]), spaces.Box(-1, 1, (2,)), ("steer", "gas"))
    assert [row.label for row in rows] == ["steer", "gas"]
    outputs = {"probabilities": [0.1, 0.9, 0.2, 0.3, 0.5]}
    _, rows, _ = action_bars(moment(outputs, [1, 2]), spaces.MultiDiscrete([2, 3]), ("lift", "door"))
    assert [row.label for row in rows] == ["lift: 0", "lift: 1", "door: 0", "door: 1", "door: 2"]


@pytest.mark.parametrize(
    ("series", "low", "high"),
    [
        ([0.0, 10.0], 0, 10),
        ([3.25, 4.1, 3.7], 3.2, 4.2),
        ([5.0] * 4, 4.4, 5.6),
        ([0.0], -1, 1),
        ([0.0] + [80 + i % 3 for i in range(20)], 80, 82),  # the first value would flatten all others
        ([0.0] * 20 + [1.0], 0, 1),  # nothing else to be seen
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 0, 8),
    ],
)
def test_a_charts_bounds_are_round_and_hold_all_but_a_wild_value(series, low, high):
    assert chart_range(series) == pytest.approx((low, high))


def test_a_charts_bounds_change_seldom_as_it_grows():
    series = np.cumsum(np.random.default_rng(1).normal(size=300))
    bounds = [chart_range(series[:n]) for n in range(1, 301)]
    assert sum(one != other for one, other in itertools.pairwise(bounds)) < 40


def test_what_was_seen_later_is_grey_and_the_dot_is_at_this_moment():
    def panel(at):
        return render(state(series=[0.0, 1.0, 2.0, 3.0, 4.0], at=at, bars=[]))[200:450, SIZE[0] - 310 : SIZE[0] - 44]

    def columns(pixels, color):
        return (np.abs(pixels.astype(int) - color) < 12).all(axis=2).any(axis=0).nonzero()[0]

    half, whole = panel(2), panel(4)
    assert columns(half, canvas.ACCENT).max() == pytest.approx(np.mean(columns(whole, canvas.ACCENT)[[0, -1]]), abs=8)
    assert columns(half, canvas.QUIET).min() > columns(half, canvas.ACCENT).max() - 6
    assert not len(columns(whole, canvas.QUIET))


def test_the_line_below_says_how_far_into_the_episode_this_is():
    def share(at):
        surface = pygame.Surface((SIZE[0], SIZE[1] + STRIP))
        draw(surface, state(series=[1.0] * 101, at=at, keys=True))
        row = pygame.surfarray.array3d(surface)[:, SIZE[1] + 2].astype(int)
        return (np.abs(row - canvas.ACCENT) < 5).all(axis=1).mean()

    assert [share(at) for at in (0, 25, 100)] == pytest.approx([0, 0.25, 1], abs=0.01)


def test_pictures_that_the_agent_sees_lie_below_the_frame():
    red = np.zeros((10, 10, 3), np.uint8)
    red[..., 0] = 250
    pixels = render(state(pictures=[red, red])).astype(int)
    seen = (np.abs(pixels - (250, 0, 0)) < 5).all(axis=2)
    assert seen.sum() == 2 * 90 * 90  # nine times as large, without smoothing
    assert (
        seen.any(axis=1).nonzero()[0].min() > (np.abs(pixels - GREEN) < 12).all(axis=2).any(axis=1).nonzero()[0].max()
    )


def test_help_lists_every_key(monkeypatch):
    written = []
    write = canvas.TextPainter.__call__
    monkeypatch.setattr(
        canvas.TextPainter,
        "__call__",
        lambda self, *args, **more: [written.append(args[1]), write(self, *args, **more)][1],
    )
    render(state(help=True))
    assert {word for pair in KEYS for word in pair} <= set(written)


def test_a_number_with_one_value_alone_has_a_bar():
    outputs = {"mean": [0.5, 0.0], "std": [0.5, 0.5]}
    _, rows, _ = action_bars(moment(outputs, [0.0, 0.0]), spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 0.0])))
    assert (rows[1].start, rows[1].end, rows[1].mark) == pytest.approx((0.25, 0.75, 0.5))
