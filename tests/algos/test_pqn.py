"""PQN's targets and loss, by their definitions."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces

from agents.algos.pqn.config import PQNConfig
from tests.algos.making import NUM_ENVS, collect, make
from tests.fakes import ClockEnv

GAMMA, ACTIONS, N_STEPS = 0.9, spaces.Discrete(3), 32  # long enough for every kind of end


def rollout(dummies=False, **options):
    """Return PQN and what it has collected; epsilon is 1."""
    settings = {"n_envs": NUM_ENVS, "n_steps": N_STEPS, "batch_size": 16, "net_arch": (16,), "gamma": GAMMA}
    made = make(PQNConfig.model_validate({**settings, "exploration_initial_eps": 1.0, **options}), ACTIONS)
    return made, collect(made, ClockEnv(NUM_ENVS, ACTIONS, dummies=dummies), n_steps=N_STEPS)


def q_lambda(best, data, t, n, lam):
    """Return (1 - lambda) sum of lambda^(k-1) G_k, whose last G has the weight that is left.

    G_k are k rewards and the value of the best action then; they end with the episode and with the rollout.
    """
    total, rewards, weight = 0.0, 0.0, 1.0
    for k in range(1, N_STEPS - t + 1):
        at = t + k - 1, n
        rewards += GAMMA ** (k - 1) * float(data.reward[at])
        after = data.obs[at] + torch.tensor([0, 0, 1 / 8])  # as the clock goes on in the same episode
        step_return = rewards + GAMMA**k * best(after) * (not data.terminated[at])
        if data.terminated[at] or data.truncated[at] or t + k == N_STEPS:
            return total + weight * step_return
        total += weight * (1 - lam) * step_return
        weight *= lam
    raise AssertionError("every rollout ends")


@pytest.mark.parametrize("dummies", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.65, 1.0])
def test_targets_are_q_lambda_summed_from_its_n_step_returns(lam, dummies):
    """Gallici et al. 2024, eq. 6."""
    made, data = rollout(dummies, q_lambda=lam)
    with torch.no_grad():
        found = made.algorithm.prepare(data, {})["return"]
        assert (2 * data.terminated + data.truncated).unique().tolist() == [0, 1, 2, 3]
        for t in range(N_STEPS):
            for n in range(NUM_ENVS):
                if data.valid is None or data.valid[t, n]:
                    expected = q_lambda(lambda obs: float(made.model(obs[None]).q.max()), data, t, n, lam)
                    assert float(found[t, n]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_loss_is_half_the_squared_distance_of_the_action_taken_to_its_target():
    made, data = rollout()
    rows = {"obs": data.obs.flatten(0, 1)}
    rows |= {name: leaf.flatten() for name, leaf in made.algorithm.prepare(data, {}).items()}
    loss, _ = made.algorithm.loss(made.model, rows, {})
    q = made.model(rows["obs"]).q
    taken = torch.stack([row[action] for row, action in zip(q, rows["action"], strict=True)])
    torch.testing.assert_close(loss, 0.5 * ((taken - rows["return"]) ** 2).mean())
