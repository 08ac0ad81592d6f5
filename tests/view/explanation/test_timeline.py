"""The decisions of an episode, in closed form."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from agents.run import play
from agents.run.play import Moment, stage
from agents.view.explanation.states import States
from agents.view.explanation.timeline import SHOWN, Rewards, Timeline, judged, render_frames

GAMMA = 0.5


def moments(values, rewards, terminated=True, **outputs) -> list[Moment]:
    found, total = [], 0.0
    for t, (value, reward) in enumerate(zip(values, rewards, strict=True)):
        total += reward
        last = t == len(values) - 1
        own = {"value": np.float32(value)} | {name: rows[t] for name, rows in outputs.items()}
        found.append(Moment(t + 1, None, own, np.array(0), reward, total, last and terminated, last and not terminated))
    return found


def read(values, rewards, terminated=True, how=None, greedy=True, **outputs) -> Timeline:
    played = moments(values, rewards, terminated, **outputs)
    return judged(
        played, States(np.arange(len(played))[:, None], ()), how or Rewards(GAMMA), Discrete(2), greedy=greedy
    )


def test_returns_errors_and_regret_of_an_episode_that_terminates():
    found = read([4, 4, 4], [1, 2, 8])
    assert found.to_come.tolist() == [1 + 0.5 * (2 + 0.5 * 8), 2 + 0.5 * 8, 8]
    assert found.surprise.tolist() == [1 + 2 - 4, 2 + 2 - 4, 8 - 4]
    assert found.regret.tolist() == [4 - 4, 4 - 6, 4 - 8]


def test_what_would_have_followed_a_cut_is_what_was_expected():
    found = read([4, 4, 6], [1, 2, 8], terminated=False)
    assert found.to_come.tolist() == [1 + 0.5 * 5, 2 + 0.5 * 6, 6]
    assert np.isnan(found.surprise[-1])
    assert found.surprise[:2].tolist() == [1 + 2 - 4, 2 + 3 - 4]


def test_clipped_rewards_count_as_they_were_learnt():
    assert read([0, 0], [9, -3], how=Rewards(GAMMA, clips=True)).to_come.tolist() == [0.5, -1]


@pytest.mark.parametrize("terminated", [True, False])
def test_scaled_values_are_put_into_units_of_rewards(terminated):
    rewards = np.array([1.0, 5.0, 2.0, 4.0])
    exact = np.zeros(5)
    for t in reversed(range(4)):
        exact[t] = rewards[t] + GAMMA * exact[t + 1]
    found = read(exact[:4] / 25, rewards.tolist(), terminated, how=Rewards(GAMMA, scales=True))
    assert found.scale == pytest.approx(25, rel=1e-5)
    np.testing.assert_allclose(found.value, exact[:4], rtol=1e-5)
    np.testing.assert_allclose(found.surprise[:3], 0, atol=1e-5)


def test_values_that_no_scale_fits_stay_as_they_are():
    assert read([1, 1], [0, 0], how=Rewards(GAMMA, scales=True)).scale == 1
    assert read([-4, 0], [1, 1], how=Rewards(GAMMA, scales=True)).scale == 1


def test_of_sampled_actions_with_values_regret_is_what_the_best_would_have_been_worth():
    values = [np.array([1.0, 3.0]), np.array([2.0, np.nan])]
    assert read([3, 2], [0, 0], greedy=False, q_values=values).regret.tolist() == [2, 0]
    assert read([3, 2], [0, 0], greedy=True, q_values=values).regret.tolist() == [3, 2]


def test_the_most_striking_moments_lie_apart():
    values = np.zeros(40)
    values[[5, 6, 20, 30, 35]] = [9, 8, 7, 6, 5]
    found = read(values, np.zeros(40).tolist(), probabilities=[np.array([0.5, 0.5])] * 40)
    striking = found.striking()
    assert striking["regret"] == [5, 20, 30]
    assert len(striking["regret"]) == SHOWN
    assert striking["indecision"] == []  # all alike
    assert striking["surprise"][0] == 6  # what was worth 8 came to nothing


def test_each_state_of_an_episode_that_goes_round_in_circles_is_shown_once():
    obs = {"a": np.arange(40)[:, None] % 8, "b": np.zeros((40, 2, 2))}
    values = np.where(obs["a"][:, 0] == 3, 9.0, 1.0) + np.arange(40) / 100
    played = moments(values, np.zeros(40).tolist())
    found = judged(played, States(obs, ()), Rewards(GAMMA), Discrete(2), greedy=True)
    assert found.striking()["regret"][0] == 35
    assert [at % 8 for at in found.striking()["regret"]].count(3) == 1
    assert len(found.striking()["regret"]) == SHOWN


def test_a_policy_that_says_no_value_has_no_such_moments():
    played = [Moment(1, None, {}, np.array(0), 1.0, 1.0, True, False)]
    found = judged(played, States(np.zeros((1, 1)), ()), Rewards(GAMMA), Discrete(2), greedy=True)
    assert found.striking() == {"regret": [], "surprise": [], "indecision": []}


def test_what_is_shown_is_drawn_in_the_same_episode_played_again(monkeypatch):
    with closing(stage("CartPole-v1", render=True, vec="sync")) as env:
        actions = iter([0, 1, 0, 0, 1, 0, 1, 1, 0])
        whole = list(islice(play.moments(env, 3, lambda _: np.array([next(actions)])), 9))
        found = judged(whole, States(np.zeros((9, 1)), ()), Rewards(GAMMA), Discrete(2), greedy=True)
        asked, render, told = [], env.render, []
        monkeypatch.setattr(env, "render", lambda: [asked.append(1), render()][1])
        frames = render_frames(env, replace(found, seed=3), [0, 4, 7], lambda *of: told.append(of))
        assert sorted(frames) == [0, 4, 7]
        assert all((frames[at] == whole[at].frame).all() for at in frames)
        assert not (frames[0] == frames[7]).all()
        assert len(asked) == 3
        assert told == [(1, 3), (2, 3), (3, 3)]
        assert render_frames(env, replace(found, seed=3), [], lambda *_: None) == {}
        other = [replace(one, reward=5.0) if at == 2 else one for at, one in enumerate(whole)]
        found = replace(found, seed=3, moments=other)
        assert sorted(render_frames(env, found, [0, 4], lambda *_: None)) == [0], (
            "it is another episode from the third step on"
        )
