"""Running statistics against NumPy's over everything seen so far."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.networks.normalize import RewardScale, RunningNorm, ValueScale


def fed(norm, data, rng):
    """Let `norm` take in `data` in chunks of random size, empty ones among them."""
    rest = data
    while len(rest):
        size = rng.integers(0, 9)
        norm.update(torch.from_numpy(rest[:size]))
        rest = rest[size:]
    return norm


@pytest.mark.parametrize("offset", [0.0, -3.0, 100.0])
def test_chunks_of_any_size_give_the_statistics_of_the_whole(offset):
    rng = np.random.default_rng(0)
    data = (offset + rng.normal(size=(500, 3)) * [0.1, 1.0, 20.0]).astype(np.float32)
    norm = fed(RunningNorm(3), data, rng)
    exact = data.astype(np.float64)
    assert norm.count.item() == 500
    np.testing.assert_allclose(norm.mean, exact.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.var, exact.var(axis=0), rtol=2e-3)
    expected = ((exact - exact.mean(axis=0)) / exact.std(axis=0)).clip(-10, 10)
    np.testing.assert_allclose(norm(torch.from_numpy(data)), expected, atol=5e-3)


def test_nothing_seen_leaves_the_numbers_alone():
    data = torch.tensor([[1.0, -2.0]])
    torch.testing.assert_close(RunningNorm(2)(data), data)


def test_a_single_row_centres_and_does_not_blow_up():
    norm = RunningNorm(1)
    norm.update(torch.tensor([[3.0]]))
    assert norm.mean.item() == 3.0
    assert norm.var.item() == 0.0
    assert norm(torch.tensor([[3.0], [4.0], [2.0]])).flatten().tolist() == [0.0, 10.0, -10.0]


@pytest.mark.parametrize("constant", [123456.7, -3e-20, 0.1, 1e30])
def test_a_constant_is_its_own_mean_however_often_it_is_seen(constant):
    """A mean that is a rounding error off, over a deviation of as much, would read as 1, or as 10."""
    rows = torch.tensor([[constant]]).expand(37, 1)
    norm = RunningNorm(1)
    for _ in range(1000):
        norm.update(rows)
    assert norm.mean.equal(rows[0])
    assert norm.var.item() == norm(rows[:1]).item() == 0.0


def test_a_small_deviation_beside_a_large_mean_is_found():
    rng = np.random.default_rng(3)
    norm, seen = RunningNorm(1), []
    for _ in range(1000):
        rows = (123456.7 + 0.05 * rng.normal(size=(16, 1))).astype(np.float32)
        norm.update(torch.from_numpy(rows))
        seen.append(rows.astype(np.float64))
    exact = np.concatenate(seen)
    assert norm.mean.item() + norm.remainder.item() == pytest.approx(exact.mean(), abs=1e-6)
    assert norm.var.item() == pytest.approx(exact.var(), rel=1e-3)


def test_the_mean_still_moves_where_a_batch_is_a_small_share_of_all():
    norm = RunningNorm(1)
    norm.count.fill_(10**9)
    norm.mean.fill_(1000.0)
    mean, count = 1000.0, 10**9
    for _ in range(2000):  # each moves it by a thousandth of what float32 can tell apart at 1000
        norm.update(torch.full((8, 1), 1003.0))
        count += 8
        mean += 8 / count * (1003 - mean)
    assert norm.mean.item() + norm.remainder.item() - 1000 == pytest.approx(mean - 1000, rel=1e-3)
    assert mean - 1000 == pytest.approx(4.8e-5, rel=1e-3)


def test_statistics_saved_by_earlier_versions_are_read():
    norm, old = RunningNorm(2), RunningNorm(2)
    old.update(torch.tensor([[1.0, 5.0], [2.0, 9.0]]))
    norm.remainder.fill_(1.0)
    norm.load_state_dict({key: value for key, value in old.state_dict().items() if key != "remainder"})
    assert norm.remainder.tolist() == [0.0, 0.0]
    assert norm.mean.equal(old.mean)


def test_output_is_clipped():
    norm = RunningNorm(1, clip=2.0)
    norm.update(torch.tensor([[-1.0], [1.0]]))
    assert norm(torch.tensor([[50.0], [-50.0], [1.0]])).flatten().tolist() == pytest.approx([2.0, -2.0, 1.0])


def test_only_update_changes_the_statistics():
    norm = RunningNorm(2)
    norm.update(torch.randn(10, 2, generator=torch.Generator().manual_seed(0)))
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    norm.train()
    norm(100 * torch.ones(5, 2))
    assert all(value.equal(before[key]) for key, value in norm.state_dict().items())


def test_statistics_travel_in_the_state():
    rng = np.random.default_rng(1)
    data = rng.normal(size=(64, 2)).astype(np.float32)
    norm = fed(RunningNorm(2), data, rng)
    other = RunningNorm(2)
    other.load_state_dict(norm.state_dict())
    for module in (norm, other):
        module.update(torch.from_numpy(data[:7]))
    assert other.var.equal(norm.var)
    assert other.count.equal(norm.count)
    assert not list(norm.parameters())


def scaled_by_hand(rollouts, gamma, clip, episodic):
    """Yield each rollout's scaled rewards; a rollout is reward, done and valid, `[T, N]`."""
    running = np.zeros(rollouts[0][0].shape[1])
    seen = []
    for reward, done, valid in rollouts:
        for t in range(len(reward)):
            for n in range(len(running)):
                if not valid[t, n]:
                    running[n] *= not episodic  # it begins an episode
                    continue
                running[n] = gamma * running[n] + reward[t, n]
                seen.append(running[n])
                if done[t, n]:
                    running[n] = 0.0
        yield (reward / np.sqrt(np.var(seen) + 1e-8)).clip(-clip, clip), valid


