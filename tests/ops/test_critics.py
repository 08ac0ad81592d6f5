"""What several critics' numbers come to, against loops over critics, rows and quantiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.ops.critics import Least, Truncated

N, B, K, DROPPED = 3, 5, 4, 1


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(atoms):
    return drawn(B, seed=1), torch.tensor([0.9, 0.0, 0.9, 0.5, 0.9]).double(), drawn(N, B, atoms), drawn(B, seed=2)


def test_the_least_critic_counts():
    return_B, discount_B, next_NBK, bonus_B = case(1)
    target = Least().backup(return_B, discount_B, next_NBK, bonus_B)
    assert target.shape == (B, 1)
    for row in range(B):
        least = min(next_NBK[critic, row, 0].item() for critic in range(N))
        expected = return_B[row] + discount_B[row] * (least + bonus_B[row])
        assert target[row, 0].item() == pytest.approx(expected.item())
        assert Least().value(next_NBK)[row].item() == least
    numbers = drawn(N, B, 1, seed=3)
    off = (numbers.squeeze(-1) - target.squeeze(-1)).numpy()
    np.testing.assert_allclose(Least().loss(numbers, target), 0.5 * (off**2).sum(axis=0))
    np.testing.assert_allclose(Least().error(numbers, target), np.abs(off).mean(axis=0))


def test_the_largest_quantiles_of_all_critics_together_are_left_out():
    values = Truncated(K, DROPPED)
    return_B, discount_B, next_NBK, bonus_B = case(K)
    target = values.backup(return_B, discount_B, next_NBK, bonus_B)
    assert target.shape == (B, N * (K - DROPPED))
    for row in range(B):
        kept = sorted(next_NBK[:, row].flatten().tolist())[: N * K - N * DROPPED]
        expected = [return_B[row] + discount_B[row] * (number + bonus_B[row]) for number in kept]
        assert target[row].tolist() == pytest.approx([float(number) for number in expected])
        assert values.value(next_NBK)[row].item() == pytest.approx(next_NBK[:, row].mean().item())


def test_the_quantile_loss_is_a_mean_over_critics_quantiles_and_targets():
    values, numbers, target = Truncated(K, DROPPED), drawn(N, B, K), 2 * drawn(B, 6, seed=1)
    found = values.loss(numbers, target)
    for row in range(B):
        each = []
        for critic in range(N):
            for k in range(K):
                for goal in target[row]:
                    off = (goal - numbers[critic, row, k]).item()
                    huber = 0.5 * off**2 if abs(off) < 1 else abs(off) - 0.5
                    each.append(abs((k + 0.5) / K - (off < 0)) * huber)
        assert found[row].item() == pytest.approx(np.mean(each))
    gap = (numbers.mean((0, 2)) - target.mean(1)).abs()
    torch.testing.assert_close(values.error(numbers, target), gap)
