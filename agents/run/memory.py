"""How much memory a training's transitions and networks take, and whether there is as much."""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor
from torch.overrides import TorchFunctionMode

from agents.core.config import AlgoConfig, OffPolicyConfig, RolloutConfig
from agents.core.settings import Torsos
from agents.data.frames import SPARE
from agents.data.storage import on_disk
from agents.networks.encoders import zeros
from agents.networks.pictures import layout_by
from agents.run.storage import disk
from envs.errors import UserError
from envs.spaces import leaf_spaces

FLAGS = 6  # bytes of a transition's reward, float32, and of its two flags
SHUFFLED = 12  # bytes that an epoch keeps of a transition: its place in the order, int64, and its log-ratio
LARGE = 4_096  # bytes of an observation from which on a replay buffer stores each of its frames once
COPIES = {"sgd": 2, "rmsprop": 3}  # of each weight, its gradient and the optimiser's moments included; others keep 4


def transition_bytes(
    observation_space: Space, action_space: Space, successors: bool, picture_axes: str = "auto"
) -> int:
    """Return the bytes that one transition takes in a buffer.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        successors: whether the next observation is stored too, as it is in a replay buffer.
        picture_axes: as `frame_axes` takes it.
    """
    taken = (1 + successors) * _bytes(zeros(observation_space, 1)) + _bytes(zeros(action_space, 1)) + FLAGS
    for name, axis in frame_axes(observation_space, picture_axes).items() if successors else ():
        leaf = zeros(leaf_spaces(observation_space)[name], 1)
        colours = leaf.dim() == 4 and axis is not None and leaf.shape[axis + 1] == 3
        stack = 1 if axis is None or colours else leaf.shape[axis + 1]
        frame = leaf.nbytes // stack
        taken += frame + frame // SPARE + 2 * 4 * stack + 8 - 2 * leaf.nbytes
    return taken


def frame_axes(observation_space: Space, picture_axes: str = "auto") -> dict[str, int | None]:
    """Return those observations whose frames a replay buffer stores once each, and the axis that may stack them.

    They are those that are large, by the name of the leaf, "" where there is one alone. Whether frames are stacked
    along that axis the buffer finds out; None where there is none.

    Args:
        observation_space: canonical (envs.spaces).
        picture_axes: as `layout_by` takes it.
    """
    found: dict[str, int | None] = {}
    for name, leaf in leaf_spaces(observation_space).items():
        if isinstance(leaf, spaces.Box) and zeros(leaf, 1).nbytes >= LARGE:
            layout = layout_by(leaf, picture_axes)
            stacked = layout is not None and layout.channels > 1
            found[name] = None if layout is None or not stacked else 0 if layout.side else len(leaf.shape) - 1
    return found


def replay_bytes(observation_space: Space, action_space: Space, params: AlgoConfig, carry: Any = ()) -> int:
    """Return the bytes that one transition takes in a replay buffer.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        params: what says how pictures are read.
        carry: what a memory holds in one environment, which is kept with each transition.
    """
    each = transition_bytes(observation_space, action_space, True, params.network.picture_axes)
    return each + (0 if carry == () else carry.nbytes)


def _bytes(tree: Any) -> int:
    return sum(map(_bytes, tree.values())) if isinstance(tree, dict) else tree.nbytes


def network_bytes(inputs: int, widths: Sequence[int], memory_size: int, rows: int, copies: int) -> int:
    """Return the bytes that a network takes at least, and what it computes.

    Args:
        inputs: numbers of an observation.
        widths: of the hidden layers.
        memory_size: numbers of a memory between observation and layers; 0 for none.
        rows: observations that are looked at together.
        copies: of each weight.
    """
    layers = [inputs, *([memory_size] if memory_size else []), *widths]
    weights = sum(a * b for a, b in pairwise(layers)) + memory_size * (2 * inputs + 3 * memory_size)  # a GRU's 3 gates
    return 4 * (weights * copies + rows * max(layers))


