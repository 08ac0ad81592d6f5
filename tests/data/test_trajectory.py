"""The rollout buffer: what went in comes out, bootstrapped from the right observations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.data.rollout import RolloutBuffer

CPU = torch.device("cpu")


def tick(rng, num_envs=3, **changes):
    """Return one tick of random data, as the loop stores it on the CPU."""
    data = {
        "obs": rng.normal(size=(num_envs, 2)).astype(np.float32),
        "action": rng.integers(0, 5, num_envs),
        "reward": rng.normal(size=num_envs).astype(np.float32),
        "terminated": rng.random(num_envs) < 0.3,
        "truncated": rng.random(num_envs) < 0.3,
    }
    return {**data, **changes}


def judge(obs, action):
    """Stand in for a policy: some numbers that follow from each observation and action."""
    return obs.sum(dim=1) - action, 2 * obs.sum(dim=1)


def total(obs):
    """Stand in for a value function: the sum of each observation's numbers."""
    return obs.sum(dim=1)


def test_a_rollout_gives_back_what_went_in_with_its_dtypes():
    rng = np.random.default_rng(0)
    buffer = RolloutBuffer(4, CPU)
    for _ in range(3):  # the buffer is reused
        ticks = [tick(rng) for _ in range(4)]
        for data in ticks:
            buffer.add(data)
        rollout = buffer.finish(judge, total, torch.zeros(3, 2))
        for t in range(4):
            log_prob, value = judge(torch.from_numpy(ticks[t]["obs"]), torch.from_numpy(ticks[t]["action"]))
            assert rollout.log_prob[t].equal(log_prob)
            assert rollout.value[t].equal(value)
        for key in ticks[0]:
            stored = getattr(rollout, key)
            np.testing.assert_array_equal(stored, np.stack([data[key] for data in ticks]))
            assert stored.numpy().dtype == ticks[0][key].dtype
        assert rollout.valid is None


def test_what_is_stored_is_a_copy():
    buffer = RolloutBuffer(1, CPU)
    data = tick(np.random.default_rng(0))
    buffer.add(data)
    before = data["obs"].copy()
    data["obs"][:] = 99
    np.testing.assert_array_equal(buffer.finish(judge, total, torch.zeros(3, 2)).obs[0], before)


def test_dict_observations_and_actions_of_any_shape():
    rng = np.random.default_rng(0)
    buffer = RolloutBuffer(2, CPU)
    ticks = []
    for _ in range(2):
        obs = {"image": rng.integers(0, 256, (3, 4, 4, 1), np.uint8), "mode": rng.integers(0, 3, 3)}
        ticks.append(tick(rng, obs=obs, action=rng.normal(size=(3, 2)).astype(np.float32)))
        buffer.add(ticks[-1])
    rollout = buffer.finish(
        lambda obs, action: (action[:, 0], obs["mode"].float()),
        lambda obs: obs["mode"].float(),
        {"mode": torch.tensor([5, 6, 7])},
    )
    assert rollout.obs["image"].dtype == torch.uint8
    assert rollout.obs["mode"].dtype == torch.int64
    for key in ("image", "mode"):
        np.testing.assert_array_equal(rollout.obs[key], np.stack([data["obs"][key] for data in ticks]))
    assert rollout.action.shape == (2, 3, 2)
    assert rollout.next_value[-1].tolist() == [5.0, 6.0, 7.0]


def test_values_of_successors():
    rng = np.random.default_rng(1)
    buffer = RolloutBuffer(5, CPU)
    final = {(0, 2): 100.0, (2, 0): 200.0, (2, 1): 300.0, (4, 1): 400.0}  # (tick, environment) -> V(final observation)
    for repetition in range(2):  # nothing is left over from the first
        ticks = [tick(rng) for _ in range(5)]
        for t, data in enumerate(ticks):
            buffer.add(data)
            rows = [n for n in range(3) if (t, n) in final and repetition == 0]
            if rows:
                buffer.add_final(torch.tensor(rows), torch.tensor([[final[t, n] - 1, 1.0] for n in rows]))
        last = torch.arange(6.0).reshape(3, 2)
        rollout = buffer.finish(judge, total, last)
        expected = np.stack([*(2 * data["obs"].sum(axis=1) for data in ticks[1:]), total(last).numpy()])
        if repetition == 0:
            for (t, n), value in final.items():
                expected[t, n] = value
        np.testing.assert_allclose(rollout.next_value, expected, rtol=1e-6)


def test_dummy_transitions_are_marked():
    rng = np.random.default_rng(2)
    buffer = RolloutBuffer(4, CPU)
    flags = {1: [True, False, True], 3: [False, False, False]}
    for t in range(4):
        buffer.add(tick(rng))
        if t in flags:
            buffer.mark_valid(torch.tensor(flags[t]))
    rollout = buffer.finish(judge, total, torch.zeros(3, 2))
    assert rollout.valid.tolist() == [[True] * 3, flags[1], [True] * 3, flags[3]]
    for _ in range(4):
        buffer.add(tick(rng))
    assert buffer.finish(judge, total, torch.zeros(3, 2)).valid is None


def test_a_rollout_that_is_not_full_is_refused():
    buffer = RolloutBuffer(2, CPU)
    buffer.add(tick(np.random.default_rng(0)))
    with pytest.raises(AssertionError, match="full rollout"):
        buffer.finish(judge, total, torch.zeros(3, 2))
