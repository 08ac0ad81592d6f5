"""Our light distributions beside torch.distributions, and their samples beside their densities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium import spaces
from torch import distributions as reference

from agents.ops.distributions import (
    Bernoulli,
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    distribution,
    draw_noise,
    masked,
    parameter_count,
)
from envs.errors import UserError

BATCH, DRAWS = 6, 40_000


def noise(*shape, seed=0, scale=1.5):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


SPACES = {
    Categorical: lambda policy: spaces.Discrete(policy.logits.shape[-1]),
    MultiCategorical: lambda policy: spaces.MultiDiscrete(policy.nvec),
    Bernoulli: lambda policy: spaces.MultiBinary(policy.logits.shape[-1]),
    Gaussian: lambda policy: spaces.Box(-1, 1, policy.mean.shape[-1:]),
    SquashedGaussian: lambda policy: spaces.Box(-1, 1, policy.mean.shape[-1:]),
}


def sample(policy, stream, rows=BATCH):
    """Draw an action for each row of a policy's batch, with the noise of its action space."""
    return policy.sample(draw_noise(SPACES[type(policy)](policy), (rows,), stream, torch.device("cpu")))


def same_odds(actions, probabilities):
    """Whether counts of int64 actions `[DRAWS]` fit the probabilities (chi-square)."""
    counts = np.bincount(actions, minlength=len(probabilities))
    expected = np.asarray(probabilities, float)
    return scipy.stats.chisquare(counts, DRAWS * expected / expected.sum()).pvalue > 1e-3


def test_categorical():
    logits = noise(BATCH, 5)
    ours, theirs = Categorical(logits), reference.Categorical(logits=logits)
    action = sample(ours, generator())
    assert action.dtype == torch.int64
    assert action.shape == (BATCH,)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(action), theirs.entropy())
    torch.testing.assert_close(ours.describe()["probabilities"], theirs.probs)
    assert ours.mode().equal(theirs.probs.argmax(dim=-1))
    assert ours.to_env(action).equal(action)


def test_categorical_frequencies():
    logits = torch.tensor([0.0, 1.0, -2.0, 2.5])
    actions = sample(Categorical(logits.expand(DRAWS, 4)), generator(), DRAWS)
    assert same_odds(actions.numpy(), logits.softmax(0))


def test_impossible_choices_are_never_drawn():
    logits = torch.tensor([0.0, torch.finfo(torch.float32).min, 0.0]).expand(DRAWS, 3)
    policy = Categorical(logits)
    assert not (sample(policy, generator(), DRAWS) == 1).any()
    entropy = policy.entropy(policy.mode())
    torch.testing.assert_close(entropy, torch.full((DRAWS,), math.log(2)))


def random_mask(*shape):
    mask = torch.rand(*shape, generator=generator(5)) < 0.4
    mask[..., 1] = True
    assert not mask.all()
    return mask


def test_masked_values_are_below_all_others_and_finite():
    mask, values = random_mask(BATCH, 5), noise(BATCH, 5)
    result = masked(values, mask)
    assert result[mask].equal(values[mask])
    assert (result[~mask] < -1e30).all()
    assert result[~mask].sum().isfinite()
    assert masked(values, None) is values


