"""PPO's update, its streams, and what a saved agent carries."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.algos.ppo.algorithm import PPO
from agents.algos.ppo.config import PPOConfig
from agents.loops.on_policy import on_policy
from agents.loops.position import Position
from agents.ops.losses import divergence
from agents.ops.returns import gae
from tests.fakes import ClockEnv

CPU = torch.device("cpu")
BOX = spaces.Box(-1, 1, (2,), np.float32)
ACTIONS = [spaces.Discrete(3), BOX, spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)]
NUM_ENVS, N_STEPS = 4, 8


def make_agent(action_space=ACTIONS[0], seed=0, **options):
    settings = {"n_envs": NUM_ENVS, "n_steps": N_STEPS, "batch_size": 16, "n_epochs": 2, "net_arch": (16,)}
    config = PPOConfig(**{**settings, **options})
    return PPO(ClockEnv.observation_space, action_space, config, CPU, seed)


class Collected(Exception):
    """Carries a rollout out of the loop."""


def collect(agent, env=None, seed=0, n_steps=N_STEPS):
    """Return the rollout that the loop would have the agent learn from next, and go no further."""
    env = env or ClockEnv(NUM_ENVS, agent.network.action_space)
    update, agent.update = agent.update, None

    def stop(rollout, progress):
        raise Collected(rollout)

    agent.update = stop
    try:
        next(on_policy(env, agent, Position.start(env, seed), total_timesteps=10**6, n_steps=n_steps))
    except Collected as collected:
        return collected.args[0]
    finally:
        agent.update = update
    raise AssertionError("the loop did not update")


def weights(agent):
    return torch.cat([parameter.detach().flatten() for parameter in agent.network.parameters()])


def record_losses(agent):
    """Let the agent's losses be watched: a list of each minibatch's size, approx_kl and clip_fraction."""
    seen = []
    loss_of = agent._loss

    def watch(network, minibatch, clip_range):
        loss, watched = loss_of(network, minibatch, clip_range)
        seen.append((len(minibatch["advantage"]), [*divergence(watched.log_ratio, clip_range)]))
        return loss, watched

    agent._loss = watch
    return seen


@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"squash_output": True, "norm_obs": True}, {"state_dependent_std": True, "shared_torso": True}]
)
def test_every_action_space_learns_and_its_first_ratio_is_1(action_space, options):
    agent = make_agent(action_space, norm_reward=True, ent_coef=0.01, **options)
    seen = record_losses(agent)
    env = ClockEnv(NUM_ENVS, action_space, dummies=True)
    position = Position.start(env, 0)
    loop = on_policy(env, agent, position, total_timesteps=10**6, n_steps=N_STEPS)
    for _ in range(4):  # with norm_obs, the statistics have moved by the second rollout
        before = weights(agent)
        seen.clear()
        progress = next(loop)
        _, (approx_kl, clip_fraction) = seen[0]
        assert approx_kl == pytest.approx(0.0, abs=1e-6)
        assert clip_fraction == 0.0
        assert not weights(agent).equal(before)
        assert weights(agent).isfinite().all()
        metrics = dict(progress.metrics)
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        assert ("train/std" in metrics) == (agent.network.log_std is not None)
    assert any(watched[0] > 1e-7 for _, watched in seen), "later ratios must differ, or the first proves nothing"


def test_what_is_stored_is_the_unclipped_action_with_its_own_density():
    agent = make_agent(BOX, log_std_init=1.0)
    env = ClockEnv(NUM_ENVS, BOX)
    rollout = collect(agent, env)
    assert (rollout.action.abs() > 1).any()
    np.testing.assert_array_equal(rollout.action, np.stack(env.actions))
    policy, value = agent.network(rollout.obs.flatten(0, 1))
    torch.testing.assert_close(policy.log_prob(rollout.action.flatten(0, 1)), rollout.log_prob.flatten())
    torch.testing.assert_close(value, rollout.value.flatten())


def test_squashed_actions_are_stored_before_the_tanh():
    agent = make_agent(BOX, squash_output=True, log_std_init=1.0)
    env = ClockEnv(NUM_ENVS, BOX)
    rollout = collect(agent, env)
    assert (rollout.action.abs() > 1).any()
    np.testing.assert_allclose(rollout.action.tanh(), np.stack(env.actions), rtol=1e-6)


def test_a_truncation_bootstraps_from_its_final_observation():
    env = ClockEnv(NUM_ENVS)
    agent = make_agent()
    rollout = collect(agent, env, n_steps=30)
    clean = ClockEnv(NUM_ENVS)
    clean.reset(0)
    checked = 0
    for t, action in enumerate(env.actions):
        step = clean.step(action)
        value = agent.value(torch.from_numpy(step.next_obs))
        wanted = step.truncated | ~(step.terminated | step.truncated)
        torch.testing.assert_close(rollout.next_value[t][wanted], value[wanted])
        moved = agent.value(torch.from_numpy(step.obs)) != value
        checked += (moved.numpy() & step.truncated).sum()
    assert checked > 5, "the reset observations must have values of their own"


@pytest.mark.parametrize("options", [{}, {"norm_obs": True, "norm_reward": True}])
def test_dummy_transitions_change_nothing(options):
    agent = make_agent(**options)
    rollout = collect(agent, ClockEnv(NUM_ENVS, dummies=True), n_steps=24)
    assert (~rollout.valid).sum() > 4
    twin = make_agent(**options)
    twin.load_state_dict(copy.deepcopy(agent.state_dict()))
    expected = agent.update(rollout, 0.0)
    for name in ("reward", "action", "log_prob", "value", "obs"):
        stored = getattr(rollout, name)
        stored[~rollout.valid] = 1 if name == "action" else 77
    assert twin.update(rollout, 0.0) == expected
    assert weights(twin).equal(weights(agent))


def test_a_rollout_of_nothing_but_dummies_is_survived():
    agent = make_agent(norm_reward=True, norm_obs=True)
    rollout = collect(agent)
    rollout.valid = torch.zeros_like(rollout.terminated)
    before = copy.deepcopy(agent.state_dict())
    assert agent.update(rollout, 0.0) == {}
    after = agent.state_dict()
    assert all(after["network"][key].equal(value) for key, value in before["network"].items())


def test_kl_stops_the_update_before_the_step():
    agent = make_agent(target_kl=0.01, learning_rate=0.05, n_epochs=10, batch_size=NUM_ENVS * N_STEPS)
    rollout = collect(agent)
    seen = record_losses(agent)
    steps = []
    step = agent.optimizer.step
    agent.optimizer.step = lambda *given: steps.append(weights(agent)) or step(*given)
    metrics = agent.update(rollout, 0.0)
    kls = [watched[0].item() for _, watched in seen]
    assert metrics["train/early_stop"] == 1.0
    assert kls[-1] > 1.5 * 0.01
    assert all(kl <= 1.5 * 0.01 for kl in kls[:-1])
    assert agent.n_updates == agent.optimizer.steps == len(steps) == len(kls) - 1 > 0
    assert make_agent(target_kl=1e6).update(rollout, 0.0)["train/early_stop"] == 0.0


@pytest.mark.parametrize(("batch_size", "sizes"), [(32, {32}), (31, {16}), (1000, {32}), (5, {4, 5}), (1, {1})])
def test_minibatches_are_even_and_no_small_rest_is_left(batch_size, sizes):
    agent = make_agent(batch_size=batch_size, n_epochs=2)
    seen = record_losses(agent)
    metrics = agent.update(collect(agent), 0.0)
    assert {size for size, _ in seen} == sizes
    assert sum(size for size, _ in seen) == 2 * NUM_ENVS * N_STEPS
    assert agent.n_updates == len(seen)
    assert math.isfinite(metrics["train/loss"])
    assert weights(agent).isfinite().all()


def test_every_epoch_sees_every_transition_once_in_another_order():
    agent = make_agent(n_epochs=3)
    rollout = collect(agent)
    orders = []
    loss_of = agent._loss
    agent._loss = lambda network, batch, clip: orders.append(batch["log_prob"]) or loss_of(network, batch, clip)
    agent.update(rollout, 0.0)
    epochs = torch.cat(orders).reshape(3, -1)
    for epoch in epochs:
        assert epoch.sort().values.equal(rollout.log_prob.flatten().sort().values)
    assert not epochs[0].equal(epochs[1])
    assert not epochs[0].equal(rollout.log_prob.flatten())


def test_an_update_is_the_gradient_step_on_paper():
    options = {"batch_size": NUM_ENVS * N_STEPS, "n_epochs": 1, "optimizer": "sgd", "max_grad_norm": 1e9}
    agent = make_agent(learning_rate=0.1, ent_coef=0.1, vf_coef=0.7, **options)
    rollout = collect(agent)
    network = copy.deepcopy(agent.network)
    masks = rollout.terminated, rollout.truncated
    advantage, return_ = gae(rollout.reward, rollout.value, rollout.next_value, *masks, 0.99, 0.95)
    policy, value = network(rollout.obs.flatten(0, 1))
    advantage, return_ = advantage.flatten(), return_.flatten()
    advantage = (advantage - advantage.mean()) / advantage.std()
    reference = torch.distributions.Categorical(logits=policy.logits)
    ratio = (reference.log_prob(rollout.action.flatten()) - rollout.log_prob.flatten()).exp()
    surrogate = -(ratio * advantage).mean()
    critic, entropy = (value - return_).square().mean(), reference.entropy().mean()
    (surrogate - 0.1 * entropy + 0.7 * critic).backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    metrics = agent.update(rollout, 0.0)
    assert metrics["train/value_loss"] == pytest.approx(critic.item(), rel=1e-4)
    assert metrics["train/entropy_loss"] == pytest.approx(-entropy.item(), rel=1e-4)
    expected = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    torch.testing.assert_close(weights(agent), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_schedules_reach_the_optimiser_and_the_loss(progress):
    agent = make_agent(learning_rate="lin_0.01", clip_range="lin_0.4")
    rollout = collect(agent)
    clips = []
    loss_of = agent._loss
    agent._loss = lambda network, batch, clip: clips.append(clip) or loss_of(network, batch, clip)
    rates, rates_of = [], agent.optimizer.rates
    agent.optimizer.rates = lambda rate, count: rates.append(rate) or rates_of(rate, count)
    before = weights(agent)
    agent.update(rollout, progress)
    assert rates == pytest.approx([0.01 * (1 - progress)])
    assert clips[0].item() == pytest.approx(0.4 * (1 - progress))
    assert weights(agent).equal(before) == (progress == 1.0)
    shown = agent.schedules(progress)
    assert shown["train/learning_rate"] == pytest.approx(0.01 * (1 - progress))
    assert shown["train/clip_range"] == pytest.approx(0.4 * (1 - progress))
    assert shown["train/n_updates"] == agent.n_updates == 4


def test_gradients_are_clipped():
    agent = make_agent(max_grad_norm=1e-3, optimizer="sgd", learning_rate=1.0, batch_size=32, n_epochs=1)
    before = weights(agent)
    agent.update(collect(agent), 0.0)
    assert (weights(agent) - before).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_normaliser_statistics_freeze_but_in_the_update():
    agent = make_agent(norm_obs=True)
    rollout = collect(agent)
    frozen = copy.deepcopy(agent.network.encoder.state_dict())
    obs = rollout.obs[0]
    agent.act(obs, agent.noise(1, NUM_ENVS)[0])
    agent.value(obs)
    agent.inspect(obs)
    agent.predict(obs.numpy())
    assert all(value.equal(frozen[key]) for key, value in agent.network.encoder.state_dict().items())
    agent.update(rollout, 0.0)
    (norm,) = [leaf.norm for leaf in agent.network.encoder.leaves]
    torch.testing.assert_close(norm.mean, rollout.obs.flatten(0, 1).mean(dim=0))
    assert norm.count.item() == NUM_ENVS * N_STEPS


def streams(agent):
    return [agent.sampling.get_state(), agent.shuffling.get_state(), torch.get_rng_state()]


@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
def test_predicting_touches_no_stream(action_space):
    agent = make_agent(action_space)
    obs = np.random.default_rng(0).random((64, 3), np.float32)
    before = streams(agent)
    greedy = agent.predict(obs)
    agent.inspect(obs)
    sampled = [agent.predict(obs, False, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert all(a.equal(b) for a, b in zip(streams(agent), before, strict=True))
    assert agent.predict(obs).equal(greedy)
    assert greedy.shape == (64, *action_space.shape)
    assert sampled[0].equal(sampled[1])
    assert not sampled[0].equal(sampled[2])


def test_making_an_agent_touches_no_global_stream_and_follows_its_seed():
    before = torch.get_rng_state()
    first, same, other = make_agent(seed=1), make_agent(seed=1), make_agent(seed=2)
    assert torch.get_rng_state().equal(before)
    assert weights(first).equal(weights(same))
    assert not weights(first).equal(weights(other))
    obs = torch.zeros(64, 3)
    assert first.act(obs, first.noise(1, 64)[0]).action.equal(same.act(obs, same.noise(1, 64)[0]).action)


def test_inspect_says_what_the_policy_thinks():
    discrete, box = make_agent().inspect(np.zeros((5, 3), np.float32)), make_agent(BOX).inspect(torch.zeros(5, 3))
    assert {key: tuple(value.shape) for key, value in discrete.items()} == {"value": (5,), "probabilities": (5, 3)}
    assert {key: tuple(value.shape) for key, value in box.items()} == {"value": (5,), "mean": (5, 2), "std": (5, 2)}
    torch.testing.assert_close(discrete["probabilities"].sum(dim=1), torch.ones(5))


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_a_loaded_agent_goes_on_bit_for_bit(optimizer):
    options = {"norm_obs": True, "norm_reward": True, "optimizer": optimizer}
    agent = make_agent(BOX, **options)
    agent.update(collect(agent), 0.1)
    twin = make_agent(BOX, seed=5, **options)
    twin.load_state_dict(copy.deepcopy(agent.state_dict()))
    for progress in (0.2, 0.3):
        results = [each.update(collect(each), progress) for each in (agent, twin)]
        assert results[0] == results[1]
        assert weights(agent).equal(weights(twin))
    assert twin.n_updates == agent.n_updates == 12
