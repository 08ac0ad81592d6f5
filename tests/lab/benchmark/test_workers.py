"""What the children do, on small work."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from agents.lab.benchmark import workers
from agents.lab.benchmark.case import SPEED, Case, Plan
from agents.lab.benchmark.catalogue import ours, worker
from agents.lab.benchmark.ours import read_training
from agents.lab.benchmark.rounds import run
from agents.lab.benchmark.settings import SAME_PPO
from agents.lab.processes import last_json, run_process
from envs.errors import UserError


def test_our_training_runs_through_the_front_door(tmp_path, monkeypatch):
    for name in ("TOLERANCE", "MOST_PREPARING"):  # it is short: a held up machine would have it refused
        monkeypatch.setattr(f"agents.lab.benchmark.ours.{name}", 1.0)
    (program,) = ours(Plan(quick=True), "ppo", "CartPole-v1", SAME_PPO, 2048, "cpu")
    figures = run(Case("x", "", SPEED, (program,), 1), program, 3, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("CartPole-v1__ppo__s3__")
    assert (figures["steps"], figures["threads"], figures["eval_mean"]) == (2048, 1, None)
    assert all(figures["phases"][phase] > 0 for phase in ("act", "env", "learn"))
    assert figures["phases"]["rest"] > 0
    assert figures["total_s"] > figures["seconds"] > 0


def rows_of(folder, **phases):
    """Leave a run of 1,100 steps whose rows end after 10, 11 and 12.5 seconds; return its summary."""
    ends = {"step": (100, 200, 1100), "time/fps": (10, 200 / 11, 88)}
    columns = ends | {f"time/{name}": values for name, values in phases.items()}
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (folder / "progress.csv").write_text("\n".join(lines) + "\n")
    (folder / "versions.json").write_text('{"threads": 2}')
    return {"run": str(folder), "steps": 1100, "wall_s": 13.0, "steps_per_s": 84.6, "eval_mean": None}


def test_our_speed_is_read_from_the_rows_of_a_run(tmp_path):
    figures = read_training(rows_of(tmp_path, learn=(2, 0.5, 1), rest=(3, 0.5, 0.48)))
    assert figures["steps_per_s"] == pytest.approx(900 / (12.5 - 11))  # from the first row beyond a tenth
    assert figures["phases"]["learn"] == pytest.approx(1 / 1.5), "what came before, compiling say, does not count"
    assert figures["phases"]["rest"] == pytest.approx(0.48 / 1.5)
    assert (figures["whole_steps_per_s"], figures["threads"]) == (84.6, 2)


@pytest.mark.parametrize(
    ("learn", "compiling", "fault"),
    [
        (1.43, "", None),
        (1.41, "", "come to 94% of the time"),
        (1.57, "", None),
        (1.59, "", "come to 106% of the time"),
        (1.5, 0.014, None),
        (1.5, 0.3, "20% of the time measured went into compiling and first calls"),
    ],
)
def test_parts_that_are_not_the_whole_are_refused(tmp_path, learn, compiling, fault):
    figures = read_training(rows_of(tmp_path, learn=(9, 0.5, learn), compile=(9, "", compiling)))
    assert ("phases" in figures) is (fault is None)
    assert figures["steps_per_s"] == pytest.approx(600)
    if fault is not None:
        assert fault in figures["refused"]


def test_sb3_trains_and_is_measured():
    figures = workers.sb3(
        64,
        "1",
        eval_episodes=2,
        algo="ppo",
        env_id="CartPole-v1",
        n_envs=2,
        hyperparameters={"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    )
    assert figures["steps"] == 64
    assert figures["steps_per_s"] > 0
    assert 1 <= figures["eval_mean"] <= 500
    assert figures["threads"] == torch.get_num_threads()


@pytest.mark.parametrize("step", [workers.step_native, workers.step_gymnasium])
def test_environments_are_stepped(step):
    figures = step(num_envs=8, ticks=50)
    assert figures["steps"] == 400
    assert figures["steps_per_s"] == pytest.approx(400 / figures["seconds"])


def test_memory_that_is_shared_counts_once():
    tensor = torch.zeros(100, dtype=torch.float32)
    array = np.zeros((5, 10))
    held = {"a": tensor, "b": [tensor.numpy(), tensor[50:]], "c": (array, array[2:4, 1:]), "d": {"e": "text", "f": 3}}
    assert workers.held_bytes(held) == 400 + 400


def test_replay_buffers_take_what_their_arrays_take():
    obs, rest = 4 * 4, 8 + 4 + 4 + 4  # SB3: action int64; reward, done and timeout float32
    assert workers.replay_sb3("cartpole")["bytes_per_transition"] == 2 * obs + rest
    assert 0 < workers.replay_ours("cartpole")["bytes_per_transition"] <= 2 * obs + rest
    assert workers.replay_sb3("pixels")["bytes_per_transition"] == 2 * 84 * 84 * 4 + rest
    assert workers.replay_sb3("pixels", optimized=True)["bytes_per_transition"] == 84 * 84 * 4 + rest
    assert 84 * 84 < workers.replay_ours("pixels")["bytes_per_transition"] <= 7_300


def test_a_worker_prints_one_json_object():
    finished = run_process(worker("step_gymnasium", num_envs=2, ticks=3), {})
    assert json.loads(finished.output) == last_json(finished.output)
    assert last_json(finished.output)["steps"] == 6


def test_a_worker_that_fails_says_why():
    with pytest.raises(UserError, match="KeyError: 'nothing'"):
        run_process(worker("nothing"), {})
