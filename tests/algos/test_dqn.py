"""DQN's update, its target network, its exploration, and what a saved training carries."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium import spaces

from agents.algos.dqn.algorithm import DQN
from agents.algos.dqn.config import DQNConfig
from agents.core.by_numpy.table import Untranslated
from agents.core.runtime import Runtime
from agents.data.batch import Batch
from agents.networks.heads import QUIET
from agents.ops.exploration import random_action
from agents.ops.values import rescale
from envs.errors import UserError
from envs.spaces import ObservationCodec
from tests.algos.making import BOX, OBS, make_batch, make_dqn, weights
from tests.fakes import ClockEnv, training_on


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def disagreeing(**options):
    """Return a DQN whose target network differs from its online one."""
    made = make_dqn(**options)
    for _ in range(5):
        made.update(make_batch())
    assert not weights(made.algorithm.target).equal(weights(made.model))
    return made


def act(made, obs, stream, progress=0.0):
    noise = made.policy.draw_noise((len(obs),), progress, stream)
    return torch.as_tensor(made.policy.actor()(obs, (), noise).action)


def test_only_discrete_actions():
    with pytest.raises(UserError, match=r"DQN needs a Discrete action space.*Box.*--algo ppo"):
        DQN(OBS, BOX, DQNConfig())


def test_the_target_begins_as_a_copy_and_is_not_trained():
    made = make_dqn()
    target, vector = made.algorithm.target, made.learner.parameters.vector
    assert weights(target).equal(weights(made.model))
    assert vector.equal(weights(made.model))
    assert vector.data_ptr() == next(made.model.parameters()).data_ptr()
    before = weights(target)
    made.update(make_batch())
    assert weights(target).equal(before)
    assert not weights(made.model).equal(before)
    for parameter in target.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None


@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("discount", [0.9, 0.0])
@pytest.mark.parametrize("max_grad_norm", [1e9, None])
def test_an_update_is_the_gradient_step_on_paper(double_q, discount, max_grad_norm):
    made = disagreeing(double_q=double_q, optimizer="sgd", max_grad_norm=max_grad_norm, learning_rate=0.1)
    batch = make_batch(seed=1, discount=discount)
    network, target = copy.deepcopy(made.model), copy.deepcopy(made.algorithm.target)
    next_q = target(batch.next_obs).q
    choosing = network if double_q else target
    goal = torch.stack(
        [
            batch.return_[i] + discount * next_q[i, choosing(batch.next_obs[i : i + 1]).q.argmax()]
            for i in range(len(batch.action))
        ]
    ).detach()
    assert goal.equal(batch.return_) == (discount == 0.0)
    q = network(batch.obs).q[torch.arange(32), batch.action]
    error = (q - goal).abs()
    loss = torch.where(error < 1, 0.5 * error.square(), error - 0.5).mean()
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    metrics = made.update(batch)
    assert metrics.keys() == {"train/loss", "train/q_mean", "train/grad_norm"}
    assert metrics["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["train/q_mean"] == pytest.approx(q.mean().item(), rel=1e-5)
    torch.testing.assert_close(weights(made.model), weights(network), atol=1e-6, rtol=1e-4)


MASKED = spaces.Dict({"position": OBS, "action_mask": spaces.MultiBinary(4)})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"double_q": False},
        {"munchausen": True, "munchausen_alpha": 0.0},
        {"distribution": "qr", "n_quantiles": 3},
        {"rescale_values": True, "double_q": False},
    ],
    ids=str,
)
def test_where_no_action_is_legal_nothing_is_to_come(options):
    space = ObservationCodec(MASKED).space
    made = make_dqn(obs_space=space, **options)
    batch, mask = make_batch(), torch.ones(32, 4, dtype=torch.uint8)
    mask[:5] = 0
    seen = [{"position": obs, "action_mask": legal} for obs, legal in ((batch.obs, mask | 1), (batch.next_obs, mask))]
    batch = batch._replace(obs=seen[0], next_obs=seen[1])
    prepared = made.algorithm.prepare(batch, {}) | {"weight": None}
    noise = dict.fromkeys(("online", "target", "choice"), QUIET)
    target = made.algorithm._backed_up(made.model, prepared, noise)
    wanted = rescale(batch.return_) if "rescale_values" in options else batch.return_
    torch.testing.assert_close(target[:5], wanted[:5, None].expand_as(target[:5]) if target.dim() > 1 else wanted[:5])
    assert (target.reshape(32, -1)[5:, 0] - wanted[5:]).abs().min() > 1e-4
    values = made.model.value(seen[1])
    assert values[:5].tolist() == [0.0] * 5
    assert values.abs().max() < 10


def test_numpy_repeats_updates_with_masks(monkeypatch):
    refused = []
    monkeypatch.setattr(Untranslated, "__init__", lambda self, *why: refused.append(why))
    runtime = Runtime("numpy")
    made = make_dqn(obs_space=ObservationCodec(MASKED).space, runtime=runtime)
    batch, mask = make_batch(), torch.ones(32, 4, dtype=torch.uint8)
    seen = [{"position": obs, "action_mask": mask} for obs in (batch.obs, batch.next_obs)]
    for _ in range(3):
        made.update(batch._replace(obs=seen[0], next_obs=seen[1]))
    assert runtime.summary == "NumPy for updates"
    assert not refused


@pytest.mark.parametrize("kind", ["rnd", "icm"])
def test_the_target_is_without_what_learns_beside_it(kind):
    made = make_dqn(curiosity=kind, curiosity_arch=(8,), curiosity_size=4)
    assert made.algorithm.target.curiosity is None
    assert not any(name.startswith("curiosity") for name in made.algorithm.target.state_dict())
    made.algorithm.update_target()
    made.algorithm.follow_model()
    assert made.algorithm.target.curiosity is None
    assert weights(made.algorithm.target).equal(
        torch.cat([p.detach().flatten() for n, p in made.model.named_parameters() if not n.startswith("curiosity")])
    )


def test_double_dqn_and_dqn_differ_where_the_networks_disagree():
    single, double = (disagreeing(double_q=flag) for flag in (False, True))
    double.load_state_dict(copy.deepcopy(single.state_dict()))
    batch = make_batch(seed=2)
    assert single.update(batch)["train/loss"] != double.update(batch)["train/loss"]


@pytest.mark.parametrize("tau", [1.0, 0.5, 0.005])
def test_tau_is_the_share_of_the_online_network(tau):
    made = disagreeing(tau=tau, norm_obs=True)
    online, target = weights(made.model), weights(made.algorithm.target)
    made.algorithm.update_target()
    torch.testing.assert_close(weights(made.algorithm.target), target + tau * (online - target))
    assert weights(made.model).equal(online)
    if tau == 1.0:
        assert weights(made.algorithm.target).equal(online)
        obs = make_batch().obs
        assert made.algorithm.target(obs).q.equal(made.model(obs).q), "the target computes with its own weights"


@pytest.mark.parametrize(("before", "after", "moves"), [(0, 9, 0), (0, 10, 1), (9, 11, 1), (10, 19, 0), (5, 95, 1)])
def test_the_target_moves_as_its_interval_falls_due(before, after, moves):
    made = make_dqn(target_update_interval=10)
    seen = []
    made.algorithm.update_target = lambda: seen.append(1)
    made.algorithm.after_round(before, after)
    assert len(seen) == moves


def test_the_target_shares_the_normaliser_from_the_first_update_on():
    made = make_dqn(norm_obs=True)
    target = made.algorithm.target
    batch = make_batch()
    batch = batch._replace(obs=1000 + batch.obs, next_obs=1000 + batch.next_obs)
    made.update(batch)
    values = target(batch.next_obs).q
    assert (values.std(dim=0) > 0.01).all(), "clipped to one corner, all observations would have the same values"
    assert made.model.encoder(batch.obs).abs().max() < 5
    for mine, theirs in zip(target.buffers(), made.model.buffers(), strict=True):
        assert mine is theirs
    seen = make_batch(seed=1)
    made.load_state_dict(copy.deepcopy(made.state_dict()))
    made.algorithm.double().float()  # moved as one, they stay one
    made.update(seen)
    assert target.encoder(seen.obs).equal(made.model.encoder(seen.obs))


def test_the_target_takes_over_other_buffers_whole():
    """Such as BatchNorm's, which an encoder of one's own may have."""
    made = make_dqn(tau=0.5)
    made.model.register_buffer("seen", torch.tensor(1.0))
    made.algorithm.copy_model()
    made.model.seen.fill_(5.0)
    assert made.algorithm.target.seen.item() == 1.0
    made.algorithm.update_target()
    assert made.algorithm.target.seen.item() == made.model.seen.item() == 5.0


def test_epsilon_falls_over_its_share_of_the_budget_and_stays():
    made = make_dqn(exploration_fraction=0.2, exploration_initial_eps=0.9, exploration_final_eps=0.1)
    epsilons = [made.policy.epsilon(progress) for progress in (0.0, 0.1, 0.2, 0.7, 1.0)]
    assert epsilons == pytest.approx([0.9, 0.5, 0.1, 0.1, 0.1])
    assert make_dqn(exploration_fraction=0.0, exploration_final_eps=0.1).policy.epsilon(0.0) == pytest.approx(0.1)
    shown = made.learner.latest(0.1)
    assert shown["rollout/exploration_rate"] == pytest.approx(0.5)
    assert shown["train/learning_rate"] == 0.01
    assert shown["train/n_updates"] == 0.0


def test_each_environment_explores_by_a_draw_of_its_own():
    num_envs, ticks, epsilon = 8, 2000, 0.3
    made, stream = make_dqn(exploration_initial_eps=epsilon), generator()
    obs = torch.zeros(num_envs, 3)
    greedy = torch.as_tensor(made.policy.predict(obs)[0])
    other = torch.stack([act(made, obs, stream) for _ in range(ticks)]) != greedy
    chance = epsilon * 3 / 4  # a random action is the greedy one in one case of four
    counts = np.bincount(other.sum(dim=1).numpy(), minlength=num_envs + 1)
    expected = ticks * scipy.stats.binom.pmf(np.arange(num_envs + 1), num_envs, chance)
    keep = expected > 5  # chi-square wants enough of each
    observed, wanted = ([*array[keep], array[~keep].sum()] for array in (counts, expected))
    assert scipy.stats.chisquare(observed, wanted).pvalue > 1e-3


def test_the_draws_of_many_ticks_follow_each_ones_epsilon():
    made = make_dqn(exploration_fraction=1.0, exploration_initial_eps=1.0, exploration_final_eps=0.0)
    noise = made.policy.draw_noise((4, 20_000), np.array([0.0, 0.25, 0.5, 1.0]), generator())
    assert noise[0].float().mean(dim=1).tolist() == pytest.approx([1.0, 0.75, 0.5, 0.0], abs=0.02)
    assert scipy.stats.chisquare(np.bincount(random_action(noise[1][noise[0]], made.model.n_actions))).pvalue > 1e-3


def test_random_actions_are_uniform_and_greedy_ones_are_greedy():
    made, stream = make_dqn(exploration_final_eps=0.0), generator()
    obs = torch.randn(20_000, 3, generator=generator())
    counts = np.bincount(act(made, obs, stream), minlength=4)
    assert len(counts) == 4
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    q_values = made.policy.inspect(obs, ())["q_values"]
    predicted = [torch.as_tensor(made.policy.predict(given)[0]) for given in (obs, obs.numpy())]
    for actions in (act(made, obs, stream, progress=1.0), *predicted):
        assert actions.equal(q_values.argmax(dim=1))
        assert actions.dtype == torch.int64
    assert made.policy.inspect(obs, ())["value"].equal(q_values.amax(dim=1))


def test_exploring_draws_from_the_stream_given_alone():
    made, obs = make_dqn(), torch.zeros(100, 3)
    before = torch.get_rng_state()
    stream = generator(1)
    actions = act(made, obs, stream)
    assert actions.equal(act(made, obs, generator(1)))
    assert not actions.equal(act(made, obs, generator(2)))
    assert not actions.equal(act(made, obs, stream))
    assert torch.get_rng_state().equal(before)


def test_predicting_touches_no_stream():
    made = make_dqn(exploration_final_eps=0.5)
    obs, before = torch.zeros(200, 3), torch.get_rng_state()

    def predict(**options):
        return torch.as_tensor(made.policy.predict(obs, **options)[0])

    greedy = predict()
    made.policy.inspect(obs, ())
    sampled = [predict(deterministic=False, generator=generator(seed)) for seed in (1, 1, 2)]
    assert torch.get_rng_state().equal(before)
    assert sampled[0].equal(sampled[1])
    assert not sampled[0].equal(sampled[2])
    assert (sampled[0] != greedy).float().mean().item() == pytest.approx(0.5 * 3 / 4, abs=0.12)


def test_gradients_are_clipped_and_the_schedule_reaches_the_optimiser():
    made = make_dqn(max_grad_norm=1e-3, optimizer="sgd", learning_rate="lin_1.0")
    before = weights(made.model)
    made.update(make_batch(), 0.5)
    assert (weights(made.model) - before).norm().item() == pytest.approx(0.5e-3, rel=1e-3)
    made.update(make_batch(), 0.75)
    assert (weights(made.model) - before).norm().item() <= 0.75e-3 * 1.001
    assert made.learner.latest(0.75)["train/learning_rate"] == 0.25
    assert made.learner.n_updates == 2


@pytest.mark.parametrize("n_envs", [1, 4])
def test_a_linear_schedule_begins_whole_and_its_last_update_still_moves(n_envs):
    total = 40
    options = {"learning_rate": "lin_0.01", "n_envs": n_envs, "train_freq": n_envs, "learning_starts": 0}
    config = DQNConfig.model_validate({**options, "total_timesteps": total, "batch_size": 8, "buffer_size": 100})
    training = training_on(ClockEnv(n_envs), config)
    rates, rates_of = [], training.learner.optimizer.rates
    training.learner.optimizer.rates = lambda rate: rates.append(rate) or rates_of(rate)
    for _ in training.iterations():
        pass
    assert rates == pytest.approx([0.01 * (1 - step / total) for step in range(0, total, n_envs)])
    assert rates[0] == 0.01
    assert rates[-1] > 0


def test_statistics_are_learnt_from_batches_and_freeze_otherwise():
    made = make_dqn(norm_obs=True)
    batch = make_batch()
    act(made, batch.obs, generator())
    made.policy.predict(batch.obs)
    (norm,) = [leaf.norm for leaf in made.model.encoder.leaves]
    assert norm.count.item() == 0
    made.update(batch)
    torch.testing.assert_close(norm.mean, batch.obs.mean(dim=0))
    assert norm.count.item() == 32


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_a_loaded_training_goes_on_bit_for_bit(optimizer):
    options = {"norm_obs": True, "tau": 0.1, "optimizer": optimizer}
    made = disagreeing(**options)
    twin = make_dqn(seed=9, **options)
    twin.load_state_dict(copy.deepcopy(made.state_dict()))
    obs = make_batch().obs
    for seed in range(3):
        results = [each.update(make_batch(seed=seed)) for each in (made, twin)]
        assert results[0] == results[1]
        made.algorithm.update_target()
        twin.algorithm.update_target()
        assert act(made, obs, generator(), 0.05).equal(act(twin, obs, generator(), 0.05))
        assert weights(made.algorithm.target).equal(weights(twin.algorithm.target))
        assert weights(made.model).equal(weights(twin.model))
    assert made.learner.n_updates == twin.learner.n_updates == 8


def test_masks_reach_the_targets():
    space = spaces.Dict({"x": OBS, "action_mask": spaces.MultiBinary(4)})
    made = make_dqn(obs_space=space, optimizer="sgd", learning_rate=0.1, double_q=False)
    batch = make_batch()
    mask = torch.rand(32, 4, generator=generator()) < 0.5
    mask[torch.arange(32), batch.action] = True
    assert not mask.all()
    next_q = made.algorithm.target({"x": batch.next_obs, "action_mask": torch.ones(32, 4)}).q
    best = torch.stack([row[legal].max() for row, legal in zip(next_q, mask, strict=True)]).detach()
    assert not best.equal(next_q.amax(dim=1))
    q = made.model({"x": batch.obs, "action_mask": mask}).q[torch.arange(32), batch.action]
    expected = torch.nn.functional.smooth_l1_loss(q, batch.return_ + batch.discount * best)
    wrapped = batch._replace(
        obs={"x": batch.obs, "action_mask": mask.float()}, next_obs={"x": batch.next_obs, "action_mask": mask.float()}
    )
    for double_q in (False, True):  # as both networks are the same, both choose the same legal action
        twin = make_dqn(obs_space=space, double_q=double_q)
        assert twin.update(wrapped)["train/loss"] == pytest.approx(expected.item(), rel=1e-5)
        assert weights(twin.model).isfinite().all()


LENGTH, BURN_IN, ROWS = 5, 3, 6
EARLY = {"memory_size": 8, "sequence_length": LENGTH, "burn_in": BURN_IN}


def recurrent(**options):
    """Return a DQN with memory whose networks disagree, and whose weights are so large that what it remembers shows."""
    made = make_dqn(**{"memory": "gru", "optimizer": "sgd", "learning_rate": 0.1, **EARLY, **options})
    draw = generator(5)
    with torch.no_grad():
        for parameter in [*made.model.parameters(), *made.algorithm.target.parameters()]:
            parameter.mul_(1.5).add_(0.2 * torch.randn(parameter.shape, generator=draw))
    return made


def sequences(made, seed=0, length=BURN_IN + LENGTH, n_step_returns=3):
    """Return sequences of random transitions, which cross the ends of episodes, as a sampler hands them out."""
    draw, last = generator(seed), torch.arange(length) + torch.randint(n_step_returns, (ROWS, length))
    carry = torch.randn(made.model.initial_carry(ROWS).shape, generator=draw)
    obs, next_obs = torch.randn(2, ROWS, length, 3, generator=draw)
    start = torch.rand(ROWS, length, generator=draw) < 0.25
    start[:, 0] = False
    return Batch(
        obs=obs,
        action=torch.randint(4, (ROWS, length), generator=draw),
        return_=torch.randn(ROWS, length, generator=draw),
        discount=torch.rand(ROWS, length, generator=draw),
        next_obs=next_obs,
        indices=torch.arange(ROWS),
        weight=torch.rand(ROWS, generator=draw),
        carry=carry,
        start=start,
        last=last.clamp(max=length - 1),
    )


def one_step(network, obs, carry, noise=QUIET):
    """Return what a network says of single observations `[n, 3]` with carries `[n, ...]`, and the next carries."""
    features, carry = network.look(obs, carry)
    return network._heads(features, None, noise), carry


def by_steps(network, batch):
    """Return the action values of each step and of its successor, `[B][T]` of `[A]` each, worked out one by one."""
    q, next_q = [], []
    for b in range(ROWS):
        carry, now, following = batch.carry[b : b + 1], [], []
        for t in range(batch.start.shape[1]):
            carry = torch.zeros_like(carry) if batch.start[b, t] else carry
            if t == BURN_IN:
                carry = carry.detach()
            output, carry = one_step(network, batch.obs[b, t : t + 1], carry)
            now.append(output.q[0])
            following.append(one_step(network, batch.next_obs[b, t : t + 1], carry)[0].q[0].detach())
        q.append(now)
        next_q.append(following)
    return q, next_q


@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("double_q", [False, True])
def test_an_update_on_sequences_is_the_gradient_step_on_paper(memory, double_q):
    made = recurrent(memory=memory, double_q=double_q, max_grad_norm=None)
    batch, network = sequences(made), copy.deepcopy(made.model)
    (q, chosen), (_, judged) = by_steps(network, batch), by_steps(made.algorithm.target, batch)
    losses, errors = [], torch.zeros(LENGTH, ROWS)
    for b in range(ROWS):
        for t in range(BURN_IN, BURN_IN + LENGTH):
            last = int(batch.last[b, t])
            best = (chosen if double_q else judged)[b][last].argmax()
            goal = batch.return_[b, t] + batch.discount[b, t] * judged[b][last][best]
            error = (q[b][t][batch.action[b, t]] - goal).abs()
            errors[t - BURN_IN, b] = error.detach()
            losses.append(batch.weight[b] * torch.where(error < 1, 0.5 * error.square(), error - 0.5))
    loss = torch.stack(losses).mean()
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    result = made.learner.update(batch, 0.0)
    assert float(result.metrics["train/loss"]) == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(result.priorities.view(LENGTH, ROWS), errors, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights(made.model), weights(network), atol=1e-6, rtol=1e-4)


PARTS = [
    {"distribution": "c51", "dueling": True},
    {"distribution": "qr"},
    {"distribution": "iqn", "noisy": True, "munchausen": True},
    {"noisy": True, "dueling": True, "rescale_values": True},
    {"munchausen": True, "layer_norm": True},
]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "+".join(map(str, parts)))
@torch.no_grad()
def test_every_part_says_of_sequences_what_it_says_step_by_step(parts):
    made = recurrent(**parts)
    algorithm, batch = made.algorithm, sequences(made)
    minibatch = algorithm.prepare(batch, {})
    drawn = algorithm.draw(LENGTH * ROWS, generator())
    noise = drawn["noise"]["online"] if drawn else QUIET
    for name, network in (("online", made.model), ("target", algorithm.target)):
        said = algorithm._look(network, name, minibatch, noise)
        ahead = algorithm._look(network, name, minibatch, noise, ahead=True)
        carry, following, compared = batch.carry, [], 0
        for t in range(BURN_IN + LENGTH):
            carry = torch.where(batch.start[:, t, None], 0.0, carry)
            place = slice(max(t - BURN_IN, 0) * ROWS, (max(t - BURN_IN, 0) + 1) * ROWS)
            here = noise if noise.tau is None else noise._replace(tau=noise.tau[place])
            output, carry = one_step(network, batch.obs[:, t], carry, here)
            following.append(one_step(network, batch.next_obs[:, t], carry, here)[0])
            if t >= BURN_IN:
                for got, wanted in zip(said, output, strict=True):
                    assert (got is None) == (wanted is None)
                    if got is not None:
                        torch.testing.assert_close(got[place], wanted, atol=1e-5, rtol=1e-4)
                        compared += 1
        last = batch.last[:, BURN_IN:].T.flatten()
        wanted = torch.stack([following[int(t)].q[i % ROWS] for i, t in enumerate(last)])
        torch.testing.assert_close(ahead.q, wanted, atol=1e-5, rtol=1e-4)
        assert compared >= LENGTH
    assert np.isfinite(list(made.update(batch).values())).all()


def test_the_normaliser_takes_in_whole_sequences():
    made = recurrent(norm_obs=True)
    batch = sequences(made)
    made.update(batch)
    (norm,) = [leaf.norm for leaf in made.model.encoder.leaves]
    torch.testing.assert_close(norm.mean, batch.obs.mean((0, 1)))


@pytest.mark.parametrize("memory", [None, "gru"])
def test_the_conservative_penalty_is_added_as_it_weighs(memory):
    plain, kept = (recurrent(memory=memory, cql_alpha=alpha) for alpha in (0.0, 0.5))
    batch = sequences(kept) if memory else make_batch()
    minibatch = kept.algorithm.prepare(batch, {})
    q = kept.algorithm._look(kept.model, "online", minibatch, QUIET).q
    weight = 1.0 if minibatch["weight"] is None else minibatch["weight"]
    gap = (weight * (q.exp().sum(1).log() - q[torch.arange(len(q)), minibatch["action"]])).mean()
    first, second = (made.learner.update(batch, 0.0) for made in (plain, kept))
    added = float(second.metrics["train/loss"]) - float(first.metrics["train/loss"])
    assert added == pytest.approx(0.5 * gap.item(), rel=1e-4)
    if memory:
        assert first.priorities.equal(second.priorities), "what was wrong of the values, without the penalty"
