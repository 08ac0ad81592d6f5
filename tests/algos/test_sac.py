"""SAC's update, its target, its random beginning, the weight of its entropy, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import shutil

import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium import spaces

from agents.algos.iql.config import IQLConfig
from agents.algos.sac.config import SACConfig
from agents.core.runtime import Runtime
from agents.data.batch import Batch
from agents.networks.layers import Ensemble
from agents.run.config import FLAGS, Layer, resolve
from envs.errors import UserError
from tests.algos.making import BOX, make, make_batch, weights
from tests.fakes import ClockEnv, training_on
from tests.marks import long_test

SGD = {"optimizer": "sgd", "learning_rate": 0.05}


def make_sac(runtime=None, action_space=BOX, **options):
    return make(SACConfig.model_validate({"net_arch": (16,), **options}), action_space, runtime=runtime)


def batch_of(size=32, seed=0, **changes) -> Batch:
    actions = torch.rand(size, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return make_batch(size, seed)._replace(action=actions, **changes)


def disagreeing(**options):
    """Return a SAC whose target differs from its critics."""
    made = make_sac(**options)
    for _ in range(3):
        made.update(batch_of())
    return made


def by_hand(made, batch, noise):
    """Return the three losses, from the networks' outputs alone, as the papers write them."""
    model, target, config = made.model, made.algorithm.target, made.algorithm.config
    coef = model.log_ent_coef.exp().detach()

    def acted(obs, normal):
        mean, log_std = model.head(model.torso(obs)).chunk(2, dim=1)
        gaussian = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        before = mean + gaussian.stddev * normal
        return before.tanh(), (gaussian.log_prob(before) - (1 - before.tanh() ** 2).log()).sum(1)

    next_action, next_log_prob = acted(batch.next_obs, noise["next"])
    after = target(batch.next_obs, next_action)
    if config.network.truncated_quantiles:
        rows = after.transpose(0, 1).flatten(1).sort(1).values[:, :-4]
        goal = batch.return_[:, None] + batch.discount[:, None] * (rows - (coef * next_log_prob)[:, None])
        taken = model.critics(batch.obs, batch.action)
        tau = (torch.arange(5) + 0.5) / 5
        off = goal.detach()[None, :, None, :] - taken[..., None]
        huber = torch.where(off.abs() < 1, 0.5 * off**2, off.abs() - 0.5)
        critic = ((tau[:, None] - (off < 0).float()).abs() * huber).mean()
    else:
        least = torch.minimum(after[0, :, 0], after[1, :, 0])
        goal = (batch.return_ + batch.discount * (least - coef * next_log_prob)).detach()
        one, other = model.critics(batch.obs, batch.action)[..., 0]
        critic = 0.5 * ((one - goal) ** 2).mean() + 0.5 * ((other - goal) ** 2).mean()
    action, log_prob = acted(batch.obs, noise["now"])
    judged = model.critics(batch.obs, action)
    worth = judged.mean((0, 2)) if config.network.truncated_quantiles else torch.minimum(*judged[..., 0])
    actor = (coef * log_prob - worth).mean()
    entropy = -(model.log_ent_coef * (log_prob.detach() - 2.0)).mean()  # the target entropy is -2
    return critic, actor, entropy


