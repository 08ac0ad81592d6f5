"""What is read from the outputs of a policy, in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.view.explanation.decisions import counts_changes, difference, indecision, scores
from envs.actions import Hybrid

BOX = spaces.Box(-1, 1, (2,), np.float32)
NAN = float("nan")


def test_a_preference_is_over_the_mean_of_the_other_legal_actions():
    values = torch.tensor([[1.0, 4.0, 7.0], [NAN, 4.0, 7.0], [NAN, NAN, 7.0]])
    action = torch.tensor([1, 1, 2])
    assert scores({"q_values": values}, action, spaces.Discrete(3)).tolist() == [[0.0], [-3.0], [7.0]]
    p = torch.tensor([[0.2, 0.2, 0.6]])
    assert scores({"probabilities": p}, torch.tensor([2]), spaces.Discrete(3)).item() == pytest.approx(math.log(3))


def test_an_action_of_probability_0_is_none_of_the_others():
    logits = torch.tensor([[0.3, -0.2]], requires_grad=True)
    for illegal in (0, 2, 18):
        p = torch.cat([logits.softmax(-1), torch.zeros(1, illegal)], dim=-1)
        found = scores({"probabilities": p}, torch.tensor([0]), spaces.Discrete(2 + illegal))
        (gradient,) = torch.autograd.grad(found.sum(), logits)
        assert found.item() == pytest.approx(0.5, rel=1e-5)
        assert gradient.tolist()[0] == pytest.approx([1, -1], rel=1e-5)
    p = torch.tensor([[0.75, 0.25, 0.0, 0.0, 1.0]])
    several = scores({"probabilities": p}, torch.tensor([[0, 1]]), spaces.MultiDiscrete([3, 2]))
    assert several.tolist()[0] == pytest.approx([math.log(3), 0.0])
    never = scores({"probabilities": p[:, :3]}, torch.tensor([2]), spaces.Discrete(3))
    assert never.item() < -60, "what is never done is taken here"


def test_several_choices_have_a_preference_each_and_numbers_their_means():
    p = torch.tensor([[0.2, 0.8, 0.5, 0.25, 0.25]])
    found = scores({"probabilities": p}, torch.tensor([[0, 0]]), spaces.MultiDiscrete([2, 3]))
    assert found.tolist()[0] == pytest.approx([math.log(0.25), math.log(2)])
    coins = scores({"probabilities": torch.tensor([[0.8, 0.8]])}, torch.tensor([[1, 0]]), spaces.MultiBinary(2))
    assert coins.tolist()[0] == pytest.approx([math.log(4), -math.log(4)], rel=1e-5)
    mean = torch.tensor([[0.5, -2.0]])
    assert scores({"mean": mean}, mean, BOX).tolist() == [[0.5, -2.0]]
    space = Hybrid({"go": spaces.Discrete(2), "arm": BOX, "turn": spaces.Discrete(3)})
    outputs = {"probabilities": p, "mean": mean}
    parts = scores(outputs, torch.tensor([[1.0, 0.5, -2.0, 0.0]]), space)
    assert parts.tolist()[0] == pytest.approx([math.log(4), 0.5, -2.0, math.log(2)])


def test_a_probability_of_0_leaves_a_gradient_that_is_finite():
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    scores({"probabilities": logits.softmax(-1)}, torch.tensor([0]), spaces.Discrete(2)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    sure = {"probabilities": torch.tensor([[0.0, 1.0]])}
    assert scores(sure, torch.tensor([[0, 1]]), spaces.MultiBinary(2)).isfinite().all()


def test_choices_differ_or_not_and_numbers_by_their_distance_in_deviations():
    one, other, none = np.array([0, 1, 2]), np.array([0, 2, 2]), np.zeros(())
    assert difference(spaces.Discrete(3), one, other, none).tolist() == [0, 1, 0]
    pairs = np.array([[0, 1], [1, 1]]), np.array([[0, 0], [1, 1]])
    assert difference(spaces.MultiDiscrete([2, 2]), *pairs, none).tolist() == [1, 0]
    numbers = np.array([[0.0, 0.5]]), np.array([[0.5, 9.0]])  # 9 is taken as 1
    assert difference(BOX, *numbers, np.array([0.5, 0.25])).tolist() == [1.5]
    space = Hybrid({"go": spaces.Discrete(2), "arm": BOX})
    rows = np.array([[0, 0.0, 0.5]], np.float32), np.array([[1, 0.5, 0.5]], np.float32)
    assert difference(space, *rows, np.array([1.0, 0.5, 0.5])).tolist() == [0.75]
    assert [counts_changes(kind) for kind in (spaces.Discrete(2), BOX, space)] == [True, False, False]


def test_indecision_is_larger_where_actions_are_closer():
    choice = spaces.Discrete(4)
    assert indecision({"probabilities": np.array([0.25] * 4)}, choice) == pytest.approx(math.log(4))
    assert indecision({"probabilities": np.array([1.0, 0.0])}, spaces.Discrete(2)) == 0
    assert indecision({"q_values": np.array([1.0, NAN, 4.0, 3.5])}, choice) == -0.5
    assert indecision({"std": np.array([2.0, 0.5])}, BOX) == pytest.approx(0.0)
    assert math.isnan(indecision({"q_values": np.array([1.0, NAN])}, spaces.Discrete(2)))
    assert math.isnan(indecision({}, choice))


def test_indecision_of_coins_counts_both_sides():
    coins, p = spaces.MultiBinary(2), np.array([0.1, 0.5])
    own = -0.1 * math.log(0.1) - 0.9 * math.log(0.9) + math.log(2)
    assert indecision({"probabilities": p}, coins) == pytest.approx(own)
    assert indecision({"probabilities": 1 - p}, coins) == pytest.approx(own)
    assert indecision({"probabilities": np.array([0.0, 1.0])}, coins) == 0
    space = Hybrid({"arm": BOX, "coins": coins, "go": spaces.Discrete(4)})
    assert indecision({"probabilities": np.array([*p, *[0.25] * 4])}, space) == pytest.approx(own + math.log(4))
