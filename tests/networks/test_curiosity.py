"""What curiosity finds new, and what it learns, against closed forms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.core.config import CuriosityConfig, NetworkConfig
from agents.learning.parameters import FlatParameters
from agents.networks.curiosity import ActionCode, Whitened, build_curiosity, learning_loss
from agents.networks.normalize import RewardScale
from envs.actions import Hybrid
from envs.words import Written

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
PICTURE = spaces.Box(0, 255, (10, 10, 2), np.uint8)
PARTS = spaces.Dict(
    {
        "action_mask": spaces.Box(0, 1, (3,), np.uint8),
        "grid": spaces.Box(-np.inf, np.inf, (2, 3), np.float32),
        "picture": PICTURE,
        "place": spaces.Discrete(4),
        "text": Written(8),
    }
)
ACTIONS = [
    spaces.Discrete(3),
    spaces.Box(-1, 1, (2,), np.float32),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(3),
]


def made(kind="rnd", obs=VECTOR, action=ACTIONS[0], num_envs=4, encoder="auto", gamma=0.99, **options):
    torch.manual_seed(0)
    config = CuriosityConfig(curiosity=kind, **{"curiosity_arch": (16,), "curiosity_size": 5, **options})
    return build_curiosity(
        obs, action, config, NetworkConfig(encoder=encoder, norm_obs=True), RewardScale(num_envs, gamma)
    )


def drawn(space, rows, seed=0):
    """Return `rows` members of a space as tensors."""
    rng = np.random.default_rng(seed)
    match space:
        case spaces.Dict():
            return {key: drawn(leaf, rows, seed + i) for i, (key, leaf) in enumerate(space.items())}
        case spaces.Discrete():
            return torch.from_numpy(rng.integers(0, space.n, rows))
        case spaces.MultiDiscrete():
            return torch.from_numpy(rng.integers(0, space.nvec, (rows, len(space.nvec))))
        case spaces.MultiBinary():
            return torch.from_numpy(rng.integers(0, 2, (rows, space.n)).astype(np.float32))
    if space.dtype == np.uint8:
        return torch.from_numpy(rng.integers(0, 256, (rows, *space.shape), np.uint8))
    return torch.from_numpy(rng.normal(2, 3, (rows, *space.shape)).astype(np.float32))


def test_numbers_have_mean_0_and_deviation_1_and_a_picture_stays_one():
    whitened, obs = Whitened(PARTS), drawn(PARTS, 3000)
    whitened.update(obs)
    found = whitened(obs)
    assert list(whitened.space.spaces) == list(found) == ["grid", "picture", "place", "text"], "masks are left out"
    assert {key: tuple(leaf.shape[1:]) for key, leaf in found.items()} == {
        key: leaf.shape for key, leaf in whitened.space.items()
    }
    assert whitened.space["grid"].shape == (6,)
    assert whitened.space["picture"].shape == PICTURE.shape
    for key in ("grid", "picture"):
        flat = obs[key].flatten(1).double()
        expected = ((flat - flat.mean(0)) / flat.std(0, correction=0)).clamp(-5, 5)
        torch.testing.assert_close(found[key].flatten(1).double(), expected, atol=2e-3, rtol=1e-3)
    assert (found["grid"].abs() <= 5).all()
    assert whitened({key: leaf * 0 + 200 if key == "grid" else leaf for key, leaf in obs.items()})["grid"].max() == 5
    assert found["place"].equal(obs["place"])
    assert found["text"].equal(obs["text"])


def test_the_bonus_of_rnd_is_the_mean_squared_error_on_the_successor():
    curiosity = made()
    obs, next_obs, action = drawn(VECTOR, 20), drawn(VECTOR, 20, 1), drawn(ACTIONS[0], 20)
    curiosity.whitened.update(next_obs)
    seen = ((next_obs - next_obs.mean(0)) / next_obs.std(0, correction=0)).clamp(-5, 5)
    expected = (curiosity.predictor(seen) - curiosity.target(seen)).square().sum(-1) / 5
    surprise = curiosity(obs, action, next_obs)
    torch.testing.assert_close(surprise.bonus, expected, atol=1e-5, rtol=1e-4)
    assert surprise.loss.equal(surprise.bonus)
    assert curiosity(-obs, 2 - action, next_obs).bonus.equal(surprise.bonus)


def test_the_target_of_rnd_is_not_trained():
    curiosity = made()
    trained = FlatParameters(curiosity)
    assert len(trained.vector) == sum(parameter.numel() for parameter in curiosity.predictor.parameters())
    minibatch = {"obs": drawn(VECTOR, 8), "action": drawn(ACTIONS[0], 8), "next_obs": drawn(VECTOR, 8, 1)}
    before = copy.deepcopy(curiosity.target.state_dict())
    gradient, *_ = trained.gradient(lambda module, batch: (learning_loss(module, batch, 1.0), ()), minibatch)
    trained.vector -= 0.1 * gradient
    assert gradient.count_nonzero() > 50
    assert all(value.equal(before[name]) for name, value in curiosity.target.state_dict().items())


@pytest.mark.parametrize("kind", ["rnd", "icm"])
def test_what_has_been_learnt_is_no_longer_new(kind):
    curiosity = made(kind, curiosity_arch=(32, 32))
    optimizer = torch.optim.Adam([p for p in curiosity.parameters() if p.requires_grad], 0.01)
    obs, action = drawn(VECTOR, 64), drawn(ACTIONS[0], 64)
    next_obs, new = obs + action[:, None], 20 * torch.ones(64, 3)
    curiosity.whitened.update(next_obs)
    first = curiosity(obs, action, next_obs).bonus.mean().item()
    for _ in range(300):
        optimizer.zero_grad()
        curiosity(obs, action, next_obs).loss.mean().backward()
        optimizer.step()
    known = curiosity(obs, action, next_obs).bonus.mean().item()
    unknown = curiosity(obs, action, new).bonus.mean().item()
    assert unknown > 20 * known
    if kind == "rnd":
        assert known < 0.1 * first


@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
def test_icm_weighs_both_models_and_learns_features_from_actions_alone(action_space):
    curiosity = made("icm", action=action_space, icm_beta=0.3)
    obs, next_obs, action = drawn(VECTOR, 20), drawn(VECTOR, 20, 1), drawn(action_space, 20)
    now, then = curiosity.features(curiosity.whitened(obs)), curiosity.features(curiosity.whitened(next_obs))
    code = curiosity.code(action)
    forward = 0.5 * (curiosity.dynamics(torch.cat([now, code], -1)) - then).square().sum(-1)
    numbers = curiosity.inverse(torch.cat([now, then], -1))
    match action_space:
        case spaces.Discrete():
            which = torch.distributions.Categorical(logits=numbers).log_prob(action)
        case spaces.MultiDiscrete():
            heads = zip(numbers.split([2, 3], -1), action.T, strict=True)
            which = sum(torch.distributions.Categorical(logits=logits).log_prob(choice) for logits, choice in heads)
        case spaces.MultiBinary():
            which = torch.distributions.Bernoulli(logits=numbers).log_prob(action).sum(-1)
        case _:
            which = torch.distributions.Normal(numbers, 1.0).log_prob(action).sum(-1)
    surprise = curiosity(obs, action, next_obs)
    torch.testing.assert_close(surprise.bonus, forward)
    torch.testing.assert_close(surprise.loss, 0.3 * forward - 0.7 * which)

    def gradient_of(loss):
        return torch.autograd.grad(loss.mean(), list(curiosity.features.parameters()), retain_graph=True)

    for found, expected in zip(gradient_of(surprise.loss), gradient_of(-0.7 * which), strict=True):
        torch.testing.assert_close(found, expected)


def test_actions_become_vectors():
    assert ActionCode(ACTIONS[0])(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert ActionCode(ACTIONS[2])(torch.tensor([[1, 0]])).tolist() == [[0, 1, 1, 0, 0]]
    assert ActionCode(ACTIONS[1])(torch.tensor([[0.5, -2.0]])).tolist() == [[0.5, -2.0]]
    assert [ActionCode(space).features for space in ACTIONS] == [3, 2, 5, 3]
    parts = Hybrid({"aim": ACTIONS[1], "what": ACTIONS[0], "where": ACTIONS[2]})
    row = torch.tensor([[0.5, -2.0, 1.0, 1.0, 2.0]])
    assert ActionCode(parts)(row).tolist() == [[0.5, -2.0, 0, 1, 0, 0, 1, 0, 0, 1]]
    surprise = made("icm", action=parts)(drawn(VECTOR, 1), row, drawn(VECTOR, 1, 1))
    assert surprise.loss.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.9])
@pytest.mark.parametrize("dummies", [False, True])
def test_rewards_are_divided_by_the_running_deviation_of_their_returns(gamma, dummies):
    curiosity = made(gamma=gamma)
    generator = torch.Generator().manual_seed(0)
    running, returns, seen = np.zeros(4), [], []
    for seed in range(3):
        obs, next_obs = drawn(spaces.Box(-1, 1, (4, 3), np.float32), 6, seed), torch.randn(6, 4, 3, generator=generator)
        action, done = torch.zeros(6, 4, dtype=torch.int64), torch.rand(6, 4, generator=generator) < 0.3
        valid = torch.rand(6, 4, generator=generator) < 0.8 if dummies else None
        bonus, reward = curiosity.rewards(obs, action, next_obs, done, valid)
        real = torch.ones(6, 4, dtype=torch.bool) if valid is None else valid
        seen.append(next_obs[real])
        expected = curiosity(obs.flatten(0, 1), action.flatten(), next_obs.flatten(0, 1)).bonus.view(6, 4) * real
        torch.testing.assert_close(bonus, expected)
        for t in range(6):
            running = np.where(real[t].numpy(), gamma, 1.0) * running + bonus[t].double().numpy()
            returns += running[real[t].numpy()].tolist()
            running = np.where((done[t] | ~real[t]).numpy(), 0, running)  # a dummy begins an episode
        torch.testing.assert_close(reward, bonus / np.std(returns), atol=1e-4, rtol=1e-3)
    (leaf,) = curiosity.whitened.norms
    torch.testing.assert_close(leaf.norm.mean, torch.cat(seen).mean(0))


@pytest.mark.parametrize(("share", "kept"), [(1.0, range(12)), (0.25, [0, 4, 8]), (0.5, range(0, 12, 2)), (0.01, [0])])
@pytest.mark.parametrize("sequences", [False, True])
def test_a_share_of_a_minibatch_is_learnt_from(share, kept, sequences):
    curiosity = made()
    data = {"obs": drawn(VECTOR, 12), "action": drawn(ACTIONS[0], 12), "next_obs": drawn(VECTOR, 12, 1)}
    valid = torch.arange(12) % 8 > 0
    expected = curiosity(*data.values()).loss[[*kept]]
    real = valid[[*kept]] if sequences else torch.ones(len(expected))
    minibatch = {name: leaf.unflatten(0, (4, 3)) for name, leaf in data.items()} if sequences else data
    if sequences:
        minibatch |= {"valid": valid.view(4, 3), "start": torch.zeros(4, 3, dtype=torch.bool)}
    found = learning_loss(curiosity, minibatch | {"advantage": torch.ones(12)}, share)
    torch.testing.assert_close(found, (expected * real).sum() / real.sum().clamp(min=1))


@pytest.mark.parametrize("kind", ["rnd", "icm"])
@pytest.mark.parametrize("encoder", ["auto", "impala"])
def test_every_kind_of_observation_is_read(kind, encoder):
    curiosity = made(kind, obs=PARTS, encoder=encoder)
    surprise = curiosity(drawn(PARTS, 7), drawn(ACTIONS[0], 7), drawn(PARTS, 7, 9))
    assert surprise.bonus.shape == surprise.loss.shape == (7,)
    assert (surprise.bonus > 0).all()
    reads = curiosity.target if kind == "rnd" else curiosity.features
    assert ("impala" in reads.encoder.description) == (encoder == "impala")
    assert "normalised" not in reads.encoder.description
