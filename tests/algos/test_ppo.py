"""PPO's update, its streams, and what a saved training carries."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.algos.ppo.config import PPOConfig
from agents.ops.losses import divergence
from agents.ops.returns import explained_variance, gae
from tests.algos.making import BOX, N_STEPS, NUM_ENVS, collect, make_dqn, make_ppo, watch_losses, weights
from tests.fakes import ClockEnv, training_on

ACTIONS = [spaces.Discrete(3), BOX, spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)]


def record_losses(made):
    """Return a list that gets each minibatch's size, approx_kl and clip_fraction."""
    seen = []

    def see(minibatch, aux, constants):
        seen.append((len(minibatch["advantage"]), [*divergence(aux["log_ratio"], constants["clip_range"])]))

    watch_losses(made, see)
    return seen


@pytest.mark.parametrize(
    ("action_space", "options"),
    [
        *itertools.product(ACTIONS, [{}, {"norm_obs": True}, {"shared_torso": True}]),
        (BOX, {"squash_output": True}),
        (BOX, {"state_dependent_std": True, "shared_torso": True}),
    ],
    ids=str,
)
def test_every_action_space_learns_and_its_first_ratio_is_1(action_space, options):
    settings = {"n_envs": NUM_ENVS, "n_steps": N_STEPS, "batch_size": 16, "n_epochs": 2, "net_arch": (16,)}
    options = {**settings, "norm_reward": True, "ent_coef": 0.01, "total_timesteps": 10**6, **options}
    training = training_on(ClockEnv(NUM_ENVS, action_space, dummies=True), PPOConfig.model_validate(options))
    seen, model = record_losses(training), training.algorithm.model
    loop = training.iterations()
    for _ in range(4):  # with norm_obs, the statistics have moved by the second rollout
        before = weights(model)
        seen.clear()
        iteration = next(loop)
        _, (approx_kl, clip_fraction) = seen[0]
        assert approx_kl == pytest.approx(0.0, abs=1e-6)
        assert clip_fraction == 0.0
        assert not weights(model).equal(before)
        assert weights(model).isfinite().all()
        metrics = {tag: float(value) for tag, value in iteration.metrics.items()}
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        assert ("train/std" in metrics) == (model.log_std is not None)
    assert any(watched[0] > 1e-7 for _, watched in seen), "later ratios must differ, or the first proves nothing"


def test_the_names_of_the_metrics():
    made = make_ppo(BOX)
    names = "loss policy_gradient_loss value_loss entropy_loss approx_kl clip_fraction explained_variance std"
    names += " early_stop grad_norm"
    assert made.update(collect(made)).keys() == {f"train/{name}" for name in names.split()}


def test_what_is_stored_is_the_unclipped_action_with_its_own_density():
    made, env = make_ppo(BOX, log_std_init=1.0), ClockEnv(NUM_ENVS, BOX)
    rollout = collect(made, env)
    assert (rollout.action.abs() > 1).any()
    np.testing.assert_array_equal(rollout.action, np.stack(env.actions))
    distribution, value = made.model(rollout.obs.flatten(0, 1))
    log_prob, stored_value, _ = made.policy.evaluate(rollout)
    torch.testing.assert_close(distribution.log_prob(rollout.action.flatten(0, 1)), log_prob.flatten())
    torch.testing.assert_close(value, stored_value.flatten())


def test_squashed_actions_are_stored_before_the_tanh():
    made, env = make_ppo(BOX, squash_output=True, log_std_init=1.0), ClockEnv(NUM_ENVS, BOX)
    rollout = collect(made, env)
    assert (rollout.action.abs() > 1).any()
    np.testing.assert_allclose(rollout.action.tanh(), np.stack(env.actions), rtol=1e-6)


@torch.no_grad()
def test_a_truncation_bootstraps_from_its_final_observation():
    env, made = ClockEnv(NUM_ENVS), make_ppo()
    _, _, next_value = made.policy.evaluate(collect(made, env, n_steps=30))
    clean = ClockEnv(NUM_ENVS)
    clean.reset(0)
    checked = 0
    for t, action in enumerate(env.actions):
        step = clean.step(action)
        value = made.model.value(torch.from_numpy(step.next_obs))
        wanted = step.truncated | ~(step.terminated | step.truncated)
        torch.testing.assert_close(next_value[t][wanted], value[wanted])
        moved = made.model.value(torch.from_numpy(step.obs)) != value
        checked += (moved.numpy() & step.truncated).sum()
    assert checked > 5, "the reset observations must have values of their own"


