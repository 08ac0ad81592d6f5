"""Which parts of observations are changed, by which random numbers, and what each algorithm makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.networks.augmentation import Augmentation
from envs.errors import UserError
from tests.fakes import training_on
from tests.probes.picture_env import Pictures

SPACE = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (4, 12, 12), np.uint8),
        "x": spaces.Box(-1, 1, (3,)),
        "action_mask": spaces.Box(0, 1, (6, 6), np.uint8),
    }
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def observations(rows):
    draw = torch.Generator().manual_seed(9)
    return {
        "camera": torch.randint(256, (rows, 4, 12, 12), generator=draw, dtype=torch.uint8),
        "x": torch.randn(rows, 3, generator=draw),
        "action_mask": torch.ones(rows, 6, 6, dtype=torch.uint8),
    }


def test_pictures_alone_change_each_by_numbers_of_its_own():
    obs = observations(32)
    before = {name: leaf.clone() for name, leaf in obs.items()}
    found = Augmentation(SPACE, ["shift", "flip"])(obs, generator())
    assert all(obs[name].equal(before[name]) for name in obs)
    assert found["x"] is obs["x"]
    assert found["action_mask"] is obs["action_mask"]
    same = (found["camera"] == obs["camera"]).flatten(1).all(1)
    assert 0 <= same.sum() < 8
    flips = [
        row
        for row in range(32)
        if found["camera"][row].flip(-1)[:, 2:-2, 2:-2].eq(obs["camera"][row][:, 2:-2, 2:-2]).all()
    ]
    assert len(flips) < 32


def test_the_same_numbers_give_the_same_pictures_whatever_the_leading_shape():
    augment, obs = Augmentation(SPACE, ["shift", "rotate", "crop", "scale", "colour"]), observations(24)
    flat = augment(obs, generator(3))["camera"]
    nested = augment({name: leaf.unflatten(0, (6, 4)) for name, leaf in obs.items()}, generator(3))["camera"]
    assert nested.flatten(0, 1).equal(flat)
    assert not augment(obs, generator(4))["camera"].equal(flat)
    assert flat.dtype == torch.uint8


@pytest.mark.parametrize(
    ("space", "names", "message"),
    [
        (spaces.Box(-1, 1, (3,)), ["shift"], "changes pictures, and the observation has none"),
        (spaces.Box(0, 255, (8, 12), np.uint8), ["rotate"], "must be as wide as high"),
    ],
)
def test_what_cannot_be_changed_is_refused(space, names, message):
    with pytest.raises(UserError, match=message):
        Augmentation(space, names)


@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (0.0, np.inf), (-3e38, 3e38)])
def test_colours_are_changed_within_finite_bounds_alone(low, high):
    """Which `picture_axes` asks of no picture; moved pixels need none."""
    open_, closed = spaces.Box(low, high, (12, 12), np.float32), spaces.Box(0, 1, (12, 12), np.float32)
    both = spaces.Dict(camera=open_, other=closed)
    with pytest.raises(UserError, match="colour changes pictures within finite bounds, and camera is a Box from"):
        Augmentation(both, ["shift", "colour"], "hw")
    with pytest.raises(UserError, match=r"and the observation is a Box .* leave colour out"):
        Augmentation(open_, ["colour"], "hw")
    assert Augmentation(both, ["shift"], "hw").layouts.keys() == {"camera", "other"}
    moved = Augmentation(open_, ["shift"], "hw")(torch.rand(2, 12, 12), generator())
    assert moved.isfinite().all()


def seen_by(training):
    """Return the observations that the losses of a training's updates take, by their names in minibatches."""
    found = []
    loss = training.algorithm.loss

    def noting(model, minibatch, constants):
        found.append({name: minibatch[name].clone() for name in ("obs", "next_obs", "augmented") if name in minibatch})
        return loss(model, minibatch, constants)

    training.algorithm.loss = noting
    for _ in training.iterations():
        pass
    return found


