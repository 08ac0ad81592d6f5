"""Attributions: what they add up to, what they are in closed form, and that they follow the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.algos.ppo.config import PPOConfig
from agents.run.build import make_algorithm
from agents.view.explanation import attribution
from agents.view.explanation.attribution import Question, gradients, integrated, occluded, refuse_without_captum
from agents.view.explanation.states import States, greedy
from envs.errors import UserError
from tests.view.explanation.asking import KINDS, PICTURE, THREE, VECTOR, ask, policy_of, scores_at, states_of


@pytest.mark.parametrize("kind", KINDS)
def test_what_each_number_adds_adds_up_to_the_difference_of_the_scores(kind):
    policy = policy_of(kind)
    states = states_of(kind, policy)
    question, mean = ask(kind, policy, states), states.mean()
    parts = integrated(question, mean)
    assert parts.keys() == set(question.continuous)
    total = sum(leaf.reshape(*leaf.shape[:2], -1).sum(-1) for leaf in parts.values())  # [K, B]
    base = tuple(leaf[None].expand(len(states), *leaf.shape) for leaf in question.inputs(mean))
    expected = (scores_at(question, question.inputs()) - scores_at(question, base)).T
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(total, expected, atol=0.02 * np.abs(expected).max())


def linear(gain: float = 1.0) -> tuple[Question, np.ndarray]:
    """Return a question about a policy that is one layer, whose weights are returned, `[A, 4]`."""
    config = PPOConfig(net_arch=(), ortho_init=False)
    policy = make_algorithm("ppo", VECTOR, THREE, config, 0).eval().policy
    with torch.no_grad():
        policy.model.policy_head.weight *= gain
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    question = Question(policy, VECTOR, THREE, obs, (), greedy(policy, States(obs, ())))
    return question, policy.model.policy_head.weight.detach().numpy()


@pytest.mark.parametrize("gain", [1.0, 10.0])  # at 10 probabilities are 0 and 1, and the preference is as clear as ever
def test_a_linear_policys_attributions_are_its_weights(gain):
    question, weights = linear(gain)
    rows = np.arange(len(question.action))
    others = (weights.sum(axis=0) - weights[question.action]) / 2
    slopes = weights[question.action] - others
    np.testing.assert_allclose(gradients(question)[""][0], slopes, rtol=1e-3, atol=1e-4)
    mean = question.obs.mean(axis=0)
    parts = integrated(question, mean)[""][0]
    np.testing.assert_allclose(parts[rows], slopes * (question.obs - mean), rtol=1e-2, atol=1e-3 * gain)


@pytest.mark.parametrize("kind", ["ppo", "dqn c51", "sac", "ppo pictures"])
def test_attributions_are_others_where_the_weights_are_others(kind):
    one, other = (policy_of(kind, seed) for seed in (0, 1))
    states = states_of(kind, one)
    for method in (gradients, lambda question: integrated(question, states.mean())):
        found = [
            method(ask(kind, policy, states))[""][0].reshape(len(states), -1).astype(np.float64)
            for policy in (one, other)
        ]
        together = np.corrcoef(*(leaf.ravel() for leaf in found))[0, 1]
        assert abs(together) < 0.6


def test_what_is_read_as_codes_has_no_gradient_and_can_be_hidden(monkeypatch):
    monkeypatch.setitem(KINDS, "ppo codes", (PPOConfig(net_arch=(16,)), PICTURE, THREE))
    policy = policy_of("ppo codes")
    states = states_of("ppo codes", policy)
    question, mean = ask("ppo codes", policy, states), states.mean()
    assert (gradients(question), integrated(question, mean)) == ({}, {})
    assert np.abs(occluded(question, mean)[""]).max() > 0.01


def test_a_patch_that_is_hidden_is_worth_what_the_score_loses():
    policy = policy_of("ppo pictures")
    states = states_of("ppo pictures", policy, 2)
    question, mean = ask("ppo pictures", policy, states), np.zeros((10, 10, 3), np.float32)
    heat = occluded(question, mean)[""]
    assert heat.shape == (1, 2, 10, 10, 3)
    (pixels,) = question.inputs()
    hidden = pixels.detach().clone()
    hidden[:, 3, 7] = 0
    lost = scores_at(question, (pixels,)) - scores_at(question, (hidden,))
    np.testing.assert_allclose(heat[0, :, 3, 7], lost.repeat(3, axis=1), atol=1e-4)
    assert np.abs(lost).max() > 1e-3


def test_what_is_no_quantity_has_no_gradient():
    policy = policy_of("ppo masks")
    question = ask("ppo masks", policy, states_of("ppo masks", policy))
    assert question.continuous == ["speed"]


def test_without_captum_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(attribution.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "captum>=0\.9"'):
        refuse_without_captum()
