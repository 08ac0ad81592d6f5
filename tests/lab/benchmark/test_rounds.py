"""Programs in rounds: what they print is kept, and what goes wrong costs one row."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest

from agents.lab.benchmark.case import BYTES, SECONDS
from agents.lab.benchmark.rounds import (
    baseline_of,
    ratio,
    run,
    run_rounds,
)
from envs.errors import UserError
from tests.lab.benchmark.fakes import case, printing, program, result

BASE, OTHER, OURS = (printing(name, {}, baseline=name != "ours") for name in ("base", "other", "ours"))


def test_programs_run_in_rounds_with_the_same_seeds():
    code = "import json; print(json.dumps({'steps_per_s': 10 + int('{seed}')}))"
    both = case(program("a", code), program("b", code), repeats=2)
    once = case(program("c", code))
    grown = [(found.program.name, found.values[-1]) for found in run_rounds([both])]
    assert grown == [("a", 10), ("b", 10), ("a", 11), ("b", 11)]
    assert [found.program.name for found in run_rounds([once])] == ["c"]


def test_a_run_has_its_figures_its_seconds_and_its_own_variables():
    code = "import json, os, time; time.sleep(0.1); print(json.dumps({'steps_per_s': int(os.environ['GIVEN'])}))"
    found = program("a", code, variables={"GIVEN": "7"}, read=lambda printed: printed | {"twice": 14})
    began = perf_counter()
    figures = run(case(found), found, 3, Path())
    assert (figures["steps_per_s"], figures["twice"], figures["seed"]) == (7, 14, 3)
    assert 0.1 <= figures["total_s"] <= perf_counter() - began


def test_a_run_is_told_its_seed_and_folder_in_words_and_variables(tmp_path):
    code = "import json, os; print(json.dumps({'steps_per_s': 1, 'given': [os.environ['GIVEN'], '{folder}']}))"
    figures = run(case(found := program("a", code, variables={"GIVEN": "{folder}/{seed}"})), found, 5, tmp_path)
    assert figures["given"] == [f"{tmp_path}/5", str(tmp_path)]


def test_seconds_are_measured_from_outside():
    found = printing("a", {"total_s": 1000, "eval_mean": 480})
    of = case(found, measure=SECONDS, target=475.0)
    began = perf_counter()
    assert run(of, found, 0, Path())["total_s"] <= perf_counter() - began


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('no such thing')", "failed with exit code 1: no such thing"),
        ("1 / 0", "failed with exit code 1: ZeroDivisionError: division by zero"),
        ("import os; os.abort()", "died of signal 6"),
        ("pass", "its last line is no JSON object: ''"),
        ("print('{}'); print('done')", "its last line is no JSON object: 'done'"),
        ("print('[1]')", "its last line is no JSON object: '[1]'"),
        ("print('{\"steps\": 3}')", "its JSON has no number as 'steps_per_s'"),
        ('print(\'{"steps_per_s": "3"}\')', "its JSON has no number as 'steps_per_s'"),
        ("print('{\"steps_per_s\": NaN}')", "its JSON has no number as 'steps_per_s'"),
        ("print('{\"steps_per_s\": 1e999}')", "its JSON has no number as 'steps_per_s'"),
        ("print('{\"steps_per_s\": true}')", "its JSON has no number as 'steps_per_s'"),
        ("print('{\"steps_per_s\": 0}')", "its steps_per_s is 0"),
    ],
)
def test_what_goes_wrong_is_told_and_costs_no_other_row(code, message):
    first, second = run_rounds([case(program("bad", code), printing("good", {"steps_per_s": 1}))])
    assert len(first.errors) == 1
    assert message in first.errors[0]
    assert (first.runs, first.median(), second.values, second.errors) == ([], None, [1], [])


def test_a_case_with_a_target_needs_the_score():
    found = printing("a", {})
    with pytest.raises(UserError, match="no number as 'eval_mean'"):
        run(case(found, measure=SECONDS, target=1.0), found, 0, Path())


def test_what_cannot_be_read_is_told():
    found = printing("a", {"steps_per_s": 1}, read=lambda printed: {"x": printed["missing"]})
    with pytest.raises(UserError, match="what it left cannot be read: KeyError"):
        run(case(found), found, 0, Path())


def test_ratios_are_of_medians_and_more_is_better():
    speed, memory = case(BASE, OURS), case(BASE, OURS, measure=BYTES)
    assert ratio(result(speed, OURS, 10, 30, 20), result(speed, BASE, 5)) == 4
    assert ratio(result(memory, OURS, 10), result(memory, BASE, 5)) == 0.5
    assert ratio(result(speed, OURS), result(speed, BASE, 5)) is None
    assert ratio(result(speed, OURS, 1), None) is None


def test_the_better_of_several_baselines_counts():
    speed, memory = case(BASE, OTHER, OURS), case(BASE, OTHER, OURS, measure=BYTES)
    for of, best in ((speed, 7), (memory, 5)):
        found = baseline_of([result(of, OURS, 1, 99), result(of, BASE, 5), result(of, OTHER, 7)])
        assert found is not None
        assert found.median() == best
    assert baseline_of([result(speed, OURS, 1), result(speed, BASE)]) is None


def test_a_baseline_that_solves_counts_before_a_quicker_one_and_who_solves_less_gets_no_ratio():
    of = case(BASE, OTHER, OURS, measure=SECONDS, target=475.0)
    quick, steady = result(of, BASE, 1.0, eval_mean=400.0), result(of, OTHER, 9.0, eval_mean=475.0)
    assert baseline_of([quick, steady]) is steady
    assert (quick.solved, steady.solved) == (0, 1)
    assert ratio(result(of, OURS, 3.0, eval_mean=500.0), steady) == 3
    assert ratio(quick, steady) is None
