"""Linear probes against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from agents.ops.probes import SHRINKAGE, probed, to_go


def numbers(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def test_what_is_linear_is_told_and_what_is_not_related_is_not() -> None:
    x, held = 3 + 10 * numbers(400, 3), 3 + 10 * numbers(200, 3, 1)
    weights = numbers(3, 2, 2)
    assert probed(x, 5 + x @ weights, held, 5 + held @ weights) == pytest.approx(1, abs=1e-3)
    assert probed(x, numbers(400, 2, 3), held, numbers(200, 2, 4)) == pytest.approx(0, abs=0.05)
    assert probed(x, x[:, :1], held, -held[:, :1]) < -2


def test_the_score_is_that_of_the_ridges_closed_form() -> None:
    x, y, held, truth = numbers(30, 2), numbers(30, 1, 1), numbers(9, 2, 2), numbers(9, 1, 3)
    mean, deviation = x.mean(0), x.std(0)
    scaled = (x - mean) / deviation
    weights = np.linalg.inv(scaled.T @ scaled + 30 * SHRINKAGE * np.eye(2)) @ scaled.T @ (y - y.mean())
    told = y.mean() + (held - mean) / deviation @ weights
    expected = 1 - ((truth - told) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert probed(x, y, held, truth) == pytest.approx(float(expected), abs=1e-12)


def test_more_features_than_rows_have_the_same_solution() -> None:
    x, y, held, truth = numbers(12, 5), numbers(12, 1, 1), numbers(9, 5, 2), numbers(9, 1, 3)
    wide, held_wide = np.tile(x, 4), np.tile(held, 4)  # 20 features: every weight is shared among four
    narrow = probed(2 * x, y, 2 * held, truth)
    scaled = (wide - wide.mean(0)) / wide.std(0)
    weights = np.linalg.inv(scaled.T @ scaled + 12 * SHRINKAGE * np.eye(20)) @ scaled.T @ (y - y.mean())
    told = y.mean() + (held_wide - wide.mean(0)) / wide.std(0) @ weights
    expected = 1 - ((truth - told) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert probed(wide, y, held_wide, truth) == pytest.approx(float(expected), abs=1e-9)
    assert narrow != pytest.approx(float(expected), abs=1e-6)


def test_columns_that_never_change_are_left_out() -> None:
    x, held = numbers(40, 2), numbers(20, 2, 1)
    y, truth = np.c_[x[:, 0], np.ones(40)], np.c_[held[:, 0], np.zeros(20)]
    assert probed(np.c_[x, np.ones(40)], y, np.c_[held, np.ones(20)], truth) == pytest.approx(1, abs=1e-3)
    assert np.isnan(probed(x, y[:, 1:], held, truth[:, 1:]))


def test_rewards_to_come_end_with_the_episode() -> None:
    reward = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert to_go(reward, np.array([3, 2]), 0.5).tolist() == [3, 4, 4, 16, 16]
