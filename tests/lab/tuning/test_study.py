"""A study on disk: nothing is lost and nothing counts twice, whoever is killed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from agents.lab.tuning import search
from agents.lab.tuning import study as study_module
from agents.lab.tuning.space import Range
from agents.lab.tuning.study import ABANDONED, JOURNAL, RETRY, SETTINGS, WHY, WORKER, Study, at_work, study_names
from agents.lab.tuning.winners import settings_of
from envs.errors import UserError
from tests.lab.tuning.searching import SPACE, base, small_plan, small_study

# Claims a trial and is killed, as by kill -9, before it has ended
KILLED = """
import os, signal, sys
from pathlib import Path
from agents.lab.tuning.study import Study, at_work
folder = Path(sys.argv[1])
with at_work(folder) as worker:
    study = Study(folder, None, name=sys.argv[2])
    trial = study.claim(worker)
    trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def carry_out(study: Study, folder: Path, value: float) -> None:
    """Claim a trial, and tell what came of it."""
    with at_work(folder) as worker:
        trial = study.claim(worker)
        assert trial is not None
        trial.suggest_int("n_epochs", 1, 3)
        study.optuna.tell(trial.number, [value])


def test_so_many_trials_and_no_more(tmp_path: Path) -> None:
    study = small_study(tmp_path, trials=2)
    with at_work(tmp_path) as worker:
        first, second = study.claim(worker), study.claim(worker)
        assert first is not None
        assert second is not None
        assert study.claim(worker) is None
        study.optuna.tell(first.number, [1.0])
        assert study.claim(worker) is None
        study.want(3)
        assert study.claim(worker) is not None
    assert [trial.state for trial in study.done()] == [TrialState.COMPLETE]


def test_the_trial_of_a_killed_worker_comes_again_and_counts_once(tmp_path: Path) -> None:
    study = small_study(tmp_path, trials=2)
    words = [sys.executable, "-c", KILLED, str(tmp_path), study.plan.name]
    assert subprocess.run(words, check=False).returncode == -9
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
    rate = study.trials[0].params["learning_rate"]

    with at_work(tmp_path) as worker:
        again = study.claim(worker)
        assert again is not None
        assert again.number == 1
        assert again.suggest_float("learning_rate", 1e-4, 1e-2, log=True) == rate
        other = study.claim(worker)
        assert other is not None
        assert study.claim(worker) is None
        assert not study.is_dead(worker)
    lost = study.trials[0]
    assert (lost.state, lost.user_attrs[WHY]) == (TrialState.FAIL, ABANDONED)
    assert study.trials[1].user_attrs[RETRY] == 0
    for trial in (again, other):
        study.optuna.tell(trial.number, [1.0])
    assert [trial.number for trial in study.done()] == [1, 2]


def test_no_worker_is_started_while_all_that_is_left_is_under_way_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, told, started, looks = small_study(tmp_path, trials=2), list[str](), list[int](), count(1)
    study.optuna.tell(study.optuna.ask().number, 1.0)
    elsewhere = study.optuna.ask()
    elsewhere.set_user_attr(WORKER, "on another machine")

    def start(*_: Any) -> Any:
        assert study.claim("one of ours") is None
        started.append(1)
        return SimpleNamespace(ended=True, failure=lambda: "", close=lambda: None)

    def sleep(_: float) -> None:
        if next(looks) == 20:
            study.optuna.tell(elsewhere.number, 2.0)

    monkeypatch.setattr(search, "_start", start)
    monkeypatch.setattr(search, "time", SimpleNamespace(time=lambda: 0.0, sleep=sleep))
    search.run_search(study, None, 1, 1.0, told.append)
    assert (len(started), next(looks)) == (1, 21)
    assert [line for line in told if "under way elsewhere" in line] == told[:1]
    assert len(study.done()) == 2


def test_one_that_ends_in_order_leaves_its_trial_to_the_next(tmp_path: Path) -> None:
    study = small_study(tmp_path, trials=1)
    with at_work(tmp_path) as worker:
        trial = study.claim(worker)
        assert trial is not None
        trial.suggest_int("n_epochs", 1, 3)
        study.abandon(trial)
        assert study.done() == []
        again = study.claim(worker)
        assert again is not None
        assert again.suggest_int("n_epochs", 1, 3) == study.trials[0].params["n_epochs"]


