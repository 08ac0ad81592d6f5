"""Recurrences against their definitions, one step after the other."""

from __future__ import annotations

import pytest
import torch

from agents.ops.recurrences import GatedRecurrence, linear_recurrence


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 37])
def test_a_linear_recurrence_is_its_definition(steps, backward):
    generator = torch.Generator().manual_seed(steps)
    keep, new = torch.rand((2, steps, 2, 3), generator=generator, dtype=torch.float64)
    keep[torch.rand(keep.shape, generator=generator) < 0.2] = 0  # as an episode's start is
    keep.requires_grad_(), new.requires_grad_()
    state, expected = torch.zeros(2, 3, dtype=torch.float64), []
    for t in reversed(range(steps)) if backward else range(steps):
        state = keep[t] * state + new[t]
        expected.append(state)
    found, expected = linear_recurrence(keep, new, backward), torch.stack(expected[::-1] if backward else expected)
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    gradients = [
        torch.autograd.grad((h * weights).sum(), (keep, new), materialize_grads=True) for h in (found, expected)
    ]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_backward_pass_of_a_gated_recurrence_is_its_derivative():
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 2, 9), (2, 3), (9, 3), (9,))
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(GatedRecurrence.apply, inputs)
