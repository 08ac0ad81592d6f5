"""A search from the command to its page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from safetensors.torch import save_file
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG

from agents.lab.tuning import trial as trials
from agents.lab.tuning.page import write_page
from agents.lab.tuning.pictures import importances
from agents.lab.tuning.planning import warm_start
from agents.lab.tuning.search import outcome, run_search
from agents.lab.tuning.space import Choices, Range
from agents.lab.tuning.study import SETTINGS, UNFIT, WHY, Study, at_work
from agents.lab.tuning.trial import EvalPoint, OutOfTime, carry_out, points, result
from agents.run.config import Layer, RunConfig, resolve
from agents.run.tensorboard import FINAL
from agents.tune import main
from envs.errors import UserError
from tests.lab.tuning.searching import SPACE, base, small_plan, small_study
from tests.marks import long_test
from tests.run import user_envs
from tests.run.running import read_config
from tests.run.test_one_instance import FILE as PORT
from tests.run.test_tensorboard import events

FOREVER = float("inf")
FAULTY = f"{user_envs.__file__}:Faulty"
WORDS = ["--env", "CartPole-v1", "-n", "1024", "--trials", "3", "--seeds", "1", "--evaluations", "2"]
WORDS += ["--eval-episodes", "2", "--retrain", "0", "--workers", "1"]


def carried_out(study: Study, count: int = 1) -> None:
    with at_work(study.folder) as worker:
        for _ in range(count):
            trial = study.claim(worker)
            assert trial is not None
            carry_out(trial, study, FOREVER)


def test_a_trial_is_judged_by_its_last_evaluations(tmp_path: Path) -> None:
    study = small_study(tmp_path, seeds=2)
    carried_out(study)
    (trial,) = study.done()
    curves = points(trial)
    assert [[point.step for point in curve] for curve in curves] == [[128, 256], [128, 256]]
    assert trial.value == pytest.approx((curves[0][-1].mean + curves[1][-1].mean) / 2)
    assert list(trial.intermediate_values) == [1, 2, 3, 4]
    assert trial.intermediate_values[3] == pytest.approx((curves[0][0].mean + curves[1][0].mean) / 2)
    assert trial.user_attrs[SETTINGS].keys() == {"learning_rate", "n_epochs"}

    # the same settings and seeds learn the same, so that trials differ by their settings alone
    twin = RunConfig.from_dict({**study.plan.base, **trial.user_attrs[SETTINGS], "seed": 1_000_000}, "twin")
    again = list(trials.learning_curve(twin, study.plan, FOREVER))
    assert [point.mean for point in again] == [point.mean for point in curves[0]]


def curves_of(plan: Any, monkeypatch: pytest.MonkeyPatch, means: list[list[float]]) -> None:
    """Let trainings have these returns, trial by trial."""
    left = iter(means)

    def curve(*_: Any) -> Any:
        for i, mean in enumerate(next(left), 1):
            yield EvalPoint(i * plan.budget // plan.evaluations, float(i), mean)

    monkeypatch.setattr(trials, "learning_curve", curve)


def test_what_is_clearly_worse_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(tmp_path, trials=9, pruning="asha", evaluations=4)
    curves_of(study.plan, monkeypatch, [[50, 60, 70, 80]] + [[10, 10, 10, 10]] * 4 + [[90, 90, 90, 90]])
    carried_out(study, 6)
    first, *worse, better = study.done()
    assert (first.value, better.value) == (80.0, 90.0)
    assert {trial.state for trial in worse} == {TrialState.PRUNED}
    assert outcome(study, worse[0]) == "given up at step 64 of seed 1 at a return of 10.0"


def test_the_one_instance_of_an_environment_serves_training_and_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "port.py").write_text(PORT)
    env = f"{file}:Port"
    study = small_study(tmp_path / "study", seeds=2, base=base(env=env, one_instance=True, n_envs=1))
    carried_out(study)
    (trial,) = study.done()
    assert [[(point.step, point.mean) for point in curve] for curve in points(trial)] == [[(128, 20), (256, 20)]] * 2
    (config := tmp_path / "one.yaml").write_text("one_instance: true\nn_steps: 32\nbatch_size: 32\n")
    words = ["--env", env, "--config", str(config), "-n", "256", "--out", str(tmp_path / "out"), "--dry-run"]
    assert main([*words, "--retrain", "0"]) == 0
    for more in ([], ["--retrain", "0", "--workers", "2"]):
        assert main([*words, *more]) == 2
        assert "one_instance), so trials run one after the other" in capsys.readouterr().err


def test_time_is_to_the_threshold_and_what_does_not_reach_it_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(tmp_path, objective="time", threshold=100.0, evaluations=3)
    curves_of(study.plan, monkeypatch, [[10, 50, 120], [20, 101], [10, 20, 30]])
    carried_out(study, 3)
    slow, quick, never = study.done()
    assert (slow.value, quick.value, never.state) == (3.0, 2.0, TrialState.PRUNED)
    assert outcome(study, never) == "did not reach 100 at a return of 30.0"
    assert [trial.number for trial in study.best(3)] == [1, 0]
    both = small_plan(objective="both", threshold=None)
    assert result(both, [[EvalPoint(9, 2.0, 5.0)], [EvalPoint(9, 4.0, 7.0)]]) == [6.0, 3.0]


def test_settings_that_exclude_one_another_are_no_try(tmp_path: Path) -> None:
    study = small_study(tmp_path, trials=1, space={"batch_size": Choices(("512",))})
    carried_out(study)
    (trial,) = study.trials
    assert (trial.state, trial.user_attrs[WHY]) == (TrialState.PRUNED, UNFIT)
    assert study.done() == []
    with at_work(tmp_path) as worker:  # but not for ever
        for _ in range(20):
            next_one = study.claim(worker)
            assert next_one is not None
            carry_out(next_one, study, FOREVER)
        assert study.claim(worker) is None
    with pytest.raises(UserError, match="21 proposals had settings that exclude one another: look at the space"):
        run_search(study, None, 1, FOREVER, print)
    with pytest.raises(UserError, match="n_envs times n_steps is 1,024"):
        small_plan().config({"n_steps": 512}, 0)


def test_no_trial_is_trained_for_longer_than_others() -> None:
    """The last rollout is whole: settings whose rollouts end far beyond the budget would be better for that alone."""
    plan = small_plan(base=base(n_envs=2, n_steps=16, batch_size=16, total_timesteps=1_000))  # 1,024 as they are
    for n_steps in (8, 64, 128):  # 1,008, 1,024
        plan.config({"n_steps": n_steps}, 0)
    with pytest.raises(UserError, match="n_steps is 768, so that a training takes 1,536 steps, 1,050 at most expected"):
        plan.config({"n_steps": 384}, 0)
    long = small_plan(base=base(n_envs=2, n_steps=384, batch_size=16, total_timesteps=1_000))
    assert long.config({"n_steps": 192}, 0), "no longer than what there was"
    with pytest.raises(UserError, match="1,536 at most expected"):
        long.config({"n_steps": 400}, 0)
    with pytest.raises(UserError, match="n_envs times n_steps is 2,048, more than the 1,000 steps of a training"):
        small_plan(base=base(n_envs=2, n_steps=1024, batch_size=16, total_timesteps=1_000)).config({"n_steps": 8}, 0)


def test_an_environment_that_crashes_fails_its_trial_alone(tmp_path: Path) -> None:
    study = small_study(tmp_path, base=base(env=FAULTY, env_kwargs={"fault": "raises", "at": 20}, vec="sync"))
    carried_out(study)
    (trial,) = study.done()
    assert trial.state is TrialState.FAIL
    assert outcome(study, trial).startswith("FAILED, ")
    assert "the ball left the field" in outcome(study, trial)


def test_what_diverges_is_worst_and_no_failure(tmp_path: Path) -> None:
    study = small_study(
        tmp_path,
        base=base(learning_rate=1e30, optimizer="sgd", max_grad_norm=None),
        space={"n_epochs": Range(9, 10, whole=True)},
    )
    carried_out(study)
    (trial,) = study.done()
    assert trial.state is TrialState.PRUNED
    assert "diverged" in outcome(study, trial)


def test_out_of_time_is_no_result(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    with at_work(tmp_path) as worker:
        trial = study.claim(worker)
        assert trial is not None
        with pytest.raises(OutOfTime):
            carry_out(trial, study, time.time() - 1)
        assert study.done() == []


def test_the_page_says_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(tmp_path, trials=13, objective="both")
    curves_of(study.plan, monkeypatch, [[float(i), float(i * i)] for i in range(13)])
    carried_out(study, 13)
    found = importances(study)
    assert found is None or set(found[1]) <= {"learning_rate", "n_epochs"}
    page = write_page([study], [], "python -m agents.tune <b>").read_text()
    assert "13 trials: 13 finished, 0 given up" in page
    for alt in ("the best so far", "against the seconds", "a line through the settings", "learning curves"):
        assert re.search(f'<img [^>]*alt="[^"]*{alt}', page)
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_the_command_searches_goes_on_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "search")]
    assert main([*WORDS, *out, "--json"]) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    found = json.loads(last)
    assert found["trials"] == 3
    assert Path(found["page"]).is_file()
    logged = events(tmp_path / "search" / "tensorboard" / "tpe-0")
    assert {"eval/mean_reward", FINAL} <= set(logged.Tags()["scalars"])
    assert logged.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.plugin_name == "hparams"
    packaged: Any = resolve([Layer("", {"env": "CartPole-v1"})]).params
    trial = Study(tmp_path / "search", None, name="CartPole-v1__ppo__tpe").trials[0]
    assert trial.user_attrs[SETTINGS]["n_epochs"] == packaged.n_epochs, "the packaged settings come first"
    assert main([*WORDS, *out, "--trials", "3"]) == 0  # nothing is left to do
    assert "tpe: 3 of 3 trials are done" in capsys.readouterr().out
    assert main([*WORDS, *out, "--seeds", "2"]) == 2
    assert "holds another search: seeds is 1 there, 2 here" in capsys.readouterr().err
    assert main([*WORDS, *out, "-n", "100"]) == 2
    assert "more than the 100 steps of a training" in capsys.readouterr().err


def test_what_no_trial_can_have_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = tmp_path / "own.yaml"
    space.write_text("ent_coef: {low: 1e-5, high: 0.1, log: true}\ngamma: [0.9, 0.99]\n")
    assert main([*WORDS, "--space", str(space), "--out", str(tmp_path / "s"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "ent_coef: 1e-05 to 0.1 by logarithm, 0.0 now, which lies in no such range: no trial has it" in said
    assert said.count("no such range") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trials", "3"], "which environment?"),
        (["--env", "CartPole-v1", "--trials", "0"], "--trials: 0 given, at least 1 expected."),
        (["--env", "CartPole-v1", "--timeout", "0"], "--timeout: 0 given"),
        (["--env", "CartPole-v9"], "CartPole-v1"),
        (["--env", "CartPole-v1", "--algo", "pppo"], "ppo"),
        (["--env", "CartPole-v1", "--space", "wid"], "default|wide expected"),
        (["--env", "CartPole-v1", "--threshold", "5"], "--threshold goes with --objective time"),
        (
            ["--env", "CartPole-v1", "--objective", "time", "--threshold", "nan"],
            "--threshold: nan given, a finite number",
        ),
        (["--env", "Corridor-v0", "--objective", "tine"], "time"),
        (["--env", "CartPole-v1", "--trails", "5"], "Did you mean --trials"),
    ],
)
def test_mistakes_are_named(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


@long_test
def test_the_best_are_trained_on_fresh_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *WORDS,
        "--out",
        str(tmp_path),
        "--retrain",
        "2",
        "--best",
        "1",
        "--random",
        "-n",
        "2000",
        "--workers",
        "2",
    ]
    assert main([*words, "--json"]) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    found = json.loads(last)
    assert {"ours", "sb3"} <= found["fresh"].keys()
    assert all(len(scores) == 2 for scores in found["fresh"].values())
    if "settings" in found:
        assert "fresh seeds" in Path(found["settings"]).read_text()
        read_config(Path(found["settings"]))


@long_test
@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_killed_twenty_times(tmp_path: Path) -> None:
    """60 trials, 20 times killed with all that it started, and at last two processes on one study."""
    words = [sys.executable, "-m", "agents.tune", *WORDS, "--out", str(tmp_path), "--trials", "60", "--workers", "2"]
    name = "CartPole-v1__ppo__tpe"
    for _ in range(20):
        process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = _begun(tmp_path, name)
        while process.poll() is None and _begun(tmp_path, name) < before + 2:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)  # its workers end with it
        process.wait()
    both = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    study = Study(tmp_path, None, name=name)
    assert len(study.done()) == 60
    assert all(trial.state is not TrialState.RUNNING for trial in study.trials)
    again = [trial.user_attrs["retry of"] for trial in study.trials if "retry of" in trial.user_attrs]
    assert len(again) == len(set(again)) > 0


def _begun(folder: Path, name: str) -> int:
    try:
        return len(Study(folder, None, name=name).trials)
    except UserError:
        return 0


def test_earlier_searches_are_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = small_study(tmp_path / "earlier")
    curves_of(earlier.plan, monkeypatch, [[1.0, 9.0], [1.0, 7.0], [1.0, 8.0]])
    carried_out(earlier, 3)
    study = small_study(tmp_path / "new", trials=9, space={**SPACE, "gamma": Choices(("0.9", "0.99"))})
    warm_start(study, [tmp_path / "earlier"])
    warm_start(study, [tmp_path / "earlier"])  # once is enough
    curves_of(study.plan, monkeypatch, [[0.0, 0.0]] * 4)
    carried_out(study, 4)
    packaged, *warm = [trial.user_attrs[SETTINGS] for trial in study.done()]
    assert packaged == {"learning_rate": 0.0003, "n_epochs": 4, "gamma": 0.99}
    best = [earlier.trials[number].user_attrs[SETTINGS] for number in (0, 2, 1)]
    assert [{name: value for name, value in values.items() if name != "gamma"} for values in warm] == best
    with pytest.raises(UserError, match="holds no search"):
        warm_start(small_study(tmp_path / "third"), [tmp_path])


def test_trials_begin_with_the_weights_that_are_asked_for(tmp_path: Path) -> None:
    save_file({"nothing.weight": torch.zeros(3)}, tmp_path / "weights.safetensors")
    study = small_study(tmp_path / "study", base=base(pretrained=str(tmp_path / "weights.safetensors")))
    carried_out(study)
    assert "none of its layers fits" in outcome(study, study.done()[0])
