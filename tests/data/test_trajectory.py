"""Trajectories: rows come out as they went in, and every transition has its true successor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.core.tree import tree_map
from agents.data.storage import Rows
from agents.data.trajectory import Final, Trajectory

CPU = torch.device("cpu")
T, N = 6, 3


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


def trajectory(final=None, next_obs=None, as_dict=False):
    """Return one whose observations are 10 t + n; what follows it is 10 T + n."""
    obs = (10 * torch.arange(T)[:, None] + torch.arange(N)).float()[..., None]
    last = (10.0 * T + torch.arange(N))[:, None]
    if as_dict:
        obs, last = {"place": obs, "mode": obs.long()}, {"place": last, "mode": last.long()}
    no = torch.zeros(T, N, dtype=torch.bool)
    zero = torch.zeros(T, N)
    return Trajectory(obs, zero.long(), zero, no, no, no, (), last, (), final, next_obs)


def test_successors_are_the_observations_that_follow():
    expected = (10 * torch.arange(1, T + 1)[:, None] + torch.arange(N)).float()
    assert trajectory().successors()[..., 0].equal(expected)
    kept = trajectory(as_dict=True)
    found = kept.successors()
    assert found["place"][..., 0].equal(expected)
    assert found["mode"].dtype == torch.int64
    assert found["mode"][..., 0].equal(expected.long())


@pytest.mark.parametrize("as_dict", [False, True])
def test_where_an_episode_ended_the_successor_is_its_final_observation(as_dict):
    where = [(0, 2), (3, 0), (3, 1), (T - 1, 1)]
    t, n = (torch.tensor(column) for column in zip(*where, strict=True))
    obs = torch.arange(-1.0, -5.0, -1.0)[:, None]
    final = Final(t, n, {"place": obs, "mode": obs.long()} if as_dict else obs, ())
    kept = trajectory(final, as_dict=as_dict)
    found = kept.successors()
    expected = (10 * torch.arange(1, T + 1)[:, None] + torch.arange(N)).float()
    for number, place in enumerate(where):
        expected[place] = -1.0 - number
    if as_dict:
        assert found["mode"][..., 0].equal(expected.long())
        found = found["place"]
    assert found[..., 0].equal(expected)
    start = kept.obs["place"] if as_dict else kept.obs
    assert (start >= 0).all(), "the observations that were acted on stay as they are"


def test_successors_that_the_collector_had_are_handed_on():
    own = torch.rand(T, N, 1)
    assert trajectory(next_obs=own).successors() is own
