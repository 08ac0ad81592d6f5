"""Value distributions against brute force: projections, quantile losses, soft targets, and the scale of values."""

from __future__ import annotations

import math

import pytest
import torch

from agents.ops.values import (
    C51,
    Expected,
    Quantiles,
    Rescaled,
    behaviour_loss,
    conservative_gap,
    large_margin,
    midpoints,
    munchausen_bonus,
    rescale,
    soft_policy,
    supported,
    unscale,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def projected(kind, return_, discount, probability):
    """Distribute each atom's mass over its two neighbours, one at a time (Bellemare et al. 2017, algorithm 1)."""
    support = [kind.v_min + i * (kind.v_max - kind.v_min) / (kind.atoms - 1) for i in range(kind.atoms)]
    found = [0.0] * kind.atoms
    for z, p in zip(support, probability.tolist(), strict=True):
        place = (min(max(return_ + discount * z, kind.v_min), kind.v_max) - kind.v_min) / (support[1] - support[0])
        place = min(place, kind.atoms - 1.0)  # rounding
        low, high = math.floor(place), math.ceil(place)
        if low == high:
            found[low] += p
        else:
            found[low] += p * (high - place)
            found[high] += p * (place - low)
    return found


def test_the_projection_is_that_of_the_paper_on_a_thousand_supports():
    draw = generator()
    for _ in range(1000):
        atoms = int(torch.randint(2, 60, (), generator=draw))
        low, width = (torch.rand(2, generator=draw) * torch.tensor([200.0, 100.0])).tolist()
        kind = C51(low - 100, low - 100 + width + 0.01, atoms)
        probability = torch.randn(4, atoms, generator=draw).softmax(-1)
        return_ = torch.rand(4, generator=draw) * 1.5 * (kind.v_max - kind.v_min) + kind.v_min - 0.2 * width
        return_[3] = kind.v_max  # on an atom, where rounding could lose its mass
        discount = torch.tensor([0.99, 0.5, 1.0, 0.0])
        found = kind.project(return_, discount, probability)
        assert (found >= 0).all()
        torch.testing.assert_close(found.sum(-1), torch.ones(4), atol=2e-5, rtol=0)
        for row in range(4):
            expected = torch.tensor(projected(kind, return_[row].item(), discount[row].item(), probability[row]))
            torch.testing.assert_close(found[row], expected, atol=1e-3, rtol=0)


def test_the_projection_keeps_the_mean_while_nothing_is_cut_off():
    kind = C51(-10.0, 10.0, 51)
    logits = torch.randn(100, 51, generator=generator())
    return_, discount = torch.rand(100, generator=generator(1)) * 4 - 2, torch.full((100,), 0.7)
    target = kind.backup(return_, discount, logits)
    mean = (target * kind.support(target)).sum(-1)
    torch.testing.assert_close(mean, return_ + discount * kind.mean(logits), atol=1e-4, rtol=0)
    assert torch.equal(kind.backup(torch.zeros(100), torch.ones(100), logits).argmax(-1), logits.argmax(-1))


def test_cross_entropy_is_least_where_the_distributions_are_equal():
    kind = C51(-1.0, 1.0, 11)
    target = torch.randn(1, 11, generator=generator()).softmax(-1)
    logits = target.log().requires_grad_()
    (gradient,) = torch.autograd.grad(kind.loss(logits, target, None).sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    torch.testing.assert_close(kind.loss(logits, target, None), -(target * target.log()).sum(-1))


@pytest.mark.parametrize("sampled", [False, True])
def test_the_quantile_loss_is_the_sum_of_the_paper(sampled):
    atoms, target = torch.randn(3, 5, generator=generator()), 2 * torch.randn(3, 7, generator=generator(1))
    tau = torch.rand(3, 5, generator=generator(2)) if sampled else None
    found = Quantiles(5).loss(atoms, target, tau)
    for row in range(3):
        total = 0.0
        for i in range(5):
            place = tau[row, i].item() if tau is not None else (i + 0.5) / 5
            for j in range(7):
                error = (target[row, j] - atoms[row, i]).item()
                huber = 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5
                total += abs(place - (error < 0)) * huber / 7
        assert found[row].item() == pytest.approx(total, rel=1e-5)


def test_quantiles_that_are_learnt_are_those_of_the_target():
    target = torch.arange(1000.0)[None] / 100
    atoms = torch.zeros(1, 10, requires_grad=True)
    optimizer = torch.optim.SGD([atoms], 1.0)
    for _ in range(2000):
        loss = Quantiles(10).loss(atoms, target, None).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Huber's loss draws the outermost ones inwards, as it is quadratic near 0
    torch.testing.assert_close(atoms.detach()[0, 2:8], 10 * midpoints(10, target)[2:8], atol=0.3, rtol=0)


@pytest.mark.parametrize("kind", [Expected(), Rescaled(), Quantiles(4), C51(-50.0, 50.0, 201)])
def test_a_soft_backup_of_a_greedy_policy_is_the_backup_of_its_action(kind):
    shape = (6, 3) if kind.atoms == 1 else (6, 3, kind.atoms)
    atoms, best = torch.randn(shape, generator=generator()), torch.tensor([0, 1, 2, 2, 1, 0])
    return_, discount = torch.randn(6, generator=generator(1)), torch.tensor([0.9, 0.0, 0.5, 1.0, 0.99, 0.3])
    weight = torch.nn.functional.one_hot(best, 3).float()
    found = kind.soft_backup(return_, discount, atoms, weight, torch.zeros(6, 3))
    torch.testing.assert_close(found, kind.backup(return_, discount, atoms[torch.arange(6), best]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [Quantiles(4), C51(-50.0, 50.0, 2001)])
def test_a_soft_backup_has_the_policys_mean(kind):
    atoms = torch.randn(6, 3, kind.atoms, generator=generator())
    q = kind.mean(atoms)
    weight, shift = soft_policy(q, 0.7)
    return_, discount = torch.randn(6, generator=generator(1)), torch.full((6,), 0.9)
    found = kind.soft_backup(return_, discount, atoms, weight, shift)
    mean = (found * kind.support(found)).sum(-1) if isinstance(kind, C51) else kind.mean(found)
    # the soft value: sum of pi (q - tau log pi) = tau log sum exp(q / tau)
    expected = return_ + 0.9 * 0.7 * (q / 0.7).logsumexp(-1)
    torch.testing.assert_close(mean, expected, atol=1e-2, rtol=0)


def test_munchausens_bonus_in_closed_form():
    q, action = torch.tensor([[1.0, 1.0], [5.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1, 1])
    found = munchausen_bonus(q, action, alpha=0.9, temperature=1.0, least=-1.0)
    torch.testing.assert_close(found, 0.9 * torch.tensor([-math.log(2), -1.0, -math.log(2)]))
    cold = munchausen_bonus(q, torch.tensor([0, 0, 0]), alpha=0.5, temperature=0.03, least=-1.0)
    torch.testing.assert_close(cold, 0.5 * 0.03 * torch.tensor([-math.log(2), 0.0, -math.log(2)]), atol=1e-6, rtol=0)
    worse = torch.tensor([0.5, 2.0, 3.0, 3.5, 50.0, 1e4, 1e35])  # whose probabilities are 0 in float32, but the first's
    q = torch.stack([torch.zeros(7), -worse], dim=1)
    found = munchausen_bonus(q, torch.ones(7, dtype=torch.int64), alpha=0.9, temperature=0.03, least=-1.0)
    torch.testing.assert_close(found, 0.9 * -worse.clamp(max=1.0))


def test_the_conservative_gap_in_closed_form():
    q = torch.tensor([[1.0, 1.0, 1.0], [math.log(2), 0.0, math.log(3)], [2.0, torch.finfo(torch.float32).min, 2.0]])
    found = conservative_gap(q, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(found, torch.tensor([math.log(3), math.log(6), math.log(2)]))
    gradient = torch.autograd.grad(conservative_gap(q.requires_grad_(), torch.tensor([0, 1, 2])).sum(), q)[0]
    torch.testing.assert_close(gradient, q.softmax(-1) - torch.eye(3), msg="the softmax policy less the action taken")


def test_the_large_margin_in_closed_form():
    least = torch.finfo(torch.float32).min / 1024
    q = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.5, 0.0], [5.0, least, 5.0]], requires_grad=True)
    found = large_margin(q, torch.tensor([0, 0, 2]), 0.8)
    assert found.tolist() == pytest.approx([0, 1.3, 0.8])
    gradient = torch.autograd.grad(found.sum(), q)[0]
    assert gradient.tolist() == [[0, 0, 0], [-1, 1, 0], [1, 0, -1]]


def test_actions_that_are_less_likely_than_a_share_of_the_likeliest_are_out():
    q = torch.tensor([[1.0, 5.0, 3.0, 9.0]]).repeat(3, 1)
    logits = torch.tensor([0.5, 0.25, 0.2, 0.05]).log().repeat(3, 1)
    found = [supported(q, logits, threshold)[0] for threshold in (0.05, 0.45, 1.0)]
    least = torch.finfo(torch.float32).min / 1024
    assert [row.tolist() for row in found] == [[1, 5, 3, 9], [1, 5, least, least], [1, least, least, least]]


def test_the_behaviour_loss_is_what_makes_the_actions_likely():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    assert behaviour_loss(logits, torch.tensor([0, 1])).tolist() == pytest.approx([math.log(4), math.log(2)])


def test_an_illegal_action_has_no_part_in_a_soft_policy():
    q = torch.tensor([[2.0, torch.finfo(torch.float32).min, 1.0]])
    pi, shift = soft_policy(q, 0.5)
    assert pi[0, 1] == shift[0, 1] == 0
    torch.testing.assert_close(pi[0, [0, 2]], torch.tensor([4.0, 2.0]).softmax(-1))
    found = Expected().soft_backup(torch.zeros(1), torch.ones(1), q, pi, shift)
    torch.testing.assert_close(found, 0.5 * torch.tensor([4.0, 2.0]).logsumexp(-1, keepdim=True))


def test_the_scale_of_values_and_its_inverse():
    x = torch.cat([torch.linspace(-1e4, 1e4, 2001), torch.linspace(-2, 2, 401)]).double()
    torch.testing.assert_close(unscale(rescale(x)), x, atol=1e-6, rtol=1e-6)
    small = torch.tensor([1 / 3], dtype=torch.float32)
    torch.testing.assert_close(unscale(rescale(small)), small, atol=3e-7, rtol=0)
    assert rescale(torch.tensor([0.0, 3.0, -8.0])).tolist() == pytest.approx([0.0, 1.003, -2.008])
    return_, discount, q = torch.tensor([100.0]), torch.tensor([0.5]), rescale(torch.tensor([40.0]))
    torch.testing.assert_close(
        unscale(Rescaled().backup(return_, discount, q)), torch.tensor([120.0]), rtol=1e-3, atol=0
    )
