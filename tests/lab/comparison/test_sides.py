"""Ours and SB3's leave the same: files, tags, and evaluations on the same episodes."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agents.acting.evaluation import evaluate
from agents.lab.baselines import make_sb3
from agents.lab.comparison import child, runner, training
from agents.lab.comparison.job import finished_run
from agents.lab.comparison.plan import all_jobs
from agents.lab.comparison.pool import JobResult
from agents.lab.comparison.runner import ComparisonFile, _line, random_return
from agents.run import evaluator
from agents.run.evaluator import Evaluator
from agents.run.models import load_policy
from agents.run.play import policy_env
from agents.run.run import Run
from envs.errors import UserError
from envs.seeding import derive_seed
from tests.lab.comparison.running import SHORT, carry_out_here, here, result, tasks_of
from tests.run.running import train
from tests.run.test_hybrid import SIGNAL

RESULT = {
    *("env", "algo", "label", "library", "seed", "steps", "train_seconds", "steps_per_s", "total_seconds", "peak_mb"),
    *("returns", "lengths", "command", "versions", "at"),
}


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def tensorboard_tags(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (file,) = folder.glob("events.out.tfevents.*")
    events = EventFileLoader(str(file)).Load()
    return {value.tag for event in events for value in event.summary.value if "/" in value.tag}


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_both_sides_leave_the_same(algo, tmp_path, monkeypatch):
    episodes: dict[str, list[Any]] = {}
    own = evaluator.evaluate

    def noted(env, policy, count, seed, **more):
        episodes.setdefault(type(policy).__name__, []).append((env.backend, env.num_envs, count, seed))
        return own(env, policy, count, seed, **more)

    monkeypatch.setattr(evaluator, "evaluate", noted)
    folders = carry_out_here(tasks_of(algo=algo, hyper="same"), tmp_path)
    ours, sb3 = folders["ours"], folders["sb3"]
    for folder, library in ((ours, "ours"), (sb3, "sb3")):
        found = result(folder)
        assert found.keys() == RESULT
        assert (found["label"], found["library"], found["seed"], found["steps"]) == (library, library, 0, 2_048)
        assert found["returns"] == found["lengths"]  # CartPole pays 1 a step
        assert len(found["returns"]) == 5
        assert 0 < found["train_seconds"] < found["total_seconds"]
        assert found["steps_per_s"] == pytest.approx(2_048 / found["train_seconds"])
        assert found["peak_mb"] > 50
    assert len(episodes) == 2
    assert all(played == episodes["SB3Policy"] for played in episodes.values())
    assert len(episodes["SB3Policy"]) == 3, "two evaluations and the final one"
    assert list(rows(ours, "evaluations.csv")[0]) == list(rows(sb3, "evaluations.csv")[0])
    assert [row["step"] for row in rows(ours, "evaluations.csv")] == ["1024", "2048"]
    assert [row["step"] for row in rows(sb3, "evaluations.csv")] == ["1024", "2048"]
    theirs = set(rows(sb3, "progress.csv")[0])
    assert theirs <= set(rows(ours, "progress.csv")[-1])
    wanted = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/loss", "train/learning_rate"}
    assert wanted <= theirs | tensorboard_tags(sb3)
    assert tensorboard_tags(sb3) <= tensorboard_tags(ours)
    assert {"eval/mean_reward", "rollout/ep_rew_mean"} <= tensorboard_tags(sb3)


@pytest.mark.parametrize("label", ["ours", "sb3"])
def test_evaluations_do_not_count_as_training(label, tmp_path, monkeypatch):
    (job,) = (job for job in all_jobs(tasks_of(total_timesteps=3_072)) if job.label == label)
    own = Evaluator.evaluate

    def slow(self, policy, count, *stream, **more):
        time.sleep(0.4)
        return own(self, policy, count, *stream, **more)

    monkeypatch.setattr(Evaluator, "evaluate", slow)
    found = rows(here(job, tmp_path), "evaluations.csv")
    seconds = [float(row["time/time_elapsed"]) for row in found]
    assert seconds == sorted(seconds)
    figures = result(job.folder(tmp_path))
    assert seconds[-1] <= figures["train_seconds"] <= figures["total_seconds"] - 4 * 0.4
    progress = [row for row in rows(job.folder(tmp_path), "progress.csv") if row["time/fps"]]
    with_evaluations = float(progress[-1]["step"]) / float(progress[-1]["time/fps"])
    assert with_evaluations > seconds[-1] + 0.7, "time/fps counts all of it, as it always did"


def test_evaluating_sb3_changes_nothing_in_its_training(tmp_path):
    often, seldom = (
        next(job for job in all_jobs(tasks_of(eval_freq=freq)) if job.label == "sb3") for freq in (512, 2_048)
    )
    assert result(here(often, tmp_path / "often"))["returns"] == result(here(seldom, tmp_path / "seldom"))["returns"]


def test_a_run_whose_result_was_lost_is_not_trained_again(tmp_path, monkeypatch):
    job = all_jobs(tasks_of([]))[0]
    folder = here(job, tmp_path)
    before = result(folder)
    (folder / "result.json").unlink()
    monkeypatch.setattr(Run, "loop", None)
    after = result(here(job, tmp_path))
    same = ("returns", "steps", "train_seconds", "command")
    assert [before[name] for name in same] == [after[name] for name in same]
    assert after["peak_mb"] is None


PAYS = """
import gymnasium as gym
import numpy as np