@pytest.mark.parametrize(
    ("space", "sizes"), [(spaces.Discrete(5), [5]), (spaces.MultiDiscrete([2, 5]), [2, 5])], ids=str
)
def test_masks_leave_the_distribution_over_legal_actions(space, sizes):
    mask = torch.cat([random_mask(BATCH, size) for size in sizes], dim=1)
    logits = noise(BATCH, sum(sizes)).requires_grad_()
    policy = distribution(space, logits, mask=mask)
    action = sample(policy, generator())
    entropy, log_prob = policy.entropy(action), policy.log_prob(action)
    columns = action.view(BATCH, -1).unbind(1)
    for row in range(BATCH):
        expected_entropy = expected_log_prob = 0.0
        for part, legal, column in zip(logits[row].split(sizes), mask[row].split(sizes), columns, strict=True):
            assert legal[column[row]]
            among = reference.Categorical(logits=part[legal])
            expected_entropy += among.entropy().item()
            expected_log_prob += among.log_prob(legal[: column[row]].sum()).item()
        assert entropy[row].item() == pytest.approx(expected_entropy, abs=1e-5)
        assert log_prob[row].item() == pytest.approx(expected_log_prob, abs=1e-5)
    assert not policy.describe()["probabilities"][~mask].any()
    illegal = torch.stack([(~part).long().argmax(1) for part in mask.split(sizes, dim=1)], dim=1).view(action.shape)
    below = policy.log_prob(illegal)
    assert below.isfinite().all()
    (below.sum() * 1e-30 + entropy.sum() + log_prob.sum()).backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[~mask].any(), "nothing pushes the logits of illegal actions"


def test_multi_categorical():
    nvec = [2, 3, 4]
    logits = noise(BATCH, 9)
    ours = MultiCategorical(logits, nvec)
    theirs = [reference.Categorical(logits=part) for part in logits.split(nvec, dim=-1)]
    action = sample(ours, generator())
    assert action.dtype == torch.int64
    assert action.shape == (BATCH, 3)
    log_prob = sum(part.log_prob(action[:, k]) for k, part in enumerate(theirs))
    torch.testing.assert_close(ours.log_prob(action), log_prob)
    torch.testing.assert_close(ours.entropy(action), sum(part.entropy() for part in theirs))
    assert ours.mode().equal(torch.stack([part.probs.argmax(dim=-1) for part in theirs], dim=-1))
    assert ours.describe()["probabilities"].shape == (BATCH, 9)


def test_multi_categorical_choices_are_independent():
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5, 0.0]).expand(DRAWS, 5)
    action = sample(MultiCategorical(logits, [2, 3]), generator(), DRAWS)
    joint = torch.outer(logits[0, :2].softmax(0), logits[0, 2:].softmax(0)).flatten()
    assert same_odds((3 * action[:, 0] + action[:, 1]).numpy(), joint)


def test_bernoulli():
    logits = noise(BATCH, 3)
    ours, theirs = Bernoulli(logits), reference.Independent(reference.Bernoulli(logits=logits), 1)
    action = sample(ours, generator())
    assert action.dtype == torch.int64
    assert action.shape == (BATCH, 3)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action.float()))
    torch.testing.assert_close(ours.entropy(action), theirs.entropy())
    assert ours.mode().equal((theirs.base_dist.probs > 0.5).long())
    torch.testing.assert_close(ours.describe()["probabilities"], theirs.base_dist.probs)


def test_bernoulli_coins_are_independent():
    logits = torch.tensor([1.0, -0.5]).expand(DRAWS, 2)
    action = sample(Bernoulli(logits), generator(), DRAWS)
    heads = logits[0].sigmoid()
    joint = torch.outer(torch.stack([1 - heads[0], heads[0]]), torch.stack([1 - heads[1], heads[1]])).flatten()
    assert same_odds((2 * action[:, 0] + action[:, 1]).numpy(), joint)


@pytest.mark.parametrize("per_state", [False, True])
def test_gaussian(per_state):
    mean, log_std = noise(BATCH, 3), noise(BATCH, 3, seed=1) if per_state else noise(3, seed=1)
    ours = Gaussian(mean, log_std)
    theirs = reference.Independent(reference.Normal(mean, log_std.exp().expand_as(mean)), 1)
    action = sample(ours, generator())
    assert action.dtype == torch.float32
    assert action.shape == (BATCH, 3)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(action), theirs.entropy())
    assert ours.mode().equal(mean)
    assert ours.describe()["std"].shape == mean.shape
    assert ours.to_env(100 * action).equal(100 * action), "clipping is the environment's side"


