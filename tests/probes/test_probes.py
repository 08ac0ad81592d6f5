"""Each algorithm learns each probe to the value and the actions that its formula gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.algos.pqn.config import PQNConfig
from agents.algos.sac.config import SACConfig
from agents.networks.memory import MEMORIES
from agents.ops.values import rescale
from tests.fakes import training_on
from tests.probes.probe_env import Aim, Aisle, Bet, Choice, Constant, Cue, Delay, Endless, Finite, Match, Recall

GAMMA = 0.8
NUM_ENVS = 8


def learnt(env, params):
    """Train to the end of the budget; return the policy."""
    training = training_on(env, params)
    for _ in training.iterations():
        pass
    return training.policy


def ppo(env, steps=2_000, **options):
    settings = {"learning_rate": 0.01, "gamma": GAMMA, "n_steps": 16, "batch_size": 64, "net_arch": (16,)}
    settings |= {"n_envs": NUM_ENVS, "total_timesteps": steps, "n_epochs": 4}
    return learnt(env, PPOConfig(**{**settings, **options}))


def dqn(env, steps=2_000, **options):
    settings = {"learning_rate": 0.01, "gamma": GAMMA, "learning_starts": 200, "buffer_size": 2_000, "net_arch": (16,)}
    settings |= {"n_envs": NUM_ENVS, "train_freq": 8, "target_update_interval": 80, "exploration_fraction": 0.5}
    return learnt(env, DQNConfig(**{**settings, "total_timesteps": steps, "exploration_final_eps": 0.2, **options}))


def pqn(env, steps=4_000, **options):
    settings = {"learning_rate": "lin_0.02", "gamma": GAMMA, "n_steps": 16, "batch_size": 64, "net_arch": (16,)}
    settings |= {"n_envs": NUM_ENVS, "total_timesteps": steps, "n_epochs": 4, "exploration_fraction": 0.5}
    return learnt(env, PQNConfig(**{**settings, "exploration_final_eps": 0.2, **options}))


def sac(env, steps=2_000, **options):
    """Train in an environment whose actions, if they are Discrete, become continuous; without an entropy in values."""
    if env.action_space != Aim.action_space:
        env.action_space = Aim.action_space
    settings = {"learning_rate": 0.01, "gamma": GAMMA, "learning_starts": 200, "buffer_size": 2_000, "net_arch": (16,)}
    settings |= {"n_envs": NUM_ENVS, "train_freq": 8, "batch_size": 64, "tau": 0.05, "ent_coef": 0.0}
    return learnt(env, SACConfig(**{**settings, "total_timesteps": steps, **options}))


def inspected(policy, observations):
    return policy.inspect(np.array(observations, np.float32), policy.initial_carry(len(observations)))


def values(policy, *observations):
    return inspected(policy, observations)["value"].tolist()


def q_values(policy, *observations):
    return inspected(policy, observations)["q_values"].numpy()


def actions(policy, *observations):
    return policy.predict(np.array(observations, np.float32))[0].tolist()


EACH = pytest.mark.parametrize("learn", [ppo, dqn, pqn])


@EACH
def test_a_constant_reward_is_the_value(learn):
    assert values(learn(Constant(NUM_ENVS)), [0]) == pytest.approx([1.0], abs=0.05)


@EACH
def test_the_value_depends_on_the_observation(learn):
    assert values(learn(Cue(NUM_ENVS)), [-1], [1]) == pytest.approx([-1.0, 1.0], abs=0.05)


@EACH
def test_a_later_reward_is_discounted(learn):
    assert values(learn(Delay(NUM_ENVS)), [0], [1]) == pytest.approx([GAMMA, 1.0], abs=0.05)


def test_a_later_reward_is_discounted_over_n_steps():
    agent = dqn(Delay(NUM_ENVS), n_step_returns=3)
    assert values(agent, [0], [1]) == pytest.approx([GAMMA, 1.0], abs=0.05)


@EACH
def test_the_better_action_is_found(learn):
    agent = learn(Choice(NUM_ENVS))
    assert actions(agent, [0]) == [1]
    if learn is dqn:
        assert q_values(agent, [0]) == pytest.approx(np.array([[-1.0, 1.0]]), abs=0.05)


@EACH
def test_the_right_action_depends_on_the_observation(learn):
    agent = learn(Match(NUM_ENVS))
    assert actions(agent, [-1], [1]) == [0, 1]
    if learn is not ppo:
        assert q_values(agent, [-1], [1]) == pytest.approx(np.array([[1.0, -1.0], [-1.0, 1.0]]), abs=0.1)


@EACH
def test_a_small_cost_is_paid_for_a_later_gain(learn):
    agent = learn(Bet(NUM_ENVS))
    assert actions(agent, [0, 0]) == [1]
    assert values(agent, [0, 0], [1, 1]) == pytest.approx([GAMMA - 0.1, 1.0], abs=0.05)


@EACH
def test_a_truncation_does_not_cut_the_value(learn):
    assert values(learn(Endless(NUM_ENVS)), [0]) == pytest.approx([1 / (1 - GAMMA)], rel=0.02)


@pytest.mark.parametrize("how", ["running", "popart"])
def test_the_scale_of_values_changes_no_value(how):
    assert values(ppo(Endless(NUM_ENVS), norm_value=how), [0]) == pytest.approx([1 / (1 - GAMMA)], rel=0.02)
    assert values(ppo(Cue(NUM_ENVS), norm_value=how), [-1], [1]) == pytest.approx([-1.0, 1.0], abs=0.05)


@pytest.mark.parametrize("kind", ["rnd", "icm"])
def test_curiosity_changes_no_value_of_rewards(kind):
    how = {"curiosity": kind, "curiosity_arch": (16,), "curiosity_coef": 0.1}
    agent = ppo(Bet(NUM_ENVS), **how)
    assert actions(agent, [0, 0]) == [1]
    assert values(agent, [0, 0], [1, 1]) == pytest.approx([GAMMA - 0.1, 1.0], abs=0.05)
    assert values(ppo(Endless(NUM_ENVS), **how), [0]) == pytest.approx([1 / (1 - GAMMA)], rel=0.02)


def farthest(**options):
    """Return how far along a corridor without rewards a policy gets."""
    env = Aisle(NUM_ENVS)
    ppo(env, steps=8_000, n_steps=32, **options)
    return env.farthest


def test_who_is_curious_goes_where_nobody_has_been():
    """Three of four actions lead back: by chance alone no episode gets far."""
    how = {"curiosity_arch": (32,), "curiosity_gamma": 0.95, "learning_rate": 0.003}
    assert farthest(learning_rate=0.003) < 12
    assert min(farthest(curiosity=kind, **how) for kind in ("rnd", "icm")) >= 18


@EACH
def test_a_termination_does(learn):
    times = np.arange(4)
    expected = (1 - GAMMA ** (4 - times)) / (1 - GAMMA)
    assert values(learn(Finite(NUM_ENVS)), *(times[:, None] / 4)) == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize(
    "options", [{}, {"squash_output": True}, {"state_dependent_std": True}, {"use_sde": True, "log_std_init": -1.0}]
)
def test_a_continuous_action_is_aimed(options):
    agent = ppo(Aim(NUM_ENVS), learning_rate="lin_0.02", **options)
    assert np.ravel(actions(agent, [-1], [1])) == pytest.approx([-0.5, 0.5], abs=0.1)


SOFT = {
    "sac": {},
    "tqc": {"truncated_quantiles": True, "n_quantiles": 8, "top_quantiles_to_drop_per_net": 1},
    "crossq": {"batch_norm": True},
    "gsde": {"use_sde": True, "log_std_init": -1.0, "target_update_interval": 2, "tau": 0.1},
}


@pytest.mark.parametrize("options", SOFT.values(), ids=SOFT)
def test_a_squashed_policy_aims(options):
    agent = sac(Aim(NUM_ENVS), 3_000, ent_coef="auto", target_entropy=-2.0, **options)
    assert np.ravel(actions(agent, [-1], [1])) == pytest.approx([-0.5, 0.5], abs=0.15)


def test_critics_of_actions_learn_what_values_are():
    assert values(sac(Constant(NUM_ENVS)), [0]) == pytest.approx([1.0], abs=0.05)
    assert values(sac(Delay(NUM_ENVS)), [0], [1]) == pytest.approx([GAMMA, 1.0], abs=0.05)
    assert values(sac(Delay(NUM_ENVS), n_step_returns=3), [0], [1]) == pytest.approx([GAMMA, 1.0], abs=0.05)
    assert values(sac(Endless(NUM_ENVS), tau=0.3), [0]) == pytest.approx([1 / (1 - GAMMA)], rel=0.05)


def test_the_entropy_is_part_of_the_value():
    """Of an action that is worth nothing the policy becomes uniform: log 2 for each step, with weight 0.5."""
    agent = sac(Endless(NUM_ENVS), 4_000, ent_coef=0.5, tau=0.3)
    expected = (1 + GAMMA * 0.5 * np.log(2)) / (1 - GAMMA)
    assert values(agent, [0]) == pytest.approx([expected], rel=0.05)


def recalled(policy):
    """Return the actions at the second step, after the cues -1 and 1."""
    first, second = (np.array([[cue, 0.0] for cue in cues], np.float32) for cues in ((-1, 1), (0, 0)))
    second[:, 1] = 1
    _, state = policy.predict(first)
    return policy.predict(second, state, np.zeros(2, bool))[0].tolist()


@pytest.mark.parametrize("memory", MEMORIES)
def test_what_is_seen_no_more_is_remembered_and_memory_does_not_cross_an_episode_end(memory):
    policy = ppo(Recall(NUM_ENVS), steps=6_000, memory=memory, memory_size=16, memory_window=4)
    assert recalled(policy) == [0, 1]
    seen = np.array([[-1.0, 0.0], [1.0, 0.0]], np.float32)
    _, state = policy.predict(seen)
    begins = policy.predict(seen, state, np.ones(2, bool))[1]
    assert begins.equal(policy.predict(seen)[1])
    if memory == "gru":  # as the cue has come by chance, the first step's value owes nothing to the episode before
        assert values(policy, *seen) == pytest.approx([GAMMA, GAMMA], abs=0.1)


def test_action_values_remember_too():
    assert recalled(pqn(Recall(NUM_ENVS), steps=10_000, memory="gru", memory_size=16)) == [0, 1]


@pytest.mark.parametrize("parts", [{"memory": "gru"}, {"memory": "lstm", "burn_in": 2, "prioritized_replay": True}])
def test_they_do_from_replayed_sequences(parts):
    how = {"memory_size": 16, "sequence_length": 4, "n_step_returns": 2, "batch_size": 128, "train_freq": 16}
    policy = dqn(Recall(NUM_ENVS), steps=4_000, **how, **parts)
    assert recalled(policy) == [0, 1]
    assert values(policy, [-1, 0], [1, 0]) == pytest.approx([GAMMA, GAMMA], abs=0.15)


def test_a_truncation_does_not_cut_the_value_of_replayed_sequences():
    how = {"sequence_length": 6, "burn_in": 2, "n_step_returns": 3, "batch_size": 96, "train_freq": 16}
    policy = dqn(Endless(NUM_ENVS), steps=4_000, memory="gru", memory_size=8, **how)
    assert values(policy, [0]) == pytest.approx([1 / (1 - GAMMA)], rel=0.05)


def test_without_memory_it_is_not():
    """So the probe before shows memory and nothing else."""
    one, other = recalled(ppo(Recall(NUM_ENVS), steps=6_000))
    assert one == other


@pytest.mark.parametrize("options", [{}, {"shared_torso": True}])
def test_a_truncation_does_not_cut_the_value_with_memory(options):
    policy = ppo(Endless(NUM_ENVS), memory="gru", memory_size=8, **options)
    assert values(policy, [0]) == pytest.approx([1 / (1 - GAMMA)], rel=0.03)


SUPPORT = {"v_min": -2.0, "v_max": 6.0}
PARTS = {
    "dueling": {"dueling": True},
    "noisy": {"noisy": True, "exploration_initial_eps": 0.0, "exploration_final_eps": 0.0},
    "c51": {"distribution": "c51", **SUPPORT},
    "qr": {"distribution": "qr", "n_quantiles": 8},
    "iqn": {"distribution": "iqn", "n_quantiles": 8},
    "rescaled": {"rescale_values": True},
    "prioritized": {"prioritized_replay": True},
    "layer norm": {"layer_norm": True},
    "rainbow": {
        **{"dueling": True, "noisy": True, "distribution": "c51", "prioritized_replay": True, "n_step_returns": 3},
        **SUPPORT,
    },
    "btr": {
        **{"dueling": True, "noisy": True, "distribution": "iqn", "prioritized_replay": True, "n_step_returns": 3},
        **{"n_quantiles": 8, "munchausen": True, "munchausen_alpha": 0.0},
    },
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_dqn_learns_the_same_values(part):
    """Also all together. Munchausen's bonus changes what is learnt, so here it has no weight."""

    def scaled(expected):
        wanted = torch.tensor(expected)
        return (rescale(wanted) if part == "rescaled" else wanted).numpy()

    agent = dqn(Match(NUM_ENVS), steps=3_000, **PARTS[part])
    assert actions(agent, [-1], [1]) == [0, 1]
    assert q_values(agent, [-1], [1]) == pytest.approx(scaled([[1.0, -1.0], [-1.0, 1.0]]), abs=0.15)
    if part not in ("dueling", "noisy", "layer norm"):  # which have no part in what is learnt from a successor
        later = values(dqn(Delay(NUM_ENVS), **PARTS[part]), [0], [1])
        assert later == pytest.approx(scaled([GAMMA, 1.0]), abs=0.1)
