"""Where episodes end in recorded columns, and what is known of their last successors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.__main__ import main as agents
from agents.data.dataset import Dataset
from agents.data.inspection import FAULTS, cleaned
from agents.lab.checkup.dataset import check_dataset
from agents.run.datasets.reading import load_dataset
from envs.errors import UserError

OBS = np.arange(12.0).reshape(6, 2).astype(np.float32)
COLUMNS = {"observations": OBS, "actions": np.array([0, 1, 1, 0, 1, 0]), "rewards": np.arange(6.0)}
NEXT = {"next_observations": OBS + 2}


def read(folder: Path, **ends: Any) -> Dataset:
    np.savez(folder / "d.npz", **COLUMNS, **{name: np.array(column) for name, column in ends.items()})
    return load_dataset(folder / "d.npz")


def said(data: Dataset) -> list[str]:
    verdicts = [verdict.evidence for verdict in check_dataset(data) if verdict.name == "reading"]
    assert cleaned(data, dict.fromkeys(FAULTS, "keep"))[1][: len(verdicts)] == verdicts
    return verdicts


def test_dones_beside_timeouts_are_those_of_sb3(tmp_path: Path) -> None:
    data = read(tmp_path, dones=[0, 0, 1, 0, 0, 1], timeouts=[0, 0, 1, 0, 0, 0], **NEXT)
    assert data.terminated.tolist() == [0, 0, 0, 0, 0, 1]
    assert data.truncated.tolist() == data.cut.tolist() == [0, 0, 1, 0, 0, 0]
    assert said(data) == []


def test_terminals_beside_timeouts_are_both(tmp_path: Path) -> None:
    data = read(tmp_path, terminals=[0, 0, 1, 0, 0, 1], timeouts=[0, 0, 1, 0, 0, 0], **NEXT)
    assert data.terminated.tolist() == [0, 0, 1, 0, 0, 1]


def test_dones_alone_are_said_to_hide_time_limits(tmp_path: Path) -> None:
    data = read(tmp_path, dones=[0, 0, 1, 0, 0, 1])
    assert data.terminated.tolist() == [0, 0, 1, 0, 0, 1]
    assert said(data) == ["episodes end by dones alone: those that a time limit ended count as terminated"]


def test_a_last_successor_that_is_unknown_is_not_made_up(tmp_path: Path) -> None:
    data = read(tmp_path, terminals=[0, 1, 0, 0, 0, 0], timeouts=[0, 0, 0, 0, 1, 0])
    assert data.lengths.tolist() == [2, 2]
    assert data.reward.tolist() == [0, 1, 2, 3]
    assert data.obs[data.rows[2:] + 1].tolist() == OBS[3:5].tolist()
    assert (data.terminated.tolist(), data.truncated.tolist()) == ([0, 1, 0, 0], [0, 0, 0, 1])
    (words,) = said(data)
    assert words.startswith("2 of 6 transitions are left out, as their successors are unknown")
    known = read(tmp_path, terminals=[0, 1, 0, 0, 0, 0], timeouts=[0, 0, 0, 0, 1, 0], **NEXT)
    assert (known.lengths.tolist(), said(known)) == ([2, 3, 1], [])


def test_data_of_which_nothing_is_left_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"d.npz: of none of its 6 transitions the successor is known: give next_obs"):
        read(tmp_path, episode=range(6))
    assert agents(["check", "--data", str(tmp_path / "d.npz")]) == 2
