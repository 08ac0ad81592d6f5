"""Every illness is found in a history in which it was planted, soon, and none in those of trainings that learn."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.core.config import AlgoConfig
from agents.run import registry
from agents.run.doctor.diagnosis import Diagnosis
from agents.run.doctor.history import DEVIATION, MOST_POINTS, MOST_SERIES, History
from agents.run.doctor.illnesses import diagnose, diagnose_all

TOTAL, EVERY, INTERVAL, ONSET = 100_000, 500, 5_000, 50_000  # steps: budget, rows, evaluations, when the illness begins
FACTS = {
    "ppo": {"n_envs": 8, "n_steps": 128, "max_grad_norm": 0.5, "batch_size": 256, "gamma": 0.99},
    "dqn": {"n_envs": 1, "buffer_size": 50_000, "batch_size": 64, "learning_starts": 1_000}
    | {"target_update_interval": 1_000, "exploration_fraction": 0.1, "exploration_final_eps": 0.05, "gamma": 0.99}
    | {"exploration_initial_eps": 1.0, "max_grad_norm": 10.0},
}
Change = Callable[[float, int], float]


def healthy(algo: str, step: int) -> dict[str, float]:
    """Return a row of a training that learns, as CartPole's do."""
    part, ripple = step / TOTAL, math.sin(step)
    row = {
        "rollout/ep_rew_mean": 20 + 400 * part + 5 * ripple,
        "rollout/ep_len_mean": 20 + 400 * part + 5 * ripple,
        "train/learning_rate": 1e-3 * (1 - part) + 1e-5,
        "train/grad_norm": 2 + ripple,
        "train/n_updates": float(max(step - 1_000, 0) // 4),
    }
    if algo == "ppo":
        return row | {
            "train/entropy_loss": -0.69 + 0.3 * part,
            "train/approx_kl": 0.01 + 0.005 * ripple,
            "train/clip_fraction": 0.1 + 0.05 * ripple,
            "train/explained_variance": 0.9 * part,
            "train/value_loss": 20 + 5 * ripple,
            "train/loss": 10 + 2 * ripple,
        }
    epsilon = max(1 - part / 0.1 * 0.95, 0.05)
    return row | {"rollout/exploration_rate": epsilon, "train/loss": 0.5 + 0.1 * ripple, "train/q_mean": 40 * part}


VITALS = {
    "doctor/constant_features": 0.0,
    "doctor/reward_size": 1.0,
    "doctor/reward_most": 1.0,
    "doctor/dead_units": 0.3,
    "doctor/saturated_units": 0.2,
    "doctor/input_size": 2.0,
    "doctor/action_reach": 1.3,
    "doctor/actions_at_bounds": 0.4,
    "doctor/looked_at": 1_024.0,
}


def watched(
    algo: str = "ppo", facts: dict[str, Any] | None = None, without: tuple[str, ...] = (), **changes: Change
) -> Iterator[tuple[int, list[Diagnosis]]]:
    """Yield at each evaluation what is diagnosed; from `ONSET` on, `changes` make other numbers of a tag's."""
    tags = {name.replace("__", "/"): change for name, change in changes.items()}
    settings: dict[str, Any] = {"total_timesteps": TOTAL, "time_limit": True}
    history = History(settings | FACTS[algo] | (facts or {}))

    def add(step: int, row: dict[str, float]) -> None:
        row = {tag: value for tag, value in row.items() if tag not in without}
        if step >= ONSET:
            row |= {tag: change(row[tag], step) for tag, change in tags.items() if tag in row}
        history.write(step, row)

    for step in range(EVERY, TOTAL + 1, EVERY):
        add(step, healthy(algo, step))
        if step % INTERVAL == 0:
            mean = 25 + 400 * step / TOTAL
            add(step, VITALS | {"eval/mean_reward": mean, "eval/std_reward": 10.0})
            yield step, diagnose(history)


@pytest.mark.parametrize("algo", FACTS)
def test_what_learns_has_no_illness(algo: str) -> None:
    found = list(watched(algo))
    assert len(found) == TOTAL // INTERVAL
    assert not [diagnoses for _, diagnoses in found if diagnoses]


def flat(value: float, step: int) -> float:
    """Returns that no longer rise: those of the beginning."""
    return 20.0 + math.sin(step)


def to(number: float) -> Change:
    return lambda value, step: number


RETURNS = {"rollout__ep_rew_mean": flat}
PLANTED: dict[str, tuple[str, dict[str, Change]]] = {
    "not finite": ("ppo", {"train__loss": to(math.nan)}),
    "collapsed entropy": ("ppo", {"train__entropy_loss": to(-1e-3), **RETURNS}),
    "exploding gradients": ("ppo", {"train__grad_norm": lambda value, step: value * 1e4}),
    "vanishing gradients": ("ppo", {"train__grad_norm": lambda value, step: value * 1e-9}),
    "KL spikes": ("ppo", {"train__approx_kl": to(3.0), **RETURNS}),
    "clip fraction pinned": ("ppo", {"train__clip_fraction": to(0.9), **RETURNS}),
    "a value function that explains nothing": ("ppo", {"train__explained_variance": to(-0.1), **RETURNS}),
    "dead units": ("dqn", {"doctor__dead_units": to(0.99)}),
    "saturated tanh": ("ppo", {"doctor__saturated_units": to(0.97)}),
    "impossible values": ("dqn", {"train__q_mean": to(1_000.0)}),
    "reward scale far from 1": ("ppo", {"doctor__reward_size": to(5e4)}),
    "observations never normalised": ("ppo", {"doctor__input_size": to(5e4)}),
    "constant features": ("ppo", {"doctor__constant_features": to(2.0)}),
    "action bounds always hit": ("ppo", {"doctor__actions_at_bounds": to(0.99), **RETURNS}),
    "action bounds never reached": ("ppo", {"doctor__action_reach": to(0.01), **RETURNS}),
}


@pytest.mark.parametrize("illness", PLANTED)
def test_an_illness_is_found_within_an_interval_of_its_beginning_and_not_before(illness: str) -> None:
    algo, changes = PLANTED[illness]
    for step, found in watched(algo, **changes):
        names = [each.illness for each in found]
        assert names.count(illness) == (step >= ONSET + INTERVAL or (step == ONSET and illness in names)), step
        assert not {*names} - {illness}, step
        if step >= ONSET + INTERVAL:
            (one,) = found
            assert re.search(r"\d", one.evidence), "with its numbers"
            assert one.fix
            assert one.step == step


AT_ONCE: dict[str, tuple[str, dict[str, Any], tuple[str, ...], dict[str, Change], int]] = {
    # illness -> algorithm, facts, tags that are not there, changes, the step from which on it can be known
    "epsilon ends too early": ("dqn", {"exploration_fraction": 0.005}, (), {}, INTERVAL),
    "replay buffer too small": ("dqn", {"buffer_size": 600}, (), {}, INTERVAL),
    "replay buffer never full": ("dqn", {"buffer_size": 1_000_000, "replay_bytes": 3e9}, (), {}, INTERVAL),
    "nothing is learnt yet": ("dqn", {"learning_starts": 90_000}, ("train/n_updates",), {}, TOTAL // 2),
    "target network never synced": ("dqn", {"target_update_interval": 80_000}, (), {}, TOTAL // 5),
    "episodes never end": (
        "ppo",
        {"time_limit": False},
        ("rollout/ep_len_mean", "rollout/ep_rew_mean", "eval/mean_reward"),
        {},
        2 * INTERVAL,
    ),
}


@pytest.mark.parametrize("illness", AT_ONCE)
def test_an_illness_that_is_there_from_the_beginning_is_found_as_soon_as_it_can_be(illness: str) -> None:
    algo, facts, without, changes, known = AT_ONCE[illness]
    first = None
    for step, found in watched(algo, facts, without, **changes):
        if illness in [each.illness for each in found]:
            first = step if first is None else first
        assert not {each.illness for each in found} - {illness}, step
    assert first == known


def history(rows: list[dict[str, float]], **facts: Any) -> History:
    made = History({"time_limit": True} | facts)
    for i, row in enumerate(rows, 1):
        made.write(1_000 * i, row)
    return made


def names(made: History) -> list[str]:
    return [found.illness for found in diagnose(made)]


def with_deviation(end: float, numbers: int = 6, start: float = 1.0, **facts: Any) -> History:
    """Return a training that logs its policy's entropy alone, and whose deviation falls from `start` to a part."""
    each = 0.5 * math.log(2 * math.pi * math.e) + math.log(start)
    entropies = [numbers * (each + math.log(end) * min(i / 80, 1)) for i in range(101)]
    return history([{"train/entropy_loss": -entropy, "rollout/ep_rew_mean": -200.0} for entropy in entropies], **facts)


def test_the_entropy_of_continuous_actions_is_judged_by_its_fall() -> None:
    assert not names(with_deviation(0.5))
    assert not names(with_deviation(0.05))
    assert names(with_deviation(0.001)) == names(with_deviation(0.001, numbers=1)) == ["collapsed entropy"]
    through_0 = math.exp(-0.5 * math.log(2 * math.pi * math.e))  # the deviation whose entropy is 0
    assert not names(with_deviation(through_0, continuous_actions=True))
    assert not names(with_deviation(through_0, state_dependent_std=True))
    assert names(with_deviation(0.001, state_dependent_std=True)) == ["collapsed entropy"]
    for end, found in ((0.05, []), (0.01, ["collapsed entropy"])):
        assert names(with_deviation(end, start=math.exp(-1), state_dependent_std=True, log_std_init=-1.0)) == found


def test_episodes_of_one_step() -> None:
    assert names(history([{"rollout/ep_len_mean": 1.0}] * 2)) == ["episodes end at once"]
    assert not names(history([{"rollout/ep_len_mean": 1.0}, {"rollout/ep_len_mean": 1.1}]))
    bandit = history([{"rollout/ep_len_mean": 1.0, "rollout/ep_rew_mean": 0.1 * i} for i in range(1, 10)])
    assert not names(bandit), "episodes of one step from which something is learnt"


def test_evaluations_far_below_training() -> None:
    rows = [{"rollout/ep_rew_mean": 100.0, "eval/mean_reward": 20.0, "eval/std_reward": 5.0}] * 3
    assert names(history(rows)) == ["evaluation far from training"]
    assert not names(history(rows[:2])), "three, one after the other"
    assert not names(history([row | {"eval/cut_episodes": 2.0} for row in rows])), "which were cut"
    assert names(history([row | {"eval/cut_episodes": 0.0} for row in rows]))
    assert not names(history([rows[0] | {"rollout/exploration_rate": 0.5}] * 3)), "as long as most is random"
    assert not names(history([rows[0] | {"eval/mean_reward": 80.0}] * 3))
    assert not names(history([rows[0] | {"eval/std_reward": 50.0}] * 3)), "episodes differ that much"
    assert not names(history([rows[0] | {"doctor/reward_size": 120.0}] * 3)), "that is less than one reward"


def test_a_learning_rate_that_has_been_0_for_long() -> None:
    falling = [{"train/learning_rate": max(1 - i / 10, 0.0), "rollout/ep_rew_mean": 7.0} for i in range(20)]
    assert names(history(falling)) == ["a plateau at a learning rate of 0"]
    assert not names(history(falling[:11])), "it has only just come there"
    rising = [row | {"rollout/ep_rew_mean": 10.0 * i} for i, row in enumerate(falling)]
    assert not names(history(rising))


def test_a_deviation_that_grows() -> None:
    rows = [{"train/std": 2.0**i, "rollout/ep_rew_mean": 1.0} for i in range(8)]
    assert names(history(rows)) == ["actions ever more random"]
    assert not names(history(rows[:4]))


DOCTOR = Path(__file__).parents[2] / "agents" / "run" / "doctor"
RULE_FILES = [DOCTOR / "updates.py", DOCTOR / "experience.py"]


def test_every_rule_is_planted_here() -> None:
    planted = {*PLANTED, *AT_ONCE} | {
        *("episodes end at once", "evaluation far from training"),
        *("a plateau at a learning rate of 0", "actions ever more random"),
    }
    sources = "".join(path.read_text() for path in RULE_FILES)
    assert {*re.findall(r'Diagnosis\(\s*"([^"]+)"', sources)} == planted


def test_advice_names_settings_that_there_are() -> None:
    known = {name for algo in registry.names() for name in registry.find(algo).config.flat_fields()} | {"env_kwargs"}
    told = re.findall(r"--([a-z][a-z0-9-]+)", "".join(path.read_text() for path in RULE_FILES))
    assert len(told) > 20
    assert not {name.replace("-", "_") for name in told} - known


def test_a_history_is_bounded() -> None:
    made = History()
    for step in range(3 * MOST_POINTS):
        made.write(step, {"a": float(step)})
    points = made.points("a")
    assert len(points) <= MOST_POINTS
    assert (points[0].step, points[-1].step) == (0, 3 * MOST_POINTS - 1)
    assert [point.step for point in points] == sorted({point.step for point in points})
    made.write(step, {str(i): 0.0 for i in range(2 * MOST_SERIES)})
    assert len(made.tags()) == MOST_SERIES


def test_facts_of_a_wrong_kind_are_unknown() -> None:
    made = History({"n_envs": "many", "buffer_size": True, "total_timesteps": math.inf, "gamma": None})
    made.facts["time_limit"] = True
    assert [made.number(name, 3) for name in ("n_envs", "buffer_size", "total_timesteps", "gamma", "x")] == [3] * 5
    made.write(50_000, VITALS | {"train/q_mean": 5.0, "rollout/exploration_rate": 0.1})
    assert not names(made)


def test_settings_of_all_algorithms_can_be_facts() -> None:
    for algo in registry.names():
        params: AlgoConfig = registry.find(algo).config()
        made = History(params.model_dump(mode="json"))
        made.write(params.total_timesteps // 2, healthy("ppo", TOTAL // 2))
        assert not [each for each in names(made) if each != "nothing is learnt yet"]


def test_of_a_whole_history_each_illness_is_told_at_its_worst() -> None:
    made = History({"time_limit": True})
    for i in range(1, 101):
        made.write(10 * i, {"train/approx_kl": {20: 2.5, 40: 20.0}.get(i, 0.01), "train/grad_norm": 1.0})
    assert not diagnose(made), "it is over"
    (found,) = diagnose_all(made)
    assert (found.illness, found.step, found.badness) == ("KL spikes", 400, 10.0)
    assert made.until(390).step == 390
    assert [point.step for point in made.until(25).all("train/grad_norm")] == [10, 20]
    assert made.until(500).progress == 0.5


@pytest.mark.parametrize(("deviation", "learnt"), [(None, True), (4.0, True), (12.0, False)])
def test_returns_have_risen_where_it_is_more_than_chance(deviation: float | None, learnt: bool) -> None:
    made = History()
    for i, mean in enumerate([16.5, 18.6, 22.9, 26.0], 1):
        made.write(i, {"rollout/ep_rew_mean": mean} | ({} if deviation is None else {DEVIATION: deviation}))
    assert made.learnt() == learnt


def test_returns_that_were_once_further_apart() -> None:
    made = History()
    for i, (mean, deviation) in enumerate([(16.5, 12.0), (18.6, 0.0)], 1):
        made.write(i, {"rollout/ep_rew_mean": mean, DEVIATION: deviation})
    assert not made.learnt(), "the first mean was of a few episodes that lay far apart"


def test_one_large_update_among_the_first_is_not_over_before_it_can_be_told() -> None:
    made, told = History({"time_limit": True, "total_timesteps": 1_000}), []
    for i in range(1, 11):
        made.write(10 * i, {"train/approx_kl": 80.0 if i == 1 else 0.0, "rollout/ep_rew_mean": 9.0})
        told += [i for found in diagnose(made) if found.illness == "KL spikes"]
    assert told == [5]


def test_a_value_function_is_judged_by_the_median() -> None:
    for share, ill in ((0.005, True), (0.05, False)):
        rows = [
            {"train/explained_variance": share if i % 3 else 0.05 - share, "train/value_loss": 1.0} for i in range(30)
        ]
        made = history([row | {"rollout/ep_rew_mean": float(-i)} for i, row in enumerate(rows)])
        assert ("a value function that explains nothing" in names(made)) == ill


def test_an_epsilon_that_was_down_before_the_first_row() -> None:
    rows = [{"rollout/exploration_rate": 0.05}] * 30
    assert names(history(rows)) == ["epsilon ends too early"]
    assert not names(history([{"rollout/exploration_rate": max(1 - i / 4, 0.05)} for i in range(30)]))