class Pays(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), REWARD, True, False, {}
"""


def test_tasks_of_names_that_are_alike_have_their_own_runs(tmp_path):
    envs = []
    for reward in ("1.0", "5.0"):
        (tmp_path / reward).mkdir()
        (file := tmp_path / reward / "env.py").write_text(PAYS.replace("REWARD", reward))
        envs.append(f"{file}:Pays")
    few = {"env_kwargs": (), "total_timesteps": 64, "eval_freq": 64, "eval_episodes": 1, "final_eval_episodes": 1}
    one, other = all_jobs(tasks_of([], env=envs, **few))
    assert not any(job.is_done(job.folder(tmp_path)) for job in (one, other))
    first, second = here(one, tmp_path), here(other, tmp_path)
    assert (result(first)["returns"], result(second)["returns"]) == ([1.0], [5.0])
    assert first.name == "Pays__ppo__s0", "as in comparisons of before"
    assert [job.folder(tmp_path) for job in (one, other)] == [first, second]
    assert one.is_done(first)
    assert other.is_done(second)

    other.save(first)  # as it was done before: the other's name beside the one's training
    (first / "result.json").write_text(json.dumps(result(first) | {"env": other.env}))
    shutil.rmtree(second)
    assert other.folder(tmp_path) == first
    assert not other.is_done(first)
    assert result(here(other, tmp_path))["returns"] == [5.0]
    assert result(here(one, tmp_path))["returns"] == [1.0]
    assert [job.folder(tmp_path).name[:15] for job in (one, other)] == ["Pays__ppo__s0__", "Pays__ppo__s0"]


def test_sb3_begins_anew(tmp_path):
    job = next(job for job in all_jobs(tasks_of()) if job.label == "sb3")
    folder = here(job, tmp_path)
    before = result(folder)
    (folder / "result.json").unlink()
    with (folder / "evaluations.csv").open("a") as stream:
        stream.write("9999,1,1,1,1\n")
    after = result(here(job, tmp_path))
    assert before["returns"] == after["returns"]
    assert [row["step"] for row in rows(folder, "evaluations.csv")] == ["1024", "2048"]
    assert len(list(folder.glob("events.*"))) == 1


def test_models_of_both_kinds_are_evaluated_on_the_episodes_of_the_others(tmp_path):
    model = make_sb3("ppo", "CartPole-v1", 1, {"n_steps": 64}, 0, env_kwargs=SHORT)
    model.save(tmp_path / "mine.zip")
    trained = carry_out_here(tasks_of([]), tmp_path / "before")["ours"]
    tasks = tasks_of([str(tmp_path / "mine.zip"), str(trained)], trust=True)
    assert [side.label for side in tasks[0].sides] == ["ours", "mine", trained.name]
    folders = carry_out_here(tasks, tmp_path, "--trust")
    zipped, ours = result(folders["mine"]), result(folders[trained.name])
    assert (zipped["library"], zipped["steps"], zipped["train_seconds"], zipped["steps_per_s"]) == ("sb3", 0, 0, 0)
    assert (ours["library"], ours["steps"]) == ("ours", 2_048)
    assert ours["returns"] == result(folders["ours"])["returns"], "the same seed trains the same policy"
    assert not (folders["mine"] / "evaluations.csv").exists()
    played = JobResult(all_jobs(tasks)[1], finished_run(folders["mine"]), None)
    assert _line(played).endswith(" after 0 steps, trained before")


WIDE = """
import gymnasium as gym
import numpy as np


