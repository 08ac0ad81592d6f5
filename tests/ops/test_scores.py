"""Confusion, F1 and R2, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from agents.ops.scores import confusion, determination, scores


def test_rows_are_what_was_taken() -> None:
    counts = confusion(np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 1]), 4)
    assert counts.tolist() == [[2, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_scores_of_each_action() -> None:
    found = scores(np.array([[2, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]))
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.precision[:3] == pytest.approx([1, 1 / 3, 0])
    assert found.recall[:3] == pytest.approx([2 / 3, 1, 0])
    assert found.f1[:3] == pytest.approx([0.8, 0.5, 0])
    assert np.isnan([found.precision[3], found.recall[3], found.f1[3]]).all()
    assert found.macro_f1 == pytest.approx((0.8 + 0.5 + 0) / 3)


def test_an_action_that_is_foretold_alone_counts_against_the_mean() -> None:
    assert scores(np.array([[3, 1], [0, 0]])).macro_f1 == pytest.approx((6 / 7 + 0) / 2)


def test_r2() -> None:
    true = np.array([[0.0, 10.0], [2.0, 14.0]])
    assert determination(true, true) == 1
    assert determination(true, np.array([[1.0, 12.0], [1.0, 12.0]])) == pytest.approx(0)
    assert determination(true, np.array([[0.0, 10.0], [2.0, 12.0]])) == pytest.approx(1 - 4 / 10)
    assert np.isnan(determination(np.ones((2, 1)), np.ones((2, 1))))
