"""Where tensors live and how many threads work on them."""

from __future__ import annotations

import numpy as np
import torch

from envs.errors import UserError

# Multiply-adds for one observation, forward: between a small CNN on 10 x 10 pixels and a nature CNN on 36 x 36.
HEAVY = 450_000
SHARED = 256 * 1024 * 1024  # multiply-adds of a minibatch, forward, above which a second thread helps
LARGE_BATCH = 8192


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
    """Set and return PyTorch's thread count: one where there is too little work to share.

    Numbers too small for float32's normal range become 0 from then on: an optimiser's fading moments pass through
    that range, where processors compute a hundred times slower.

    Args:
        device: where the network computes.
        flops: its multiply-adds for one observation.
        batch_size: observations in a minibatch.
    """
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # before 2.4, NumPy finds these out when first asked, and would warn after the next line
    torch.set_flush_denormal(True)
    small = flops < HEAVY and batch_size < LARGE_BATCH and flops * batch_size <= SHARED
    if device.type == "cpu" and small:
        torch.set_num_threads(1)
    return torch.get_num_threads()