class Wide(gym.Env):
    action_space = gym.spaces.Discrete(2)

    def __init__(self, width=2):
        self.width, self.observation_space = width, gym.spaces.Box(-1, 1, (width,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(self.width, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(self.width, self.t / 4, np.float32), float(action), False, self.t >= 4, {}
"""
FEW = "-n 64 --n-envs 2 --n-steps 32 --batch-size 32 --eval-freq 0 --final-eval-episodes 0"


def test_a_model_sees_what_it_was_trained_on_and_one_that_does_not_fit_is_refused_at_once(tmp_path):
    (file := tmp_path / "wide.py").write_text(WIDE)
    run = train(tmp_path / "runs", f"--env {file}:Wide {FEW} --frame-stack 3")
    few = {"env": [f"{file}:Wide"], "total_timesteps": 64, "eval_freq": 64, "eval_episodes": 1}
    (_, job) = all_jobs(tasks_of([str(run)], env_kwargs=(), **few))
    loaded = load_policy(run, "latest")
    with closing(policy_env(loaded, 5)) as env:
        alone = evaluate(env, loaded.policy, 5, derive_seed(0, "final"))
    assert result(here(job, tmp_path))["returns"] == alone.returns.tolist()
    with pytest.raises(UserError, match=r"this policy does not fit .*Wide: it learnt observations"):
        tasks_of([str(run)], env_kwargs=("width=3",), **few)


def test_a_model_is_not_loaded_by_hand_without_trust(tmp_path, capsys):
    make_sb3("ppo", "CartPole-v1", 1, {"n_steps": 64}, 0, env_kwargs=SHORT).save(tmp_path / "mine.zip")
    job = all_jobs(tasks_of([str(tmp_path / "mine.zip")], trust=True))[1]
    job.save(job.folder(tmp_path))
    assert child.main([str(job.folder(tmp_path))]) == 1
    assert "add --trust" in capsys.readouterr().err
    assert not job.is_done(job.folder(tmp_path))


def test_a_model_of_something_else_has_no_part(tmp_path):
    make_sb3("dqn", "CartPole-v1", 1, {}, 0).save(tmp_path / "mine.zip")
    with pytest.raises(Exception, match="fits none of the tasks"):
        tasks_of([str(tmp_path / "mine.zip")], trust=True)


def test_what_goes_wrong_is_the_last_line(tmp_path, capsys, monkeypatch):
    job = dataclasses.replace(all_jobs(tasks_of([]))[0], settings={"env": "CartPole-v1", "gama": 1})
    job.save(tmp_path)
    assert child.main([str(tmp_path)]) == 1
    assert "gama: unknown setting" in capsys.readouterr().err.splitlines()[-1]

    def breaks(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(Run, "loop", breaks)
    all_jobs(tasks_of([]))[0].save(tmp_path)
    assert child.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "ZeroDivisionError: by zero"


def test_the_time_of_all_parts_is_added_up(tmp_path):
    job = all_jobs(tasks_of([]))[0]
    folder = here(job, tmp_path)
    (folder / "result.json").unlink()
    now = time.time()
    newest = max(path.stat().st_mtime for path in folder.iterdir())
    parts = [[newest - 200, newest - 200, 1e6], [newest - 100, newest - 100]]  # of a version that knew no memory, too
    (folder / "parts.json").write_text(json.dumps(parts))
    assert child.main([str(folder), "--began", str(now - 5)]) == 0
    assert 104.9 < result(folder)["total_seconds"] < 105.1 + time.time() - newest
    assert result(folder)["peak_mb"] is None, "this process did not train"
    assert [part[2] for part in json.loads((folder / "parts.json").read_text())[:2]] == [1e6, None]


def test_the_largest_memory_of_all_parts_is_kept(tmp_path, monkeypatch):
    job = all_jobs(tasks_of([]))[0]
    folder = here(job, tmp_path)
    (folder / "parts.json").write_text(json.dumps([[1, 2, 1e6], [3, 4, None], [5, 6]]))
    monkeypatch.setattr(
        training, "train_ours", lambda *_, resume: {"steps": 1, "train_seconds": 1.0} if resume else None
    )
    assert child.main([str(folder)]) == 0
    assert result(folder)["peak_mb"] == 1e6


def test_random_actions_are_measured():
    one, other = random_return("CartPole-v1", {}, "native"), random_return("Pendulum-v1", {}, "native")
    assert 18 < one < 27
    assert -1_500 < other < -900
    assert one == random_return("CartPole-v1", {}, "native")


ENDLESS = PAYS.replace("Pays", "Endless").replace("REWARD, True", "1.0, False")


def test_episodes_of_random_actions_are_cut_where_those_of_the_sides_are(tmp_path, monkeypatch):
    (file := tmp_path / "endless.py").write_text(ENDLESS)
    name = f"{file}:Endless"
    monkeypatch.setattr(runner, "RANDOM_EPISODES", 12)
    assert random_return(name, {}, "sync", 7) == 7
    few = {"env": [name], "env_kwargs": (), "total_timesteps": 400, "eval_freq": 400, "eval_episodes": 4}
    (other := tmp_path / "other.yaml").write_text("eval_max_steps: 9")
    (task,) = tasks_of([str(other)], **few, final_eval_episodes=2)
    monkeypatch.setattr("agents.run.evaluator.LEAST_MAX_STEPS", 5)
    (record := ComparisonFile(tmp_path)).add_references([task])
    assert record.values["references"][name]["random"] == 400 / (4 * 4)
    for folder in carry_out_here([task], tmp_path).values():
        assert result(folder)["lengths"] == [25, 25]


def test_random_actions_are_legal_ones():
    """An illegal one is an error in that environment, whose three rewards are these on average."""
    ways, height, lamps = 1 / 3 + 1 / 4 + 1 / 3, (0.5 + 0.82 + 0.82) / 3, 0.1
    assert abs(random_return(SIGNAL, {}, "sync") - (ways - 3 * (height + lamps))) < 0.4
