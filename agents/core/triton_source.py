"""Kernels in Triton, made from source text. Triton comes with PyTorch for CUDA, and is imported as a kernel is made."""

from __future__ import annotations

import hashlib
import linecache
import os
from typing import Any, Literal

import torch

from envs.errors import UserError

HEAD = "import triton\nimport triton.language as tl\n\n\n"  # of every source text


def interpreted() -> bool:
    """Whether kernels are run by Triton's interpreter, on tensors of the CPU."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def refuse_no_triton(device: torch.device) -> None:
    """Raise unless kernels can be made that run on a device.

    Raises:
        UserError: there is no Triton, or it has nothing for this device.
    """
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise UserError("Triton, which PyTorch for CUDA brings, is not installed: pip install triton") from error
    if device.type != "cuda" and not interpreted():
        raise UserError(f"kernels in Triton run on CUDA, not on {device.type}")


def kernel_of(source: str) -> Any:
    """Return the function `kernel` of a source text, `@triton.jit` above it, that begins with `HEAD`.

    The same text is the same kernel to Triton, which keeps what it compiled on the disk by text and types.
    """
    file = f"<kernel {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file  # where Triton reads it from
    names: dict[str, Any] = {"__name__": "agents.kernels"}
    exec(compile(source, file, "exec"), names)
    return names["kernel"]


def product_precision() -> Literal["tf32", "ieee"]:
    """Return how kernels multiply matrices of float32: as PyTorch does on a GPU at this moment."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"
