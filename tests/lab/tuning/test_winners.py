"""What the best trials are written as, trained with on fresh seeds, and said to be worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from agents.lab.comparison.job import Job
from agents.lab.comparison.plan import PlannedTask, all_jobs
from agents.lab.comparison.runner import ComparisonFile
from agents.lab.tuning import winners
from agents.lab.tuning.space import Choices
from agents.lab.tuning.study import SETTINGS, Study
from agents.lab.tuning.winners import (
    Fresh,
    beyond_packaged,
    choose,
    outcomes,
    retrain,
    verdict,
    write_best,
    write_settings,
)
from agents.run.config import FLAGS, Layer, config_layer, resolve
from agents.tune import main
from tests.lab.comparison.synthetic import result
from tests.lab.tuning.searching import base, small_plan, small_study

INF = float("inf")
KWARGS = {"sutton_barto_reward": True}
GAMMAS = {"gamma": Choices(("0.9", "0.95", "0.98", "0.99"))}
OTHER = {"net_arch": [16, 16], "activation": "tanh", "env_kwargs": KWARGS}


def finished(study: Study, gamma: float, value: float) -> None:
    """Let a trial have this setting and come to this return."""
    texts = GAMMAS["gamma"].texts
    study.optuna.add_trial(
        optuna.trial.create_trial(
            value=value,
            params={"gamma": str(gamma)},
            distributions={"gamma": optuna.distributions.CategoricalDistribution(texts)},
            user_attrs={SETTINGS: {"gamma": gamma}},
        )
    )


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Return what retraining carries out, without training: the returns are 100 x gamma, and the seed."""
    done: list[Job] = []

    def run(tasks: Sequence[PlannedTask], out: Path, **_: Any) -> None:
        out.mkdir(exist_ok=True)
        (comparison := ComparisonFile(out)).add_tasks(tasks)
        comparison.save()
        for job in all_jobs(tasks):
            if not job.is_done(folder := job.folder(out)):
                done.append(job)
                job.save(folder)
                gamma = job.settings.get("gamma", 0.5)
                stored = result(job.env, job.algo, job.label, job.seed, returns=[100.0 * gamma + job.seed])
                (folder / "result.json").write_text(json.dumps(stored))

    monkeypatch.setattr(winners, "run_comparison", run)
    monkeypatch.setattr(winners, "write_report", lambda _, out: (out / "index.html", None))
    return done


def retrained(study: Study, most: int = 1) -> list[Fresh]:
    return retrain([study], most, 2, 1, "python -m agents.tune", False, print)


@pytest.mark.parametrize("values", [{}, {"gamma": 0.9}, {"gamma": 0.98, "memory": "gru", "memory_size": 8}])
def test_a_file_of_settings_holds_all_that_is_not_packaged(tmp_path: Path, values: dict[str, Any]) -> None:
    wrappers = ["gymnasium.wrappers:TimeAwareObservation"]
    plan = small_plan(base=base(**OTHER, gamma=0.98, wrappers=wrappers), space=GAMMAS)
    write_settings(tmp_path / "found.yaml", plan, values, [])
    found, wanted = (
        config.model_dump(mode="json")
        for config in (resolve([config_layer(tmp_path / "found.yaml")]), plan.config(values, 0))
    )
    apart = {"seed", "target_reward", "eval_freq"}
    assert {name for name in wanted if found[name] != wanted[name]} <= apart
    assert (found["net_arch"], found["env_kwargs"], found["wrappers"]) == ([16, 16], KWARGS, wrappers)


def test_the_packaged_settings_are_nothing_beyond_themselves() -> None:
    packaged = resolve([Layer(FLAGS, {"env": "CartPole-v1", "total_timesteps": 20_000})]).model_dump(mode="json")
    plan = small_plan(base={name: value for name, value in packaged.items() if name != "seed"}, space=GAMMAS)
    assert beyond_packaged(plan, {}) == {}
    assert beyond_packaged(plan, {"gamma": 0.5}) == {"gamma": 0.5}


def test_what_is_trained_again_is_what_was_found(tmp_path: Path, jobs: list[Job]) -> None:
    study = small_study(tmp_path, base=base(**OTHER, gamma=0.98), space=GAMMAS)
    for gamma, value in ((0.98, 1.0), (0.9, 3.0)):
        finished(study, gamma, value)
    fresh = retrained(study)
    found = {job.label: job for job in jobs}
    assert found.keys() == {"ours", "trial-1", "base", "sb3"}
    assert {job.env_kwargs == KWARGS for job in jobs} == {True}
    for label, gamma in (("trial-1", 0.9), ("base", 0.98)):
        values = found[label].settings
        assert (values["net_arch"], values["activation"], values["gamma"]) == ([16, 16], "tanh", gamma)
        assert values["env_kwargs"] == KWARGS
    assert found["ours"].settings["net_arch"] != [16, 16]
    (settings,) = tmp_path.glob("**/settings/trial-1.yaml")
    assert "among the best there and so flattered" in settings.read_text()
    said = verdict(fresh)
    assert said[0].startswith("trial-1: 90.5 (90.0 to 91.0) on 2 fresh seeds, and in the search return 3.00")
    worse = "That is worse than the settings that the search began with, which stay the ones to use"
    assert f"{worse}: 98.5 (98.0 to 99.0)." in said
    jobs.clear()
    retrained(study)
    assert jobs == [], "what is done is kept"