@pytest.mark.parametrize("options", [{}, {"norm_obs": True, "norm_reward": True}, {"memory": "gru"}])
def test_dummy_transitions_change_nothing(options):
    made = make_ppo(**options)
    rollout = collect(made, ClockEnv(NUM_ENVS, dummies=True), n_steps=24)
    assert rollout.valid is not None
    assert (~rollout.valid).sum() > 4
    twin = make_ppo(**options)
    twin.load_state_dict(copy.deepcopy(made.state_dict()))
    expected = made.update(copy.deepcopy(rollout))
    dummies = ~rollout.valid
    rollout.reward[dummies], rollout.action[dummies] = 77, 1
    if "memory" not in options:  # a dummy is the first row of its episode: its carry is 0 whatever it shows
        rollout.obs[dummies] = 77
    found = twin.update(rollout)
    assert {tag: found[tag] for tag in expected} == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(weights(twin.model), weights(made.model), atol=1e-6, rtol=0)


def test_what_is_told_of_an_update_is_of_real_transitions():
    made = make_ppo(memory="gru", learning_rate=0.05)
    rollout = collect(made, ClockEnv(NUM_ENVS, dummies=True), n_steps=24)
    aux, data = {}, {}
    told = made.algorithm.metrics
    made.algorithm.metrics = lambda one, other, *more: (aux.update(one), data.update(other), told(one, other, *more))[2]
    found = made.update(rollout)
    real, ratio = aux["valid"], aux["log_ratio"].exp()
    assert 0 < (~real).sum() < len(real)
    assert found["train/approx_kl"] == pytest.approx((ratio - 1 - ratio.log())[real].mean().item(), rel=1e-3)
    assert found["train/clip_fraction"] == pytest.approx(((ratio - 1).abs() > 0.2)[real].float().mean().item())
    value, return_ = (data[name][rollout.valid] for name in ("value", "return"))
    assert found["train/explained_variance"] == pytest.approx(explained_variance(value, return_).item(), abs=1e-6)


def test_a_rollout_of_nothing_but_dummies_is_survived():
    made = make_ppo(norm_reward=True, norm_obs=True)
    rollout = collect(made)
    rollout.valid = torch.zeros_like(rollout.terminated)
    before = copy.deepcopy(made.model.state_dict())
    result = made.learner.update(rollout, 0.0)
    made.learner.refuse_divergence(result, 0)
    assert result.metrics == {}
    assert all(made.model.state_dict()[key].equal(value) for key, value in before.items())
    assert made.learner.n_updates == made.learner.optimizer.steps == 0


def test_kl_stops_the_update_before_the_step():
    made = make_ppo(target_kl=0.01, learning_rate=0.05, n_epochs=10, batch_size=NUM_ENVS * N_STEPS)
    rollout, seen, steps = collect(made), record_losses(made), []
    step = made.learner.optimizer.step
    made.learner.optimizer.step = lambda *given: steps.append(1) or step(*given)
    metrics = made.update(rollout)
    kls = [watched[0].item() for _, watched in seen]
    assert metrics["train/early_stop"] == 1.0
    assert kls[-1] > 1.5 * 0.01
    assert all(kl <= 1.5 * 0.01 for kl in kls[:-1])
    assert made.learner.n_updates == made.learner.optimizer.steps == len(steps) == len(kls) - 1 > 0
    assert make_ppo(target_kl=1e6).update(rollout)["train/early_stop"] == 0.0


@pytest.mark.parametrize(("share", "stops"), [(1.45, False), (1.55, True)])
def test_an_update_ends_beyond_one_and_a_half_times_the_target(share, stops):
    algorithm = make_ppo(target_kl=0.02).algorithm
    ratio = torch.tensor(1.2, dtype=torch.float64)  # whose k3 estimate is 0.2 - log 1.2
    algorithm.config = algorithm.config.model_copy(update={"target_kl": (0.2 - math.log(1.2)) / share})
    aux = {"log_ratio": ratio.log().expand(5)}
    assert bool(algorithm.stop(aux, {"clip_range": torch.tensor(0.2)})) == stops


def test_adams_epsilon_is_that_of_the_papers_implementations():
    assert make_ppo().learner.optimizer.eps == 1e-5  # OpenAI Baselines', and so SB3's
    assert make_dqn().learner.optimizer.eps == 1e-8


def test_rewards_are_scaled_by_returns_that_end_with_their_episodes():
    made = make_ppo(norm_reward=True, gamma=0.9)
    rollout = collect(made, n_steps=30)
    assert rollout.terminated.any()
    assert rollout.truncated.any()
    returns, running = [], torch.zeros(NUM_ENVS)
    for reward, *ends in zip(rollout.reward, rollout.terminated, rollout.truncated, strict=True):
        running = 0.9 * running + reward
        returns.append(running)
        running = torch.where(ends[0] | ends[1], 0.0, running)
    made.update(rollout)
    scale = made.algorithm.reward_scale
    torch.testing.assert_close(scale.statistics.var, torch.stack(returns).var(correction=0)[None])
    torch.testing.assert_close(scale.returns, running)


