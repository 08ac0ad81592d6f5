"""DQN's choice among the actions that the data have (discrete BCQ): acting, targets, and what is likely."""

from __future__ import annotations

import copy

import pytest
import torch
from gymnasium import spaces

from agents.acting.numpy_inference import numpy_forward
from agents.networks.heads import QUIET
from agents.networks.models import QOutput
from agents.ops.distributions import lowest
from envs.adapters.masks import ACTION_MASK
from tests.algos.making import make_batch, make_dqn, weights
from tests.algos.test_dqn import OBS, recurrent, sequences


def filtering(threshold=0.6, **options):
    """Return a DQN that chooses among likely actions, its target another than its online network."""
    made = make_dqn(bcq_threshold=threshold, net_arch=(16,), **options)
    for _ in range(5):
        made.update(make_batch())
    return made


def likely(made, obs, network=None):
    """Return which actions are likely enough, one row and one action at a time."""
    network = network or made.model
    probability = network.behaviour(network.encoder(obs)).softmax(-1)
    return [[p >= made.model.threshold * max(row) for p in row] for row in probability.tolist()]


def best(made, q, obs, network=None):
    allowed = likely(made, obs, network)
    return [
        max((a for a in range(len(row)) if may[a]), key=row.__getitem__)
        for row, may in zip(q.tolist(), allowed, strict=True)
    ]


def test_it_acts_by_the_best_of_the_likely_actions():
    made = filtering()
    obs = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    q = made.model(obs).q
    expected = best(made, q, obs)
    assert torch.as_tensor(made.policy.actor()(obs.numpy(), (), None).action).tolist() == expected
    assert expected != q.argmax(1).tolist()
    shown = made.policy.inspect(obs.numpy(), ())
    assert shown["q_values"].isnan().tolist() == [[not may for may in row] for row in likely(made, obs)]
    assert shown["value"].tolist() == [float(row[a]) for row, a in zip(q, expected, strict=True)]
    assert numpy_forward(made.model) is None, "NumPy would go past the filter"


@pytest.mark.parametrize("double_q", [False, True])
def test_targets_bootstrap_from_the_best_of_the_likely_actions(double_q):
    made = filtering(double_q=double_q, optimizer="sgd", learning_rate=0.1, max_grad_norm=None)
    batch, model = make_batch(seed=1), copy.deepcopy(made.model)
    target = copy.deepcopy(made.algorithm.target)
    network = model if double_q else target
    chosen = best(made, network(batch.next_obs).q, batch.next_obs, network)
    assert chosen != network(batch.next_obs).q.argmax(1).tolist()
    goal = batch.return_ + batch.discount * target(batch.next_obs).q[torch.arange(32), chosen]
    error = (model(batch.obs).q[torch.arange(32), batch.action] - goal.detach()).abs()
    cloned = -model.behaviour(batch.obs).log_softmax(-1)[torch.arange(32), batch.action]
    loss = (torch.where(error < 1, 0.5 * error.square(), error - 0.5) + cloned).mean()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    metrics = made.update(batch)
    assert metrics["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["train/behaviour_loss"] == pytest.approx(cloned.mean().item(), rel=1e-5)
    torch.testing.assert_close(weights(made.model), weights(model), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("options", [{"distribution": "qr", "n_quantiles": 5}, {"dueling": True}])
def test_it_combines_with_other_heads(options):
    made = filtering(threshold=1.0, **options)
    output = made.model(make_batch().obs)
    assert made.model.choice(output).argmax(1).equal(output.behaviour.argmax(1)), "of the likeliest alone"


def test_with_memory_successors_are_filtered_by_what_is_remembered_of_them():
    made = recurrent(bcq_threshold=0.9)
    minibatch = made.algorithm.prepare(sequences(made), {})
    ahead = made.algorithm._look(made.model, "online", minibatch, QUIET, ahead=True)
    assert ahead.behaviour.shape == ahead.q.shape
    assert not made.model.choice(ahead).equal(ahead.q)
    assert torch.isfinite(made.learner.update(sequences(made), 0.0).health)


def test_an_illegal_action_is_not_likely():
    space = spaces.Dict({"seen": OBS, ACTION_MASK: spaces.MultiBinary(4)})
    made = make_dqn(obs_space=space, bcq_threshold=1.0)
    seen = torch.randn(64, 3, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(64, 4, dtype=torch.int8)
    behaviour = made.model({"seen": seen, ACTION_MASK: mask}).behaviour
    mask[torch.arange(64), behaviour.argmax(1)] = 0
    obs = {"seen": seen, ACTION_MASK: mask}
    action = torch.as_tensor(made.policy.actor()(obs, (), None).action)
    assert mask[torch.arange(64), action].all()
    assert action.equal(torch.where(mask != 0, behaviour, lowest(behaviour)).argmax(1))


def test_a_threshold_of_0_has_no_behaviour_and_changes_nothing():
    plain, off = make_dqn(), make_dqn(bcq_threshold=0.0)
    assert weights(plain.model).equal(weights(off.model))
    assert isinstance(output := off.model(make_batch().obs), QOutput)
    assert output.behaviour is None
    assert off.model.choice(output) is output.q
