"""Updates that diverge are noticed at once, and with a memory whole sequences are learnt from."""

from __future__ import annotations

import pytest
import torch

from agents.core.runtime import Runtime
from envs.errors import UserError
from tests.algos.making import collect, make_batch, make_dqn, make_ppo, watch_losses
from tests.core.recorder import Tape


def diverges(made, data, what):
    result = made.learner.update(data, 0.0)
    assert not result.health.isfinite()
    with pytest.raises(UserError, match=rf"the training diverged: at step 1,234 its loss is \S+ and {what} not finite"):
        made.learner.refuse_divergence(result, 1234)


def steepen(made, weight):
    """Add 0 to an algorithm's loss, in a way that gives `weight` a slope of 0 / 0."""
    loss = made.algorithm.loss

    def steep(model, minibatch, constants):
        value, aux = loss(model, minibatch, constants)
        return value + (weight - weight.detach()).square().sum().sqrt(), aux

    made.algorithm.loss = steep


RUNTIMES = {"plain": Runtime(), "captured": Runtime("auto", record=Tape())}
each_way = pytest.mark.parametrize(
    ("options", "runtime"),
    [({}, "plain"), ({}, "captured"), ({"target_kl": 1e9}, "plain"), ({"memory": "gru"}, "plain")],
)


@each_way
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_rollout_with_a_number_that_is_not_finite_is_noticed_at_once(options, runtime, bad):
    made = make_ppo(runtime=RUNTIMES[runtime], **options)
    rollout = collect(made)
    made.learner.refuse_divergence(made.learner.update(rollout, 0.0), 0)
    rollout.reward[2, 1] = bad
    diverges(made, rollout, "the parameters are")


@each_way
def test_a_gradient_that_is_not_finite_is_noticed_at_once(options, runtime):
    made = make_ppo(runtime=RUNTIMES[runtime], batch_size=32, n_epochs=1, optimizer="sgd", **options)
    steepen(made, made.model.value_head.weight)
    diverges(made, collect(made), "the parameters are")


@each_way
def test_parameters_that_are_not_finite_are_noticed_at_once(options, runtime):
    made = make_ppo(runtime=RUNTIMES[runtime], batch_size=32, n_epochs=1, optimizer="sgd", **options)
    made.learner.optimizer.rates = lambda rate, count: torch.full((count, 3), 3e38)
    made.learner.parameters.set_scale("", 1e30)
    diverges(made, collect(made), "the parameters are")


@pytest.mark.parametrize("part", ["obs", "return_", "next_obs"])
def test_a_batch_with_a_number_that_is_not_finite_is_noticed_at_once(part):
    made = make_dqn(max_grad_norm=None)
    made.learner.refuse_divergence(made.learner.update(make_batch(), 0.0), 0)
    batch = make_batch()
    getattr(batch, part)[3] = torch.nan
    diverges(made, batch, "the parameters are")


def test_a_step_that_is_not_taken_leaves_a_gradient_to_blame():
    made = make_dqn()
    made.learner._apply = lambda *_: None
    steepen(made, made.model.head.weight)
    diverges(made, make_batch(), "a gradient is")


@pytest.mark.parametrize(("batch_size", "columns"), [(32, {4}), (16, {2}), (8, {1}), (1, {1})])
def test_with_a_memory_minibatches_are_sequences(batch_size, columns):
    made, seen = make_ppo(memory="gru", batch_size=batch_size, n_epochs=2), []
    watch_losses(made, lambda minibatch, *_: seen.append(minibatch))
    rollout = collect(made)
    made.update(rollout)
    assert {minibatch["start"].shape for minibatch in seen} == {(8, width) for width in columns}
    assert {len(minibatch["carry"]) for minibatch in seen} == columns
    rows = torch.cat([minibatch["obs"][0, :, 0] for minibatch in seen])  # which environment
    assert rows.sort().values.equal(rollout.obs[0, :, 0].repeat(2).sort().values)
    assert made.learner.n_updates == len(seen) == 2 * 4 // columns.pop()


@pytest.mark.parametrize("make", [make_ppo, make_dqn])
def test_the_size_of_rewards_and_observations_is_blamed_where_it_is_huge(make):
    made = make()
    data = collect(made) if make is make_ppo else make_batch()
    rewards = data.reward if make is make_ppo else data.return_
    result = made.learner.update(data, 0.0)._replace(health=torch.tensor(torch.nan))

    def told():
        with pytest.raises(UserError) as caught:
            made.learner.refuse_divergence(result, 5)
        found, _, why = str(caught.value).partition(" any more; ")
        assert found.endswith(f"its loss is {float(result.metrics['train/loss']):g} and a gradient is not finite")
        return why

    assert told().startswith("try a smaller learning_rate")
    data.obs[0] = -3e6
    assert told() == "observations reach 3e+06: scale them in the environment, or set norm_obs"
    rewards[0] = -1e20
    assert told() == "rewards reach 1e+20: scale them in the environment, to about 1"
