"""Schedules, and intervals that do not drift."""

from __future__ import annotations

import random

import pytest

from agents.core.schedules import crossings, linear, scheduled


@pytest.mark.parametrize("every", [1, 2, 7, 64, 1000])
def test_crossings_under_jumps_of_any_size_equal_counting_one_by_one(every):
    rng = random.Random(every)
    step, counted = 0, 0
    for _ in range(300):
        jump = rng.choice([0, 1, 2, 3, 8, 60, 64, 65, 999, 2500])
        due = crossings(step, step + jump, every)
        assert due == sum(s % every == 0 for s in range(step + 1, step + jump + 1))
        step, counted = step + jump, counted + due
    assert counted == step // every


def test_an_interval_of_0_never_falls_due():
    assert crossings(0, 10_000, 0) == 0


def test_a_number_is_constant():
    assert [scheduled(0.25, progress) for progress in (0.0, 0.5, 1.0)] == [0.25] * 3


@pytest.mark.parametrize(("text", "start"), [("lin_3e-4", 3e-4), ("lin_0.2", 0.2), ("lin_2.", 2.0)])
def test_linear_schedules_fall_to_0_and_stay_there(text, start):
    assert scheduled(text, 0.0) == start
    assert scheduled(text, 0.75) == pytest.approx(start / 4)
    assert scheduled(text, 1.0) == scheduled(text, 1.5) == 0.0


def test_linear_goes_from_start_to_end_and_stays_there():
    assert linear(1.0, 0.1, -1.0) == linear(1.0, 0.1, 0.0) == 1.0
    assert linear(1.0, 0.1, 0.5) == pytest.approx(0.55)
    assert linear(1.0, 0.1, 1.0) == linear(1.0, 0.1, 7.0) == pytest.approx(0.1)