def test_a_search_that_goes_on_chooses_among_its_best_of_now(tmp_path: Path, jobs: list[Job]) -> None:
    study = small_study(tmp_path, trials=9, space=GAMMAS)
    finished(study, 0.98, 1.0)
    assert {"trial-0"} <= {side.label for side in retrained(study)}
    finished(study, 0.98, 5.0)  # the same settings, better: the first is no longer among the best
    finished(study, 0.9, 9.0)
    fresh = retrained(study)
    assert [side.label for side in fresh if side.label.startswith("trial")] == ["trial-2"]
    assert verdict(fresh)[0].startswith("trial-2: ")
    finished(study, 0.9, 10.0)  # by another process meanwhile, so that trial 2 is no longer among the best
    file = write_best(study, fresh)
    assert file is not None
    assert config_layer(file).values["gamma"] == 0.9


def side(label: str, scores: Sequence[float], seconds: Sequence[float] = (), threshold: float | None = None) -> Fresh:
    return Fresh(label, "7 s", np.array(scores), np.array(seconds), Path("index.html"), threshold)


def test_a_search_for_the_least_time_ends_with_the_quickest() -> None:
    fresh = [
        side("ours", [500] * 5, [20, 21, 22, 20, 21], 475.0),
        side("trial-7", [497, 499, 496, 498, 500], [2, 2.1, 2.2, 1.9, 2.0], 475.0),
        side("trial-8", [500] * 5, [1, 1, 1, 1, INF], 475.0),
        side("trial-9", [500] * 5, [INF] * 5, 475.0),
        side("trial-3", [500] * 5, [19, 18, 20, 21, 19], 475.0),
    ]
    assert choose(fresh) is fresh[1]
    first, packaged = verdict(fresh)
    assert first.startswith("trial-7: 2.04 (")
    assert first.endswith(") s to 475 on 5 fresh seeds, the best of 4 there by seconds to 475, and in the search 7 s.")
    assert packaged.startswith("That is better than the packaged settings: 20.8 (")
    assert fresh[2].said() == "1.00 (1.00 to 1.00) s to 475, which 1 of 5 never reached"
    assert fresh[3].said() == "never to 475"
    found = {label: outcome.value for label, outcome in outcomes(fresh, fresh[0]).items()}
    same = "no difference shown"
    assert found == {"trial-7": "better", "trial-8": same, "trial-9": "worse", "trial-3": same}


def test_seconds_are_those_to_the_threshold_of_the_search(tmp_path: Path, jobs: list[Job]) -> None:
    study = small_study(tmp_path, space=GAMMAS, objective="time", threshold=30.0)
    finished(study, 0.9, 3.0)
    assert {one.threshold for one in retrained(study)} == {30.0}
    for file in tmp_path.glob("fresh/runs/*/*/result.json"):
        rows = "64,10,0,10,1\n128,30,0,30,2\n" if "trial-0" in str(file) else "64,10,0,10,1\n128,20,0,20,2\n"
        header = "step,eval/mean_reward,eval/std_reward,eval/mean_ep_length,time/time_elapsed\n"
        (file.parent / "evaluations.csv").write_text(header + rows)
    seconds = {one.label: one.seconds.tolist() for one in retrained(study)}
    assert seconds == {"ours": [INF, INF], "trial-0": [2, 2], "base": [INF, INF], "sb3": [INF, INF]}


def test_the_best_of_many_trials_of_the_same_worth_is_seldom_called_better() -> None:
    random, found = np.random.default_rng(0), list[str]()
    for _ in range(300):
        fresh = [side(label, random.normal(300, 50, 5)) for label in ("ours", *(f"trial-{i}" for i in range(10)))]
        best = choose(fresh)
        assert best is not None
        found.append(outcomes(fresh, fresh[0])[best.label].value)
    assert found.count("better") < 0.05 * 300  # of single tests, a fifth


def test_runs_of_other_settings_under_the_same_names_are_left_alone(tmp_path: Path, jobs: list[Job]) -> None:
    study = small_study(tmp_path, space=GAMMAS)
    finished(study, 0.9, 1.0)
    retrained(study)
    for file in tmp_path.glob("fresh/runs/trial-0/*/job.json"):  # as before, without what is beneath
        job = json.loads(file.read_text())
        file.write_text(json.dumps(job | {"settings": job["settings"] | {"net_arch": [8]}}))
    jobs.clear()
    fresh = retrained(study)
    assert {job.label for job in jobs} >= {"ours", "trial-0"}
    assert {side.page for side in fresh} == {tmp_path / "fresh-2" / "report" / "index.html"}
    jobs.clear()
    retrained(study)
    assert jobs == []


def test_wrappers_are_refused_before_anything_is_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file := tmp_path / "wrapped.yaml").write_text("wrappers: [gymnasium.wrappers:TimeAwareObservation]\n")
    words = ["--env", "CartPole-v1", "--config", str(file), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(words) == 2
    assert "or --retrain 0" in capsys.readouterr().err
    assert main([*words, "--retrain", "0"]) == 0