@pytest.mark.parametrize("options", [{}, {"truncated_quantiles": True, "n_quantiles": 5}], ids=["sac", "tqc"])
def test_an_update_is_three_gradient_steps_on_paper(options):
    made = disagreeing(**SGD, **options, ent_coef="auto_0.3", tau=0.5)
    model, batch = made.model, batch_of(seed=1)
    stream = torch.Generator()
    stream.set_state(made.learner.shuffling.get_state())
    noise = made.algorithm.draw(32, stream)["noise"]
    critic, actor, entropy = by_hand(made, batch, noise)
    parts = {
        "critic": [*model.critics.parameters()],
        "actor": [*model.torso.parameters(), *model.head.parameters()],
        "entropy": [model.log_ent_coef],
    }
    losses = {"critic": critic, "actor": actor, "entropy": entropy}
    gradients = {name: torch.autograd.grad(losses[name], part, retain_graph=True) for name, part in parts.items()}
    expected = {
        name: [(p - 0.05 * g).detach().clone() for p, g in zip(parts[name], gradients[name], strict=True)]
        for name in parts
    }
    coef = model.log_ent_coef.exp().item()
    online, behind = weights(model.critics), weights(made.algorithm.target)
    metrics = made.update(batch)
    assert metrics == pytest.approx(
        {
            "train/critic_loss": critic.item(),
            "train/grad_norm": torch.cat([g.flatten() for found in gradients.values() for g in found]).norm().item(),
            "train/actor_loss": actor.item(),
            "train/ent_coef_loss": entropy.item(),
            "train/ent_coef": coef,
        },
        rel=1e-4,
    )
    for name, part in parts.items():
        for parameter, wanted in zip(part, expected[name], strict=True):
            torch.testing.assert_close(parameter.detach(), wanted, atol=1e-5, rtol=1e-4)
    moved = weights(model.critics)
    assert not moved.equal(online)
    torch.testing.assert_close(weights(made.algorithm.target), (behind + moved) / 2)


def test_the_target_follows_layers_that_have_been_replaced():
    made = disagreeing(tau=1.0)
    for width in (16, 8):  # the structure stays the same at first
        layers = made.model.critics.layers
        for i, (inputs, outputs) in enumerate(itertools.pairwise([5, width, 1])):
            layers[i] = Ensemble(2, inputs, outputs)
        made.update(batch_of(seed=width))
        assert weights(made.algorithm.target).equal(weights(made.model.critics))
        assert not any(parameter.requires_grad for parameter in made.algorithm.target.parameters())


def test_the_target_moves_when_so_many_updates_are_made_and_a_resumed_run_counts_on():
    made = make_sac(tau=1.0, target_update_interval=3)
    moved, before = [], weights(made.algorithm.target)
    for seed in range(7):
        if seed == 2:
            made.algorithm.load_state_dict(copy.deepcopy(made.algorithm.state_dict()))
        made.update(batch_of(seed=seed))
        now = weights(made.algorithm.target)
        moved.append(not now.equal(before))
        assert not moved[-1] or now.equal(weights(made.model.critics))
        before = now
    assert moved == [False, False, True, False, False, True, False]
    assert "updates" not in make_sac().algorithm.state_dict(), "runs of earlier versions are resumed"


@pytest.mark.parametrize("every", [-1, 4])
def test_gsde_holds_its_matrix_while_a_rollout_lasts(every):
    made = make_sac(use_sde=True, sde_sample_freq=every, log_std_init=0.0, learning_starts=0)
    policy = made.algorithm.policy
    noise = policy.draw_noise((8, 3), np.zeros(8), torch.Generator().manual_seed(0))
    obs = torch.ones(3, 3)
    actions = torch.stack([policy.step(obs, (), [part[t] for part in noise]).action for t in range(8)])
    held = actions.split(8 if every < 0 else 4)
    for part in held:
        assert (part == part[0]).all()
    assert every < 0 or not held[0][0].equal(held[1][0])
    assert len(actions[0].unique(dim=0)) == 3, "environments have matrices of their own"
    with torch.no_grad():
        assert made.model(100 * obs).mode().abs().max() <= 2


def test_the_features_that_gsde_is_made_of_learn_from_its_deviation():
    """As in SB3's SAC (`learn_features=True`), but not in its PPO."""
    made = make_sac(use_sde=True)
    distribution = made.model(torch.randn(4, 3))
    distribution.log_std.sum().backward()
    assert all(layer.weight.grad.abs().max() > 0 for layer in made.model.torso.layers)


def test_what_has_ended_is_not_bootstrapped():
    made = disagreeing(**SGD)
    seen = []
    values = type(made.model.critics.values)
    loss = values.loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "loss", lambda self, numbers, target: seen.append(target) or loss(self, numbers, target))
        batch = batch_of(discount=torch.zeros(32))
        made.update(batch)
    assert seen[0].squeeze(1).equal(batch.return_)


