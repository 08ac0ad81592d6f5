"""The doctor at work: what it reads of a training, what it says and keeps, and that it changes nothing."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from agents.core.runtime import Runtime
from agents.data.batch import Batch
from agents.data.replay import ReplayBuffer
from agents.data.trajectory import Trajectory
from agents.learning.results import Diverged
from agents.run.doctor import sink as doctoring
from agents.run.doctor.diagnosis import Diagnosis
from agents.run.doctor.diverged import environment_of
from agents.run.doctor.sink import Doctor, read_diagnoses
from agents.run.doctor.vitals import ROWS, Vitals, returns_of
from agents.run.models import load_policy
from agents.run.sinks import read_table
from agents.run.tensorboard import TensorBoardSink
from agents.run.trees import read_tree
from tests.algos.making import collect, make_ppo
from tests.core.recorder import Tape
from tests.marks import long_test
from tests.run.running import assert_same, resume, rows, signals_at, train

SHORT = "--target-reward none --final-eval-episodes 0 --eval-episodes 1 --device cpu --save-freq 0"
PPO = f"--env CartPole-v1 -n 960 --n-envs 3 --n-steps 16 --batch-size 24 --n-epochs 2 {SHORT}"
PPO += " --net-arch 64 64 --activation tanh"
DQN = (
    f"--env CartPole-v1 --algo dqn -n 600 --learning-starts 0 --train-freq 32 --batch-size 16 --buffer-size 200 {SHORT}"
)
SAC = (
    f"--env Pendulum-v1 --algo sac -n 200 --net-arch 16 --learning-starts 20 --batch-size 16 --buffer-size 200 {SHORT}"
)


@pytest.mark.parametrize("words", [PPO, DQN, SAC, pytest.param(f"{PPO} --memory gru", marks=long_test)])
def test_a_training_is_the_same_with_and_without(words: str, tmp_path: Path) -> None:
    watched, alone = train(tmp_path / "a", words), train(tmp_path / "b", f"{words} --no-doctor")
    assert_same(read_tree(watched, "model")[0], read_tree(alone, "model")[0])
    for table in ("progress.csv", "evaluations.csv"):
        assert rows(watched, table) == rows(alone, table)
    assert len(read_table(watched / "doctor.csv")[1]) >= 10
    assert not (alone / "doctor.csv").exists()


@long_test
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
def test_compiled_updates_are_the_same_with_and_without_and_as_few(tmp_path: Path) -> None:
    found, graphs = [], []
    for options in ("", "--no-doctor"):
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        found.append(train(tmp_path / f"run{options}", f"{PPO} --compile on {options}"))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert_same(*(read_tree(run, "model")[0] for run in found))
    assert graphs[0] == graphs[1] >= 1
    _, looks = read_table(found[0] / "doctor.csv")
    assert all(float(row["doctor/input_size"]) > 0 for row in looks)


class Network(nn.Module):
    """Two hidden layers with given pre-activations, whatever is observed."""

    def __init__(self, rectified: list[float], squashed: list[float]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, len(rectified)), nn.Linear(len(rectified), len(squashed))
        for layer, biases in ((self.first, rectified), (self.second, squashed)):
            nn.init.zeros_(layer.weight)
            layer.bias.data = torch.tensor(biases)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.second(torch.relu(self.first(obs))))


def policy(network: nn.Module) -> Any:
    return SimpleNamespace(
        model=network, device=torch.device("cpu"), initial_carry=lambda n: (), inspect=lambda obs, carry: network(obs)
    )


def rollout(obs: torch.Tensor, action: torch.Tensor, reward: torch.Tensor, valid: Any = None) -> Trajectory:
    flags = torch.zeros(reward.shape, dtype=torch.bool)
    return Trajectory(obs, action, reward, flags, flags, flags, (), obs[-1], (), valid=valid)


def test_vitals_by_hand() -> None:
    network = Network([-1.0] * 6 + [1.0] * 2, [5.0] * 4 + [0.5] * 4 + [-5.0] * 8)
    network.first.weight.data[0, 0] = 1.0  # of some observations this unit is not 0
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    vitals = Vitals(policy(network), space, spaces.Box(-2, 4, (1,), np.float32))
    obs = torch.tensor([[[3.0, 7.0], [-4.0, 7.0]], [[5.0, 7.0], [0.0, 7.0]]])  # [T, N, 2]
    action = torch.tensor([[[4.0], [1.0]], [[-2.5], [2.5]]])
    found = vitals.take(rollout(obs, action, torch.tensor([[0.0, 4.0], [-2.0, 0.0]])))
    assert found["doctor/dead_units"] == 5 / 8
    assert found["doctor/saturated_units"] == 12 / 16
    assert found["doctor/input_size"] == 7
    assert "number 1 of" in vitals.words["doctor/input_size"]
    assert found["doctor/constant_features"] == 1
    assert vitals.words["doctor/constant_features"] == "observation[1] = 7"
    assert found["doctor/action_reach"] == pytest.approx(3.5 / 3)
    assert found["doctor/actions_at_bounds"] == 2 / 4
    assert (found["doctor/reward_size"], found["doctor/reward_most"]) == (3, 4)
    assert found["doctor/looked_at"] == 4
    obs[..., 1] = 8.0
    assert vitals.take(rollout(obs, action, torch.zeros(2, 2)))["doctor/constant_features"] == 0, "it has changed since"


def test_how_far_returns_lie_apart() -> None:
    assert returns_of([1.0, 3.0, 5.0]) == {"doctor/ep_rew_std": 2.0}
    assert returns_of([1.0]) == returns_of([]) == {}


def test_dummy_transitions_are_not_looked_at() -> None:
    vitals = Vitals(policy(nn.Identity()), spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2))
    reward, valid = torch.tensor([[5.0, 1.0]]), torch.tensor([[False, True]])
    found = vitals.take(rollout(torch.zeros(1, 2, 1), torch.zeros(1, 2), reward, valid))
    assert (found["doctor/reward_most"], found["doctor/looked_at"]) == (1, 1)
    assert "doctor/action_reach" not in found
    assert vitals.take(rollout(torch.zeros(1, 2, 1), torch.zeros(1, 2), reward, valid & False)) == {}


def test_of_a_replay_buffer_the_newest_are_looked_at() -> None:
    buffer = ReplayBuffer(8, 2, torch.device("cpu"))
    vitals = Vitals(policy(nn.Identity()), spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2))
    assert vitals.take(buffer) == {}
    for t in range(6):  # of 4 rows
        tick = {"obs": torch.zeros(2, 1), "action": torch.zeros(2, dtype=torch.int64), "reward": torch.tensor([t, -t])}
        flags = torch.zeros(2, dtype=torch.bool)
        tick |= {"terminated": flags, "truncated": flags, "next_obs": torch.zeros(2, 1)}
        buffer.add({**tick, "reward": tick["reward"].float()})
    found = vitals.take(buffer)
    assert found["doctor/looked_at"] == 8
    assert found["doctor/reward_size"] == (2 + 3 + 4 + 5) / 4
    assert ROWS >= 8


@pytest.mark.parametrize(
    ("runtime", "options"),
    [(Runtime(), {"memory": "gru"}), (Runtime(), {"target_kl": 1e9}), (Runtime("auto", record=Tape()), {})],
)
def test_the_gradients_norm_is_that_before_clipping(runtime: Runtime, options: dict[str, Any]) -> None:
    found, moved = [], []
    for most in (None, 1e-3):
        options = options | {"n_epochs": 1, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.01}
        made = make_ppo(runtime=runtime, max_grad_norm=most, **options)
        before = made.learner.parameters.vector.clone()
        found.append(made.update(collect(made))["train/grad_norm"])
        moved.append(float((made.learner.parameters.vector - before).norm()) / 0.01)
    assert found == pytest.approx([moved[0]] * 2, rel=1e-3)
    assert moved[1] == pytest.approx(1e-3, rel=0.05)


def test_each_thing_is_said_once_and_again_when_it_is_worse(tmp_path: Path, monkeypatch: Any) -> None:
    badness = 1.0

    def diagnose(history: Any) -> list[Diagnosis]:
        return [Diagnosis("dead units", badness, "97% of them", "--activation elu", history.step)]

    monkeypatch.setattr(doctoring, "diagnose", diagnose)
    sink = TensorBoardSink(tmp_path)
    watching = Doctor(tmp_path, {}, sink)
    said = []
    for step, badness in enumerate([1.0, 1.5, 4.9, 5.0, 5.0, 1.0, 25.0], 1):  # noqa: B007
        said += [line.partition(":")[0] for line in watching.examine(step, {"doctor/dead_units": 0.97})]
    assert said == ["doctor", "doctor, worse than before", "doctor, worse than before"]
    told = read_diagnoses(tmp_path)
    assert [(found.step, found.badness) for found in told] == [(1, 1.0), (4, 5.0), (7, 25.0)]
    sink.close()
    watching.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    texts = events.Tensors("doctor/dead_units")
    assert [event.step for event in texts] == [1, 4, 7]
    assert texts[0].tensor_proto.string_val[0].decode() == "dead units at step 1: 97% of them. Try: --activation elu"

    resumed = Doctor(tmp_path, {}, TensorBoardSink(tmp_path), since=4)
    badness = 5.0
    assert not list(resumed.examine(5, {})), "it was said before"
    assert [found.step for found in read_diagnoses(tmp_path)] == [1, 4], "and what came later is forgotten"
    assert [point.step for point in resumed.history.points("doctor/dead_units")] == [1, 2, 3, 4]


def test_a_resumed_run_says_what_an_unbroken_one_does(tmp_path: Path) -> None:
    words = f"{PPO} --net-arch 16 --activation relu --learning-rate 30"
    with signals_at(600, signal.SIGINT):
        broken = train(tmp_path / "broken", words, code=130)
    before = read_diagnoses(broken)
    assert before
    found = read_diagnoses(resume(broken))
    assert found[: len(before)] == before
    assert found == read_diagnoses(train(tmp_path / "unbroken", words))


def test_of_a_training_that_diverges_model_and_batch_are_left(tmp_path: Path, capsys: Any) -> None:
    words = f"{PPO} --learning-rate 1e3 --max-grad-norm 1e30 --optimizer sgd"
    run = train(tmp_path, words, code=2)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("error: the training diverged: at step ")
    assert told[1].startswith("First seen: ")
    assert f"The batch is saved in {run / 'diverged'}." in told[1]
    step = int(told[2].removeprefix("The model of step ").partition(",")[0].replace(",", ""))
    assert all(p.isfinite().all() for p in load_policy(run).policy.model.parameters())
    assert read_tree(run, "model")[1]["step"] == step
    batch, meta = read_tree(run / "diverged", "batch")
    assert batch["obs"].shape == (16, 3, 4)
    assert (meta["step"], meta["environment"]) == (step + 48, None)
    (found,) = [each for each in read_diagnoses(run) if each.illness == "not finite"]
    assert found.step == step + 48


def test_the_model_that_was_kept_stays_as_it_was(tmp_path: Path) -> None:
    watching, model = Doctor(tmp_path, {}, TensorBoardSink(tmp_path)), nn.Linear(2, 2)
    assert watching.bring_back(model) is None
    watching.keep(7, model)
    weight = model.weight.detach().clone()
    nn.init.constant_(model.weight, torch.nan)
    assert watching.bring_back(model) == 7
    assert torch.equal(model.weight, weight)
    watching.keep(8, nn.Linear(3, 2))
    assert watching.bring_back(model) is None, "its layers were replaced"


def test_models_are_kept_fifty_times_in_a_run(tmp_path: Path) -> None:
    watching, model = Doctor(tmp_path, {"total_timesteps": 1_000}, TensorBoardSink(tmp_path)), nn.Linear(2, 2)
    found = []
    for step in range(1, 101):
        watching.keep(step, model)
        found.append(watching.bring_back(model))
    assert sorted(set(found)) == [1, 21, 41, 61, 81]


def test_the_environment_that_a_bad_number_came_from_is_named(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    from agents.run import loops

    learnt_from = loops._learnt_from

    def spoilt(collected: Any, config: Any) -> Any:
        found = learnt_from(collected, config)
        if collected.episodes:
            found.reward[5, 2] = torch.nan
        return found

    monkeypatch.setattr(loops, "_learnt_from", spoilt)
    run = train(tmp_path, PPO, code=2)
    assert "First seen: reward is NaN or infinite (update" in (told := capsys.readouterr().err)
    assert ", environment 2)" in told
    batch, meta = read_tree(run / "diverged", "batch")
    assert (meta["what"], meta["environment"]) == ("reward", 2)
    assert batch["reward"].isnan().nonzero().tolist() == [[5, 2]]


def test_of_a_replayed_batch_the_row_says_which_environment() -> None:
    obs = torch.zeros(4, 2)
    obs[2, 1] = torch.nan
    batch = Batch(obs, torch.zeros(4), torch.zeros(4), torch.ones(4), obs, torch.tensor([3, 9, 20, 12]))
    error = Diverged()
    error.data, error.what, error.where = batch, "obs", (2,)
    assert environment_of(error, 6) == 20 % 6
    assert environment_of(Diverged(), 6) is None


@pytest.mark.parametrize(
    "line", ["", "{", "[]", '{"illness": 3}', "[" * 5000, '{"illness": "a", "badness": 1, "evidence": "b", "fix": "c"}']
)
def test_foreign_lines_are_left_out(line: str, tmp_path: Path) -> None:
    good = {"illness": "a", "badness": 1.0, "evidence": "b", "fix": "c", "step": 3}
    (tmp_path / "doctor.jsonl").write_text(f"{line}\n{json.dumps(good)}\n{json.dumps(good)[:20]}")
    assert read_diagnoses(tmp_path) == [Diagnosis("a", 1.0, "b", "c", 3)]
