"""DQN's update, its target network, its exploration, and what a saved agent carries."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium import spaces

from agents.algos.dqn.algorithm import DQN
from agents.algos.dqn.config import DQNConfig
from agents.data.replay import Batch
from envs.errors import UserError

CPU = torch.device("cpu")
OBS = spaces.Box(-1, 1, (3,), np.float32)


def make_agent(seed=0, n_actions=4, **options):
    config = DQNConfig(**{"net_arch": (16,), "learning_rate": 0.01, **options})
    return DQN(OBS, spaces.Discrete(n_actions), config, CPU, seed)


def make_batch(size=32, seed=0, discount=0.9):
    generator = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, size, 3, generator=generator)
    return Batch(
        obs=obs,
        action=torch.randint(4, (size,), generator=generator),
        return_=torch.randn(size, generator=generator),
        discount=torch.full((size,), discount),
        next_obs=next_obs,
    )


def flat(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def act(agent, obs, epsilon):
    """Act once on each observation with a coin that comes up `epsilon` of the time."""
    (forced,) = agent._toss(epsilon, (1, len(obs)), agent.exploring)
    return torch.where(forced < 0, torch.as_tensor(agent.act(obs)), forced)


def disagreeing(**options):
    """Return an agent whose target network differs from its online one."""
    agent = make_agent(**options)
    for _ in range(5):
        agent.update(make_batch(), 0.0)
    assert not flat(agent.target).equal(flat(agent.network))
    return agent


def test_only_discrete_actions():
    with pytest.raises(UserError, match=r"DQN needs a Discrete action space.*Box.*--algo ppo"):
        DQN(OBS, spaces.Box(-1, 1, (2,)), DQNConfig(), CPU)


def test_the_target_begins_as_a_copy_and_is_not_trained():
    agent = make_agent()
    assert flat(agent.target).equal(flat(agent.network))
    assert agent.optimizer.vector.equal(flat(agent.network))
    assert agent.optimizer.vector.data_ptr() == next(agent.network.parameters()).data_ptr()
    before = flat(agent.target)
    agent.update(make_batch(), 0.0)
    assert flat(agent.target).equal(before)
    assert not flat(agent.network).equal(before)
    for parameter in agent.target.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None


@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("discount", [0.9, 0.0])
def test_an_update_is_the_gradient_step_on_paper(double_q, discount):
    agent = disagreeing(double_q=double_q, optimizer="sgd", max_grad_norm=1e9, learning_rate=0.1)
    batch = make_batch(seed=1, discount=discount)
    network, target = copy.deepcopy(agent.network), copy.deepcopy(agent.target)
    next_q = target(batch.next_obs)
    choosing = network if double_q else target
    goal = torch.stack(
        [
            batch.return_[i] + discount * next_q[i, choosing(batch.next_obs[i : i + 1]).argmax()]
            for i in range(len(batch.action))
        ]
    ).detach()
    assert goal.equal(batch.return_) == (discount == 0.0)
    q = network(batch.obs)[torch.arange(32), batch.action]
    error = (q - goal).abs()
    loss = torch.where(error < 1, 0.5 * error.square(), error - 0.5).mean()
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    metrics = agent.update(batch, 0.0)
    assert metrics["train/loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["train/q_mean"].item() == pytest.approx(q.mean().item(), rel=1e-5)
    torch.testing.assert_close(flat(agent.network), flat(network), atol=1e-6, rtol=1e-4)


def test_double_dqn_and_dqn_differ_where_the_networks_disagree():
    single, double = (disagreeing(double_q=flag) for flag in (False, True))
    double.load_state_dict(copy.deepcopy(single.state_dict()))
    batch = make_batch(seed=2)
    assert not single.update(batch, 0.0)["train/loss"].equal(double.update(batch, 0.0)["train/loss"])


@pytest.mark.parametrize("tau", [1.0, 0.5, 0.005])
def test_tau_is_the_share_of_the_online_network(tau):
    agent = disagreeing(tau=tau, norm_obs=True)
    online, target = flat(agent.network), flat(agent.target)
    agent.update_target()
    torch.testing.assert_close(flat(agent.target), target + tau * (online - target))
    assert flat(agent.network).equal(online)
    if tau == 1.0:
        assert flat(agent.target).equal(online)
        obs = make_batch().obs
        assert agent.target(obs).equal(agent.network(obs)), "the target does not compute with its own weights"
    for mine, theirs in zip(agent.target.buffers(), agent.network.buffers(), strict=True):
        assert mine.equal(theirs), "normaliser statistics are taken over whole"


def test_epsilon_falls_over_its_share_of_the_budget_and_stays():
    agent = make_agent(exploration_fraction=0.2, exploration_initial_eps=0.9, exploration_final_eps=0.1)
    epsilons = [agent.epsilon(progress) for progress in (0.0, 0.1, 0.2, 0.7, 1.0)]
    assert epsilons == pytest.approx([0.9, 0.5, 0.1, 0.1, 0.1])
    assert make_agent(exploration_fraction=0.0, exploration_final_eps=0.1).epsilon(0.0) == pytest.approx(0.1)
    shown = agent.schedules(0.1)
    assert shown["rollout/exploration_rate"] == pytest.approx(0.5)
    assert shown["train/learning_rate"] == 0.01
    assert shown["train/n_updates"] == 0.0


def test_each_environment_has_a_coin_of_its_own():
    agent = make_agent()
    num_envs, ticks, epsilon = 8, 2000, 0.3
    obs = torch.zeros(num_envs, 3)
    greedy = agent.predict(obs)
    other = torch.stack([act(agent, obs, epsilon) for _ in range(ticks)]) != greedy
    chance = epsilon * 3 / 4  # a random action is the greedy one in one case of four
    counts = np.bincount(other.sum(dim=1).numpy(), minlength=num_envs + 1)
    expected = ticks * scipy.stats.binom.pmf(np.arange(num_envs + 1), num_envs, chance)
    keep = expected > 5  # chi-square wants enough of each
    observed, wanted = ([*array[keep], array[~keep].sum()] for array in (counts, expected))
    assert scipy.stats.chisquare(observed, wanted).pvalue > 1e-3


def test_the_coins_of_many_ticks_follow_each_ones_epsilon():
    agent = make_agent(exploration_fraction=1.0, exploration_initial_eps=1.0, exploration_final_eps=0.0)
    forced = agent.exploration([0.0, 0.25, 0.5, 1.0], 20_000)
    shares = (forced >= 0).float().mean(dim=1).tolist()
    assert shares == pytest.approx([1.0, 0.75, 0.5, 0.0], abs=0.02)
    assert scipy.stats.chisquare(np.bincount(forced[forced >= 0])).pvalue > 1e-3
    assert (forced[forced < 0] == -1).all()


def test_random_actions_are_uniform_and_greedy_ones_are_greedy():
    agent = make_agent()
    obs = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    counts = np.bincount(act(agent, obs, 1.0), minlength=4)
    assert len(counts) == 4
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    q_values = agent.inspect(obs)["q_values"]
    for actions in (act(agent, obs, 0.0), agent.predict(obs), agent.predict(obs.numpy())):
        assert actions.equal(q_values.argmax(dim=1))
        assert actions.dtype == torch.int64
    assert agent.inspect(obs)["value"].equal(q_values.amax(dim=1))


def test_exploring_draws_from_the_agents_own_stream_alone():
    first, same, other = make_agent(seed=1), make_agent(seed=1), make_agent(seed=2)
    before = torch.get_rng_state()
    obs = torch.zeros(100, 3)
    actions = act(first, obs, 1.0)
    assert actions.equal(act(same, obs, 1.0))
    assert not actions.equal(act(other, obs, 1.0))
    assert not actions.equal(act(first, obs, 1.0))
    assert torch.get_rng_state().equal(before)


def test_predicting_touches_no_stream():
    agent = make_agent(exploration_final_eps=0.5)
    obs = torch.zeros(200, 3)
    before = agent.exploring.get_state(), torch.get_rng_state()
    greedy = agent.predict(obs)
    agent.inspect(obs)
    sampled = [agent.predict(obs, False, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert agent.exploring.get_state().equal(before[0])
    assert torch.get_rng_state().equal(before[1])
    assert sampled[0].equal(sampled[1])
    assert not sampled[0].equal(sampled[2])
    assert (sampled[0] != greedy).float().mean().item() == pytest.approx(0.5 * 3 / 4, abs=0.12)


def test_gradients_are_clipped_and_the_schedule_reaches_the_optimiser():
    agent = make_agent(max_grad_norm=1e-3, optimizer="sgd", learning_rate="lin_1.0")
    before = flat(agent.network)
    agent.update(make_batch(), 0.5)
    assert (flat(agent.network) - before).norm().item() == pytest.approx(0.5e-3, rel=1e-3)
    agent.update(make_batch(), 0.75)
    assert (flat(agent.network) - before).norm().item() <= 0.75e-3 * 1.001
    assert agent.schedules(0.75)["train/learning_rate"] == 0.25
    assert agent.n_updates == 2


def test_statistics_are_learnt_from_batches_and_freeze_otherwise():
    agent = make_agent(norm_obs=True)
    batch = make_batch()
    act(agent, batch.obs, 0.5)
    agent.predict(batch.obs)
    (norm,) = [leaf.norm for leaf in agent.network.encoder.leaves]
    assert norm.count.item() == 0
    agent.update(batch, 0.0)
    torch.testing.assert_close(norm.mean, batch.obs.mean(dim=0))
    assert norm.count.item() == 32


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_loaded_agent_goes_on_bit_for_bit(optimizer):
    options = {"norm_obs": True, "tau": 0.1, "optimizer": optimizer}
    agent = disagreeing(**options)
    twin = make_agent(seed=9, **options)
    twin.load_state_dict(copy.deepcopy(agent.state_dict()))
    obs = make_batch().obs
    for seed in range(3):
        results = [each.update(make_batch(seed=seed), 0.0) for each in (agent, twin)]
        assert results[0]["train/loss"].equal(results[1]["train/loss"])
        agent.update_target()
        twin.update_target()
        assert act(agent, obs, 0.5).equal(act(twin, obs, 0.5))
        assert flat(agent.target).equal(flat(twin.target))
        assert flat(agent.network).equal(flat(twin.network))
    assert agent.n_updates == twin.n_updates == 8