def test_gaussian_samples_are_normal_and_independent():
    mean, log_std = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -1.0])
    action = sample(Gaussian(mean.expand(DRAWS, 2), log_std), generator(), DRAWS).numpy()
    for k in range(2):
        assert scipy.stats.kstest(action[:, k], "norm", (mean[k].item(), log_std[k].exp().item())).pvalue > 1e-3
    assert abs(np.corrcoef(action.T)[0, 1]) < 4 / math.sqrt(DRAWS)


def test_squashed_gaussian():
    mean, log_std = noise(BATCH, 3, scale=0.5), noise(3, seed=1, scale=0.5)
    ours = SquashedGaussian(mean, log_std)
    normal = reference.Normal(mean.double(), log_std.double().exp())
    theirs = reference.Independent(reference.TransformedDistribution(normal, reference.TanhTransform()), 1)
    action = sample(ours, generator())
    assert ours.to_env(action).equal(action.tanh())
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action.double().tanh()).float())
    torch.testing.assert_close(ours.to_env(ours.mode()), mean.tanh())


def test_a_drawn_action_has_the_density_of_a_squashed_one_and_the_gradient_of_its_noise():
    mean, log_std, normal = noise(BATCH, 3), noise(BATCH, 3, seed=1), noise(BATCH, 3, seed=2)
    mean.requires_grad_(), log_std.requires_grad_()
    ours = SquashedGaussian(mean, log_std)
    action, log_prob = ours.draw(normal)
    torch.testing.assert_close(action, ours.to_env(ours.sample(normal)))
    expected = ours.log_prob(ours.sample(normal))
    torch.testing.assert_close(log_prob, expected)
    found, wanted = (torch.autograd.grad(each.sum(), (mean, log_std)) for each in (log_prob, expected))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def by_quadrature(mean, log_std):
    """Return the entropy of a squashed Gaussian of one number, and its slope by the mean and by log sigma."""
    mean, log_std = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (mean, log_std))
    z = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    u = mean + log_std.exp() * z
    log_density = -0.5 * z.square() - 0.5 * math.log(2 * math.pi)
    inner = log_density - log_std - 2 * (math.log(2) - u - torch.nn.functional.softplus(-2 * u))
    entropy = -torch.trapezoid(log_density.exp() * inner, z)
    entropy.backward()
    return entropy.item(), mean.grad.item(), log_std.grad.item()


@pytest.mark.parametrize("mean", [0.0, -0.8])
@pytest.mark.parametrize("log_std", [0.0, -1.5, 0.7])
def test_the_entropy_of_a_squashed_gaussian_has_the_gradient_of_the_entropy(mean, log_std):
    means, log_stds = torch.full((500_000, 1), mean, requires_grad=True), torch.tensor([log_std], requires_grad=True)
    ours = SquashedGaussian(means, log_stds)
    action = sample(ours, generator(), len(means)).detach()
    entropy = ours.entropy(action).mean()
    entropy.backward()
    found = entropy.item(), means.grad.sum().item(), log_stds.grad.item()
    assert found == pytest.approx(by_quadrature(mean, log_std), abs=6e-3)
    torch.testing.assert_close(entropy.detach(), -ours.log_prob(action).mean().detach(), atol=5e-3, rtol=0)


@pytest.mark.parametrize("mean", [0.0, -0.8])
@pytest.mark.parametrize("log_std", [0.0, -1.5, 0.7])
def test_without_a_sample_the_entropy_is_near_too(mean, log_std):
    means, log_stds = torch.tensor([[mean]], requires_grad=True), torch.tensor([log_std], requires_grad=True)
    entropy = SquashedGaussian(means, log_stds).entropy(None)
    entropy.sum().backward()
    found = entropy.item(), means.grad.item(), log_stds.grad.item()
    assert found == pytest.approx(by_quadrature(mean, log_std), abs=0.3 if log_std > 0 else 0.03)


