"""Relative entropies beside the mean of log ratios over many draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import distributions as reference

from agents.ops.distributions import (
    Bernoulli,
    Categorical,
    Gaussian,
    SquashedGaussian,
    deviation_count,
    distribution,
    draw_noise,
    parameter_count,
)
from agents.ops.relative import relative_entropy
from envs.actions import ActionCodec
from envs.errors import UserError

SPACES: list[Any] = [
    spaces.Discrete(4),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(3),
    spaces.Box(-1, 1, (2,)),
    ActionCodec(spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (2,))})).space,
]


def made(space: Any, seed: int, rows: int = 1) -> Any:
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.randn(1, parameter_count(space), generator=generator).expand(rows, -1)
    deviations = deviation_count(space)
    log_std = 0.3 * torch.randn(deviations, generator=generator) if deviations else None
    return distribution(space, parameters, log_std)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_is_the_mean_log_ratio(space: Any) -> None:
    rows = 200_000
    one, other = made(space, 0, rows), made(space, 1, rows)
    action = one.sample(draw_noise(space, (rows,), torch.Generator().manual_seed(2), torch.device("cpu")))
    ratio = one.log_prob(action) - other.log_prob(action)
    found = relative_entropy(made(space, 0), made(space, 1))
    assert found.shape == (1,)
    assert float(found) == pytest.approx(float(ratio.mean()), abs=5 * float(ratio.std()) / rows**0.5 + 1e-4)
    assert float(relative_entropy(made(space, 0), made(space, 0))) == pytest.approx(0, abs=1e-6)


def test_it_is_that_of_torch() -> None:
    def of(seed: int) -> list[Any]:
        generator = torch.Generator().manual_seed(seed)
        mean, log_std = torch.randn(6, 3, generator=generator), 0.3 * torch.randn(3, generator=generator)
        logits = torch.randn(6, 5, generator=generator)
        choice, normal = reference.Categorical(logits=logits), reference.Normal(mean, log_std.exp())
        return [
            (Categorical(logits), choice),
            (Bernoulli(logits), reference.Independent(reference.Bernoulli(logits=logits), 1)),
            (Gaussian(mean, log_std), reference.Independent(normal, 1)),
        ]

    for (one, its), (other, others) in zip(of(0), of(7), strict=True):
        torch.testing.assert_close(relative_entropy(one, other), reference.kl_divergence(its, others))


def test_squashing_changes_nothing() -> None:
    space = SPACES[3]
    one, other = made(space, 0), made(space, 1)
    squashed = (SquashedGaussian(each.mean, each.log_std) for each in (one, other))
    assert relative_entropy(*squashed).tolist() == relative_entropy(one, other).tolist()


def test_illegal_actions_cost_nothing() -> None:
    mask = torch.tensor([[True, False, True, True]])
    one, other = (distribution(SPACES[0], torch.randn(1, 4), mask=mask) for _ in range(2))
    assert relative_entropy(one, other).isfinite().all()


def test_others_have_none() -> None:
    with pytest.raises(UserError, match="no relative entropy of Categorical and Gaussian"):
        relative_entropy(made(SPACES[0], 0), made(SPACES[3], 0))
