"""Observations and recurrent states: one array, or dicts and tuples of them, treated alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.core.tree import restarted, rows_of, to_numpy, to_tensor, tree_map, tree_to_tensor
from agents.data.trajectory import Final

CPU = torch.device("cpu")
META = torch.device("meta")  # a device that is always there and is not the CPU


def test_tree_map_over_one_array_and_over_dicts():
    assert tree_map(lambda a, b: a + b, 1, 2) == 3
    assert tree_map(lambda a, b: a + b, {"x": 1, "y/0": 2}, {"y/0": 20, "x": 10}) == {"x": 11, "y/0": 22}


def test_trees_of_different_shape_are_refused():
    with pytest.raises(KeyError):
        tree_map(lambda a, b: a, {"x": 1}, {"y": 1})


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64, np.bool_])
def test_the_memory_is_shared_both_ways(dtype):
    array = np.zeros(3, dtype)
    tensor = to_tensor(array, CPU)
    tensor[1] = 1
    assert array[1] == 1
    assert np.shares_memory(to_numpy(tensor), array)
    assert to_tensor(tensor, CPU) is tensor
    assert to_numpy(array) is array


def test_other_devices_get_tensors_of_their_own():
    assert to_tensor(np.zeros(3, np.float32), META).device == META
    assert tree_to_tensor({"a": np.zeros(2), "b": torch.zeros(2)}, META)["b"].device == META


def test_tuples_keep_their_type_and_nothing_stays_nothing():
    assert tree_map(lambda a, b: a + b, ((1, 2), ()), ((10, 20), ())) == ((11, 22), ())
    assert tree_map(lambda a: a + 1, {"a": None, "b": (1, None)}) == {"a": None, "b": (2, None)}
    assert tree_map(lambda a: a + 1, Final(1, 2, {"x": 3}, ())) == Final(2, 3, {"x": 4}, ())
    with pytest.raises(ValueError, match="zip"):
        tree_map(lambda a, b: a, (1, 2), (1,))


def test_rows_of_one_array_and_of_dicts():
    assert rows_of(np.zeros((3, 2))) == rows_of({"a": torch.zeros(3), "b": torch.zeros(3, 5)}) == 3


def test_carries_are_zero_where_an_episode_starts_and_kept_elsewhere():
    carry = (torch.ones(2, 3), {"deep": torch.full((2, 2, 2), 2.0)})
    restart = restarted(carry, torch.tensor([True, False]))
    assert [leaf.flatten(1).sum(dim=1).tolist() for leaf in (restart[0], restart[1]["deep"])] == [[0, 3], [0, 8]]
    assert restarted((), torch.tensor([True])) == ()
