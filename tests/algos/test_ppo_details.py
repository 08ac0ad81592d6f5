"""PPO's details: the scale of values, where advantages are normalised, what bounds a step and how large it is."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from agents.algos.ppo.config import PPOConfig
from agents.core.runtime import Runtime
from agents.ops.losses import adapted_rate, divergence, normalized
from agents.run.config import FLAGS, Layer, resolve
from envs.errors import UserError
from tests.algos.making import BOX, N_STEPS, NUM_ENVS, collect, make_ppo, watch_losses, weights
from tests.core.recorder import Tape, listening
from tests.core.test_runtime import CONFIG, cartpole, needs_compiler, train
from tests.fakes import ClockEnv
from tests.marks import long_test

DETAILS = {
    "clip_range_high": 0.3,
    "dual_clip": 3.0,
    "normalize_over_rollout": True,
    "norm_value": "popart",
    "desired_kl": 0.01,
    "learning_rate": 0.003,
}


def config_of(**options):
    return PPOConfig.model_validate({**CONFIG.model_dump(), "clip_range": 0.2, **DETAILS, **options})


@pytest.mark.parametrize("how", ["running", "popart"])
@pytest.mark.parametrize("options", [{}, {"memory": "gru"}, {"clip_range_vf": 0.2}])
def test_the_value_loss_is_counted_in_deviations_of_the_return(how, options):
    made = make_ppo(norm_value=how, batch_size=NUM_ENVS * N_STEPS, n_epochs=1, **options)
    rollout = collect(made)
    twin = copy.deepcopy(made.algorithm)
    prepared = twin.prepare(rollout, {})
    mean, deviation = prepared["return"].mean(), prepared["return"].std(correction=0)
    torch.testing.assert_close(twin.model.value_scale.mean[0], mean)
    torch.testing.assert_close(twin.model.value_scale.deviation[0], deviation)
    now = twin.policy.evaluate(rollout)[1]
    if how == "popart":
        torch.testing.assert_close(now, prepared["value"], atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(now, prepared["value"] * deviation + mean, atol=1e-5, rtol=0)
    if "clip_range_vf" in options and how == "popart":  # else it is the scale that moved them, not the network
        clip = 0.2 * deviation
        now = prepared["value"] + (now - prepared["value"]).clamp(-clip, clip)
    expected = ((now - prepared["return"]) / deviation).square().mean()
    assert made.update(rollout)["train/value_loss"] == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("how", ["running", "popart"])
def test_a_network_that_has_not_moved_is_within_the_clipping_of_values(how):
    """In each rollout's first step, however far the scale has gone from the one that old values were made with."""
    made = make_ppo(norm_value=how, norm_value_rate=0.5, clip_range_vf=0.05, n_epochs=1, batch_size=NUM_ENVS * N_STEPS)
    for times in (1.0, 100.0, 0.1):
        rollout = collect(made)
        rollout.reward = rollout.reward * times + times
        twin = copy.deepcopy(made.algorithm)
        prepared = twin.prepare(rollout, {})
        head = twin.model.value_scale.normalized(twin.policy.evaluate(rollout)[1])
        torch.testing.assert_close(prepared["scaled_value"], head, atol=1e-4, rtol=1e-4)
        expected = (head - twin.model.value_scale.normalized(prepared["return"])).square().mean()
        assert made.update(rollout)["train/value_loss"] == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("options", [{}, {"curiosity": "rnd"}, {"memory": "gru"}], ids=str)
@pytest.mark.parametrize("how", ["none", "running", "popart"])
def test_a_rollout_of_nothing_real_teaches_values_nothing(how, options):
    made = make_ppo(norm_value=how, optimizer="sgd", ent_coef=0.0, **options)
    rollout = collect(made)
    rollout.next_obs = rollout.obs
    made.update(rollout)
    before = weights(made.model)
    made.update(dataclasses.replace(rollout, valid=torch.zeros_like(rollout.start)))
    assert weights(made.model).equal(before)
    if how != "none":
        assert made.model.value_scale.count == 1


def test_values_of_a_large_scale_are_learnt_sooner():
    """Ten updates on returns in thousands: without a scale, the head's numbers have hardly moved towards them."""

    def error(**options):
        made = make_ppo(learning_rate=0.01, gamma=0.0, **options)
        rollout = collect(made)
        rollout.reward = 10_000 * (rollout.obs[..., 2] - rollout.obs[..., 2].mean())
        for _ in range(10):
            made.update(rollout)
        return ((made.policy.evaluate(rollout)[1] - rollout.reward).std() / rollout.reward.std()).item()

    assert error() > 0.9
    assert error(norm_value="running") < 0.5
    assert error(norm_value="popart") < 0.5


@pytest.mark.parametrize("dummies", [False, True])
def test_advantages_are_normalised_over_the_rollout(dummies):
    made = make_ppo(normalize_over_rollout=True, n_epochs=1)
    rollout = collect(made, ClockEnv(NUM_ENVS, dummies=dummies), n_steps=12)
    plain = make_ppo(normalize_advantage=False).algorithm.prepare(rollout, {})["advantage"]
    plain = plain.flatten() if rollout.valid is None else plain[rollout.valid]
    assert dummies == (rollout.valid is not None)
    seen = []
    watch_losses(made, lambda minibatch, *_: seen.append(minibatch["advantage"]))
    made.update(rollout)
    torch.testing.assert_close(torch.cat(seen).sort().values, normalized(plain).sort().values)
    assert max(abs(part.mean().item()) for part in seen) > 1e-3, "minibatches have means of their own"