def _numbers(space: Space, axes: str) -> int:
    """Return how many numbers of a canonical observation a network reads as they are, pictures (see `axes`) aside."""
    boxes = (leaf for leaf in leaf_spaces(space).values() if isinstance(leaf, spaces.Box))
    return sum(int(leaf.low.size) for leaf in boxes if layout_by(leaf, axes) is None)


def refuse_too_large_network(observation_space: Space, params: AlgoConfig, device: torch.device) -> None:
    """Refuse networks larger than the memory that is free, before they are built.

    Raises:
        UserError: the message says which widths fit.
    """
    network, free = params.network, free_bytes(device)
    torsos = [network.net_arch.pi, network.net_arch.vf] if isinstance(network.net_arch, Torsos) else [network.net_arch]
    rows = params.n_steps * params.n_envs if isinstance(params, RolloutConfig) else getattr(params, "batch_size", 1)
    inputs = _numbers(observation_space, network.picture_axes)
    copies, recurrence = COPIES.get(params.optimizer, 4), network.recurrence
    memory_size = recurrence.memory_size if recurrence.memory else 0

    def needed(memory_size: int, torsos: Sequence[Sequence[int]]) -> int:
        return max(network_bytes(inputs, widths, memory_size, rows, copies) for widths in torsos)

    widest = max((max(widths, default=0) for widths in torsos), default=0)
    if free is None or needed(memory_size, torsos) <= free or max(widest, memory_size) <= 64:
        return  # what is left to say of small networks, running out of memory says
    if memory_size >= widest:
        name, given = "memory_size", str(memory_size)
        fits = _largest(lambda size: needed(size, torsos) <= 0.9 * free)
    else:
        name, given = "net_arch", "; ".join(" ".join(map(str, widths)) for widths in torsos)
        fits = _largest(lambda size: needed(memory_size, [[size] * len(widths) for widths in torsos]) <= 0.9 * free)
    raise UserError(
        f"{name} {given}: the network and what it computes would take {needed(memory_size, torsos) / 1e9:,.1f} GB, and "
        f"{free / 1e9:,.1f} GB of memory are free: "
        + (
            f"{'widths of' if name == 'net_arch' else name} {_rounded_down(fits)} would fit"
            if fits
            else "lower n_envs, n_steps or batch_size too"
        )
    )


def _largest(fits: Callable[[int], bool]) -> int:
    """Return the largest number that fits, where all below it do; 0 where none does."""
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


FACTORIES = torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye, torch.linspace


