"""Runs within a test: the command called as a user types it, stopped where the test wants, and compared."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from agents.acting.collector import TickCollector
from agents.acting.evaluation import Evaluation
from agents.run import registry
from agents.run.config import RunConfig, owners
from agents.run.folder import RunFolder, find_latest_run
from agents.run.run import Run
from agents.run.trees import StoredChunks, read_tree
from agents.run.yaml_files import load_config_file
from agents.train import main
from envs.adapters.carried import GLOBAL_STREAMS
from envs.errors import listed

USER_ENVS = Path(__file__).with_name("user_envs.py")
NAMES = "|".join(registry.names())


def setting_of_others(name: str, algo: str) -> str:
    """Return what is said of a setting that `algo` lacks and other packaged algorithms have."""
    return f"this is a setting of {listed(owners(name, algo), 'and')}; the run uses {algo}"


@contextmanager
def stopped_at(kind: type, name: str, call: int) -> Iterator[None]:
    """Stop a run, as Ctrl-C does, when a method of a class is called for this time."""
    method, calls = getattr(kind, name), []

    def counting(self: Any, *given: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return method(self, *given)

    with mock.patch.object(kind, name, counting):
        yield


def train(folder: Path, words: str, code: int = 0) -> Path:
    """Run `python -m agents.train` with these words, its run in `folder`; return the run."""
    places = ["--runs-dir", str(folder), "--replays-dir", str(folder / "replays"), "--no-record", "--quiet"]
    assert main([*words.split(), *places]) == code
    return find_latest_run(folder)


def read_config(file: Path) -> RunConfig:
    """Return the settings that a file of a run holds."""
    return RunConfig.from_dict(load_config_file(file), str(file))


def resume(run: Path, words: str = "", code: int = 0) -> Path:
    assert main(["--resume", str(run), "--no-record", "--quiet", *words.split()]) == code
    return run


@contextmanager
def signals_at(step: int, *numbers: signal.Signals) -> Iterator[None]:
    """Send this process the signals in the middle of the tick that brings training to `step`."""
    write, left = TickCollector._write, list(numbers)

    def writing(self: TickCollector, t: int, *tick: Any) -> None:
        write(self, t, *tick)
        while left and self.state.step + (t + 1) * self._env.num_envs >= step:
            signal.raise_signal(left.pop(0))

    with mock.patch.object(TickCollector, "_write", writing):
        yield


@contextmanager
def killed_after(calls: int, module: Any, name: str) -> Iterator[None]:
    """Kill this process, or one that is forked meanwhile, as a function is about to be called once more than that."""
    function, left = getattr(module, name), iter(range(calls))

    def counting(*given: Any, **named: Any) -> Any:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **named)

    with mock.patch.object(module, name, counting):
        yield


def assert_same_run(one: Path, other: Path) -> None:
    """Two runs ended bit for bit alike: weights, training state, best model, and all rows but their times."""
    for folder in ("", "best"):
        (weights, meta), (others, other_meta) = (read_tree(run / folder, "model") for run in (one, other))
        assert_same(weights, others)
        for settings in (meta["config"], other_meta["config"]):
            settings.pop("replay_storage", None)  # where transitions lie changes nothing
        assert meta == other_meta
    assert_same(last_state(one), last_state(other))
    for name in ("progress.csv", "evaluations.csv"):
        assert rows(one, name) == rows(other, name)
        assert rows(one, name)


def last_state(run: Path) -> dict[str, Any]:
    """Return the training state in the newest checkpoint, without what tells the time or of the process."""
    _, newest = RunFolder(run).checkpoints()[-1]
    state = whole(read_tree(newest, "state")[0])
    for timing in ("elapsed", "training_seconds", "seconds", "spent"):
        del state["monitor"][timing]
    position = state["training"]["env"] or {}
    while "env" in position:  # of what lies around the environments
        position = position["env"]
    for checksums in position.get("checksums", []):
        for stream in GLOBAL_STREAMS:  # as nobody seeds them, they differ from process to process
            checksums.pop(stream, None)
    return state


def whole(tree: Any) -> Any:
    """Return a tree that was read, with tensors in the place of those that lie in chunks."""
    if isinstance(tree, dict):
        return {key: whole(value) for key, value in tree.items()}
    if not isinstance(tree, StoredChunks):
        return tree
    tree.read(read := torch.empty(tree.shape, dtype=tree.dtype))
    return read


def rows(run: Path, name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file, without those columns that tell the time."""
    with (run / name).open(newline="") as stream:
        return [
            {tag: value for tag, value in row.items() if not tag.startswith("time/")} for row in csv.DictReader(stream)
        ]


def steps(run: Path, name: str) -> list[int]:
    return [int(row["step"]) for row in rows(run, name)]


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Two trees are alike, and their arrays bit for bit."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key, value in one.items():
            assert_same(value, other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, (value, counterpart) in enumerate(zip(one, other, strict=True)):
            assert_same(value, counterpart, f"{path}/{index}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, path
        assert one.equal(other), path
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, path
        np.testing.assert_array_equal(one, other, err_msg=path)
    else:
        assert one == other, path


def evaluations(means: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | int, ...]]:
    """Let evaluations return these means in turn (the last one for ever), by stream; return what is asked for."""
    asked: list[tuple[str | int, ...]] = []

    def evaluate(run: Run, episodes: int, *stream: str | int) -> Evaluation:
        asked.append((episodes, *stream))
        name = str(stream[0])
        mean = means[name].pop(0) if len(means[name]) > 1 else means[name][0]
        return Evaluation(np.array([mean - 1, mean + 1]), np.array([7, 9]))

    monkeypatch.setattr(Run, "evaluate", evaluate)
    return asked