@pytest.mark.parametrize(("batch_size", "sizes"), [(32, {32}), (31, {16}), (1000, {32}), (5, {4, 5}), (1, {1})])
def test_minibatches_are_even_and_no_small_rest_is_left(batch_size, sizes):
    made = make_ppo(batch_size=batch_size, n_epochs=2)
    seen = record_losses(made)
    metrics = made.update(collect(made))
    assert {size for size, _ in seen} == sizes
    assert sum(size for size, _ in seen) == 2 * NUM_ENVS * N_STEPS
    assert made.learner.n_updates == len(seen)
    assert math.isfinite(metrics["train/loss"])
    assert weights(made.model).isfinite().all()


def test_every_epoch_sees_every_transition_once_in_another_order():
    made = make_ppo(n_epochs=3)
    rollout, orders = collect(made), []
    log_prob = made.policy.evaluate(rollout)[0].flatten()
    watch_losses(made, lambda minibatch, *_: orders.append(minibatch["log_prob"]))
    made.update(rollout)
    epochs = torch.cat(orders).reshape(3, -1)
    for epoch in epochs:
        assert epoch.sort().values.equal(log_prob.sort().values)
    assert not epochs[0].equal(epochs[1])
    assert not epochs[0].equal(log_prob)


@pytest.mark.parametrize("max_grad_norm", [1e9, None])
def test_an_update_is_the_gradient_step_on_paper(max_grad_norm):
    options = {"batch_size": NUM_ENVS * N_STEPS, "n_epochs": 1, "optimizer": "sgd", "max_grad_norm": max_grad_norm}
    made = make_ppo(learning_rate=0.1, ent_coef=0.1, vf_coef=0.7, **options)
    rollout, network = collect(made), copy.deepcopy(made.model)
    log_prob, old_value, next_value = made.policy.evaluate(rollout)
    masks = rollout.terminated, rollout.truncated
    advantage, return_ = gae(rollout.reward, old_value, next_value, *masks, 0.99, 0.95)
    policy, value = network(rollout.obs.flatten(0, 1))
    advantage, return_ = advantage.flatten(), return_.flatten()
    advantage = (advantage - advantage.mean()) / advantage.std()
    reference = torch.distributions.Categorical(logits=policy.logits)
    ratio = (reference.log_prob(rollout.action.flatten()) - log_prob.flatten()).exp()
    surrogate = -(ratio * advantage).mean()
    critic, entropy = (value - return_).square().mean(), reference.entropy().mean()
    loss = surrogate - 0.1 * entropy + 0.7 * critic
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    metrics = made.update(rollout)
    assert metrics["train/loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["train/value_loss"] == pytest.approx(critic.item(), rel=1e-4)
    assert metrics["train/entropy_loss"] == pytest.approx(-entropy.item(), rel=1e-4)
    unexplained = (return_ - old_value.flatten()).var() / return_.var()
    assert metrics["train/explained_variance"] == pytest.approx(1 - unexplained.item(), rel=1e-4)
    torch.testing.assert_close(weights(made.model), weights(network), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_schedules_reach_the_optimiser_and_the_loss(progress):
    made = make_ppo(learning_rate="lin_0.01", clip_range="lin_0.4")
    rollout, clips, rates = collect(made), [], []
    watch_losses(made, lambda _, __, constants: clips.append(constants["clip_range"].item()))
    rates_of = made.learner.optimizer.rates
    made.learner.optimizer.rates = lambda rate, count: rates.append(rate) or rates_of(rate, count)
    before = weights(made.model)
    made.update(rollout, progress)
    assert rates == pytest.approx([0.01 * (1 - progress)])
    assert clips == pytest.approx([0.4 * (1 - progress)] * 4)
    assert weights(made.model).equal(before) == (progress == 1.0)
    shown = made.learner.latest(progress)
    assert shown["train/learning_rate"] == pytest.approx(0.01 * (1 - progress))
    assert shown["train/clip_range"] == pytest.approx(0.4 * (1 - progress))
    assert shown["train/n_updates"] == made.learner.n_updates == 4


def test_a_linear_schedule_begins_whole_and_its_last_update_still_moves():
    options = {"learning_rate": "lin_0.01", "clip_range": "lin_0.4", "n_envs": NUM_ENVS, "n_steps": N_STEPS}
    config = PPOConfig.model_validate({**options, "batch_size": 32, "total_timesteps": 4 * NUM_ENVS * N_STEPS})
    training = training_on(ClockEnv(NUM_ENVS), config)
    shown, moved = [], []
    before = weights(training.algorithm.model)
    for iteration in training.iterations():
        shown.append((iteration.latest["train/learning_rate"], iteration.latest["train/clip_range"]))
        moved.append(not weights(training.algorithm.model).equal(before))
        before = weights(training.algorithm.model)
    assert shown == [pytest.approx((0.01 * part, 0.4 * part)) for part in (1.0, 0.75, 0.5, 0.25)]
    assert moved == [True] * 4


def test_gradients_are_clipped_or_left_alone():
    def moved(max_grad_norm):
        options = {"optimizer": "sgd", "learning_rate": 1.0, "batch_size": 32, "n_epochs": 1}
        made = make_ppo(max_grad_norm=max_grad_norm, **options)
        before = weights(made.model)
        made.update(collect(made))
        return (weights(made.model) - before).norm().item()

    assert moved(1e-3) == pytest.approx(1e-3, rel=1e-3)
    assert moved(None) == pytest.approx(moved(1e9), rel=1e-6)
    assert moved(None) > 0.1


@torch.no_grad()
def test_normaliser_statistics_freeze_but_in_the_update():
    made = make_ppo(norm_obs=True)
    rollout = collect(made)
    frozen = copy.deepcopy(made.model.encoder.state_dict())
    obs = rollout.obs[0]
    made.policy.step(obs, (), None)
    made.model.value(obs)
    made.policy.inspect(obs, ())
    made.policy.predict(obs.numpy())
    made.policy.evaluate(rollout)
    assert all(value.equal(frozen[key]) for key, value in made.model.encoder.state_dict().items())
    made.update(rollout)
    (norm,) = [leaf.norm for leaf in made.model.encoder.leaves]
    torch.testing.assert_close(norm.mean, rollout.obs.flatten(0, 1).mean(dim=0))
    assert norm.count.item() == NUM_ENVS * N_STEPS


@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
def test_predicting_touches_no_stream(action_space):
    made = make_ppo(action_space)
    obs = np.random.default_rng(0).random((64, 3), np.float32)
    before = [made.learner.shuffling.get_state(), torch.get_rng_state()]

    def predict(**options):
        return torch.as_tensor(made.policy.predict(obs, **options)[0])

    greedy = predict()
    made.policy.inspect(obs, ())
    sampled = [predict(deterministic=False, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    after = [made.learner.shuffling.get_state(), torch.get_rng_state()]
    assert all(a.equal(b) for a, b in zip(after, before, strict=True))
    assert predict().equal(greedy)
    assert greedy.shape == (64, *action_space.shape)
    assert sampled[0].equal(sampled[1])
    assert not sampled[0].equal(sampled[2])
    torch.manual_seed(1)
    free = [predict(deterministic=False) for _ in range(2)]
    assert not free[0].equal(free[1]), "without a generator, each call draws anew"
    torch.manual_seed(1)
    assert predict(deterministic=False).equal(free[0])


def test_making_an_algorithm_touches_no_global_stream_and_follows_its_seed():
    before = torch.get_rng_state()
    first, same, other = make_ppo(seed=1), make_ppo(seed=1), make_ppo(seed=2)
    assert torch.get_rng_state().equal(before)
    assert weights(first.model).equal(weights(same.model))
    assert not weights(first.model).equal(weights(other.model))
    rollout = collect(first)
    for made in (first, same, other):
        made.update(rollout)
    assert weights(first.model).equal(weights(same.model)), "minibatches follow the seed too"
    assert first.learner.shuffling.get_state().equal(same.learner.shuffling.get_state())
    assert not first.learner.shuffling.get_state().equal(other.learner.shuffling.get_state())


def test_inspect_says_what_the_policy_computes():
    discrete = make_ppo().policy.inspect(np.zeros((5, 3), np.float32), ())
    box = make_ppo(BOX).policy.inspect(torch.zeros(5, 3), ())
    assert {key: tuple(value.shape) for key, value in discrete.items()} == {"value": (5,), "probabilities": (5, 3)}
    assert {key: tuple(value.shape) for key, value in box.items()} == {"value": (5,), "mean": (5, 2), "std": (5, 2)}
    torch.testing.assert_close(discrete["probabilities"].sum(dim=1), torch.ones(5))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_a_loaded_training_goes_on_bit_for_bit(optimizer):
    options = {"norm_obs": True, "norm_reward": True, "optimizer": optimizer}
    made = make_ppo(BOX, **options)
    made.update(collect(made), 0.1)
    twin = make_ppo(BOX, seed=5, **options)
    twin.load_state_dict(copy.deepcopy(made.state_dict()))
    for progress in (0.2, 0.3):
        results = [each.update(collect(each), progress) for each in (made, twin)]
        assert results[0] == results[1]
        assert weights(made.model).equal(weights(twin.model))
    assert twin.learner.n_updates == made.learner.n_updates == 12
