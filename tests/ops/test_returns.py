"""GAE and n-step returns against their definitions, written out episode by episode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.core.tracing import Tracer
from agents.ops.returns import continuing_gae, explained_variance, gae, n_step

VIEWS = ("select", "slice", "unbind")


def random_rollout(rng, ticks, num_envs, ends):
    """Return reward, value, next_value, terminated, truncated, `[T, N]`; `ends` is the chance of each flag."""
    reward, value, next_value = rng.normal(size=(3, ticks, num_envs)).astype(np.float32)
    terminated, truncated = rng.random((2, ticks, num_envs)) < ends
    goes_on = ~(terminated | truncated)[:-1]
    next_value[:-1][goes_on] = value[1:][goes_on]  # elsewhere it is the value of a final observation
    return [torch.from_numpy(array) for array in (reward, value, next_value, terminated, truncated)]


def lambda_return(reward, next_value, terminated, gamma, lam):
    """Return the lambda-return of one episode's remainder: the weighted mean of its n-step returns (Sutton & Barto)."""
    length = len(reward)
    total, weights = 0.0, 0.0
    for n in range(1, length + 1):
        bootstrap = 0.0 if terminated[n - 1] else gamma**n * next_value[n - 1]
        g = sum(gamma**k * reward[k] for k in range(n)) + bootstrap
        weight = lam ** (n - 1) * (1.0 if n == length else 1 - lam)
        total, weights = total + weight * g, weights + weight
    assert weights == pytest.approx(1.0)
    return total


@pytest.mark.parametrize(("gamma", "lam"), [(0.99, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0), (0.0, 0.9), (0.97, 1.0)])
@pytest.mark.parametrize("ends", [0.0, 0.25, 0.6])
def test_gae_is_the_lambda_return_of_each_episode(gamma, lam, ends):
    rng = np.random.default_rng(0)
    ticks, num_envs = 17, 3
    rollout = random_rollout(rng, ticks, num_envs, ends)
    advantage, return_ = gae(*rollout, gamma, lam)
    reward, value, next_value, terminated, truncated = (tensor.numpy().astype(float) for tensor in rollout)
    if ends:
        assert (terminated * truncated).any(), "the pattern must hold both flags at once"
    for n in range(num_envs):
        for t in range(ticks):
            ended = np.flatnonzero(terminated[t:, n] + truncated[t:, n])
            stop = t + ended[0] + 1 if len(ended) else ticks
            expected = lambda_return(reward[t:stop, n], next_value[t:stop, n], terminated[t:stop, n], gamma, lam)
            assert return_[t, n].item() == pytest.approx(expected, abs=2e-5)
            assert advantage[t, n].item() == pytest.approx(expected - value[t, n], abs=2e-5)


@pytest.mark.parametrize("ticks", [1, 2, 32, 128, 130])
def test_gae_takes_few_operations_where_each_is_a_kernel(ticks, monkeypatch):
    rollout = random_rollout(np.random.default_rng(ticks), ticks, 3, 0.1)
    with Tracer() as tracer:  # as those are that are noted
        noted = gae(*rollout, 0.99, 0.95)
    by_steps = gae(*rollout, 0.99, 0.95)
    monkeypatch.setattr("agents.core.device.LOOKED_AT", ())
    for one, other, right in zip(noted, gae(*rollout, 0.99, 0.95), by_steps, strict=True):
        torch.testing.assert_close(one, right, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(other, one, rtol=0, atol=0)
    assert sum(one.name not in VIEWS for one in tracer.noted) <= 11 + 4 * int(np.ceil(np.log2(ticks)))


def test_gae_bootstraps_from_a_truncation_and_not_from_a_termination():
    one, no, yes = torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)

    def advantage(terminated, truncated):
        return gae(one, 5 * one, 10 * one, terminated, truncated, 0.9, 0.95)[0].item()

    assert advantage(no, no) == advantage(no, yes) == pytest.approx(1 + 9 - 5)
    assert advantage(yes, no) == advantage(yes, yes) == pytest.approx(1 - 5)


