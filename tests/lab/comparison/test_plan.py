"""What is asked becomes tasks, and tasks become runs whose settings are whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from agents.algos.dqn.config import DQNConfig
from agents.lab import sb3_settings
from agents.lab.comparison import plan
from agents.lab.comparison.job import Job, differences, finished_run
from agents.lab.comparison.options import Options
from agents.lab.comparison.plan import PlannedTask, all_jobs, plan_tasks
from agents.lab.comparison.runner import ComparisonFile
from agents.lab.sb3_settings import COUNTERPARTS, tuned_settings
from agents.run import registry
from agents.run.config import FLAGS, Layer, resolve
from envs.errors import UserError
from tests.lab.comparison.synthetic import document, result

PACKAGED = resolve([Layer(FLAGS, {"env": "CartPole-v1", "algo": "dqn"})]).params
assert isinstance(PACKAGED, DQNConfig)


def planned(against: tuple[str, ...] = ("sb3",), **asked: Any) -> PlannedTask:
    asked = {"env": ["CartPole-v1"], "algos": ["ppo"], "seeds": 2, **asked}
    (found,), _ = plan_tasks(Options(against=against, **asked))
    return found


def settings(found: PlannedTask, label: str) -> dict[str, Any]:
    return next(side.settings for side in found.sides if side.label == label)


def test_every_environment_meets_every_algorithm_that_can():
    tasks, impossible = plan_tasks(Options(env=("CartPole-v1", "Pendulum-v1"), algos=("ppo", "dqn"), seeds=1))
    assert [(task.env, task.algo) for task in tasks] == [
        ("CartPole-v1", "ppo"),
        ("CartPole-v1", "dqn"),
        ("Pendulum-v1", "ppo"),
    ]
    (why,) = impossible
    assert why.startswith("Pendulum-v1, DQN: DQN needs a Discrete action space")
    with pytest.raises(UserError, match="nothing to compare: Pendulum-v1, DQN: DQN needs"):
        plan_tasks(Options(env=("Pendulum-v1",), algos=("dqn",)))
    with pytest.raises(UserError, match=rf"'pppo' given, {'[|]'.join(registry.names())} expected. Did you mean ppo\?"):
        plan_tasks(Options(env=("CartPole-v1",), algos=("pppo",)))


def test_another_algorithm_of_sb3_has_its_own_settings():
    found = planned(("sb3", "sb3:dqn"), hyper="same")
    assert [side.label for side in found.sides] == ["ours", "sb3", "sb3-dqn"]
    same, other = settings(found, "sb3"), settings(found, "sb3-dqn")
    assert (same["algo"], same["hyperparameters"]["n_steps"]) == ("ppo", settings(found, "ours")["n_steps"])
    assert (other, found.left_out) == (tuned_settings("dqn", "CartPole-v1")[0], [])
    job = next(job for job in all_jobs([found]) if job.label == "sb3-dqn")
    assert (job.kind, job.algo, job.folder(Path()).parts) == ("sb3", "ppo", ("runs", "sb3-dqn", "CartPole-v1__ppo__s0"))
    with pytest.raises(UserError, match=r"no algorithm known to match 'dqm'\. Did you mean dqn or qrdqn\?"):
        planned(("sb3:dqm",))
    with pytest.raises(UserError, match="Pendulum-v1, PPO: DQN of stable-baselines3 needs Discrete actions"):
        planned(("sb3:dqn",), env=["Pendulum-v1"])


def test_what_sb3_has_no_algorithm_like_is_told(monkeypatch):
    monkeypatch.setattr(sb3_settings, "COUNTERPARTS", rest := {"dqn": COUNTERPARTS["dqn"]})
    monkeypatch.setattr(plan, "COUNTERPARTS", rest)
    with pytest.raises(UserError, match=r"no algorithm known to match 'ppo'.*\(--against sb3:dqn\), other settings"):
        planned()
    found = planned(("sb3", "sb3:dqn"))
    assert ([side.label for side in found.sides], found.left_out) == (
        ["ours", "sb3-dqn"],
        ["an algorithm of this name"],
    )
    assert found.budget == settings(found, "ours")["total_timesteps"]


def test_an_algorithm_in_a_file_has_a_folder_with_a_safe_name():
    job = dataclasses.replace(all_jobs([planned()])[0], algo="../mine/my file.py:Reinforce")
    assert job.folder(Path("out")) == Path("out/runs/ours/CartPole-v1__Reinforce__s0")


def test_conditions_are_the_same_for_both():
    found = planned(algos=["dqn"], total_timesteps=4_000, env_kwargs=("max_episode_steps=50",))
    ours, sb3 = settings(found, "ours"), settings(found, "sb3")
    assert (found.budget, found.eval_freq, ours["total_timesteps"], ours["eval_freq"]) == (4_000, 200, 4_000, 200)
    assert (ours["target_reward"], ours["vec"], ours["device"], found.vec) == (None, "native", "cpu", "native")
    assert ours["env_kwargs"] == found.env_kwargs == {"max_episode_steps": 50}
    assert (ours["n_step_returns"], ours["batch_size"]) == (PACKAGED.replay.n_step_returns, PACKAGED.batch_size)
    assert sb3["hyperparameters"]["policy_kwargs"] == {"net_arch": [256, 256]}
    assert "seed" not in ours
    assert planned(env=["LunarLander-v3"]).vec == "sync"


def test_the_budget_is_the_tuned_one_or_ours():
    assert planned(algos=["dqn"]).budget == 50_000
    assert planned(algos=["dqn"], hyper="same").budget == PACKAGED.total_timesteps
    assert planned(env=["Bricks-v0"]).budget == 300_000
    assert planned(env=["Bricks-v0"]).left_out == ["tuned settings (it has its defaults)"]


def test_a_budget_below_the_one_that_settings_are_tuned_for_is_told():
    assert planned(algos=["dqn"], total_timesteps=50_000).left_out == []
    (cut,) = planned(algos=["dqn"], total_timesteps=20_000).left_out
    assert cut == "30,000 of the 50,000 steps that its settings are tuned for"


def test_there_is_at_least_one_evaluation():
    with pytest.raises(UserError, match="--eval-freq: 101 given, but ppo trains on CartPole-v1 for 100 steps"):
        planned(total_timesteps=100, eval_freq=101)
    assert planned(total_timesteps=100, eval_freq=100).eval_freq == 100


def test_the_same_settings_are_translated_and_what_is_lost_is_named():
    found = planned(algos=["dqn"], hyper="same")
    assert found.left_out == ["double_q"]
    assert settings(found, "sb3")["hyperparameters"]["n_steps"] == PACKAGED.replay.n_step_returns


def test_another_configuration_lies_over_the_packaged_one(tmp_path: Path):
    file = tmp_path / "no advantage.yaml"
    file.write_text("normalize_advantage: false\ntotal_timesteps: 7\nenv: CartPole-v1\n")
    found = planned((str(file),), total_timesteps=4_000)
    ours, other = settings(found, "ours"), settings(found, "no-advantage")
    assert ours | {"normalize_advantage": False} == other
    assert [side.library for side in found.sides] == ["ours", "ours"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "env: Acrobot-v1", "env is 'Acrobot-v1', but it is to be compared on 'CartPole-v1'"),
        ("a.yaml", "double_q: true", "this is a setting of .*dqn"),
        ("ours.yaml", "n_epochs: 4", "would be called 'ours', as another is; rename it"),
        ("a.txt", None, "'sb3', 'sb3:ALGO', a YAML file of settings, a run folder, or a .zip"),
        ("a.zip", "", "--trust"),
    ],
)
def test_what_cannot_take_part_is_told(name: str, text: str | None, message: str, tmp_path: Path):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        planned((str(tmp_path / name),))


def test_runs_of_a_seed_are_side_by_side_and_take_turns_in_being_first():
    tasks, _ = plan_tasks(Options(env=("CartPole-v1", "Pendulum-v1"), algos=("ppo",), seeds=2))
    order = [(job.seed, job.env[0], job.label) for job in all_jobs(tasks)]
    first = [(0, "C", "ours"), (0, "C", "sb3"), (0, "P", "ours"), (0, "P", "sb3")]
    assert order == [*first, (1, "C", "sb3"), (1, "C", "ours"), (1, "P", "sb3"), (1, "P", "ours")]


def test_a_run_is_done_once_its_result_reads_well(tmp_path: Path):
    job = all_jobs([planned()])[0]
    assert not job.is_done(tmp_path)
    job.save(tmp_path)
    assert Job.load(tmp_path) == job
    assert not job.is_done(tmp_path)
    good = json.dumps(result("CartPole-v1", "ppo", "ours", 0, returns=[1.0]))
    for text in ("", "{", "[]", '{"steps": 1}', good.replace("[1.0]", "[NaN]"), good.replace("[1.0]", '["1"]')):
        (tmp_path / "result.json").write_text(text)
        assert finished_run(tmp_path) is None
    (tmp_path / "result.json").write_text(good)
    assert job.is_done(tmp_path)


def test_another_run_in_its_place_is_refused_and_the_difference_named(tmp_path: Path):
    job = all_jobs([planned()])[0]
    job.save(tmp_path)
    other = dataclasses.replace(job, settings=job.settings | {"gamma": 0.5})
    with pytest.raises(
        UserError, match=f"holds another run: settings.gamma is {job.settings['gamma']} there, 0.5 here. Choose"
    ):
        other.is_done(tmp_path)


def test_a_setting_that_came_later_may_have_its_default():
    job = vars(all_jobs([planned()])[0])
    older = job | {"settings": {name: value for name, value in job["settings"].items() if name != "target_kl"}}
    assert list(differences(older, job)) == []
    changed = job | {"settings": job["settings"] | {"target_kl": 0.1}}
    assert list(differences(older, changed)) == ["settings.target_kl is None there, 0.1 here"]


def test_a_record_grows_and_refuses_other_conditions(tmp_path: Path):
    file = tmp_path / "other.yaml"
    file.write_text("n_epochs: 1")
    record = ComparisonFile(tmp_path)
    record.add_tasks([planned(total_timesteps=100)])
    record.add_tasks([planned((str(file),), total_timesteps=100, seeds=4), planned(env=["Acrobot-v1"])])
    record.save()
    first, second = ComparisonFile(tmp_path).values["pairs"]
    assert (first["labels"], first["seeds"], second["env"]) == (["ours", "sb3", "other"], [0, 1, 2, 3], "Acrobot-v1")
    assert set(first["settings"]) == {"ours", "sb3", "other"}
    with pytest.raises(UserError, match=r"budget is 100 there, 200 here.*Choose another --out"):
        ComparisonFile(tmp_path).add_tasks([planned(total_timesteps=200)])


def test_a_record_has_one_set_of_arguments_for_each_environment(tmp_path: Path):
    record = ComparisonFile(tmp_path)
    record.add_tasks([planned(total_timesteps=100)])
    record.add_tasks(
        [planned(algos=["dqn"], total_timesteps=100), planned(env=["Acrobot-v1"], env_kwargs=("max_episode_steps=50",))]
    )
    other = planned(algos=["pqn"], total_timesteps=100, env_kwargs=("max_episode_steps=9",), against=())
    with pytest.raises(UserError, match=r"with env_kwargs \{\}, here they are .*9.*Choose another --out"):
        record.add_tasks([other])
    for pair in record.values["pairs"]:
        pair.pop("env_kwargs")  # as of older folders
    with pytest.raises(UserError, match="with env_kwargs"):
        record.add_tasks([other])


def test_a_record_without_settings_grows_too(tmp_path: Path):
    record = ComparisonFile(tmp_path)
    record.add_tasks([planned(total_timesteps=100)])
    for name in ("settings", "left_out"):
        del record.values["pairs"][0][name]
    record.save()
    again = ComparisonFile(tmp_path)
    again.add_tasks([planned(total_timesteps=100)])
    assert set(again.values["pairs"][0]["settings"]) == {"ours", "sb3"}


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "x"}', json.dumps(document([], [], 1, pairs=3))])
def test_a_foreign_record_is_refused(text: str, tmp_path: Path):
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(UserError, match=r"comparison\.json is (torn or malformed|malformed|foreign)"):
        ComparisonFile(tmp_path)


def test_a_failure_is_noted_and_forgotten_once_mended(tmp_path: Path):
    record = ComparisonFile(tmp_path)
    one, other, *_ = all_jobs([planned()])
    record.note_end(one, "boom")
    record.note_end(other, "bang")
    record.note_end(one, "boom again")
    assert [failure["error"] for failure in record.values["failures"]] == ["bang", "boom again"]
    record.note_end(one, None)
    assert record.values["failures"] == [
        {"env": "CartPole-v1", "algo": "ppo", "label": other.label, "seed": 0, "error": "bang"}
    ]


def test_wrappers_of_one_side_alone_are_refused(tmp_path):
    file = tmp_path / "wrapped.yaml"
    file.write_text("wrappers: [gymnasium.wrappers:TimeAwareObservation]\n")
    with pytest.raises(UserError, match=r"wrapped has wrappers of its own, .* as in --env my\.py:make_env"):
        plan_tasks(Options(env=("CartPole-v1",), algos=("ppo",), seeds=1, against=("sb3", str(file))))


def test_an_environment_of_which_one_copy_may_run_is_refused(tmp_path):
    file = tmp_path / "alone.yaml"
    file.write_text("one_instance: true\n")
    with pytest.raises(UserError, match=r"alone has one_instance, .*agents\.compare RUN RUN"):
        planned((str(file),))
