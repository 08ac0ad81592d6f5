"""Population-based training: who goes on from whom, with which settings, and that nothing is lost in between."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from agents import tune
from agents.lab.tuning.planning import changeable
from agents.lab.tuning.population import INTERVAL, MEMBER, PARENT, STATES, explored, next_interval, unfinished
from agents.lab.tuning.space import Choices, Range, parameters
from agents.lab.tuning.study import ABANDONED, SETTINGS, WHY, Study, at_work
from agents.lab.tuning.trial import carry_out, learning_curve, points
from envs.errors import UserError
from tests.lab.tuning.searching import SPACE, base, small_plan

MEMBERS, INTERVALS = 4, 3
PLAN = small_plan(sampling="pbt", population=MEMBERS, evaluations=INTERVALS)
NUMBERS = {name: optuna.distributions.FloatDistribution(0, 100) for name in SPACE}


def ended(number: int, value: float | None, attributes: dict[str, Any]) -> FrozenTrial:
    """Return a trial that ended with a return, or badly (None)."""
    trial = optuna.trial.create_trial(
        value=value,
        state=TrialState.FAIL if value is None else TrialState.COMPLETE,
        params={"learning_rate": 0.001 * (attributes[MEMBER] + 1), "n_epochs": 2.0},
        distributions=NUMBERS,
        user_attrs=attributes,
    )
    trial.number = number
    return trial


def first(*values: float | None) -> list[FrozenTrial]:
    """Return the first interval of each member."""
    return [ended(number, value, {MEMBER: number, INTERVAL: 0}) for number, value in enumerate(values)]


def test_a_population_begins_with_the_settings_beneath_and_others_drawn_at_random() -> None:
    trials: list[FrozenTrial] = []
    for member in range(MEMBERS):
        params, attributes = next_interval(PLAN, trials, 0) or ({}, {})
        assert attributes == {MEMBER: member, INTERVAL: 0}
        assert params == ({} if member else parameters(SPACE, PLAN.base))
        trials.append(ended(member, 1.0, attributes))


def test_the_worst_goes_on_from_the_best_with_other_settings_and_the_rest_as_they_are() -> None:
    trials, parents = first(50.0, 400.0, 10.0, 60.0), []
    for member in range(MEMBERS):
        params, attributes = next_interval(PLAN, trials, 0) or ({}, {})
        assert (attributes[MEMBER], attributes[INTERVAL]) == (member, 1)
        parents.append(attributes[PARENT])
        own = trials[attributes[PARENT]].params
        assert (params != own) == (member == 2)
        if member == 2:
            assert round(params["learning_rate"], 6) in (0.0016, 0.0024)
        trials.append(ended(member + MEMBERS, trials[member].values[0], attributes))
    assert parents == [0, 1, 1, 3]


def test_what_failed_goes_on_from_the_best_and_begins_anew_where_all_failed() -> None:
    _, attributes = next_interval(PLAN, first(None, 400.0, 10.0, 60.0), 0) or ({}, {})
    assert (attributes[MEMBER], attributes[PARENT]) == (0, 1)
    assert next_interval(PLAN, first(None, None, None, None), 0) == ({}, {MEMBER: 0, INTERVAL: 1})


def test_a_member_has_one_interval_at_a_time() -> None:
    trials = first(1.0, 2.0, 3.0, 4.0)
    for trial in trials[:3]:
        trial.state = TrialState.RUNNING
    _, attributes = next_interval(PLAN, trials, 0) or ({}, {})
    assert attributes[MEMBER] == 3
    trials[3].state = TrialState.RUNNING
    assert next_interval(PLAN, trials, 0) is None
    assert unfinished(PLAN, trials) == MEMBERS


def test_settings_are_changed_a_little_and_within_their_bounds() -> None:
    space = {
        "gamma": Range(0.5, 0.99),
        "n_epochs": Range(1, 8, whole=True),
        "gae_lambda": Choices(("0.8", "0.9", "0.95")),
    }
    params = {"gamma": 0.9, "n_epochs": 5, "gae_lambda": "0.9", "gamma.falling": True}
    seen = [explored(space, params, Random(seed)) for seed in range(50)]
    assert {round(one["gamma"], 6) for one in seen} == {0.72, 0.99}
    assert {one["n_epochs"] for one in seen} == {4, 6}
    assert {one["gae_lambda"] for one in seen} == {"0.8", "0.95"}
    assert all(one["gamma.falling"] for one in seen)


@pytest.mark.parametrize(("value", "moved"), [(1, {1, 2}), (2, {1, 3}), (3, {2, 4}), (9, {7, 10}), (10, {8, 10})])
def test_a_small_whole_number_moves_by_one_at_the_least(value: int, moved: set[int]) -> None:
    space = {"n_epochs": Range(1, 10, whole=True)}
    found = [explored(space, {"n_epochs": value}, Random(seed))["n_epochs"] for seed in range(50)]
    assert set(found) == moved
    assert {type(number) for number in found} == {int}


def test_an_interval_goes_on_bit_for_bit_where_the_last_ended(tmp_path: Path) -> None:
    plan = small_plan(sampling="pbt", population=3, evaluations=2, base=base(total_timesteps=512))
    study = Study(tmp_path, None, plan)
    study.want(plan.trials(0))
    with at_work(tmp_path) as worker:
        while (trial := study.claim(worker)) is not None:
            carry_out(trial, study, time.time() + 1_000)
    assert len(study.done()) == 6
    assert unfinished(plan, study.counted()) == 0
    assert {path.name for path in (tmp_path / STATES).iterdir()} == {"3", "4", "5"}, "the last of each member"
    stayed = [
        trial
        for trial in study.done()[3:]
        if study.trials[trial.user_attrs[PARENT]].user_attrs[MEMBER] == trial.user_attrs[MEMBER]
    ]
    assert len(stayed) == 2, "one of three went on from another"
    for trial in stayed:
        config = plan.config(trial.user_attrs[SETTINGS], trial.user_attrs[MEMBER])
        alone = [(point.step, point.mean) for point in learning_curve(config, plan, time.time() + 1_000)]
        assert [(point.step, point.mean) for point in points(trial)[0]] == alone
    assert all(trial.user_attrs[INTERVAL] == 1 for trial in study.best(3)), "the best are those at their end"


def test_an_interval_whose_worker_was_killed_comes_again(tmp_path: Path) -> None:
    study = Study(tmp_path, None, PLAN)
    study.want(PLAN.trials(0))
    lost = study.claim("a worker that holds no lock")
    assert lost is not None
    (tmp_path / "workers" / "a worker that holds no lock").touch()
    with at_work(tmp_path) as worker:
        again = study.claim(worker)
    assert again is not None
    for name in (MEMBER, INTERVAL):
        assert again.user_attrs[name] == lost.user_attrs[name]
    assert study.trials[lost.number].user_attrs[WHY] == ABANDONED
    assert [trial.number for trial in study.counted()] == [again.number]


def test_what_a_network_in_training_cannot_change_is_left_out() -> None:
    space = {
        **SPACE,
        "n_envs": Choices(("2", "4")),
        "net_arch": Choices(("[16]", "[64, 64]")),
        "batch_size": Choices(("32", "4096")),
    }
    assert list(changeable(small_plan(sampling="pbt", population=2, space=space))) == [*SPACE, "batch_size"]
    with pytest.raises(UserError, match="can change none of n_envs"):
        changeable(small_plan(sampling="pbt", population=2, space={"n_envs": Choices(("2", "4"))}))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--population 4", "--population: 4 given, which --sampler tpe has not"),
        ("--sampler pbt --population 1", "--population: 1 given, at least 2 expected"),
        ("--sampler pbt --objective time", "of a population only return can be judged"),
        ("--sampler pbt --warm-start runs", "a population begins with the settings beneath"),
    ],
)
def test_flags_that_a_population_does_not_go_with(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune.main(f"--env CartPole-v1 {words}".split()) == 2
    assert said in capsys.readouterr().err
