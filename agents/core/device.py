"""Where tensors live and how many threads work on them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from agents.core.tracing import noting
from envs.errors import UserError

# Multiply-adds for one observation, forward: between a small CNN on 10 x 10 pixels and a nature CNN on 36 x 36.
HEAVY = 450_000
SHARE = 8 * 1024 * 1024  # multiply-adds of a minibatch, forward, that keep one thread busy
LARGE_BATCH = 8192
# kinds of devices on which a value is known at once, and a loop over time is the faster way: on others that takes
# waiting, and each step is a kernel or more
LOOKED_AT = ("cpu",)
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # options of mallopt(3)


def looked_at(tensor: Tensor) -> bool:
    """Whether to look at a tensor's values on the way, and to go through time step by step.

    Not while operations are noted: each step would be one of many, and what a value was is no longer seen.
    """
    return tensor.device.type in LOOKED_AT and not noting()


def choose_device(requested: str, *, env_on_gpu: bool, flops: int, batch_size: int) -> tuple[torch.device, str]:
    """Resolve `auto|cpu|cuda|mps` to a device and one sentence that says why.

    Args:
        requested: what the user asked for.
        env_on_gpu: whether the environment would live on a GPU.
        flops: the network's multiply-adds for one observation.
        batch_size: observations in a minibatch.

    Raises:
        UserError: the device asked for is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if requested == "cuda" and not cuda:
        built = "this PyTorch was built without CUDA" if torch.version.cuda is None else "no CUDA GPU was found"
        raise UserError(f"--device cuda: {built}. Use --device cpu, or auto to take what there is.")
    if requested == "mps" and not mps:
        raise UserError("--device mps: no Apple GPU was found. Use --device cpu, or auto to take what there is.")
    if requested != "auto":
        return torch.device(requested), "as set"
    if not (cuda or mps):
        return torch.device("cpu"), "no GPU was found"
    if env_on_gpu or flops >= HEAVY or batch_size >= LARGE_BATCH:
        large = f"a network of {flops / 1e6:.1f}M multiply-adds per observation"
        why = "the environment runs on it" if env_on_gpu else large if flops >= HEAVY else "large batches"
        return torch.device("cuda" if cuda else "mps"), f"a GPU pays for {why}"
    return torch.device("cpu"), "a small network on CPU environments is faster without the trips to a GPU"


def use_threads(device: torch.device, *, flops: int, batch_size: int) -> int:
    """Set and return PyTorch's thread count: no more than there is work for. NumPy's matrix products take one.

    Numbers too small for float32's normal range become 0 from then on: an optimiser's fading moments pass through
    that range, where processors compute a hundred times slower.

    Args:
        device: where the network computes.
        flops: the multiply-adds of all that is trained, for one observation.
        batch_size: observations in a minibatch.
    """
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # before 2.4, NumPy finds these out when first asked, and would warn after the next line
    torch.set_flush_denormal(True)
    if device.type == "cpu" and flops < HEAVY and batch_size < LARGE_BATCH:
        torch.set_num_threads(min(max(flops * batch_size // SHARE, 1), torch.get_num_threads()))
    threadpool_limits(1, user_api="blas")
    return torch.get_num_threads()


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread: how many there are changes the last bits of what several compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Laps:
    """The seconds of phases that follow one another.

    On CUDA they are those that the device was at work, where the host's clock would tell how long it took to give it
    that work: what waits in the end would seem to have done all.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._marks = [self._mark()]

    def _mark(self) -> Any:
        if not self._on_cuda:
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def end(self) -> None:
        """Note that a phase ends, and the next begins."""
        self._marks.append(self._mark())

    def seconds(self) -> list[float]:
        """Return those of each phase, once the device is done with the last."""
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        if not self._on_cuda:
            return [end - start for start, end in pairs]
        self._marks[-1].synchronize()
        return [start.elapsed_time(end) / 1_000 for start, end in pairs]


def keep_freed_memory() -> None:
    """Let this process keep the memory of tensors that are freed, for those that are made next.

    glibc gives blocks of more than 128 KiB back to the system, whose pages are then cleared at each allocation: an
    eighth of the time of an update of networks 256 wide. What does not use glibc stays as it is.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, size in (TRIM_THRESHOLD, 128 * 2**20), (MMAP_THRESHOLD, 32 * 2**20):  # no more can be set
            mallopt(option, size)
