"""Policies beside one another: one picture for all, and who has ended stands still."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from agents.lab import side_by_side
from agents.lab.side_by_side import HEIGHT, STRIP, frames
from agents.run.play import Moment


def episode(shade: int, length: int, ends: bool = True) -> Iterator[Moment]:
    for step in range(1, length + 1):
        frame = np.full((40, 80, 3), shade + step, np.uint8)
        last = ends and step == length
        yield Moment(step, frame, {}, np.zeros(1), 1.0, float(step), last, False)


def middle(frame: np.ndarray, row: int, column: int) -> int:
    height, width = HEIGHT + STRIP, 2 * HEIGHT
    return int(frame[row * height + STRIP + HEIGHT // 2, column * width + width // 2, 0])


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (5, 2, 3)])
def test_the_grid_is_as_square_as_it_gets(count: int, rows: int, columns: int) -> None:
    first = next(frames([(str(i), episode(10 * i, 2)) for i in range(count)], 3))
    assert first.shape == (rows * (HEIGHT + STRIP), columns * 2 * HEIGHT, 3)
    assert [middle(first, i // columns, i % columns) for i in range(count)] == [10 * i + 1 for i in range(count)]


def test_who_has_ended_stands_still_until_the_last_has(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(frames([("a", episode(0, 4)), ("b", episode(100, 2))], 3))
    assert [middle(frame, 0, 0) for frame in found] == [1, 2, 3, 4, 4, 4, 4]
    assert [middle(frame, 0, 1) for frame in found] == [101, 102, 102, 102, 102, 102, 102]
    monkeypatch.setattr(side_by_side, "STEPS", 3)
    assert len(list(frames([("a", episode(0, 9, ends=False))], 2))) == 3 + 2


def test_names_in_any_letters_are_drawn() -> None:
    first = next(frames([("größer 日本", episode(0, 1))], 1))
    assert (first[:STRIP] < 128).any()
