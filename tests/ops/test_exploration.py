"""Random actions: as often as asked for, among legal ones alone, each as likely."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium import spaces

from agents.ops.exploration import epsilon_greedy, legal_action, random_action
from tests.algos.making import OBS, make_dqn, make_ppo

N_ACTIONS, DRAWS = 20, 100_000


def random_masks(rows, legal, seed=0):
    """Return masks that allow so many of 20 actions, bool `[rows, 20]`."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(rows, N_ACTIONS, generator=generator).argsort(dim=1)
    return order < legal


@pytest.mark.parametrize("as_numpy", [False, True])
def test_epsilon_greedy_takes_the_random_action_where_it_explores(as_numpy):
    arrays = [torch.tensor([3, 0, 2]), torch.tensor([True, False, True]), torch.tensor([1, 2, 2])]
    arrays = [array.numpy() for array in arrays] if as_numpy else arrays
    assert epsilon_greedy(*arrays).tolist() == [1, 0, 2]


@pytest.mark.parametrize("as_numpy", [False, True])
def test_each_action_has_an_equal_share_of_the_uniform_numbers(as_numpy):
    uniform = np.array([0.0, 0.249, 0.25, 0.5, 0.749, 0.75, np.nextafter(np.float32(1), np.float32(0))], np.float32)
    action = random_action(uniform if as_numpy else torch.from_numpy(uniform), 4)
    assert action.tolist() == [0, 0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("legal", [1, 2, 5, 20])
def test_random_actions_are_uniform_among_legal_ones(legal):
    mask = random_masks(1, legal).expand(DRAWS, N_ACTIONS)
    uniform = torch.rand(DRAWS, generator=torch.Generator().manual_seed(1))
    action = legal_action(uniform, mask)
    assert action.dtype == torch.int64
    counts = np.bincount(action, minlength=N_ACTIONS)
    assert not counts[~mask[0].numpy()].any()
    assert scipy.stats.chisquare(counts[mask[0].numpy()]).pvalue > 1e-3 or legal == 1


def test_the_ends_of_the_uniform_numbers_are_the_first_and_the_last_legal_action():
    mask = random_masks(500, 3)
    first, last = mask.long().argmax(1), N_ACTIONS - 1 - mask.flip(1).long().argmax(1)
    assert legal_action(torch.zeros(500), mask).equal(first)
    assert legal_action(torch.full((500,), np.nextafter(np.float32(1), np.float32(0)).item()), mask).equal(last)
    assert legal_action(torch.ones(500), mask).equal(last), "rounded up, it is still the last one"


MASKED = spaces.Dict({"x": OBS, "action_mask": spaces.MultiBinary(N_ACTIONS)})
ROWS, ROUNDS = 50_000, 20  # a million draws


@pytest.mark.parametrize("kind", ["dqn", "ppo"])
@torch.no_grad()
def test_a_million_actions_are_legal_where_18_of_20_are_not(kind):
    made = (
        make_dqn(n_actions=N_ACTIONS, obs_space=MASKED, exploration_initial_eps=0.5, exploration_final_eps=0.5)
        if kind == "dqn"
        else make_ppo(spaces.Discrete(N_ACTIONS), obs_space=MASKED)
    )
    head = made.model.head if kind == "dqn" else made.model.policy_head
    head.weight.mul_(100)
    stream, rows = torch.Generator().manual_seed(0), torch.arange(ROWS)
    act, greedy_too = made.policy.actor(), 0
    for round_ in range(ROUNDS):
        mask = random_masks(ROWS, 2, seed=round_)
        obs = {"x": torch.randn(ROWS, 3, generator=stream), "action_mask": mask.to(torch.int8)}
        noise = made.policy.draw_noise((ROWS,), 0.0, stream)
        acted = act(obs, (), noise)
        assert mask[rows, acted.action].all()
        assert acted.env_action.equal(acted.action)
        greedy = act(obs, (), None).action
        assert mask[rows, greedy].all()
        greedy_too += int((greedy == acted.action).sum())
    assert 0.5 < greedy_too / (ROWS * ROUNDS) < 0.99, "some explore"


def test_exploring_policies_are_uniform_among_legal_actions():
    made = make_dqn(n_actions=N_ACTIONS, obs_space=MASKED)
    mask = random_masks(1, 5)
    obs = {"x": torch.randn(DRAWS, 3), "action_mask": mask.expand(DRAWS, -1).float()}
    noise = made.policy.draw_noise((DRAWS,), 0.0, torch.Generator().manual_seed(3))
    assert noise[0].all()
    counts = np.bincount(made.policy.actor()(obs, (), noise).action, minlength=N_ACTIONS)
    assert counts.astype(bool).tolist() == mask[0].tolist()
    assert scipy.stats.chisquare(counts[counts > 0]).pvalue > 1e-3