def n_step_by_hand(reward, terminated, truncated, length, gamma):
    """Return one window's return, last index and discount."""
    total = 0.0
    for k in range(length):
        total += gamma**k * reward[k]
        if terminated[k]:
            return total, k, 0.0
        if truncated[k] or k == length - 1:
            return total, k, gamma ** (k + 1)
    raise AssertionError("a window holds at least one transition")


@pytest.mark.parametrize("gamma", [0.99, 0.5, 0.0, 1.0])
@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("ends", [0.0, 0.2, 0.7])
def test_n_step_stops_where_the_episode_or_the_data_ends(gamma, window, ends):
    rng = np.random.default_rng(1)
    batch = 200
    reward = rng.normal(size=(batch, window)).astype(np.float32)
    terminated, truncated = rng.random((2, batch, window)) < ends
    length = rng.integers(1, window + 1, batch)
    arrays = (reward, terminated, truncated, length)
    return_, last, discount = n_step(*map(torch.from_numpy, arrays), gamma)
    for b in range(batch):
        expected = n_step_by_hand(reward[b], terminated[b], truncated[b], length[b], gamma)
        assert last[b].item() == expected[1]
        assert return_[b].item() == pytest.approx(expected[0], abs=1e-5)
        assert discount[b].item() == pytest.approx(expected[2], abs=1e-6)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf")])
def test_n_step_ignores_whatever_lies_beyond_the_stored_data(garbage):
    reward = torch.tensor([[1.0, 2.0, garbage], [1.0, garbage, garbage]])
    flags = torch.tensor([[False, False, True], [False, True, True]])
    return_, last, discount = n_step(reward, flags, flags, torch.tensor([2, 1]), 0.5)
    assert return_.tolist() == [2.0, 1.0]
    assert last.tolist() == [1, 0]
    assert discount.tolist() == [0.25, 0.5]


def test_returns_that_go_on_from_one_episode_into_the_next():
    """As the sum over all later errors of one step, each discounted by its distance, episodes or not."""
    generator = torch.Generator().manual_seed(0)
    reward, value = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
    last_value = torch.randn(3, generator=generator, dtype=torch.float64)
    advantage, return_ = continuing_gae(reward, value, last_value, 0.9, 0.8)
    for t in range(7):
        expected = 0
        for later in range(t, 7):
            following = value[later + 1] if later < 6 else last_value
            expected = expected + (0.9 * 0.8) ** (later - t) * (reward[later] + 0.9 * following - value[later])
        torch.testing.assert_close(advantage[t], expected)
    torch.testing.assert_close(return_, advantage + value)


@pytest.mark.parametrize("stepped", [("cpu",), ()])
def test_what_is_no_step_takes_no_part_in_returns_that_go_on(stepped, monkeypatch):
    """With rows in between that are none, the others have what they have without."""
    monkeypatch.setattr("agents.core.device.LOOKED_AT", stepped)
    generator = torch.Generator().manual_seed(0)
    reward, value = torch.randn(2, 9, 1, generator=generator)
    last_value = torch.randn(1, generator=generator)
    for gone in ([1], [0, 4, 5], [8], [6, 7, 8], list(range(9)), []):
        valid = torch.ones(9, 1, dtype=torch.bool)
        valid[gone] = False
        found = continuing_gae(reward, value, last_value, 0.9, 0.8, valid)
        kept = valid[:, 0]
        if kept.any():
            right = continuing_gae(reward[kept], value[kept], last_value, 0.9, 0.8)
            for one, other in zip(found, right, strict=True):
                torch.testing.assert_close(one[kept], other, atol=1e-6, rtol=1e-5)


def test_explained_variance():
    target = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert explained_variance(target, target).item() == 1.0
    assert explained_variance(target + 5, target).item() == pytest.approx(1.0)  # a constant error has no variance
    assert explained_variance(torch.full((4,), 3.0), target).item() == pytest.approx(0.0)
    assert explained_variance(-target, target).item() == pytest.approx(1 - 4.0)
    expected = 1 - np.var([0.5, 0.0, -1.0, 0.25]) / np.var(target.numpy())
    value = target - torch.tensor([0.5, 0.0, -1.0, 0.25])
    assert explained_variance(value, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1, 5])
def test_explained_variance_of_constant_targets_is_nan(size, recwarn):
    assert explained_variance(torch.arange(size).float(), torch.ones(size)).isnan()
    assert not recwarn.list
