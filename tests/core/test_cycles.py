"""Cycles are looked for seldom while a command starts, and as usual once it trains."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from agents import train
from agents.core import cycles
from agents.run import loops
from tests.run.running import train as trained


@pytest.fixture
def thresholds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cycles, "USUAL", (701, 11, 12))
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_seldom_until_there_is_something_to_train(thresholds, tmp_path, monkeypatch) -> None:
    seen, on_policy = [], loops.on_policy

    def noting(*args, **options):
        seen.append(gc.get_threshold())
        return on_policy(*args, **options)

    monkeypatch.setattr(loops, "on_policy", noting)
    with monkeypatch.context() as patched:
        patched.setattr(train, "_train", lambda argv: seen.append(gc.get_threshold()) or 0)
        patched.setattr(sys, "argv", ["train"])
        assert train.main() == 0
    trained(tmp_path, "--env CartPole-v1 --n-envs 2 --n-steps 8 --batch-size 16 -n 32 --eval-freq 0")
    assert seen == [cycles.SELDOM, cycles.USUAL]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_others_thresholds_are_left_alone(thresholds) -> None:
    gc.set_threshold(5_000)
    before = gc.get_threshold()
    cycles.as_usual()
    assert gc.get_threshold() == before
