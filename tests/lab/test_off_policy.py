"""What recorded episodes say of another policy: importance sampling and fitted Q evaluation, against known values."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.__main__ import main as agents
from agents.data.dataset import Builder, Dataset
from agents.lab import off_policy
from agents.lab.off_policy import Asked, discounted, fitted, weighed
from tests.algos.making import BOX, make_dqn, make_ppo
from tests.marks import long_test
from tests.run.running import train

TWO = spaces.Discrete(2)
LINE = spaces.Box(0, 3, (1,), np.float32)


def chain(episodes: int, right: float, seed: int = 0, slip: float = 0.0) -> Dataset:
    """Episodes of a line of places 0 to 2: action 1 goes right and earns the place, action 0 ends the episode.

    At place 2 an episode ends in any case.
    """
    rng, builder = np.random.default_rng(seed), Builder((LINE, TWO))
    for _ in range(episodes):
        obs, actions, rewards = [0.0], [], []
        while True:
            actions.append(int(rng.random() < right))
            rewards.append(obs[-1] + 1.0 if actions[-1] else 0.5)
            obs.append(obs[-1] + 1)
            if not actions[-1] or len(actions) == 3:
                break
        ends = np.arange(len(actions)) == len(actions) - 1
        builder.add(np.array(obs, np.float32)[:, None], np.array(actions), rewards, ends, ends & False)
    return builder.finish()


def worth(right: float, gamma: float) -> float:
    """Return the value of place 0 under a policy that goes right so often."""
    value = 0.0
    for place in (2, 1, 0):
        value = right * (place + 1 + (gamma * value if place < 2 else 0)) + (1 - right) * 0.5
    return value


def log_ratio(data: Dataset, right: float, behaviour: float) -> Any:
    with np.errstate(divide="ignore"):
        own, theirs = np.log([1 - right, right]), np.log([1 - behaviour, behaviour])
    return (own - theirs)[data.action]


def test_weights_by_hand() -> None:
    data, gamma = chain(6, 0.6, seed=3), 0.9
    assert len(set(data.lengths)) > 1
    ratio = np.random.default_rng(0).normal(size=len(data)) / 2
    each, earned, weights = [], [0.0] * 3, [0.0] * 3
    for start, length in zip(data.starts, data.lengths, strict=True):
        weight, total = 1.0, 0.0
        for step in range(3):
            if step < length:
                weight *= math.exp(ratio[start + step])
                total += weight * gamma**step * data.reward[start + step]
                earned[step] += weight * gamma**step * data.reward[start + step]
            weights[step] += weight
        each.append((total, weight))
    found = weighed(data, ratio, gamma)
    assert found.per_decision.value == pytest.approx(np.mean([total for total, _ in each]))
    assert found.weighted.value == pytest.approx(sum(e / w for e, w in zip(earned, weights, strict=True)))
    last = np.array([weight for _, weight in each])
    assert found.effective == pytest.approx(last.sum() ** 2 / (last**2).sum())
    assert found.seen == 3


def test_of_the_policy_that_played_they_are_the_mean_return() -> None:
    data = chain(50, 0.6)
    found = weighed(data, np.zeros(len(data)), 0.9)
    mean = discounted(data, 0.9).mean()
    assert found.per_decision.value == pytest.approx(mean)
    assert found.weighted.value == pytest.approx(mean)
    assert found.effective == pytest.approx(50)
    for each in (found.per_decision, found.weighted):
        assert each.low < mean < each.high


@pytest.mark.parametrize("right", [0.9, 0.2])
def test_another_policys_value_is_within_their_intervals(right: float) -> None:
    data = chain(600, 0.5, seed=1)
    found = weighed(data, log_ratio(data, right, 0.5), 0.9)
    for each in (found.per_decision, found.weighted):
        assert each.low < worth(right, 0.9) < each.high
        assert each.value != pytest.approx(discounted(data, 0.9).mean(), rel=0.05)


def test_what_nobody_did_is_not_seen() -> None:
    data = chain(200, 0.0)
    found = weighed(data, log_ratio(data, 1.0, 0.5), 0.9)
    assert (found.seen, found.effective, found.weighted.value) == (0, 0.0, 0.0)


def test_large_weights_do_not_overflow() -> None:
    data = chain(20, 0.5)
    found = weighed(data, np.full(len(data), 700.0), 0.9)
    assert np.isfinite([*found.per_decision, *found.weighted, found.effective]).all()


def test_long_episodes_are_resampled_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    data, sizes, ratios = chain(4, 0.5, seed=1), list[int](), off_policy._ratios
    log_weight = np.zeros((data.episodes, 500))
    monkeypatch.setattr(off_policy, "laid_out", lambda _, numbers: log_weight)
    whole = weighed(data, np.zeros(len(data)), 0.9)
    monkeypatch.setattr(off_policy, "MOST_VALUES", 5_000)

    def noted(earned: Any, weight: Any) -> Any:
        sizes.append(earned.size)
        return ratios(earned, weight)

    monkeypatch.setattr(off_policy, "_ratios", noted)
    assert weighed(data, np.zeros(len(data)), 0.9) == whole
    assert max(sizes) == 5_000


class Goes(Asked):
    """Goes right, or not, with a probability."""

    def __init__(self, data: Dataset, right: float) -> None:
        self.data, self.right, self.stochastic, self.chosen = data, right, 0 < right < 1, True

    def acts(self, rows: Any, generator: torch.Generator) -> torch.Tensor:
        return (torch.rand(len(rows), generator=generator) < self.right).long()


@pytest.mark.parametrize("right", [pytest.param(1.0, marks=long_test), 0.3])
def test_fitted_values_are_the_policys(right: float) -> None:
    data = chain(300, 0.5, seed=2)
    loaded: Any = SimpleNamespace(observation_space=LINE, action_space=TWO)
    found = fitted(Goes(data, right), loaded, 0.9, updates=400, seed=0)
    assert found.value.value == pytest.approx(worth(right, 0.9), abs=0.25)
    assert abs(worth(right, 0.9) - discounted(data, 0.9).mean()) > 0.5
    assert found.bound == pytest.approx(30)


def asked(policy: Any, space: Any, data: Any, stochastic: bool) -> Asked:
    return Asked(SimpleNamespace(policy=policy, action_space=space), data, stochastic)  # type: ignore[arg-type]


def seen(space: Any, count: int = 40) -> Any:
    """Recorded observations and random actions, all that is asked of data."""
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, (count, 2)).astype(np.float32) if space is BOX else rng.integers(0, 4, count)
    obs = rng.normal(size=(count, 3)).astype(np.float32)
    return SimpleNamespace(action=action, rows=np.arange(count), at=lambda rows: obs[rows], obs=obs)


def test_probabilities_of_recorded_actions() -> None:
    four = spaces.Discrete(4)
    data = seen(four)
    q = (made := make_dqn(exploration_final_eps=0.2)).model(torch.from_numpy(data.obs)).q
    same = (q.argmax(1).numpy() == data.action).astype(float)
    assert 0 < same.mean() < 1
    greedy, drawn = (asked(made.policy, four, data, flag).log_prob() for flag in (False, True))
    assert np.exp(greedy) == pytest.approx(same)
    assert np.exp(drawn) == pytest.approx(0.8 * same + 0.05)
    ppo = make_ppo(BOX)
    data = seen(BOX)
    assert asked(ppo.policy, BOX, data, stochastic=False).log_prob() is None
    mean, std = ppo.model(torch.from_numpy(data.obs)).distribution.mean, ppo.model.log_std.exp()
    expected = torch.distributions.Normal(mean, std).log_prob(torch.from_numpy(data.action)).sum(1)
    found = asked(ppo.policy, BOX, data, stochastic=True).log_prob()
    assert found == pytest.approx(expected.detach().numpy(), rel=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = "--env CartPole-v1 --algo dqn -n 1200 --n-envs 4 --learning-starts 100 --learning-rate 3e-3 --net-arch 16 "
    return train(tmp_path_factory.mktemp("run"), f"{words} --device cpu --eval-freq 0 --final-eval-episodes 0")


@pytest.mark.parametrize("shifted", [False, True])
def test_the_command(
    shifted: bool, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(off_policy, "LEARNT_FROM", 20_000)
    out = tmp_path / "set"
    words = f"{run} --episodes 12 --exploration 0 0.5 1 --max-steps 60 --out {out}"
    assert agents(["record", *words.split()]) == 0
    if shifted:
        read = off_policy.as_seen

        def moved(*arguments: Any) -> Any:
            data, said = read(*arguments)
            data.reward[data.starts] = 0
            return data, said

        monkeypatch.setattr(off_policy, "as_seen", moved)
    ratios: list[Any] = []

    def noted(data: Dataset, ratio: Any, *rest: Any) -> Any:
        ratios.append([ratio[data.episode % 3 == kind].mean() for kind in (0, 2)])
        return weighed(data, ratio, *rest)

    monkeypatch.setattr(off_policy, "weighed", noted)
    capsys.readouterr()
    words = f"{run} --data {out} --updates 20 --gamma 0.9 --stochastic --json"
    assert agents(["evaluate", *words.split()]) == 0
    text = capsys.readouterr().out
    found = json.loads(text.splitlines()[-1])
    assert (found["episodes"], found["gamma"]) == (12, 0.9)
    assert found["behaviour"][1] <= found["behaviour"][0] <= found["behaviour"][2]
    assert 0 < found["effective_episodes"] <= 12
    told = " ".join(found["warnings"])
    ((own, random),) = ratios
    assert own > 0 > random, "the policy's own episodes are likelier under it than under the mixture, random ones less"
    assert "it is estimated by cloning" in told
    assert ("the rewards look late by one step" in told) == shifted
    assert "fitted Q" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--gamma 1.5", "--gamma: 1.5 given, 0 to 1 expected"),
        ("--updates 0", "--updates"),
        ("", "cannot read nowhere.npz: no such file or directory"),
    ],
)
def test_mistakes_are_said(words: str, said: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agents(["evaluate", str(run), "--data", "nowhere.npz", *words.split()]) == 2
    assert said in capsys.readouterr().err
