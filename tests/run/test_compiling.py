"""A long training is told what compiling would save, a short one and one that is not known to gain are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.run import run as run_module
from agents.run.build import build
from agents.run.compiling import COST, LEFT, WORTH, of_compiling
from agents.run.config import FLAGS, Layer, resolve
from tests.run.running import train

PPO = {"env": "CartPole-v1", "algo": "ppo", "device": "cpu", "compile": "off", "total_timesteps": 1_000_000}


def said(taken: float = 100.0, **values: Any) -> list[str]:
    """Return what is said after 100,000 of a million steps."""
    training = build(resolve([Layer(FLAGS, PPO | values)]))
    training.collector.state.step = 100_000
    return list(of_compiling(training, taken, 100_000, "runs/a"))


def test_a_long_training_is_told_how_much_and_how() -> None:
    (line,) = said(100.0)  # 900 seconds are left
    assert 0.25 * 900 - 60 == 165
    assert line.startswith("15:00 of training are left; --compile on would save 2:45 of them or more")
    assert line.endswith("python -m agents.train --resume runs/a --compile on")


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_so_is_one_with_a_cell_that_is_compiled(memory: str) -> None:
    assert said(10_000.0, memory=memory) != []


@pytest.mark.parametrize("mode", ["off", "numpy"])
def test_what_is_saved_must_be_more_than_it_costs(mode: str) -> None:
    enough = (COST + WORTH) / (1 - LEFT[mode]) / 9  # nine tenths are left
    assert said(enough * 1.001, compile=mode)
    assert not said(enough * 0.999, compile=mode)


@pytest.mark.parametrize(
    "values",
    [
        {"compile": "on"},
        {"memory": "scan"},
        {"env": "Bricks-v0"},
        {"vec": "sync"},
    ],
)
def test_where_it_is_not_known_to_pay_nothing_is_said(values: dict[str, Any]) -> None:
    assert said(10_000.0) != []
    assert said(10_000.0, **values) == []


def test_a_run_says_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(run_module, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(run_module, "KNOWN", 0.0)
    monkeypatch.setattr(run_module, "of_compiling", lambda *asked: told.append(asked) or [])
    words = "--env CartPole-v1 --n-envs 2 --n-steps 16 --batch-size 32 --eval-freq 0 -n 96 --final-eval-episodes 0"
    run = train(tmp_path, words)
    ((_, seconds, steps, folder),) = told
    assert (steps, Path(folder).name) == (32, run.name)
    assert seconds > 0
