"""Prints what the kernel of gradients takes on a GPU by shape: registers of a thread, and bytes that it spills."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from agents.learning.kernels.in_triton import gradient_kernel
from agents.learning.kernels.surrogate import WARPS
from tests.core.kernels import compiled, cost

POINTERS = (
    *("vector", "obs", "log_prob", "value", "advantage", "returns", "normal", "low", "high", "mean", "var", "partial"),
    "log_ratio",
)
COUNTS, NUMBERS = ("which", "begin", "count", "tiles", "size"), ("clip_range_vf", "vf_coef", "ent_coef", "clip_obs")
USUAL: dict[str, Any] = {
    "INPUTS": 4, "WIDTH": 16, "FIRST": 64, "SECOND": 64, "OUTPUTS": 16, "DEEP": True, "RELU": False, "GAUSSIAN": False,
    "NORM_OBS": False, "NORM_ADVANTAGE": True, "CLIP_VF": False, "TILE": 32, "PRECISION": "tf32",
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "64-64 tanh": {},
    "64-64 relu, normalised": {"RELU": True, "NORM_OBS": True},
    "64-64 Gaussian, 17 inputs": {"GAUSSIAN": True, "INPUTS": 17, "WIDTH": 32},
    "64-64, 60 inputs": {"INPUTS": 60, "WIDTH": 64},
    "64, values clipped": {"DEEP": False, "CLIP_VF": True},
}


def main(only: str = "") -> None:
    for name, changes in SHAPES.items():
        if only not in name:
            continue
        constants = {**USUAL, **changes}
        types = dict.fromkeys(POINTERS, "*fp32") | dict.fromkeys(COUNTS, "i32") | dict.fromkeys(NUMBERS, "fp32")
        types |= {"layout": "*i32", "order": "*i64", "action": "*fp32" if constants["GAUSSIAN"] else "*i64"}
        with tempfile.TemporaryDirectory() as folder:
            found = cost(compiled(gradient_kernel, types, constants, WARPS), Path(folder))
        print(name, *found, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
