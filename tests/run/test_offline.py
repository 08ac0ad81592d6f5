"""DQN and IQL on recorded episodes: what the buffer holds, that nothing is stepped, and going on by itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from agents.acting.collector import TickCollector
from agents.core.recorded_config import OfflineConfig
from agents.data.replay import ReplayBuffer
from agents.run import imitation, loops
from agents.run.models import load_policy
from agents.train import main
from tests.data.test_dataset import made
from tests.run.running import assert_same_run, resume, rows, stopped_at, train

EITHER = "--env CartPole-v1 --vec sync --n-envs 2 --learning-starts 0 --buffer-size 500 --batch-size 16 --train-freq 4 "
EITHER += "--gradient-steps 1 --net-arch 32 --device cpu --save-freq 0 --eval-freq 100 --eval-episodes 1 "
EITHER += "--eval-max-steps 20 --final-eval-episodes 0"
DQN = f"--algo dqn {EITHER} --target-update-interval 100"
IQL = f"--algo iql {EITHER}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transitions of CartPole in which action 0 is always taken."""
    file = tmp_path_factory.mktemp("data") / "left.npz"
    rng = np.random.default_rng(0)
    ends = np.arange(300) % 20 == 19
    obs = rng.normal(size=(300, 4)).astype(np.float32) / 10
    np.savez(file, observations=obs, actions=np.zeros(300, int), rewards=np.ones(300), terminals=ends)
    return file


def test_the_buffer_holds_each_transition_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = made([3, 4])
    recorded.terminated[2] = False  # breaks off
    monkeypatch.setattr(imitation, "learnt_from", lambda env, params: (recorded, []))
    replay = ReplayBuffer(8, 2, torch.device("cpu"))
    policy, params = SimpleNamespace(recurrent=False), SimpleNamespace(clip_reward=False)
    imitation.fill(replay, policy, None, params)  # type: ignore[arg-type]
    assert len(replay) == 7
    held = replay.holds(torch.arange(8))
    order = [0, 2, 4, 6, 1, 3, 5]  # row * 2 + column: the first column has four of them
    assert held.nonzero().flatten().tolist() == sorted(order)
    assert replay.flat["reward"][order].tolist() == recorded.reward.tolist()
    assert replay.flat["obs"][order].tolist() == recorded.at(recorded.rows).tolist()
    assert replay.flat["next_obs"][order].tolist() == recorded.at(recorded.rows + 1).tolist()
    assert replay.flat["truncated"][order[:6]].tolist() == [0, 0, 1, 1, 0, 0], "what is stored next is another episode"
    assert replay.flat["terminated"][order].tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_what_is_taken_in_the_data_is_worth_more_to_a_conservative_network(data: Path, tmp_path: Path) -> None:
    with mock.patch.object(TickCollector, "collect", side_effect=AssertionError("it acted")):
        run = train(tmp_path, f"{DQN} --data {data} -n 1200 --cql-alpha 5 --seed 1")
    obs = torch.from_numpy(np.load(data)["observations"])
    q = load_policy(run, "latest").policy.model(obs, (), None).q
    assert (q[:, 0] > q[:, 1]).float().mean() > 0.99


def test_it_acts_in_the_last_part_where_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    collect = TickCollector.collect

    def counted(self: TickCollector, ticks: int, *rest: Any) -> Any:
        steps.append(self.state.step)
        return collect(self, ticks, *rest)

    with mock.patch.object(TickCollector, "collect", counted):
        train(tmp_path, f"{DQN} --data {data} -n 400 --online-fraction 0.25")
    assert steps == list(range(300, 400, 4))


def test_learning_goes_on_from_the_data_into_acting(data: Path, tmp_path: Path) -> None:
    """Whatever `learning_starts` is: there is enough to learn from."""
    words = f"{DQN} --data {data} -n 400 --online-fraction 0.25".replace("--learning-starts 0", "--learning-starts 390")
    assert [row["train/n_updates"] for row in rows(train(tmp_path, words), "progress.csv")][-1] == "100.0"


@pytest.mark.parametrize("algo", [DQN, f"{DQN} --online-fraction 0.5", f"{IQL} --online-fraction 0.5 --norm-obs"])
def test_half_a_training_gone_on_with_is_the_whole(data: Path, tmp_path: Path, algo: str) -> None:
    words = f"{algo} --data {data} -n 400 --n-step-returns 3 --prioritized-replay"
    whole = train(tmp_path / "whole", words)
    with stopped_at(loops.Rounds, "learn", 45):
        half = train(tmp_path / "half", words, code=130)
    assert_same_run(whole, resume(half))


def test_more_data_than_the_buffer_holds(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{DQN} --data {data} -n 400".replace("--buffer-size 500", "--buffer-size 200")
    assert main(words.split()) == 2
    assert "buffer_size 200 is less than the 300 recorded transitions" in capsys.readouterr().err


def test_less_data_than_a_sequence_takes(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{DQN} --data {data} -n 400 --memory gru --sequence-length 151 --batch-size 151 --learning-starts 302"
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert "the 300 recorded transitions are 150 steps of 2 environments, and a sequence has 151" in said


def test_iql_learns_nothing_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"{IQL} -n 400".split()) == 2
    assert "which recorded episodes? Give a folder or file, for example: --data" in capsys.readouterr().err


def test_iql_does_the_better_of_what_was_done(tmp_path: Path) -> None:
    """Of the two pushes, each half of the data, one earns."""
    file, rng = tmp_path / "both.npz", np.random.default_rng(0)
    obs, action = rng.normal(size=(300, 4)).astype(np.float32) / 10, rng.permutation(300) % 2
    ends = np.arange(300) % 20 == 19
    np.savez(file, observations=obs, actions=action, rewards=action.astype(float), terminals=ends)
    run = train(tmp_path, f"{IQL} --data {file} -n 1200 --weight-temp 5 --gamma 0 --learning-rate 1e-2 --eval-freq 0")
    policy: Any = load_policy(run, "latest").policy
    distribution = policy.model(torch.from_numpy(obs)).distribution
    assert distribution.log_prob(torch.ones(300, dtype=torch.int64)).exp().mean() > 0.9


def test_nothing_is_replayed_unless_it_is_asked_for() -> None:
    assert OfflineConfig().data is None
