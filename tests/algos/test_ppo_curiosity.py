"""PPO with curiosity: two kinds of rewards, each with values and advantages of its own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from agents.acting.collector import TickCollector
from agents.acting.evaluation import evaluate
from agents.acting.fused import FusedCollector
from agents.algos.ppo.config import PPOConfig
from agents.core.runtime import Runtime
from agents.networks.curiosity import learning_loss
from agents.ops.losses import ppo_policy_loss
from agents.ops.returns import continuing_gae, gae
from envs.make import make
from tests.acting.trajectories import successors
from tests.algos.making import BOX, N_STEPS, NUM_ENVS, collect, make_ppo, watch_losses, weights
from tests.core.recorder import Tape, listening
from tests.core.test_runtime import CONFIG, cartpole, needs_compiler, train
from tests.fakes import ClockEnv, training_on
from tests.marks import long_test

KINDS = pytest.mark.parametrize("kind", ["rnd", "icm"])
SMALL = {"curiosity_arch": (8,), "curiosity_size": 4}
PPO = {"n_envs": NUM_ENVS, "n_steps": N_STEPS, "batch_size": 16, "n_epochs": 2, "net_arch": (8,)}


def begun(kind, env=None, n_steps=24, **options):
    """Return a training in a clock environment, and its first rollout."""
    options = {**PPO, **SMALL, "n_steps": n_steps, "curiosity": kind, "total_timesteps": 10**6, **options}
    training = training_on(env or ClockEnv(NUM_ENVS), PPOConfig.model_validate(options))
    return training, training.collector.collect(n_steps).trajectory


@KINDS
@pytest.mark.parametrize("options", [{}, {"curiosity_episodic": True}, {"norm_value": "popart"}, {"memory": "gru"}])
def test_advantages_are_those_of_rewards_plus_weighted_ones_of_what_is_new(kind, options):
    training, rollout = begun(kind, n_steps=27, curiosity_coef=0.3, curiosity_gamma=0.7, **options)
    assert rollout.terminated.any()
    assert rollout.truncated[-1].any(), "or what follows the last tick is what its episode ends in"
    before = copy.deepcopy(training.algorithm)
    (_, value, next_value), ends = before.policy.evaluate(rollout), (rollout.terminated, rollout.truncated)
    assert value.shape == next_value.shape == (27, NUM_ENVS, 2)
    advantage, return_ = gae(rollout.reward, value[..., 0], next_value[..., 0], *ends, 0.99, 0.95)
    done = rollout.terminated | rollout.truncated
    over = done if "curiosity_episodic" in options else torch.zeros_like(done)
    bonus, reward = before.model.curiosity.rewards(rollout.obs, rollout.action, rollout.next_obs, over)
    own, next_own = value[..., 1], next_value[..., 1].clone()
    if "curiosity_episodic" not in options:  # what comes after an end is the next episode's first observation
        next_own[-1] = before.model.value(rollout.last_obs, rollout.last_carry)[..., 1].detach()
    if "curiosity_episodic" in options:
        more, also = gae(reward, own, next_own, *ends, 0.7, 0.95)
    else:  # as if there were no episodes
        next_own[:-1], never = own[1:], torch.zeros_like(done)
        more, also = gae(reward, own, next_own, never, never, 0.7, 0.95)
    prepared = training.algorithm.prepare(rollout, {})
    torch.testing.assert_close(prepared["advantage"], advantage + 0.3 * more)
    torch.testing.assert_close(prepared["return"], torch.stack([return_, also], -1))
    torch.testing.assert_close(prepared["bonus"], bonus)
    assert (bonus > 0).all()


def test_what_an_autoreset_made_up_is_no_step_between_episodes():
    training, rollout = begun("rnd", ClockEnv(NUM_ENVS, dummies=True), curiosity_gamma=0.7)
    before = copy.deepcopy(training.algorithm)
    value = before.policy.evaluate(rollout)[1][..., 1]
    last_value = before.model.value(rollout.last_obs)[..., 1].detach()
    never = torch.zeros_like(rollout.start)
    seen = rollout.obs, rollout.action, rollout.next_obs, never, rollout.valid
    reward = before.model.curiosity.rewards(*seen)[1]
    found = training.algorithm.prepare(rollout, {})["return"][..., 1]
    assert (~rollout.valid).any(0).all()
    for n, kept in enumerate(rollout.valid.T):
        columns = (each[kept, n, None] for each in (reward, value))
        _, right = continuing_gae(*columns, last_value[n, None], 0.7, 0.95)
        torch.testing.assert_close(found[kept, n, None], right)


@KINDS
def test_the_loss_has_both_values_and_what_curiosity_learns(kind):
    options = {"vf_coef": 0.7, "curiosity_loss_coef": 0.3, "curiosity_share": 0.5}
    training, rollout = begun(kind, batch_size=10**6, n_epochs=1, normalize_advantage=False, **options)
    algorithm, seen = training.algorithm, []
    watch_losses(training, lambda minibatch, *_: seen.append(minibatch))
    twin = copy.deepcopy(algorithm)
    metrics = training.learner.update(rollout, 0.0).metrics
    (minibatch,) = seen
    prepared = twin.prepare(rollout, {})  # which moves the statistics as the update did
    torch.testing.assert_close(
        minibatch["advantage"].sort().values, prepared["advantage"].flatten().sort().values, atol=1e-6, rtol=1e-5
    )
    surrogate = ppo_policy_loss(torch.zeros(len(minibatch["advantage"])), minibatch["advantage"], 0.2)
    errors = (twin.model(minibatch["obs"]).value - minibatch["return"]).square()
    critic = errors[:, 0].mean() + errors[:, 1].mean()
    learnt = learning_loss(twin.model.curiosity, minibatch, 0.5)
    expected = {
        "train/value_loss": critic,
        "train/curiosity_loss": learnt,
        "train/loss": surrogate + 0.7 * critic + 0.3 * learnt,
        "rollout/curiosity": prepared["bonus"].mean(),
    }
    for tag, value in expected.items():
        assert float(metrics[tag]) == pytest.approx(value.item(), rel=1e-4, abs=1e-6), tag
    assert {"train/explained_variance", "train/curiosity_explained_variance"} <= metrics.keys()


@KINDS
def test_its_networks_are_trained_and_the_random_one_is_not(kind):
    training, rollout = begun(kind, learning_rate=0.01)
    before = {name: tensor.clone() for name, tensor in training.algorithm.model.named_parameters()}
    training.learner.update(rollout, 0.0)
    moved = {name for name, tensor in training.algorithm.model.named_parameters() if not tensor.equal(before[name])}
    assert moved == {name for name in before if ".target." not in name}
    assert any(".target." in name for name in before) == (kind == "rnd")


@KINDS
@pytest.mark.parametrize("memory", [None, "gru"])
@pytest.mark.parametrize("fused", [False, True])
def test_the_true_successor_is_judged_where_an_episode_ends(kind, memory, fused):
    """Native CartPole, whose episodes end by falling and by a limit, by either collector."""
    options = {**PPO, **SMALL, "curiosity": kind, "memory": memory, "memory_size": 4, "n_steps": 40}
    env = make("CartPole-v1", NUM_ENVS, vec="native", env_kwargs={"max_episode_steps": 15}, tensors=fused)
    training = training_on(env, PPOConfig.model_validate({**options, "total_timesteps": 10**6}))
    assert isinstance(training.collector, FusedCollector if fused else TickCollector)
    rollout, seen = training.collector.collect(40).trajectory, []
    assert rollout.truncated.any()
    assert rollout.terminated.any()
    if rollout.final is not None:
        assert (rollout.next_obs[rollout.final.t, rollout.final.n] == rollout.final.obs).all()
    assert (rollout.final is not None) == (memory is not None), "with a memory its carry is needed too"
    done = rollout.terminated | rollout.truncated
    assert rollout.next_obs[:-1][~done[:-1]].equal(rollout.obs[1:][~done[:-1]])
    assert not (rollout.next_obs[:-1][done[:-1]] == rollout.obs[1:][done[:-1]]).any()
    torch.testing.assert_close(successors(rollout)[rollout.truncated], rollout.next_obs[rollout.truncated])
    watch_losses(training, lambda minibatch, *_: seen.append(minibatch["next_obs"].reshape(-1, 4)))
    training.learner.update(rollout, 0.0)
    assert torch.cat(seen[: len(seen) // 2]).sum().item() == pytest.approx(rollout.next_obs.sum().item(), rel=1e-3)


@KINDS
@pytest.mark.parametrize("options", [{}, {"memory": "gru"}])
def test_dummy_transitions_are_not_new(kind, options):
    training, rollout = begun(kind, ClockEnv(NUM_ENVS, dummies=True), curiosity_share=1.0, **options)
    dummies = ~rollout.valid
    assert dummies.sum() > 4
    twin = copy.deepcopy(training.algorithm)
    expected = twin.prepare(rollout, {})["bonus"]
    assert not expected[dummies].any()
    rollout.next_obs[dummies] = 77
    found = training.algorithm.prepare(rollout, {})["bonus"]
    torch.testing.assert_close(found, expected)


@KINDS
def test_acting_and_evaluating_know_nothing_of_it(kind):
    training, rollout = begun(kind)
    training.learner.update(rollout, 0.0)
    model, env = training.algorithm.model, ClockEnv(NUM_ENVS)
    before = copy.deepcopy(training.algorithm.state_dict())
    first = evaluate(env, training.policy, 8, seed=0)
    assert all(value.equal(before[name]) for name, value in training.algorithm.state_dict().items())
    model.curiosity.forward = None  # which would fail if it were called
    assert evaluate(env, training.policy, 8, seed=0).returns.tolist() == first.returns.tolist()
    shown = training.policy.inspect(np.zeros((5, 3), np.float32), ())
    assert shown["value"].shape == (5,)
    assert shown["value"].equal(model(torch.zeros(5, 3)).value[:, 0])


@KINDS
@pytest.mark.parametrize("options", [{}, {"memory": "gru", "norm_value": "popart"}, {"norm_obs": True}])
def test_a_loaded_training_goes_on_bit_for_bit(kind, options):
    options = {"curiosity": kind, **SMALL, **options}
    made = make_ppo(BOX, **options)
    env, n = ClockEnv(NUM_ENVS, BOX), N_STEPS

    def rollout_of(each):
        trajectory = collect(each, env, n_steps=n)
        trajectory.next_obs = successors_of(trajectory)
        return trajectory

    made.update(rollout_of(made), 0.1)
    twin = make_ppo(BOX, seed=5, **options)
    twin.load_state_dict(copy.deepcopy(made.state_dict()))
    for progress in (0.2, 0.3):
        results = [each.update(rollout_of(each), progress) for each in (made, twin)]
        assert results[0] == results[1]
        assert weights(made.algorithm).equal(weights(twin.algorithm))


def successors_of(trajectory):
    """Return successors `[T, N, ...]` of a trajectory that has only those of truncated episodes."""
    found = torch.cat([trajectory.obs[1:], trajectory.last_obs[None]])
    if trajectory.final is not None:
        found[trajectory.final.t, trajectory.final.n] = trajectory.final.obs
    return found


@pytest.mark.usefixtures("as_on_a_gpu")
@KINDS
@pytest.mark.parametrize("options", [{}, pytest.param({"memory": "gru"}, marks=long_test)])
def test_captured_updates_are_the_plain_ones(kind, options):
    config = PPOConfig.model_validate({**CONFIG.model_dump(), **SMALL, "curiosity": kind, **options})
    plain, expected = train(Runtime(), config, cartpole())
    tape = Tape()
    runtime, said = listening("auto", record=tape)
    captured, metrics = train(runtime, config, cartpole())
    assert metrics == expected
    assert weights(captured.algorithm).equal(weights(plain.algorithm))
    assert said == []
    assert tape.recorded == 2


@long_test
@needs_compiler
@KINDS
def test_compiled_updates_follow_the_plain_ones(kind):
    runtime, said = listening("on", device=torch.device("cpu"))
    config = PPOConfig.model_validate({**CONFIG.model_dump(), **SMALL, "curiosity": kind, "clip_range": 0.2})
    (plain, expected), (compiled, metrics) = train(Runtime(), config), train(runtime, config)
    assert said == []
    torch.testing.assert_close(weights(compiled.algorithm), weights(plain.algorithm), atol=1e-4, rtol=1e-3)
    for step, wanted in zip(metrics, expected, strict=True):
        assert step == pytest.approx(wanted, abs=1e-3, rel=1e-2)