def test_dqn_learns_from_changed_observations_and_successors():
    params = DQNConfig(
        n_envs=2, total_timesteps=96, learning_starts=32, buffer_size=64, batch_size=16, augment=["colour"]
    )
    plain = DQNConfig(n_envs=2, total_timesteps=96, learning_starts=32, buffer_size=64, batch_size=16)
    changed, same = (seen_by(training_on(Pictures(2), settings)) for settings in (params, plain))
    assert len(changed) == len(same) > 4
    for name in ("obs", "next_obs"):
        values = {int(value) for batch in same for value in batch[name].unique()}
        assert values <= {0, 255}
        assert len({int(value) for batch in changed for value in batch[name].unique()}) > 10, name


def test_ppo_keeps_the_pictures_it_acted_on_and_asks_for_agreement():
    settings = {"n_envs": 2, "total_timesteps": 64, "n_steps": 16, "batch_size": 16, "n_epochs": 2}
    training = training_on(Pictures(2), PPOConfig(**settings, augment=["colour"]))
    seen = seen_by(training)
    assert len(seen) == 2 * 2 * 2, "rollouts, epochs, minibatches"
    for minibatch in seen:
        assert set(minibatch["obs"].unique().tolist()) == {0, 255}
        assert len(minibatch["augmented"].unique()) > 5


def test_what_ppo_says_of_its_loss_is_all_of_it(monkeypatch):
    settings = {"n_envs": 2, "total_timesteps": 32, "n_steps": 16, "batch_size": 8, "n_epochs": 2, "augment_coef": 0.3}
    training = training_on(Pictures(2), PPOConfig(**settings, augment=["colour"], auxiliary="autoencoder"))
    algorithm, losses = training.algorithm, []
    loss_of = algorithm.loss

    def noting(*given):
        loss, aux = loss_of(*given)
        losses.append(loss.item())
        return loss, aux

    monkeypatch.setattr(algorithm, "loss", noting)
    (iteration,) = training.iterations()
    said = {tag: float(value) for tag, value in iteration.metrics.items()}
    assert said["train/loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert said["train/augment_loss"] > 0.1


def test_ppos_agreement_is_that_of_drac():
    settings = {"n_envs": 2, "total_timesteps": 64, "n_steps": 8, "batch_size": 16, "n_epochs": 1, "vf_coef": 0.5}
    training = training_on(Pictures(2), PPOConfig(**settings, augment=["colour"], augment_coef=0.3))
    algorithm, model = training.algorithm, training.algorithm.model
    pictures = torch.randint(256, (16, 8, 8), dtype=torch.uint8, generator=generator())
    others = torch.randint(256, (16, 8, 8), dtype=torch.uint8, generator=generator(1))
    action = torch.arange(16) % 2
    minibatch = {"obs": pictures, "action": action, "advantage": torch.randn(16, generator=generator(2))}
    minibatch |= {"log_prob": torch.zeros(16), "value": torch.zeros(16), "return": torch.ones(16)}
    constants = {"clip_range": torch.tensor(0.2)}
    plain, _ = algorithm.loss(model, minibatch, constants)
    whole, _ = algorithm.loss(model, {**minibatch, "augmented": others}, constants)
    (distribution, value), (_, before) = model(others), model(pictures)
    wanted = (value - before).square().mean() - distribution.log_prob(action).mean()
    torch.testing.assert_close(whole - plain, 0.3 * wanted)
    (slope,) = torch.autograd.grad(whole - plain, model.value_head.bias)  # values of the pictures stay where they are
    torch.testing.assert_close(slope, 0.3 * 2 * (value - before).mean()[None])


def test_without_augmentation_its_weight_changes_nothing():
    params = {"n_envs": 2, "total_timesteps": 64, "n_steps": 16, "batch_size": 16, "n_epochs": 2}
    one, other = (training_on(Pictures(2), PPOConfig(**params, augment_coef=coef)) for coef in (0.1, 0.9))
    for training in (one, other):
        for _ in training.iterations():
            pass
    for a, b in zip(one.algorithm.parameters(), other.algorithm.parameters(), strict=True):
        assert a.equal(b)
