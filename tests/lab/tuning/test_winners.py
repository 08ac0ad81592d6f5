"""What the best trials are written as, trained with on fresh seeds, and said to be worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from agents.lab.comparison.job import Job
from agents.lab.comparison.plan import PlannedTask, all_jobs
from agents.lab.comparison.runner import ComparisonFile
from agents.lab.tuning import winners
from agents.lab.tuning.space import Choices
from agents.lab.tuning.study import SETTINGS, Study
from agents.lab.tuning.winners import Fresh, beyond_packaged, retrain, verdict, write_best, write_settings
from agents.run.config import FLAGS, Layer, config_layer, resolve
from agents.tune import main
from tests.lab.comparison.synthetic import result
from tests.lab.tuning.searching import base, small_plan, small_study

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