def test_one_that_was_killed_while_it_was_drawn_keeps_what_it_had_to_try(tmp_path: Path) -> None:
    study = small_study(tmp_path, trials=1)
    study.enqueue({"n_epochs": 2, "learning_rate": 1e-3})
    with at_work(tmp_path) as worker:
        trial = study.claim(worker)
        assert trial is not None
        trial.suggest_int("n_epochs", 1, 4)
        study.abandon(trial)
        again = study.claim(worker)
        assert again is not None
        assert again.suggest_float("learning_rate", 1e-4, 1e-2, log=True) == 1e-3


@pytest.mark.parametrize("torn", [b'{"op_code": 8, "work', b"\x00\x00\x00", b'{"op_code"'])
def test_a_torn_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    study = small_study(tmp_path)
    carry_out(study, tmp_path, 3.0)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + torn)
    again = Study(tmp_path, None, small_plan())
    again.want(3)
    assert [trial.value for trial in again.done()] == [3.0]
    lines = (tmp_path / JOURNAL).read_bytes().removeprefix(whole).splitlines()
    assert [json.loads(line)["user_attr"] for line in lines] == [{"trials": 3}]


@pytest.mark.parametrize("content", [b"not json\nat all\n", b'{"op_code": 77}\n{}\n', b"[]\n[]\n", b"\xff\xfe\n\x00\n"])
def test_a_damaged_journal_is_said_in_a_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(UserError, match=r"journal.log"):
        Study(tmp_path, None, small_plan())


def test_a_journal_is_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_study(tmp_path)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + b"x" * (study_module.MOST_LINE + 1))
    with pytest.raises(UserError, match=r"journal.log is damaged: its last line is 1,048,57\d bytes long"):
        Study(tmp_path, None, small_plan())
    monkeypatch.setattr(study_module, "MOST_JOURNAL", len(whole))
    with pytest.raises(UserError, match=r"journal.log is foreign: it has"):
        Study(tmp_path, None, small_plan())


@pytest.mark.parametrize(
    "change",
    [
        "update trial_params set distribution_json='{bad'",
        "update study_user_attributes set value_json='{bad'",
        "update trials set state='FOO'",
    ],
)
def test_a_damaged_database_is_said_in_a_line(tmp_path: Path, change: str) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = Study(tmp_path, url, small_plan())
    study.want(1)
    carry_out(study, tmp_path, 2.0)
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute(change)
        database.commit()
    with pytest.raises(UserError, match=r"study.db is damaged|none of this suite's"):
        Study(tmp_path, url, small_plan())


@pytest.mark.parametrize(
    "changed",
    [
        {"base": {}},
        {"base": 5},
        {"base": {"env": [1], "algo": "ppo", "total_timesteps": 1}},
        {"space": [1]},
        {"space": {"gamma": 5}},
        {"space": {"gamma": []}},
        {"space": {"gamma": [1, 2]}},
        {"space": {"gamma": [0.9, 0.8, False, False, [False]]}},
        {"space": {"gamma": ["{"]}},
        {"evaluations": "x"},
        {"objective": "x"},
        {"threshold": float("nan")},
        {"more": 1},
    ],
)
def test_an_altered_plan_is_none_of_ours(tmp_path: Path, changed: dict[str, Any]) -> None:
    small_study(tmp_path)
    journal, found = tmp_path / JOURNAL, []
    for line in map(json.loads, journal.read_text().splitlines()):
        if "plan" in line.get("user_attr", {}):
            line["user_attr"]["plan"] |= changed
        found.append(json.dumps(line) + "\n")
    journal.write_text("".join(found))
    for plan in (small_plan(), None):
        with pytest.raises(UserError, match=f"the study {small_plan().name} of .* is none of this suite's"):
            Study(tmp_path, None, plan, name=small_plan().name)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("settings", [1], "settings: "),
        ("settings", {"learning_rate": "lin_x"}, "learning_rate 'lin_x' is not of its space"),
        ("settings", {"n_epochs": float("inf")}, "n_epochs inf is not of its space"),
        ("settings", {"gamma": 0.5}, "gamma 0.5 is not of its space"),
        ("seconds", "x", "seconds: "),
        ("curves", [[[float("inf"), 1, 1]]], r"curves\.0\.0\.0: "),
        ("curves", [[[1, 1]]], r"curves\.0\.0: "),
        ("why", 5, "why: "),
    ],
)
def test_an_altered_trial_is_named(tmp_path: Path, name: str, value: Any, said: str) -> None:
    study = small_study(tmp_path)
    trial = study.claim("worker")
    assert trial is not None
    study.optuna.tell(trial.number, 1.0)
    Study(tmp_path, None, small_plan())
    study.enqueue({"n_epochs": 2})
    other = study.claim("worker")
    assert other is not None
    other.set_user_attr(name, value)
    with pytest.raises(UserError, match=rf"journal\.log was altered: trial 1: {said}"):
        Study(tmp_path, None, small_plan())


