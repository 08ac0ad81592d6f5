"""The numbers that networks compute with: float32, TF32 in matrix products, or bfloat16.

Parameters, memories, the last layers (of critics and of each of a head's streams too) and all that follows networks
(distributions, log-probabilities, losses) are float32 in any case.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from agents.core.settings import Precision
from agents.core.tree import tree_map
from envs.errors import UserError


class Mixed(nn.Module):
    """A module whose methods that are `mixed` compute in bfloat16 where `bf16` is set; see `set_precision`."""

    bf16: bool = False


def mixed(method: Callable[..., Any]) -> Any:
    """Let a method of a `Mixed` module compute in bfloat16 where that is set. It returns float32 all the same."""

    @functools.wraps(method)
    def run(self: Mixed, *args: Any, **named: Any) -> Any:
        weight = next(self.parameters(), None) if self.bf16 else None
        if weight is None:
            return method(self, *args, **named)
        with torch.autocast(weight.device.type, torch.bfloat16):
            found = method(self, *args, **named)
        return tree_map(torch.Tensor.float, found)

    return run


def resolved_precision(precision: Precision, device: torch.device) -> Precision:
    """Return what a precision comes to on a device: "auto" takes TF32 on CUDA, and float32 elsewhere.

    Raises:
        UserError: the device has no such numbers.
    """
    if precision == "auto":
        return "tf32" if device.type == "cuda" else "float32"
    if precision == "tf32" and device.type != "cuda":
        raise UserError(f"--precision tf32 is of CUDA GPUs, and the networks are on {device.type}: take float32.")
    if precision == "bf16" and not has_bf16(device):
        raise UserError(
            f"--precision bf16: this {device.type} does not compute in bfloat16 (CUDA GPUs do from Ampere on, "
            "processors with AVX512_BF16 or AMX): take float32."
        )
    return precision


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself, rather than imitating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = (getattr(torch.cpu, f"_is_{name}_supported", bool) for name in ("avx512_bf16", "amx_tile"))
    return device.type == "cpu" and any(check() for check in checks)


def set_precision(module: nn.Module, precision: Precision) -> None:
    """Let all parts of a module compute in bfloat16, or not."""
    for part in module.modules():
        if isinstance(part, Mixed) and part.bf16 != (precision == "bf16"):
            part.bf16 = precision == "bf16"


def use_products(precision: Precision) -> None:
    """Let this process multiply float32 matrices on CUDA in TF32, or exactly.

    Of PyTorch's two pairs of switches this is the one that leaves both readable, as its compiler reads both.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions say that the other pair is the newer one
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
