"""What an action depends on, where it is known exactly; what is shown of it; and of distributions and memories."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.acting.evaluation import StatelessPolicy
from agents.algos.sac.config import SACConfig
from agents.run.play import Moment, play
from agents.view.canvas import WARM
from agents.view.charts import columns_of
from agents.view.observation import pictures, readings
from agents.view.panel import Panel
from agents.view.saliency import saliency
from envs.adapters.masks import ACTION_MASK
from envs.make import make
from envs.names import Names
from tests.algos.making import make as make_any
from tests.algos.making import make_dqn, make_ppo

SEEN = spaces.Box(-1, 1, (3,))
OBS = np.array([0.2, -0.4, 0.6], np.float32)
WEIGHTS = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.25, -4.0], [0.0, 0.0, 0.0]])


def moment(action, obs=OBS, **outputs) -> Moment:
    return Moment(1, None, outputs, np.asarray(action), 0.0, 0.0, False, False, obs)


def linear(policy, weights: torch.Tensor):
    """Make a policy's outputs a linear function of what it sees."""
    head = policy.model.head if hasattr(policy.model, "head") else policy.model.policy_head
    with torch.no_grad():
        head.weight.copy_(weights)
        head.bias.zero_()
    return policy


def test_of_a_linear_value_it_is_how_the_actions_weights_differ_from_the_others() -> None:
    policy = linear(make_dqn(n_actions=3, obs_space=SEEN, net_arch=()).policy, WEIGHTS)
    for action in range(3):
        found = saliency(policy, moment(action, q_values=0), spaces.Discrete(3), SEEN)
        others = [k for k in range(3) if k != action]
        np.testing.assert_allclose(found[""], (WEIGHTS[action] - WEIGHTS[others].mean(0)).abs(), rtol=1e-6)
    assert saliency(None, moment(0), spaces.Discrete(3), SEEN) == {}
    assert saliency(StatelessPolicy(), moment(0), spaces.Discrete(3), SEEN) == {}


def test_of_continuous_actions_the_sizes_are_added_up() -> None:
    actions = spaces.Box(-1, 1, (3,))
    policy = linear(make_ppo(actions, obs_space=SEEN, net_arch=()).policy, WEIGHTS)
    found = saliency(policy, moment(np.zeros(3, np.float32), mean=0), actions, SEEN)
    np.testing.assert_allclose(found[""], WEIGHTS.abs().sum(0), rtol=1e-6)


def test_only_leaves_of_numbers_are_asked() -> None:
    seen = spaces.Dict(
        {ACTION_MASK: spaces.MultiBinary(2), "place": spaces.Discrete(4), "wind": spaces.Box(-1, 1, (2,))}
    )
    policy = make_ppo(spaces.Discrete(2), obs_space=seen).policy
    obs = {ACTION_MASK: np.ones(2, np.int8), "place": np.array(3), "wind": np.array([0.1, 0.2], np.float32)}
    assert saliency(policy, moment(0, obs, probabilities=0), spaces.Discrete(2), seen).keys() == {"wind"}


def test_a_picture_is_tinted_where_it_counts_and_numbers_get_their_share() -> None:
    space = spaces.Box(0, 255, (8, 9), np.uint8)
    heat = np.zeros((8, 9), np.float32)
    heat[2, 3] = 0.5
    (plain,), (tinted,) = (
        pictures(np.full((8, 9), 100, np.uint8), space),
        pictures(np.full((8, 9), 100, np.uint8), space, {"": heat}),
    )
    assert (plain == 100).all()
    assert np.abs(tinted[2, 3] - np.array(WARM)).max() < 40
    assert (np.delete(tinted.reshape(-1, 3), 2 * 9 + 3, axis=0) == 50).all()
    found = readings(OBS, SEEN, Names(), {"": np.array([1.0, 4.0, 0.0])})
    assert [reading.weight for reading in found] == [0.25, 1.0, 0.0]


