"""What counts for a policy, measured: in a task where that is known."""

from __future__ import annotations

import numpy as np
import pytest

from agents.acting.evaluation import evaluate
from agents.algos.ppo.config import PPOConfig
from agents.view.explanation.effects import Subject, importances
from agents.view.explanation.features import features_of
from agents.view.explanation.states import Sample, Shown, States, greedy, replacing
from envs.names import Names
from tests.probes.probe_env import Match
from tests.probes.test_probes import learnt


class Distracted(Match):
    """As Match; beside the cue is a number that plays no part, and for a while longer one that is always the same."""

    size = 3

    def see(self, cue, t):
        return np.stack([cue, self._rng.choice([-1.0, 1.0], len(t)), np.ones(len(t))], axis=1)


NAMES = Names(observations={"": ("cue", "noise", "constant")})


@pytest.fixture(scope="module")
def subject() -> Subject:
    settings = {"learning_rate": 0.01, "gamma": 0.8, "n_steps": 16, "batch_size": 64, "net_arch": (16,)}
    policy = learnt(Distracted(8), PPOConfig(**settings, n_envs=8, total_timesteps=2_000, n_epochs=4))
    env, sample = Distracted(8), Sample(200, 0)
    assert evaluate(env, Shown(policy, sample.see), 300, 0).mean == 1.0
    states = sample.states()
    return Subject(policy, env.observation_space, env.action_space, states, greedy(policy, states))


def test_what_dynamics_and_reward_ignore_counts_nothing(subject):
    found = importances(subject, features_of(subject.obs_space, NAMES), seed=0)
    assert found[0].feature.name == "cue"
    by_name = {one.feature.name: one for one in found}
    assert by_name["cue"].changed == pytest.approx(0.5, abs=0.1)  # every other state has another cue
    assert by_name["noise"].changed == 0
    assert by_name["constant"].changed == 0
    assert by_name["constant"].gradient == 0
    assert by_name["constant"].integrated == pytest.approx(0, abs=1e-5)
    for measure in ("gradient", "integrated"):
        assert getattr(by_name["noise"], measure) < 0.2 * getattr(by_name["cue"], measure)


@pytest.mark.parametrize(("place", "mean"), [(0, 0.0), (1, 1.0)])
def test_the_return_without_a_feature_is_that_of_guessing_or_as_before(subject, place, mean):
    feature = features_of(subject.obs_space, NAMES)[place]
    blind = Shown(subject.policy, replacing(feature, subject.states, seed=0))
    assert evaluate(Distracted(8), blind, 1_000, 3).mean == pytest.approx(mean, abs=0.12)


def test_a_sample_holds_every_state_as_often():
    counts = np.zeros(40)
    for seed in range(400):
        sample = Sample(10, seed)
        for tick in range(10):
            obs = np.arange(4 * tick, 4 * tick + 4)[:, None]
            assert sample.see(obs, ()) is obs
        kept = sample.states()
        assert len(kept) == 10
        counts[kept.obs[:, 0]] += 1
    assert counts.sum() == 4_000
    assert abs(counts - 100).max() < 40  # five standard deviations


def test_a_sample_stays_within_its_bytes():
    sample = Sample(1_000, 0, budget=4_000)
    for _ in range(100):
        sample.see({"a": np.zeros((4, 30), np.float32), "b": np.zeros((4, 20), np.float32)}, ())
    assert len(sample.states()) == 4_000 // 200


def test_the_mean_of_pictures_is_no_byte():
    states = States(np.array([[0], [255]], np.uint8), ())
    assert states.mean().tolist() == [127.5]
