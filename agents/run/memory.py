"""How much memory a training's transitions take, and whether there is as much."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
from gymnasium import Space

from agents.core.config import AlgoConfig, OffPolicyConfig, RolloutConfig
from agents.networks.encoders import zeros
from envs.errors import UserError

FLAGS = 6  # bytes of a transition's reward, float32, and of its two flags


def transition_bytes(observation_space: Space, action_space: Space, successors: bool) -> int:
    """Return the bytes that one transition takes in a buffer.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        successors: whether the next observation is stored too.
    """
    return (1 + successors) * _bytes(zeros(observation_space, 1)) + _bytes(zeros(action_space, 1)) + FLAGS


def _bytes(tree: Any) -> int:
    return sum(map(_bytes, tree.values())) if isinstance(tree, dict) else tree.nbytes


def refuse_too_large(observation_space: Space, action_space: Space, params: AlgoConfig, device: torch.device) -> None:
    """Refuse a replay buffer, or rollouts, larger than the memory that is free.

    Raises:
        UserError: the message says how many transitions fit.
    """
    if isinstance(params, OffPolicyConfig):
        name, count, parts = "buffer_size", params.replay.buffer_size, 1
    elif isinstance(params, RolloutConfig):
        name, count, parts = "n_steps", params.n_steps * params.n_envs, params.n_envs
    else:
        return
    free = free_bytes(device)
    each = transition_bytes(observation_space, action_space, isinstance(params, OffPolicyConfig))
    if free is None or count * each <= free:
        return
    fits = _rounded_down(int(0.9 * free) // (each * parts))  # the rest is for the networks
    advice = f"{name} {fits} would fit" if fits else "not even one for each environment would fit"
    shared = f" x n_envs {parts}" if parts > 1 else ""
    raise UserError(
        f"{name} {count // parts}{shared}: so many transitions of {each:,} bytes take {count * each / 1e9:,.1f} GB, "
        f"and {free / 1e9:,.1f} GB of memory are free: {advice}"
    )


def _rounded_down(number: int) -> int:
    """Return a number with all but its first two digits 0."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return number // unit * unit


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that can still be had where `device` stores tensors, or None where that is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if sys.platform == "win32":
        return _free_on_windows()
    found = [number for number in (_free_on_linux(), _free_in_cgroup()) if number is not None]
    if found:
        return min(found)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # all there is: what is free nobody says
    except (AttributeError, OSError, ValueError):
        return None


def _free_on_linux(file: Path = Path("/proc/meminfo")) -> int | None:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", file.read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return int(found[1]) * 1024 if found else None


def _free_in_cgroup(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what a container of Linux may still take (cgroup version 2, or else 1); None where nothing limits it."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return max(int((folder / limit).read_text()) - int((folder / used).read_text()), 0)
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return None


def _free_on_windows() -> int | None:
    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "available", "a", "b", "c", "d", "e")),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined]
    return int(status.available) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None