@pytest.mark.parametrize(
    "options", [{"distribution": "c51", "v_min": -5.0, "v_max": 5.0}, {"distribution": "qr"}, {"distribution": "iqn"}]
)
def test_a_distribution_has_the_value_for_its_mean(options) -> None:
    policy = make_dqn(n_actions=3, obs_space=SEEN, **options).policy
    shown = {key: value.numpy() for key, value in policy.inspect(OBS[None], ()).items()}
    assert shown["returns"].shape == shown["return_probabilities"].shape
    np.testing.assert_allclose(shown["return_probabilities"].sum(-1), 1, rtol=1e-5)
    means = (shown["returns"] * shown["return_probabilities"]).sum(-1)
    np.testing.assert_allclose(means, shown["q_values"], atol=1e-5)
    panel = Panel("a", "b", "c", spaces.Discrete(3), names=Names(actions=("up", "down", "stay")))
    frame = np.zeros((4, 4, 3), np.uint8)
    panel.see(replace(moment(1, **{key: value[0] for key, value in shown.items()}), frame=frame))
    title, returns, chances = panel.state().distribution
    assert title == "returns expected after down"
    np.testing.assert_array_equal(returns, shown["returns"][0, 1])
    np.testing.assert_array_equal(chances, shown["return_probabilities"][0, 1])


def test_quantiles_of_all_critics_are_one_distribution_whose_mean_is_the_value() -> None:
    bounds = spaces.Box(-1, 1, (2,), np.float32)
    options = {"net_arch": (16,), "truncated_quantiles": True, "n_quantiles": 5, "n_critics": 3}
    policy = make_any(SACConfig.model_validate(options), bounds, obs_space=SEEN).policy
    shown = {key: value.numpy()[0] for key, value in policy.inspect(OBS[None], ()).items()}
    assert shown["returns"].shape == shown["return_probabilities"].shape == (15,)
    np.testing.assert_allclose(shown["returns"] @ shown["return_probabilities"], shown["value"], atol=1e-6)
    panel = Panel("a", "b", "c", bounds)
    panel.see(replace(moment(np.zeros(2, np.float32), **shown), frame=np.zeros((4, 4, 3), np.uint8)))
    title, returns, _ = panel.state().distribution
    assert (title, len(returns)) == ("returns expected", 15)
    plain = make_any(SACConfig.model_validate({"net_arch": (16,)}), bounds, obs_space=SEEN).policy.inspect(
        OBS[None], ()
    )
    assert "returns" not in plain


def test_the_columns_of_a_distribution_hold_all_that_counts() -> None:
    returns, chances = np.array([-10.0, 0.0, 1.0, 2.0, 3.0]), np.array([1e-6, 0.1, 0.2, 0.3, 0.4])
    edges, mass = columns_of(returns, chances, 3)
    np.testing.assert_allclose(edges, [0, 1, 2, 3])
    np.testing.assert_allclose(mass, [0.1, 0.2, 0.7])
    edges, mass = columns_of(np.full(7, 4.0), np.full(7, 1 / 7), 5)
    assert edges[0] < 4 < edges[-1]
    np.testing.assert_allclose(mass.sum(), 1)


def test_where_memory_begins_anew_is_known_and_can_be_asked_for() -> None:
    env = make("Corridor-v0", 1, vec="sync", render=True, env_kwargs={"length": 8})
    policy = make_ppo(spaces.Discrete(2), obs_space=env.observation_space, memory="gru", memory_size=8).policy
    asked: list[int] = []

    def forget() -> bool:
        asked.append(1)
        return len(asked) == 3

    played = list(islice(play(env, policy, 0, forget=forget), 6))
    env.close()
    assert [one.memory_reset for one in played] == [True, False, False, True, False, False]
    assert [bool(np.asarray(one.carry).any()) for one in played] == [False, True, True, False, False, False], (
        "the hall is all zeros"
    )
    alone = policy.inspect(played[3].obs[None], policy.initial_carry(1))["probabilities"][0]
    np.testing.assert_allclose(played[3].outputs["probabilities"], alone, rtol=1e-5)
    panel = Panel("a", "b", "c", spaces.Discrete(2))
    for one in played:
        panel.see(one)
    assert panel.state().resets == [0, 3]