def test_at_a_deviation_of_1_the_entropy_of_a_squashed_gaussian_falls_with_it():
    assert by_quadrature(0.0, 0.0)[2] == pytest.approx(-0.211, abs=1e-3)  # 1 - 2 E[z tanh z]


@pytest.mark.parametrize("mean", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("log_std", [-1.0, 0.0])
def test_the_squashed_density_integrates_to_1(mean, log_std):
    pre = torch.linspace(-12, 12, 400_001, dtype=torch.float64)[:, None]
    policy = SquashedGaussian(torch.full_like(pre, mean), torch.full((1,), log_std, dtype=torch.float64))
    integral = torch.trapezoid(policy.log_prob(pre).exp(), pre.tanh().squeeze(1)).item()
    assert integral == pytest.approx(1.0, abs=1e-4)


def test_the_squashed_density_is_finite_far_out():
    action = torch.tensor([[40.0], [-40.0]], requires_grad=True)
    log_prob = SquashedGaussian(torch.zeros(2, 1), torch.zeros(1)).log_prob(action)
    log_prob.sum().backward()
    # -u^2 / 2 - log sqrt(2 pi) - log(4 exp(-2 |u|))
    assert log_prob.tolist() == pytest.approx([-800 - 0.5 * math.log(2 * math.pi) + 80 - math.log(4)] * 2)
    assert action.grad.isfinite().all()


POLICIES = [
    Categorical(noise(BATCH, 5)),
    MultiCategorical(noise(BATCH, 5), [2, 3]),
    Bernoulli(noise(BATCH, 3)),
    Gaussian(noise(BATCH, 3), torch.zeros(3)),
    SquashedGaussian(noise(BATCH, 3), torch.zeros(3)),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_samples_follow_the_generator_alone(policy):
    global_stream = torch.get_rng_state()
    stream = generator(3)
    first, second = sample(policy, stream), sample(policy, stream)
    assert sample(policy, generator(3)).equal(first)
    assert not second.equal(first)
    assert torch.get_rng_state().equal(global_stream)
    sample(policy, None)
    assert not torch.get_rng_state().equal(global_stream)
    torch.set_rng_state(global_stream)


@pytest.mark.parametrize(
    ("space", "count", "kind"),
    [
        (spaces.Discrete(4), 4, Categorical),
        (spaces.MultiDiscrete([2, 3]), 5, MultiCategorical),
        (spaces.MultiBinary(3), 3, Bernoulli),
        (spaces.Box(-1, 1, (2,)), 2, Gaussian),
    ],
    ids=str,
)
def test_each_space_has_its_distribution(space, count, kind):
    assert parameter_count(space) == count
    policy = distribution(space, noise(BATCH, count), torch.zeros(count))
    assert type(policy) is kind
    action = sample(policy, generator())
    assert all(row.astype(space.dtype) in space or kind is Gaussian for row in action.numpy())
    assert action.shape[1:] == space.shape


def test_squash_is_for_boxes_only():
    assert type(distribution(spaces.Box(-1, 1, (2,)), noise(BATCH, 2), torch.zeros(2), True)) is SquashedGaussian
    assert type(distribution(spaces.Discrete(2), noise(BATCH, 2), None, True)) is Categorical


def test_other_spaces_are_refused():
    with pytest.raises(UserError, match=r"no policy acts in Text.*Discrete, Box, MultiDiscrete or MultiBinary"):
        parameter_count(spaces.Text(5))


@pytest.mark.parametrize("space", [spaces.Discrete(100_001), spaces.MultiDiscrete([100_000, 1])])
def test_too_many_actions_are_refused(space):
    assert parameter_count(spaces.Discrete(100_000)) == 100_000
    with pytest.raises(UserError, match="a network of 100,001 outputs; at most 100,000 are allowed"):
        parameter_count(space)