@pytest.mark.parametrize("stepped", [("cpu",), ()], ids=["loop", "no loop"])
@pytest.mark.parametrize(("dummies", "episodic"), [(False, True), (True, True), (True, False)])
def test_rewards_are_divided_by_the_deviation_of_the_running_return(dummies, episodic, stepped, monkeypatch):
    monkeypatch.setattr("agents.core.device.LOOKED_AT", stepped)
    rng = np.random.default_rng(2)
    rollouts = []
    for ticks in (5, 1, 12, 30):
        valid = rng.random((ticks, 3)) > 0.2 if dummies else np.ones((ticks, 3), bool)
        reward = rng.normal(1, 2, (ticks, 3)).astype(np.float32)
        rollouts.append(
            (np.where(valid, reward, 1000).astype(np.float32), valid & (rng.random((ticks, 3)) < 0.2), valid)
        )
    scale = RewardScale(3, 0.9, clip=1.5, episodic=episodic)
    for rollout, (expected, real) in zip(rollouts, scaled_by_hand(rollouts, 0.9, 1.5, episodic), strict=True):
        reward, done, valid = map(torch.from_numpy, rollout)
        result = scale(reward, done, valid if dummies else None)
        np.testing.assert_allclose(result.numpy()[real], expected[real], rtol=1e-4, atol=1e-5)
    assert np.abs(expected[real]).max() == 1.5, "the clip must be tested too"


def test_running_returns_travel_in_the_state():
    reward, done = torch.ones(4, 2), torch.zeros(4, 2, dtype=torch.bool)
    scale = RewardScale(2, 0.5)
    scale(reward, done)
    other = RewardScale(2, 0.5)
    other.load_state_dict(scale.state_dict())
    assert other(reward, done).equal(scale(reward, done))
    assert other.returns.tolist() == scale.returns.tolist() == [pytest.approx(2 - 0.5**7)] * 2


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("preserves", [True, False])
def test_a_change_of_the_values_scale_leaves_values_or_the_head(heads, preserves):
    generator = torch.Generator().manual_seed(0)
    head, scale = torch.nn.Linear(8, heads), ValueScale(heads, 0.1, preserves)
    latent = torch.randn(50, 8, generator=generator)
    numbers = head(latent)
    for spread, offset in ((1.0, 0.0), (300.0, 1000.0), (0.01, -5.0)):
        before = scale(head(latent))
        returns = offset + spread * torch.randn(200, heads, generator=generator)
        scale.update(returns, head)
        if preserves:
            size = scale.mean.abs() + scale.deviation  # whose rounding is the most that values may move by
            assert ((scale(head(latent)) - before).abs() <= 4e-6 * size).all()
        else:
            assert head(latent).equal(numbers)
        torch.testing.assert_close(scale.normalized(scale(numbers)), numbers, atol=1e-3, rtol=1e-3)


def test_the_values_scale_is_a_mean_of_rollouts_of_which_new_ones_count_more():
    """The first ten count alike, as in the mean of all; then each has a tenth of the weight."""
    rng = np.random.default_rng(0)
    scale, head = ValueScale(1, 0.1, False), torch.nn.Linear(1, 1)
    rollouts = [rng.normal(i, 1 + i % 3, (100, 1)).astype(np.float32) for i in range(15)]
    for i, returns in enumerate(rollouts):
        scale.update(torch.from_numpy(returns), head)
        if i == 0:
            assert scale.mean.item() == pytest.approx(returns.mean(), abs=1e-5)
        weights = np.array([1 / 10 * 0.9**k for k in range(i + 1 - 10)][::-1] if i >= 10 else [])
        weights = np.concatenate([np.full(min(i + 1, 10), (1 - weights.sum()) / min(i + 1, 10)), weights])
        seen = np.stack(rollouts[: i + 1])[..., 0].astype(np.float64)
        mean = (weights[:, None] * seen).sum() / 100
        var = (weights[:, None] * (seen - mean) ** 2).sum() / 100
        assert scale.mean.item() == pytest.approx(mean, rel=1e-4)
        assert scale.var.item() == pytest.approx(var, rel=1e-4)


def test_returns_that_are_all_the_same_do_not_blow_up():
    scale, head = ValueScale(1, 0.1, True), torch.nn.Linear(4, 1)
    before = scale(head(torch.ones(3, 4)))
    scale.update(torch.full((10, 1), 7.0), head)
    scale.update(torch.empty(0, 1), head)
    torch.testing.assert_close(scale(head(torch.ones(3, 4))), before, atol=1e-4, rtol=1e-4)
    assert scale.normalized(torch.tensor([7.0])).tolist() == [0.0]
    assert scale.count.item() == 1
