"""IQL's update, its target, what it asks of the data, and what it refuses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.algos.iql.config import IQLConfig
from agents.data.batch import Batch
from agents.run.config import FLAGS, Layer, resolve
from envs.actions import ActionCodec
from envs.errors import UserError
from tests.algos.making import BOX, Made, make, make_batch, weights

SGD = {"optimizer": "sgd", "learning_rate": 0.05}
THREE = spaces.Discrete(3)


def make_iql(action_space=BOX, **options) -> Made:
    return make(IQLConfig.model_validate({"net_arch": (16,), **options}), action_space)


def batch_of(action_space=BOX, size=32, seed=0, **changes) -> Batch:
    batch = make_batch(size, seed, n_actions=3)
    if isinstance(action_space, spaces.Box):
        drawn = torch.rand(size, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        batch = batch._replace(action=drawn)
    return batch._replace(**changes)


def disagreeing(action_space=BOX, **options) -> Made:
    """Return an IQL whose target differs from its critics."""
    made = make_iql(action_space, **options)
    for _ in range(3):
        made.update(batch_of(action_space))
    return made


def by_hand(made, batch, space):
    """Return the three losses as the paper writes them, transition by transition."""
    model, target, config = made.model, made.algorithm.target, made.algorithm.config
    value, critic, actor = [], [], []
    for i in range(len(batch.obs)):
        obs, action, after = batch.obs[i : i + 1], batch.action[i : i + 1], batch.next_obs[i : i + 1]
        numbers = action if space is BOX else torch.nn.functional.one_hot(action, 3).float()
        worth = min(float(q) for q in target(obs, numbers))
        distribution, v = model(obs)
        error = worth - v[0]
        weight = min(np.exp(config.weight_temp * error.item()), config.max_weight)
        value.append((1 - config.expectile if error < 0 else config.expectile) * error**2)
        goal = float(batch.return_[i] + batch.discount[i] * model.value(after).detach()[0])
        critic.append(sum(0.5 * (q[0, 0] - goal) ** 2 for q in model.critics(obs, numbers)))
        if space is BOX:
            mean = model.policy_head(model.policy_torso(obs))
            log_prob = torch.distributions.Normal(mean, model.log_std.exp()).log_prob(action).sum()
        else:
            log_prob = distribution.log_prob(action)[0]
        actor.append(-weight * log_prob)
    return [torch.stack(each).mean() for each in (value, critic, actor)]


@pytest.mark.parametrize("space", [BOX, THREE], ids=["box", "discrete"])
def test_an_update_is_three_gradient_steps_on_paper(space):
    made = disagreeing(space, **SGD, expectile=0.8, weight_temp=2.0, max_weight=1.5)
    batch = batch_of(space, seed=1, discount=torch.tensor([0.9, 0.0] * 16))
    twin = copy.deepcopy(made)
    losses = by_hand(twin, batch, space)
    sum(losses).backward()
    with torch.no_grad():
        for parameter in twin.model.parameters():
            parameter -= 0.05 * parameter.grad
    metrics = made.update(batch)
    names = ("train/value_loss", "train/critic_loss", "train/actor_loss")
    assert [metrics[name] for name in names] == pytest.approx([loss.item() for loss in losses], rel=1e-4)
    torch.testing.assert_close(weights(made.model), weights(twin.model), atol=1e-6, rtol=1e-4)


def test_the_target_moves_by_tau_after_the_step():
    made = disagreeing(tau=0.25)
    before = weights(made.algorithm.target)
    made.update(batch_of(seed=2))
    expected = before + 0.25 * (weights(made.model.critics) - before)
    torch.testing.assert_close(weights(made.algorithm.target), expected)


def test_a_state_is_worth_the_expectile_of_what_was_done_there():
    """Of two actions at one state, worth 0 and 1 and as frequent, the 0.9-expectile is 0.9."""
    made = make_iql(spaces.Discrete(2), expectile=0.9, learning_rate=0.03, tau=0.3)
    obs = torch.zeros(64, 3)
    action = torch.arange(64) % 2
    batch = batch_of(spaces.Discrete(2), 64, obs=obs, next_obs=obs, action=action, return_=action.float())
    for _ in range(250):
        made.update(batch._replace(discount=torch.zeros(64)))
    assert made.model.value(obs[:1]).item() == pytest.approx(0.9, abs=0.02)
    probability = made.model(obs[:1]).distribution.log_prob(torch.tensor([1])).exp().item()
    assert probability == pytest.approx(np.exp(3.0) / (1 + np.exp(3.0)), abs=0.02)  # weights differ by exp(3 * 1)


def test_no_action_is_asked_about_that_is_not_in_the_data():
    made = disagreeing(THREE)
    asked = []
    for critics in (made.model.critics, made.algorithm.target):
        critics.register_forward_pre_hook(lambda module, given: asked.append(given[1]))
    made.algorithm.follow_model()
    batch = batch_of(THREE, action=torch.zeros(32, dtype=torch.int64))
    prepared = made.algorithm.prepare(batch, {})
    made.algorithm.loss(made.model, prepared, {})
    assert len(asked) == 2
    assert all(code.equal(torch.tensor([[1.0, 0.0, 0.0]]).expand(32, 3)) for code in asked)


def test_actions_out_of_bounds_are_judged_as_they_were_carried_out():
    made, other = disagreeing(), disagreeing()
    batch = batch_of(seed=3)
    wide = made.update(batch._replace(action=batch.action * 3))
    assert wide == other.update(batch._replace(action=(batch.action * 3).clamp(-1, 1)))


def test_so_are_the_numbers_among_actions_of_several_parts():
    """And as the environment gets them: choices, which are numbers there too, stay what they are."""
    parts = {"aim": spaces.Box(-1, 1, (2,)), "go": spaces.Discrete(5), "lift": spaces.Box(0, np.inf, (1,))}
    codec = ActionCodec(spaces.Dict(parts))
    action = torch.tensor([[3.0, -0.5, 4.0, -2.0], [-3.0, 9.0, 0.0, 7.0]])
    batch = batch_of(size=2, action=action)
    done = make_iql(codec.space).algorithm.prepare(batch, {})["action"]
    assert done.tolist() == [[1.0, -0.5, 4.0, 0.0], [-1.0, 1.0, 0.0, 7.0]]
    assert done.numpy().tolist() == codec.encode(codec.decode(action.numpy())).tolist()


def test_priorities_are_how_wrong_the_critics_are():
    made = disagreeing()
    batch = batch_of(seed=4)
    with torch.no_grad():
        goal = batch.return_ + batch.discount * made.model.value(batch.next_obs)
        error = (made.model.critics(batch.obs, batch.action)[..., 0] - goal).abs().mean(0)
    weight = torch.linspace(0.1, 1, 32)
    result = made.learner.update(batch._replace(weight=weight), 0.0)
    torch.testing.assert_close(result.priorities, error)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"squash_output": True}, "squash_output gives no likelihood"),
        ({"norm_value": "popart"}, "norm_value popart follows the returns of rollouts"),
        ({"expectile": 1.0}, "expectile"),
    ],
)
def test_what_does_not_fit(settings, said):
    with pytest.raises(UserError, match=said):
        resolve([Layer(FLAGS, {"env": "Pendulum-v1", "algo": "iql", **settings})])


def test_no_memory():
    with pytest.raises(UserError, match="IQL replays single transitions and has no memory"):
        make_iql(memory="gru")
