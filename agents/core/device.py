"""Where tensors live and how many threads work on them."""

from __future__ import annotations

import torch

from envs.errors import UserError


def choose_device(requested: str, *, env_on_gpu: bool, pixels: bool, batch_size: int) -> tuple[torch.device, str]:
    """Resolve `auto|cpu|cuda|mps` to a device and one sentence that says why.

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
        return torch.device(requested), "as asked"
    if not (cuda or mps):
        return torch.device("cpu"), "no GPU was found"
    if env_on_gpu or pixels or batch_size >= 8192:
        why = "the environment runs on it" if env_on_gpu else "images" if pixels else "large batches"
        return torch.device("cuda" if cuda else "mps"), f"a GPU pays for {why}"
    return torch.device("cpu"), "a small network on CPU environments is faster without the trips to a GPU"


def use_threads(device: torch.device, *, pixels: bool, width: int, batch_size: int) -> int:
    """Set and return PyTorch's thread count: one where the matrices are too small to share.

    Numbers too small for float32's normal range become 0 from then on: an optimiser's fading moments pass through
    that range, where processors compute a hundred times slower.
    """
    torch.set_flush_denormal(True)
    small = device.type == "cpu" and not pixels and width * batch_size <= 256 * 1024
    if small:
        torch.set_num_threads(1)
    return torch.get_num_threads()