def _shape(factory: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[Any]:
    """Return the shape of the tensor that one of `FACTORIES` would make; none where it is not plain."""
    if factory is torch.linspace:
        return [kwargs.get("steps", args[2] if len(args) > 2 else None)]
    if factory is torch.eye:
        return args if len(args) > 1 else [*args, *args]
    shape = kwargs.get("size", args)
    return shape[0] if shape and isinstance(shape[0], tuple | list) else shape


class ParameterLimit(TorchFunctionMode):
    """Lets no more parameters be made than `most` bytes take; their sizes are known before they are filled."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.made = most, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FACTORIES:
            shape = _shape(func, args, kwargs or {})
            if all(type(side) is int for side in shape):
                self.made += 4 * math.prod(shape)
            if self.made > self.most:
                raise UserError(
                    f"the networks would take more than {self.made / 1e9:,.1f} GB of parameters (one of them is "
                    f"{' x '.join(map(str, shape))}), and there is room for {self.most / 1e9:,.1f} GB: net_arch "
                    "and the like, n_envs, or the spaces, are too large"
                )
        return func(*args, **(kwargs or {}))


def refuse_too_large(
    observation_space: Space,
    action_space: Space,
    params: AlgoConfig,
    device: torch.device,
    carry: Any = (),
    successors: bool = False,
) -> None:
    """Refuse a replay buffer, or rollouts, larger than the memory that is free.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        params: what says how many transitions there are.
        device: where they lie.
        carry: what a memory holds in one environment; a replay buffer keeps it with each transition.
        successors: whether rollouts keep every successor; a replay buffer does.

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
    if isinstance(params, OffPolicyConfig):
        each = replay_bytes(observation_space, action_space, params, carry)
    else:
        each = transition_bytes(observation_space, action_space, successors)
    epochs = getattr(params, "n_epochs", 1)
    if free is not None and count * each <= free < count * SHUFFLED * epochs:
        taken, fits = count * SHUFFLED * epochs / 1e9, _rounded_down(free // (count * SHUFFLED))
        raise UserError(
            f"n_epochs {epochs}: so many passes over {count:,} transitions take {taken:,.1f} GB, "
            f"and {free / 1e9:,.1f} GB of memory are free: n_epochs {fits} would fit"
        )
    if free is None or count * each <= free:
        return
    fits = _rounded_down(int(0.9 * free) // (each * parts))  # the rest is for the networks
    advice = f"{name} {fits} would fit" if fits else "not even one for each environment would fit"
    if not fits and (envs := int(0.9 * free) // (each * count // parts)):
        advice = f"n_envs {_rounded_down(envs)} would fit"
    shared = f" x n_envs {parts}" if parts > 1 else ""
    raise UserError(
        f"{name} {count // parts}{shared}: so many transitions of {each:,} bytes take {count * each / 1e9:,.1f} GB, "
        f"and {free / 1e9:,.1f} GB of memory are free: {advice}"
    )


class Place:
    """Where a replay buffer's tensors are made, and whether there is room for them.

    Attributes:
        device: of the tensors.
        folder: where files lie that tensors are in.
    """

    def __init__(self, storage: str, device: torch.device) -> None:
        self.on_disk = storage == "disk"
        self.device = device if storage == "device" else torch.device("cpu")
        self.folder = Path(tempfile.gettempdir())

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Make a tensor.

        Raises:
            UserError: there is no room for it.
        """
        size, free = math.prod(shape) * dtype.itemsize, self.free()
        if free is not None and size > free:
            raise UserError(
                f"the replay buffer needs {size / 1e9:,.1f} GB {self.where}, and {free / 1e9:,.1f} GB are free: lower "
                "buffer_size"
            )
        if not self.on_disk:
            return torch.empty(shape, dtype=dtype, device=self.device)
        with disk("write", self.folder):
            return on_disk(self.folder, shape, dtype)

    @property
    def where(self) -> str:
        """In words."""
        return f"on the disk of {self.folder}" if self.on_disk else f"in memory ({self.device})"

    def free(self) -> int | None:
        """Return the bytes that can still be had."""
        return free_on_disk(self.folder) if self.on_disk else free_bytes(self.device)


def refuse_too_large_on_disk(each: int, params: OffPolicyConfig, folder: Path, *, resumed: bool) -> None:
    """Refuse a replay buffer in files for which, with its checkpoints, a disk has no room.

    Two checkpoints are kept while a third is written; they share what has not changed.

    Args:
        each: bytes of a transition.
        params: what says how many there are, and how often they are saved.
        folder: on the disk, or to be made there.
        resumed: whether a checkpoint lies there already.

    Raises:
        UserError: the message says how many transitions fit.
    """
    count, free = params.replay.buffer_size, free_on_disk(folder)

    def needed(count: int) -> int:
        return each * (count * (1 if resumed else 2) + 2 * min(params.save_freq, count))

    if free is not None and needed(count) > free:
        fits = _rounded_down(_largest(lambda count: needed(count) <= 0.9 * free))
        raise UserError(
            f"buffer_size {count}: so many transitions of {each:,} bytes and their checkpoints take "
            f"{needed(count) / 1e9:,.1f} GB on the disk of {folder}, and {free / 1e9:,.1f} GB are free: "
            f"buffer_size {fits} would fit"
        )


def free_on_disk(folder: Path) -> int | None:
    """Return the bytes that are free on the disk of a folder, or where it would be made; None where that is unknown."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


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