def test_the_clip_range_for_rising_ratios_is_a_schedule_of_its_own():
    made = make_ppo(clip_range=0.1, clip_range_high="lin_0.4", learning_rate=0.02, n_epochs=4)
    rollout, seen = collect(made), []
    watch_losses(made, lambda _, aux, constants: seen.append((aux["log_ratio"], constants)))
    fraction = made.update(rollout, 0.5)["train/clip_fraction"]
    assert made.learner.latest(0.5)["train/clip_range_high"] == pytest.approx(0.2)
    ratio = torch.cat([each for each, _ in seen]).exp()
    assert fraction == pytest.approx(((ratio > 1.2) | (ratio < 0.9)).float().mean().item())
    assert ((ratio > 1.1) & (ratio < 1.2)).any(), "or the two bounds could be one"


def test_the_learning_rate_follows_the_divergence_step_by_step():
    made = make_ppo(desired_kl=0.003, learning_rate=0.002, n_epochs=6, optimizer="sgd", max_grad_norm=None)
    rollout, kls, rates = collect(made), [], []
    watch_losses(made, lambda _, aux, __: kls.append(divergence(aux["log_ratio"], 0.0).approx_kl))
    step = made.learner.optimizer.step
    made.learner.optimizer.step = lambda gradient, row: rates.append(row[0].item()) or step(gradient, row)
    made.update(rollout)
    expected, rate = [], torch.tensor(0.002)
    for kl in kls:
        rate = adapted_rate(rate, kl, 0.003)
        expected.append(rate.item())
    assert rates == pytest.approx(expected, rel=1e-5)
    assert len(set(rates)) > 4
    assert made.learner.latest(0.0)["train/learning_rate"] == pytest.approx(rates[-1], rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_a_rate_given_at_the_step_is_the_rate_given_before(optimizer):
    """With an aim so far away that the rate never changes, updates are those of that rate."""
    made, same = (make_ppo(BOX, optimizer=optimizer, learning_rate=0.01, **more) for more in ({}, {"desired_kl": 1e3}))
    made.algorithm.model.load_state_dict(same.model.state_dict())
    same.algorithm.pace = lambda aux: same.algorithm.rate
    for _ in range(2):
        rollout = collect(made)
        for each in (made, same):
            each.update(rollout)
    torch.testing.assert_close(weights(made.model), weights(same.model), atol=1e-6, rtol=1e-5)


def test_a_rate_cannot_follow_two_rules():
    flags = {"env": "CartPole-v1", "desired_kl": 0.01, "learning_rate": "lin_1e-3"}
    with pytest.raises(UserError, match=r"desired_kl lets the learning rate follow.*learning_rate lin_1e-3"):
        resolve([Layer(FLAGS, flags)])


def test_with_a_limit_too_the_step_that_is_not_taken_changes_no_rate():
    made = make_ppo(desired_kl=0.01, target_kl=1e-6, learning_rate=0.01)
    rollout, before = collect(made), made.algorithm.rate.clone()
    assert made.update(rollout)["train/early_stop"] == 1.0
    assert made.algorithm.rate.equal(before), "the first step moved nothing yet, and the second was not taken"


@pytest.mark.parametrize("options", [{}, {"memory": "gru"}, {"target_kl": 10.0}])
def test_a_loaded_training_with_every_detail_goes_on_bit_for_bit(options):
    made = make_ppo(BOX, **DETAILS, **options)
    made.update(collect(made), 0.1)
    twin = make_ppo(BOX, seed=5, **DETAILS, **options)
    twin.load_state_dict(copy.deepcopy(made.state_dict()))
    for progress in (0.2, 0.3):
        results = [each.update(collect(each), progress) for each in (made, twin)]
        assert results[0] == results[1]
        assert weights(made.model).equal(weights(twin.model))
    assert made.algorithm.rate.item() != pytest.approx(0.003)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("options", [{}, pytest.param({"memory": "gru"}, marks=long_test)])
def test_captured_updates_with_every_detail_are_the_plain_ones(options):
    config = config_of(**options)
    plain, expected = train(Runtime(), config, cartpole())
    tape = Tape()
    runtime, said = listening("auto", record=tape)
    captured, metrics = train(runtime, config, cartpole())
    assert metrics == expected
    assert weights(captured.algorithm).equal(weights(plain.algorithm))
    assert captured.algorithm.rate.equal(plain.algorithm.rate)
    assert said == []
    assert tape.recorded == 2


@long_test
@needs_compiler
@pytest.mark.parametrize("options", [{}, {"target_kl": 10.0}])
def test_compiled_updates_with_every_detail_follow_the_plain_ones(options):
    runtime, said = listening("on", device=torch.device("cpu"))
    config = config_of(**options)
    (plain, expected), (compiled, metrics) = train(Runtime(), config), train(runtime, config)
    assert said == []
    torch.testing.assert_close(weights(compiled.algorithm), weights(plain.algorithm), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(compiled.algorithm.rate, plain.algorithm.rate)
    for step, wanted in zip(metrics, expected, strict=True):
        assert step == pytest.approx(wanted, abs=1e-3, rel=1e-2)
