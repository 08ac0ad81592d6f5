"""Observations are one array or a dict of them; both are treated alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.core.tree import place, to_numpy, to_tensor, tree_map, tree_to_tensor

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


def test_buffers_on_the_cpu_take_numpy_and_others_take_tensors():
    tree = {"a": np.zeros(2), "b": torch.zeros(2)}
    assert all(isinstance(leaf, np.ndarray) for leaf in place(tree, CPU).values())
    assert all(leaf.device == META for leaf in place(tree, META).values())
    assert isinstance(place(torch.zeros(2), CPU), np.ndarray)