@pytest.mark.parametrize(("target", "rises"), [(20.0, True), (-20.0, False)])
def test_the_weight_of_the_entropy_rises_where_there_is_less_than_aimed_at(target, rises):
    made = make_sac(target_entropy=target)
    found = [made.update(batch_of(seed=seed))["train/ent_coef"] for seed in range(3)]
    assert found[0] == 1.0
    assert (found[2] > found[1] > 1) if rises else (found[2] < found[1] < 1)


def test_a_fixed_weight_is_not_learnt():
    made = make_sac(ent_coef=0.2)
    assert made.model.log_ent_coef is None
    assert made.update(batch_of()).keys() == {"train/critic_loss", "train/actor_loss", "train/grad_norm"}
    assert made.learner.latest(0.5)["train/ent_coef"] == 0.2


def test_a_training_that_diverges_says_how_large_its_losses_are():
    made = make_sac()
    batch = batch_of()
    result = made.learner.update(batch._replace(return_=batch.return_ + torch.inf), 0.0)
    with pytest.raises(UserError, match="at step 7 its loss is inf"):
        made.learner.refuse_divergence(result, 7)


@pytest.mark.parametrize(
    ("value", "start"), [("auto", 1.0), ("auto_0.1", 0.1), ("auto_2", 2.0), (0.3, None), (0, None)]
)
def test_how_the_weight_is_written(value, start):
    params = resolve([Layer(FLAGS, {"env": "Pendulum-v1", "algo": "sac", "ent_coef": value})]).params
    assert params.initial_ent_coef == start
    assert params.ent_coef == value


@pytest.mark.parametrize("value", [-1, "auto_", "auto_0", "auto-1", "much"])
def test_a_weight_that_is_none_is_refused(value):
    with pytest.raises(UserError, match=r"--ent-coef: .*must be"):
        resolve([Layer(FLAGS, {"env": "Pendulum-v1", "algo": "sac", "ent_coef": value})])


def test_only_continuous_actions_and_no_memory():
    with pytest.raises(UserError, match=r"SAC needs continuous actions, a Box.*Discrete.*--algo ppo or dqn"):
        make_sac(action_space=spaces.Discrete(3))
    with pytest.raises(UserError, match=r"has no memory: leave --memory at none"):
        make_sac(memory="gru")
    values = {"truncated_quantiles": True, "n_quantiles": 5, "top_quantiles_to_drop_per_net": 5}
    with pytest.raises(UserError, match=r"top_quantiles_to_drop_per_net 5 leaves none"):
        resolve([Layer(FLAGS, {"env": "Pendulum-v1", "algo": "sac", **values})])


def test_the_first_actions_are_uniform_and_later_ones_the_policys():
    env = ClockEnv(4, BOX)
    params = SACConfig(n_envs=4, total_timesteps=6_000, learning_starts=4_000, train_freq=3_000, net_arch=(8,))
    training = training_on(env, params)
    with torch.no_grad():
        training.algorithm.model.head.weight.zero_()
        training.algorithm.model.head.bias.copy_(torch.tensor([0.5, -0.5, -3.0, -3.0]))
    actions = np.concatenate(
        [training.collector.collect(50).trajectory.action.flatten(0, 1).clone() for _ in range(30)]
    )
    first, later = actions[:4_000], actions[4_000:]
    for column in first.T:
        assert scipy.stats.kstest(column, "uniform", (-1, 2)).pvalue > 1e-3
    assert abs(np.corrcoef(first.T)[0, 1]) < 0.06
    assert np.abs(later - np.tanh([0.5, -0.5])).max() < 0.25
    played = np.concatenate(env.actions)
    np.testing.assert_array_equal(played, actions)
    assert np.abs(played).max() <= 1


