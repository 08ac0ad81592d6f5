"""What a training's transitions take is known beforehand, and refused where there is not as much memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.lab.benchmark.workers import held_bytes
from agents.run import memory
from agents.run.cli import run_command
from agents.run.config import Layer, resolve
from agents.run.memory import frame_axes, free_bytes, refuse_too_large, refuse_too_large_network, transition_bytes
from envs.errors import UserError
from tests.run.test_build import DQN_VALUES, PPO_VALUES, advance, built

CPU = torch.device("cpu")


def held(tree: Any) -> int:
    return sum(map(held, tree.values())) if isinstance(tree, dict) else tree.nbytes


@pytest.mark.parametrize("env", ["CartPole-v1", "Bricks-v0", "Taxi-v4"])
def test_a_transition_takes_what_the_replay_buffer_holds_of_it(env: str) -> None:
    training = advance(built(DQN_VALUES, env=env, buffer_size=60, vec="sync"), 9)
    assert training.replay is not None
    each = transition_bytes(training.env.observation_space, training.env.action_space, successors=True)
    assert held(training.replay.store) == 60 * each


def test_a_transition_of_a_rollout_has_no_successor() -> None:
    space = spaces.Dict(camera=spaces.Box(0, 255, (84, 84, 4), "uint8"), place=spaces.Discrete(9))
    assert transition_bytes(space, spaces.Discrete(3), successors=False) == 28224 + 8 + 8 + 6


def test_a_stored_transition_of_large_pictures_has_one_frame_and_the_names_of_eight() -> None:
    stack, colours, floats = (
        spaces.Box(0, 255, (84, 84, 4), "uint8"),
        spaces.Box(0, 255, (84, 84, 3), "uint8"),
        spaces.Box(-1, 1, (2_000,), "float32"),
    )
    space = spaces.Dict(camera=stack, place=spaces.Discrete(9))
    one = 7056 + 7056 // 64 + 2 * 4 * 4 + 8
    assert transition_bytes(space, spaces.Box(-1, 1, (2,)), successors=True) == one + 2 * 8 + 8 + 6
    assert transition_bytes(stack, spaces.Discrete(6), successors=True) == one + 8 + 6 <= 7_300
    for whole, size in ((colours, 84 * 84 * 3), (floats, 8_000)):
        assert transition_bytes(whole, spaces.Discrete(6), successors=True) == size + size // 64 + 2 * 4 + 8 + 8 + 6
    assert frame_axes(space) == {"camera": 2}
    assert frame_axes(floats) == {"": None}
    unbounded = spaces.Box(-np.inf, np.inf, (4, 84, 84), "float32")
    assert frame_axes(unbounded) == {"": None}
    assert frame_axes(unbounded, "chw") == {"": 0}
    assert frame_axes(stack, "none") == {"": None}
    assert frame_axes(spaces.Box(0, 255, (4, 84, 84), "uint8")) == {"": 0}
    assert frame_axes(spaces.Box(0, 255, (4, 84, 84, 3), "uint8")) == {"": 0}
    assert frame_axes(spaces.Box(0, 255, (84, 84), "uint8")) == {"": None}
    assert frame_axes(spaces.Box(0, 255, (10, 10, 4), "uint8")) == {}, "a small one"


@pytest.mark.parametrize("axes", ["auto", "none"])
def test_what_pictures_take_is_what_was_said(axes: str) -> None:
    film = f"{Path(__file__).with_name('film_env.py')}:Film"
    values = {"buffer_size": 6_000, "vec": "sync", "encoder": "flat", "picture_axes": axes}
    training = advance(built(DQN_VALUES, env=film, **values), 9)
    assert training.replay is not None
    arrays = [training.replay.store, vars(training.replay.frames[""])]
    taken = held_bytes(arrays) / 6_000
    each = training.replayed_bytes
    assert each <= taken <= 1.01 * each
    assert (each > 4 * 36 * 36) == (axes == "none"), "what is no picture has no frames"


def refusal(values: dict[str, Any], free: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    with pytest.raises(UserError) as caught:
        built(values)
    return str(caught.value)


def test_a_replay_buffer_is_refused_from_the_first_transition_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    each = 2 * 16 + 8 + 6
    values = DQN_VALUES | {"buffer_size": 1_000_000}
    message = refusal(values, 1_000_000 * each - 1, monkeypatch)
    assert message == (
        "buffer_size 1000000: so many transitions of 46 bytes take 0.0 GB, and 0.0 GB of memory are free: "
        "buffer_size 890000 would fit"
    )
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000_000 * each)
    assert built(values).replay is not None
    assert refusal(values, 10, monkeypatch).endswith("not even one for each environment would fit")


def test_so_are_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = PPO_VALUES | {"n_steps": 1_000_000_000}
    message = refusal(values, 30 * 10**9, monkeypatch)
    assert message == (
        "n_steps 1000000000 x n_envs 2: so many transitions of 30 bytes take 60.0 GB, and 30.0 GB of memory are free: "
        "n_steps 450000000 would fit"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"n_envs": 10**9},
            "n_steps 16 x n_envs 1000000000: so many transitions of 30 bytes take 480.0 GB, and 30.0 GB of memory are "
            "free: n_envs 56000000 would fit",
        ),
        (
            {"n_epochs": 10**12},
            "n_epochs 1000000000000: so many passes over 32 transitions take 384,000.0 GB, and 30.0 GB of memory are "
            "free: n_epochs 78000000 would fit",
        ),
        (
            {"net_arch": [10**6, 10**6]},
            "net_arch 1000000 1000000: the network and what it computes would take 16,000.2 GB, and 30.0 GB of memory "
            "are free: widths of 41000 would fit",
        ),
        (
            {"net_arch": ["pi=64", "vf=1000000000000000000"]},
            "net_arch 64; 1000000000000000000: the network and what it computes would take 192,000,000,000.0 GB, and "
            "30.0 GB of memory are free: widths of 140000000 would fit",
        ),
        (
            {"memory": "gru", "memory_size": 10**6},
            "memory_size 1000000: the network and what it computes would take 48,001.3 GB, and 30.0 GB of memory are "
            "free: memory_size 23000 would fit",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_every_size_is_refused_with_one_that_fits(
    values: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = refusal(PPO_VALUES | {"n_steps": 16} | values, 30 * 10**9, monkeypatch)
    assert found == message
    name, fits = ("net_arch", found.split()[-3]) if "widths" in found else found.split()[-4:-2]
    size = [int(fits)] * found.count("1000000 ") if name == "net_arch" else int(fits)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 30 * 10**9)
    params: Any = resolve([Layer("", PPO_VALUES | {"n_steps": 16} | values | {name: size})], packaged=False).params
    refuse_too_large_network(spaces.Box(-10, 10, (4,)), params, CPU)
    refuse_too_large(spaces.Box(-10, 10, (4,)), spaces.Discrete(2), params, CPU)


def test_pictures_and_small_networks_are_left_to_what_running_out_of_memory_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10)
    params = resolve([Layer("", PPO_VALUES)], packaged=False).params
    refuse_too_large_network(spaces.Box(-1, 1, (4,)), params, CPU)
    space = spaces.Dict(eye=spaces.Box(0, 255, (84, 84, 3), "uint8"), at=spaces.Box(-1, 1, (3,)))
    assert memory._numbers(space, "auto") == 3
    assert memory._numbers(space, "none") == 84 * 84 * 3 + 3


def test_where_nobody_says_what_is_free_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    params = built(DQN_VALUES).config.params
    huge = params.model_copy(update={"replay": params.replay.model_copy(update={"buffer_size": 10**18})})
    refuse_too_large(spaces.Box(0, 1, (4,)), spaces.Discrete(2), huge, CPU)
    monkeypatch.undo()
    with pytest.raises(UserError, match="buffer_size 1000000000000000000: "):
        refuse_too_large(spaces.Box(0, 1, (4,)), spaces.Discrete(2), huge, CPU)


def test_what_linux_says_is_free(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    assert memory._free_on_linux(file) is None
    file.write_text("MemTotal:       24 kB\nMemFree:         5 kB\nMemAvailable:   19 kB\n")
    assert memory._free_on_linux(file) == 19 * 1024
    file.write_text("MemTotal:       24 kB\n")
    assert memory._free_on_linux(file) is None


def test_a_container_may_take_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory._free_in_cgroup(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    assert memory._free_in_cgroup(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._free_in_cgroup(tmp_path) == 900
    (tmp_path / "memory.current").write_text("1001\n")
    assert memory._free_in_cgroup(tmp_path) == 0
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(memory, "_free_on_linux", lambda: 800)
    monkeypatch.setattr(memory, "_free_in_cgroup", lambda: 900)
    assert free_bytes(CPU) == 800


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="there is no sysconf")
def test_this_machine_has_no_more_than_all_of_its_memory() -> None:
    free = free_bytes(CPU)
    assert free is not None
    assert 0 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


ERRORS = {
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "28224 bytes. Error code 12": " (tried to allocate 28224 bytes)",
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has": " (tried to allocate 2.50 gib)",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.": " (tried to allocate 9 bytes)",
}


@pytest.mark.parametrize("error", [MemoryError(), *map(RuntimeError, ERRORS)])
def test_memory_that_runs_out_all_the_same_is_told_in_one_sentence(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(argv: list[str]) -> int:
        raise error

    assert run_command(command, []) == 2
    assert capsys.readouterr().err == (
        f"error: memory ran out{ERRORS.get(str(error), '')}; "
        "lower n_envs, n_steps, batch_size, buffer_size or net_arch\n"
    )


def test_other_errors_stay_what_they_are() -> None:
    def command(argv: list[str]) -> int:
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        run_command(command, [])


def test_an_allocation_that_pytorch_refuses_is_one_of_them() -> None:
    def command(argv: list[str]) -> int:
        torch.empty(2**60, dtype=torch.uint8)
        return 0

    assert run_command(command, []) == 2
