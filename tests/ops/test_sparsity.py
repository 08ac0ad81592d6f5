"""Which weights go, by hand."""

from __future__ import annotations

import pytest
import torch

from agents.ops.sparsity import lamp, masks, ramp, units


def test_sparsity_rises_as_a_cube():
    assert [ramp(0.8, done) for done in (-1.0, 0.0, 0.5, 1.0, 2.0)] == pytest.approx([0.0, 0.0, 0.7, 0.8, 0.8])


def test_a_score_is_the_share_of_what_is_no_smaller():
    weight = torch.tensor([[2.0, -3.0], [1.0, 0.0]])
    assert lamp(weight).flatten().tolist() == pytest.approx([4 / 13, 1.0, 1 / 14, 0.0])
    assert lamp(1000 * weight).allclose(lamp(weight))


def test_the_least_of_all_layers_go_and_the_largest_of_each_stays():
    large, small = torch.tensor([[2.0, -3.0], [1.0, 0.0]]), torch.tensor([[0.01, 0.03]])
    kept = masks([large, small], 0.5)  # scores 4/13, 1, 1/14, 0 and 1/10, 1
    assert kept[0].tolist() == [[True, True], [False, False]]
    assert kept[1].tolist() == [[False, True]]
    assert all(mask.all() for mask in masks([large, small], 0.0))
    assert [int(mask.sum()) for mask in masks([large, small], 2 / 3)] == [1, 1]


def test_units_are_kept_by_what_comes_in_times_what_goes_out():
    incoming = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    outgoing = torch.tensor([[0.1, 3.0, 1.0]])
    assert units(incoming, [outgoing], 2).tolist() == [1, 2]  # 0.5, 3, 2
    assert units(incoming, [outgoing, torch.tensor([[4.0, 0.0, 0.0]])], 2).tolist() == [0, 1]
