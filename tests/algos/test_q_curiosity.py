"""DQN and PQN with curiosity: its rewards are added to the environment's."""

from __future__ import annotations

import copy

import pytest
import torch

from agents.algos.dqn.config import DQNConfig
from agents.algos.pqn.config import PQNConfig
from agents.networks.curiosity import learning_loss
from agents.ops.returns import gae
from tests.algos.making import make_batch, make_dqn, watch_losses
from tests.fakes import ClockEnv, training_on

KINDS = pytest.mark.parametrize("kind", ["rnd", "icm"])
SMALL = {"curiosity_arch": (8,), "curiosity_size": 4, "net_arch": (8,), "total_timesteps": 10**6}
PQN = {"n_envs": 4, "n_steps": 24, "batch_size": 96, "n_epochs": 1, "learning_rate": 0.01}
DQN = {"n_envs": 2, "learning_starts": 10**5, "buffer_size": 128, "batch_size": 16}
RECURRENT = {"memory": "gru", "memory_size": 4, "sequence_length": 4, "burn_in": 2}


def replayed(options):
    """Return a training of DQN, and what it replays."""
    training = training_on(ClockEnv(2), DQNConfig.model_validate({**DQN, **SMALL, **options}))
    iterations = training.iterations()
    while len(training.replay) < 64:
        assert not next(iterations).metrics  # nothing is learnt yet
    return training, training.sampler.sample(16, 0.0)


@KINDS
@pytest.mark.parametrize("options", [{}, RECURRENT, {"prioritized_replay": True, "distribution": "qr"}])
def test_what_dqn_replays_is_worth_more_the_newer_it_is(kind, options):
    training, batch = replayed({"curiosity": kind, "curiosity_coef": 0.3, **options})
    lead = batch.return_.shape
    twin = copy.deepcopy(training.algorithm)
    prepared = training.algorithm.prepare(batch, {})
    curiosity = twin.model.curiosity
    flat = [leaf.flatten(0, len(lead) - 1) for leaf in (batch.obs, batch.action, batch.next_obs)]
    curiosity.whitened.update(flat[2])
    bonus = curiosity(*flat).bonus
    more = (bonus / bonus.std(correction=0)).clamp(max=10).view(lead)
    expected = batch.return_ + 0.3 * more
    if "memory" in options:
        expected = expected.T[2:].flatten()
    torch.testing.assert_close(prepared["return_"], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prepared["bonus"].flatten(), bonus.detach())
    assert (bonus > 0).all()


def without_curiosity(algorithm, minibatch):
    """Return the loss of all else."""
    algorithm.model.curiosity = None
    return algorithm.loss(algorithm.model, minibatch, {})[0]


@KINDS
@pytest.mark.parametrize("options", [{}, RECURRENT])
def test_dqn_learns_what_was_new(kind, options):
    training, batch = replayed({"curiosity": kind, "curiosity_loss_coef": 0.5, "curiosity_share": 0.5, **options})
    plain, seen = copy.deepcopy(training.algorithm), []
    watch_losses(training, lambda minibatch, aux, _: seen.append((minibatch, aux)))
    before = {name: value.clone() for name, value in training.algorithm.model.curiosity.state_dict().items()}
    metrics = training.learner.update(batch, 0.0).metrics
    ((minibatch, aux),) = seen
    plain.prepare(batch, {})  # which moves the statistics as the update did
    shape = minibatch["start"].shape if "memory" in options else minibatch["action"].shape
    data = minibatch | {"action": minibatch["action"].view(shape)}
    learnt = learning_loss(plain.model.curiosity, data, 0.5)
    torch.testing.assert_close(aux["curiosity_loss"], learnt.detach())
    loss, _ = plain.loss(plain.model, minibatch, {})
    torch.testing.assert_close(aux["loss"], loss.detach())
    torch.testing.assert_close(loss, without_curiosity(plain, minibatch) + 0.5 * learnt)
    assert float(metrics["rollout/curiosity"]) == pytest.approx(minibatch["bonus"].mean().item())
    assert "train/curiosity_loss" in metrics
    after = training.algorithm.model.curiosity.state_dict()
    trained = "predictor" if kind == "rnd" else "dynamics"
    assert all(not after[name].equal(before[name]) for name in before if name.startswith(trained) and "weight" in name)


@KINDS
@pytest.mark.parametrize("options", [{}, {"memory": "gru", "memory_size": 4}])
def test_pqn_adds_its_rewards_to_those_of_the_rollout(kind, options):
    values = {**PQN, **SMALL, "curiosity": kind, "curiosity_coef": 0.3, "curiosity_loss_coef": 0.5, **options}
    training = training_on(ClockEnv(4, dummies=True), PQNConfig.model_validate(values))
    rollout = training.collector.collect(24).trajectory
    assert rollout.valid is not None
    twin, seen = copy.deepcopy(training.algorithm), []
    _, value, next_value = twin.policy.evaluate(rollout)
    ends = rollout.terminated, rollout.truncated
    bonus, more = twin.model.curiosity.rewards(
        rollout.obs, rollout.action, rollout.next_obs, ends[0] | ends[1], rollout.valid
    )
    _, expected = gae(rollout.reward + 0.3 * more, value, next_value, *ends, 0.99, 0.65)
    watch_losses(training, lambda minibatch, aux, _: seen.append((minibatch, aux)))
    metrics = training.learner.update(rollout, 0.0).metrics
    ((minibatch, aux),) = seen
    real = minibatch["valid"] if "memory" in options else torch.ones(len(minibatch["return"]), dtype=torch.bool)
    found, wanted = minibatch["return"][real].sort().values, expected[rollout.valid].sort().values
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    learnt = learning_loss(twin.model.curiosity, minibatch, 0.25)
    torch.testing.assert_close(aux["curiosity_loss"], learnt.detach())
    loss, _ = twin.loss(twin.model, minibatch, {})
    torch.testing.assert_close(aux["loss"], loss.detach())
    torch.testing.assert_close(loss, without_curiosity(twin, minibatch) + 0.5 * learnt)
    assert float(metrics["rollout/curiosity"]) == pytest.approx(bonus[rollout.valid].mean().item(), rel=1e-4)
    assert float(bonus[rollout.valid].mean()) > 0


def test_several_steps_replayed_as_one_are_refused():
    said = DQNConfig(curiosity="icm", n_step_returns=3).contradiction()
    assert said == (
        "curiosity icm judges single steps, and n_step_returns 3 replays several as one: give n_step_returns 1, or "
        "leave curiosity out."
    )
    assert DQNConfig(curiosity="icm").contradiction() is None
    assert DQNConfig(n_step_returns=3).contradiction() is None


def test_without_curiosity_there_is_nothing_of_it():
    made = make_dqn()
    assert made.model.curiosity is None
    assert "bonus" not in made.algorithm.prepare(make_batch(), {})