def test_longer_budgets_do_not_lengthen_the_random_beginning():
    env = ClockEnv(1, BOX)
    training = training_on(env, SACConfig(total_timesteps=50, learning_starts=100, net_arch=(8,)))
    first = training.policy.draw_noise((4, 1), np.array([0.0, 0.4, 0.9, 0.99]), torch.Generator())[0]
    assert first.all()
    training.extend(training.config.params.model_copy(update={"total_timesteps": 400}))
    flags = training.policy.draw_noise((3, 1), np.array([0.0, 0.24, 0.26]), torch.Generator())[0]
    assert flags.squeeze(1).tolist() == [True, True, False]
    assert not training.policy.draw_noise((2,), 1.0, torch.Generator())[0].any()


def test_batch_norm_takes_the_place_of_the_target():
    made = make_sac(batch_norm=True, **SGD)
    norms = made.model.critics.norms
    assert made.algorithm.target is None
    before = [norm.mean.clone() for norm in norms]
    losses = [made.update(batch_of(256, seed))["train/critic_loss"] for seed in range(5)]
    assert np.isfinite(losses).all()
    for norm, mean in zip(norms, before, strict=True):
        assert not norm.mean.equal(mean)
    inputs = norms[0]
    batch = batch_of(256, 9)
    both = torch.cat([batch.obs, batch.next_obs])
    for _ in range(600):
        made.algorithm.after_update(made.algorithm.prepare(batch, {}) | made.algorithm.draw(256, torch.Generator()))
    torch.testing.assert_close(inputs.mean[:3], both.mean(0), atol=5e-3, rtol=0)  # of both halves of a batch
    torch.testing.assert_close(inputs.var[:3], both.var(0), atol=2e-2, rtol=0)


@pytest.mark.parametrize("options", [{}, {"batch_norm": True}], ids=["sac", "crossq"])
def test_targets_have_no_gradient(options, monkeypatch):
    made, seen = make_sac(**options), []
    values = type(made.model.critics.values)
    loss = values.loss
    monkeypatch.setattr(values, "loss", lambda self, numbers, goal: seen.append(goal) or loss(self, numbers, goal))
    made.update(batch_of())
    assert len(seen) == 1
    assert not seen[0].requires_grad


def test_each_transition_counts_by_its_weight():
    made = make_sac()
    prepared = made.algorithm.prepare(batch_of(4), {}) | made.algorithm.draw(4, torch.Generator())
    _, plain = made.algorithm.loss(made.model, prepared, {})
    losses = []
    for row in range(4):
        alone = prepared | {"weight": 4.0 * torch.eye(4)[row]}
        _, aux = made.algorithm.loss(made.model, alone, {})
        losses.append(aux["critic_loss"])
        assert aux["actor_loss"] == plain["actor_loss"]
        assert aux["priority"].shape == (4,)
    assert torch.stack(losses).mean().item() == pytest.approx(plain["critic_loss"].item())
    assert torch.stack(losses).std() > 0.01


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@long_test
@pytest.mark.parametrize("options", [{"truncated_quantiles": True, "n_quantiles": 5}, {"batch_norm": True}])
def test_a_compiled_update_is_the_same(options):
    said: list[str] = []
    runtime = Runtime("on", torch.device("cpu"))
    runtime.say = said.append
    plain, compiled = make_sac(**options), make_sac(runtime, **options)
    for seed in range(3):
        found, expected = compiled.update(batch_of(seed=seed)), plain.update(batch_of(seed=seed))
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert said == []
    torch.testing.assert_close(weights(compiled.model), weights(plain.model), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("config", [SACConfig, IQLConfig])
def test_the_target_has_the_critics_statistics_after_a_move_to_another_device(config):
    algorithm = make(config.model_validate({"net_arch": (16,)}), BOX).algorithm
    algorithm.model.critics.register_buffer("seen", torch.zeros(()))
    algorithm.copy_model()
    algorithm.double().float()  # as a move does, this puts other buffers in the place of those there are
    algorithm.model.critics.seen.fill_(7)
    algorithm.after_update({})
    assert algorithm.target.seen == 7