def test_members_of_an_altered_population_are_named(tmp_path: Path) -> None:
    study = small_study(tmp_path, sampling="pbt", population=2)
    study.optuna.enqueue_trial({}, user_attrs={"member": 0, "interval": 0})
    again = small_plan(sampling="pbt", population=2)
    Study(tmp_path, None, again)
    study.optuna.enqueue_trial({}, user_attrs={"member": 1, "interval": 0, "parent": 1})
    with pytest.raises(UserError, match="trial 1 goes on from a later one"):
        Study(tmp_path, None, again)


@pytest.mark.parametrize("name", [JOURNAL, "members"])
def test_a_link_is_not_followed(tmp_path: Path, name: str) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "study"
    (elsewhere / "000000100").mkdir(parents=True)
    folder.mkdir()
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"{name} is a symbolic link, which is not followed"):
        Study(folder, None, small_plan())
    assert [path.name for path in elsewhere.iterdir()] == ["000000100"]


def test_another_search_is_refused(tmp_path: Path) -> None:
    small_study(tmp_path)
    with pytest.raises(UserError, match=r"holds another search: gamma is 0.99 there, 0.5 here. Choose another --out"):
        Study(tmp_path, None, small_plan(base=base(gamma=0.5)))
    with pytest.raises(UserError, match="seeds is 1 there, 2 here"):
        Study(tmp_path, None, small_plan(seeds=2))
    with pytest.raises(UserError, match=r"holds another search: CartPole-v1__ppo__random\. Choose another --out"):
        Study(tmp_path, None, small_plan(base=base(algo="dqn")))
    Study(tmp_path, None, small_plan(sampling="tpe"))  # the two are compared
    with pytest.raises(UserError, match="eval_episodes is 2 there, 50 here"):
        Study(tmp_path, None, small_plan(eval_episodes=50))
    other = Study(tmp_path, None, small_plan(sampling="tpe"))  # a study beside it
    assert study_names(tmp_path) == [small_plan().name, other.plan.name]
    with pytest.raises(UserError, match="holds no study nothing"):
        Study(tmp_path, None, name="nothing")


def test_a_study_of_others_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(study_name=small_plan().name, storage=url)
    with pytest.raises(UserError, match="is none of this suite's"):
        Study(tmp_path, url, small_plan())
    with pytest.raises(UserError, match="cannot be used as a study"):
        Study(tmp_path, "nosuch://place", small_plan())


def test_a_database_holds_a_study_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = Study(tmp_path, url, small_plan())
    study.want(1)
    carry_out(study, tmp_path, 2.0)
    assert [trial.value for trial in Study(tmp_path, url, name=study.plan.name).done()] == [2.0]
    assert not (tmp_path / JOURNAL).exists()


def test_the_best_are_in_order_and_the_front_comes_first(tmp_path: Path) -> None:
    study = small_study(tmp_path / "one", trials=5)
    with at_work(study.folder) as worker:
        for value, epochs in ((1.0, 1), (5.0, 2), (5.0, 2), (3.0, 3)):
            study.optuna.enqueue_trial({"n_epochs": epochs})
            trial = study.claim(worker)
            assert trial is not None
            trial.suggest_int("n_epochs", 1, 3)
            study.optuna.tell(trial.number, [value])
    assert [trial.number for trial in study.best(3)] == [1, 3, 0]  # the third is the second again

    both = small_study(tmp_path / "two", trials=4, objective="both")
    with at_work(both.folder) as worker:
        for values in ([10.0, 9.0], [9.0, 1.0], [8.0, 2.0], [10.0, 5.0]):
            trial = both.claim(worker)
            assert trial is not None
            trial.suggest_float("x", 0, 1)
            both.optuna.tell(trial.number, values)
    assert [trial.number for trial in both.best(4)] == [
        3,
        1,
        0,
        2,
    ]  # in return, then seconds; 0 and 2 are beaten by one


def test_a_schedule_that_is_spelt_in_another_way_is_no_other_setting() -> None:
    space = {"learning_rate": Range(1e-4, 1e-2, log=True, falling=(False, True)), "n_epochs": SPACE["n_epochs"]}
    plan = small_plan(base=base(learning_rate="lin_2e-3", n_epochs=2), space=space)
    same, other = {"learning_rate": "lin_0.002", "n_epochs": 2}, {"learning_rate": 0.002, "n_epochs": 3}
    for values, changed in ((same, {}), (other, other)):
        assert settings_of(optuna.trial.create_trial(value=0.0, user_attrs={SETTINGS: values}), plan) == changed
