"""What encoders learn beside an algorithm's own loss: its place in the loss, its updates, and what stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.algos.pqn.config import PQNConfig
from agents.core.runtime import Runtime
from agents.data.batch import Batch
from agents.learning.learner import Learner
from agents.networks.augmentation import Augmentation
from tests.algos.making import Made, collect, make, make_batch, make_dqn, make_ppo, watch_losses, weights
from tests.fakes import ClockEnv

PICTURE = spaces.Box(0, 255, (6, 6, 2), np.uint8)
CURL = {"auxiliary": "curl", "augment": ("shift",), "curl_tau": 0.5}
CODER = {"auxiliary": "autoencoder", "auxiliary_coef": 0.5}


class PictureClock(ClockEnv):
    """A clock seen as a picture that lights up."""

    observation_space = PICTURE

    def _obs(self) -> Any:
        column, picture = self._t % 6, np.zeros((self.num_envs, 6, 6, 2), np.uint8)
        picture[self._envs, self._envs, column] = 255
        return picture


def batch(size: int = 32) -> Batch:
    obs = torch.randint(256, (2, size, 6, 6, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return make_batch(size)._replace(obs=obs[0], next_obs=obs[1])


def with_changes(made: Made) -> Made:
    changes = Augmentation(PICTURE, made.algorithm.config.augment) if made.algorithm.config.augment else None
    return Made(made.algorithm, Learner(made.algorithm, Runtime(), 0, changes))


def ppo(**options: Any) -> Made:
    return with_changes(make_ppo(obs_space=PICTURE, **options))


def dqn(**options: Any) -> Made:
    return with_changes(make_dqn(obs_space=PICTURE, **options))


def pqn(**options: Any) -> Made:
    config = PQNConfig.model_validate({"n_envs": 4, "n_steps": 8, "batch_size": 16, "net_arch": (16,), **options})
    return with_changes(make(config, spaces.Discrete(3), obs_space=PICTURE))


def rollout(made: Made) -> Any:
    return collect(made, PictureClock(4, spaces.Discrete(3)))


@pytest.mark.parametrize("options", [CODER, CURL], ids=["autoencoder", "curl"])
@pytest.mark.parametrize("kind", [ppo, dqn, pqn])
def test_an_update_trains_what_is_learnt_beside(kind: Any, options: dict[str, Any]) -> None:
    made = kind(**options)
    before = weights(made.model.auxiliary).clone()
    keys = weights(made.model.auxiliary.keys).clone() if options is CURL else None
    found = made.update(batch() if kind is dqn else rollout(made))
    assert found["train/auxiliary_loss"] > 0
    assert not weights(made.model.auxiliary).equal(before)
    if keys is None:
        assert int(made.model.auxiliary.whitened.norms[0].norm.count) == 32
    else:
        online = weights(torch.nn.Sequential(made.model.encoder, made.model.auxiliary.project))
        moved = weights(made.model.auxiliary.keys)
        if kind is dqn:  # keys follow as a batch comes, and others after the update
            made.update(batch())
            moved = weights(made.model.auxiliary.keys)
        assert torch.allclose(moved, (keys + online) / 2, atol=1e-6)
        assert not moved.equal(keys)


@pytest.mark.parametrize("kind", [ppo, dqn, pqn])
def test_the_loss_has_it_with_its_weight(kind: Any) -> None:
    plain, made = kind(), kind(**CODER)
    made.model.load_state_dict(made.model.state_dict() | plain.model.state_dict())
    made.algorithm.copy_model()
    minibatch: Any = None

    def see(seen: Any, *_: Any) -> None:
        nonlocal minibatch
        minibatch = minibatch or seen

    watch_losses(plain, see)
    plain.update(batch() if kind is dqn else rollout(plain))
    for each in (plain, made):  # as before that update
        each.model.load_state_dict(made.model.state_dict(), strict=False)
        each.algorithm.copy_model()
    constants = {name: torch.tensor(value) for name, value in plain.algorithm.constants(0.0).items()}
    alone, _ = type(plain.algorithm).loss(plain.algorithm, plain.model, minibatch, constants)
    loss, said = made.algorithm.loss(made.model, minibatch, constants)
    assert float(loss.detach()) == pytest.approx(float(alone.detach()) + 0.5 * float(said["auxiliary_loss"]), rel=1e-5)
    if kind is not ppo:  # PPO puts its parts together in its metrics
        assert said["loss"] == loss.detach()
    gradient = torch.autograd.grad(said_loss(made, minibatch), list(made.model.encoder.parameters()))
    assert all(part.any() for part in gradient)


def said_loss(made: Made, minibatch: Any) -> Any:
    return made.model.auxiliary(made.model.encoder(minibatch["obs"]), minibatch["obs"]).mean()


def test_replayed_pictures_are_seen_in_two_ways() -> None:
    """Queries are of pictures that were changed once more than those that keys are of."""
    made, seen = dqn(**CURL), []
    watch_losses(made, lambda minibatch, *_: seen.append((minibatch["obs"], minibatch["augmented"])))
    made.update(batch())
    (obs, augmented), given = seen[0], batch().obs
    assert obs.shape == augmented.shape == given.shape
    assert not obs.equal(augmented)
    assert not obs.equal(given)


def test_without_it_nothing_is_drawn_more() -> None:
    made, other = dqn(augment=("shift",)), dqn(**CURL)
    for each in (made, other):
        each.update(batch())
    assert not other.learner.shuffling.get_state().equal(made.learner.shuffling.get_state())
    plain, coder = dqn(), dqn(**CODER)
    for each in (plain, coder):
        each.update(batch())
    assert plain.learner.shuffling.get_state().equal(coder.learner.shuffling.get_state())


def test_no_kernel_stands_for_a_loss_that_has_it() -> None:
    assert ppo().algorithm.objective is not None
    assert ppo(**CODER).algorithm.objective is None


@pytest.mark.parametrize("kind", [ppo, dqn, pqn])
def test_keys_begin_with_weights_that_were_loaded(kind: Any) -> None:
    made = kind(**CURL)
    for parameter in made.model.encoder.parameters():
        parameter.data += 1
    made.algorithm.copy_model()
    online = weights(torch.nn.Sequential(made.model.encoder, made.model.auxiliary.project))
    assert weights(made.model.auxiliary.keys).equal(online)
