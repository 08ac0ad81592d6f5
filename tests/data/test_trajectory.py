"""Rows come out as they went in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.core.tree import tree_map
from agents.data.storage import Rows

CPU = torch.device("cpu")
N = 3


def tick(rng, **changes):
    """Return one tick of random data."""
    data = {
        "obs": rng.normal(size=(N, 2)).astype(np.float32),
        "action": rng.integers(0, 5, N),
        "reward": rng.normal(size=N).astype(np.float32),
        "terminated": rng.random(N) < 0.3,
    }
    return {**data, **changes}


@pytest.mark.parametrize("as_tensors", [False, True])
def test_rows_give_back_what_went_in_with_its_dtypes(as_tensors):
    rng = np.random.default_rng(0)
    rows = Rows(4, CPU)
    for count in (4, 3, 4):  # the rows are reused
        ticks = [tick(rng) for _ in range(count)]
        for t, data in enumerate(ticks):
            rows.write(t, tree_map(torch.from_numpy, data) if as_tensors else data)
        stored = rows.read(count)
        assert stored.keys() == ticks[0].keys()
        for key in ticks[0]:
            np.testing.assert_array_equal(stored[key], np.stack([data[key] for data in ticks]))
            assert stored[key].numpy().dtype == ticks[0][key].dtype


def test_what_is_stored_is_a_copy():
    rows, data = Rows(1, CPU), tick(np.random.default_rng(0))
    rows.write(0, data)
    before = data["obs"].copy()
    data["obs"][:] = 99
    np.testing.assert_array_equal(rows.read(1)["obs"][0], before)


def test_dict_observations_and_actions_of_any_shape():
    rng = np.random.default_rng(0)
    rows, ticks = Rows(2, CPU), []
    for t in range(2):
        obs = {"image": rng.integers(0, 256, (N, 4, 4, 1), np.uint8), "mode": rng.integers(0, 3, N)}
        ticks.append(tick(rng, obs=obs, action=rng.normal(size=(N, 2)).astype(np.float32)))
        rows.write(t, ticks[-1])
    stored = rows.read(2)
    assert stored["obs"]["image"].dtype == torch.uint8
    assert stored["obs"]["mode"].dtype == torch.int64
    for key in ("image", "mode"):
        np.testing.assert_array_equal(stored["obs"][key], np.stack([data["obs"][key] for data in ticks]))
    assert stored["action"].shape == (2, N, 2)
