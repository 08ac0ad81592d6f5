"""A recording on its way to the disk."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from agents.run.datasets.minari import Episode
from agents.run.datasets.reading import load_dataset
from agents.run.datasets.recorder import Recording, RecordingWriter

pytest.importorskip("h5py")
SPACES = gymnasium.spaces.Box(-1, 1, (1,), np.float32), gymnasium.spaces.Discrete(2)
RECORDING = Recording("random", "CartPole-v1", {})


def add(written: RecordingWriter, seed: int) -> None:
    written.add(Episode(seed, [np.zeros(1, np.float32)] * 2, [0], [1.0], [True], [False]), SPACES)


def test_episodes_that_are_there_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RecordingWriter(tmp_path / "set", RECORDING)
    for seed in range(3):
        add(first, seed)
    looked_at: list[int] = []
    name = RecordingWriter._file
    monkeypatch.setattr(RecordingWriter, "_file", lambda self, index: looked_at.append(index) or name(self, index))  # type: ignore[func-returns-value]
    again = RecordingWriter(tmp_path / "set", RECORDING)
    assert again.count == 3
    for seed in range(3, 8):
        add(again, seed)
        assert again.count == seed + 1
    assert looked_at == [0, 1, 2, 3, *range(3, 8)]
    assert load_dataset(again.finish(SPACES, 8)).seeds == [*range(8)]


def test_one_that_broke_off_holds_no_more_than_are_asked_for(tmp_path: Path) -> None:
    first = RecordingWriter(tmp_path / "set", RECORDING)
    for seed in range(3):
        add(first, seed)
    again = RecordingWriter(tmp_path / "set", RECORDING)
    assert load_dataset(again.finish(SPACES, 2)).seeds == [0, 1]
