"""Numbers of the user's own for the curves, from what environments say at the ends of episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.core.types import Episodes
from agents.run.folder import RunFolder
from agents.run.metrics import UserMetrics
from envs.errors import UserError
from tests.run.running import resume, rows, train

FILE = """
import gymnasium, numpy as np

class Goals(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {"goals": -1}
    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), 0.5, self.t == 8, False, {"goals": self.t / 4}

def log(info, progress):
    return {"goals/done": info.get("goals", 0), "own_return": info["episode"]["r"],
            "own_length": np.int64(info["episode"]["l"]), "share": progress}

def nothing(info, progress): return None
def raises(info, progress):
    if progress > 0.4: raise KeyError("goal")
    return {}
def text(info, progress): return {"goals": "many"}
def number(info, progress): return 3
def too_large(info, progress): return {"goals": 10**400}
def step(info, progress): return {"step": 3}
def one(info): return {}
"""
WORDS = "-n 512 --n-envs 2 --n-steps 64 --batch-size 64 --eval-freq 0 --final-eval-episodes 0"
DQN = "--algo dqn -n 512 --n-envs 2 --learning-starts 100 --eval-freq 0 --final-eval-episodes 0"


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "goals.py").write_text(FILE)
    return str(tmp_path / "goals.py")


@pytest.mark.parametrize("words", [WORDS, f"{WORDS} --vec async", DQN], ids=["ppo", "async", "dqn"])
def test_they_are_logged(words: str, file: str, tmp_path: Path) -> None:
    run = train(tmp_path, f"--env {file}:Goals --metrics {file}:log {words}")
    found = rows(run, "progress.csv")
    logged = [row for row in found if row["goals/done"]]
    assert logged
    for row in logged:
        assert [float(row[tag]) for tag in ("goals/done", "own_return", "own_length")] == [2.0, 4.0, 8.0]
        assert 0 < float(row["share"]) <= int(row["step"]) / 512
    assert float(found[-1]["share"]) == pytest.approx(1.0, abs=0.05)


def test_native_environments_say_the_episode_alone(file: str, tmp_path: Path) -> None:
    run = train(tmp_path, f"--env CartPole-v1 --metrics {file}:log {WORDS}")
    last = [row for row in rows(run, "progress.csv") if row["own_return"]][-1]
    assert float(last["own_return"]) == float(last["own_length"]) > 8
    assert float(last["goals/done"]) == 0


def test_an_error_saves_the_training(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, f"--env {file}:Goals --metrics {file}:raises {WORDS}", code=2)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"error: metrics {file}:raises raised KeyError: 'goal'"
    assert told[1].startswith("What was learnt is saved. To go on: ")
    assert RunFolder(run).checkpoints()[-1][0] == 256
    resume(run, "--metrics none")
    assert RunFolder(run).concluded() == 512


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lo", r"metrics: .*goals.py has no function 'lo'; it has log, nothing, .*\. Did you mean log\?"),
        ("one", r"metrics: .*:one is called as log\(info, progress\), but: too many positional arguments"),
    ],
)
def test_a_name_that_does_not_fit_is_told_before_anything(
    name: str, message: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=message):
        UserMetrics(f"{file}:{name}")
    with pytest.raises(UserError, match=r"runs? holds no run|holds no run"):
        train(tmp_path, f"--env {file}:Goals --metrics {file}:{name} {WORDS}", code=2)


@pytest.mark.parametrize(
    ("name", "shown"), [("text", r"\{'goals': 'many'\}"), ("number", "3"), ("too_large", r"\{'goals': 10+\.\.\.")]
)
def test_what_is_not_numbers_by_name_is_told(name: str, shown: str, file: str) -> None:
    episodes = [Episodes(1, np.array([1.0]), np.array([4]))]
    with pytest.raises(UserError, match=f":{name} returned {shown}; numbers by name expected"):
        list(UserMetrics(f"{file}:{name}").rows(episodes, 0.5))


def test_a_number_is_not_called_as_the_steps_are(file: str) -> None:
    episodes = [Episodes(1, np.array([1.0]), np.array([4]))]
    with pytest.raises(UserError, match=r':step returned a number called "step", as the steps are: call it otherwise'):
        list(UserMetrics(f"{file}:step").rows(episodes, 0.5))


def test_episodes_are_told_in_order_with_their_infos(file: str) -> None:
    said: list[Any] = [{"goals": 1}, {"goals": 2, "episode": {"r": 9, "l": 9}}]
    episodes = [Episodes(2, np.array([5.0, 6.0]), np.array([3, 4]), said), Episodes(1, np.array([7.0]), np.array([1]))]
    found = list(UserMetrics(f"{file}:log").rows(episodes, 0.25))
    assert [(row["goals/done"], row["own_return"], row["own_length"]) for row in found] == [
        (1, 5, 3),
        (2, 9, 9),
        (0, 7, 1),
    ]
    assert {row["share"] for row in found} == {0.25}
    assert list(UserMetrics(f"{file}:nothing").rows(episodes, 0.25)) == [{}, {}, {}]
