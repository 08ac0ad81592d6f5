"""Kernels where there is no GPU: Triton's interpreter runs them, and its compiler makes them for one all the same."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

FOR = 90  # the compute capability compiled for

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
needs_cpp = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Cost(NamedTuple):
    """Registers of a thread, and the bytes it keeps elsewhere as there are no more."""

    registers: int
    spilled: int


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, Any], warps: int = 4) -> Any:
    """Compile a kernel for a GPU; Triton must not be interpreting, so in a process of its own: `not_interpreting`.

    Args:
        kernel: as `kernel_of` makes it.
        types: of its arguments that are no constants, in Triton's names, such as "*fp32", "i32".
        constants: its `tl.constexpr` arguments.
        warps: of a program.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", FOR, 32), options=options)


def cost(program: Any, folder: Path) -> Cost:
    """Return what NVIDIA's assembler says of what `compiled` returned."""
    from triton.backends.nvidia.compiler import get_ptxas

    (folder / "kernel.ptx").write_text(program.asm["ptx"])
    command = [get_ptxas(FOR).path, "-v", "--gpu-name=sm_90a", "kernel.ptx", "-o", "kernel.cubin"]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stderr
    registers, spilled = (
        max(map(int, re.findall(pattern, said))) for pattern in (r"Used (\d+) registers", r"(\d+) bytes spill")
    )
    return Cost(registers, spilled)


def not_interpreting(module: str, *words: str) -> str:
    """Run a module of the tests in a process in which Triton compiles; return what it printed."""
    own = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-m", module, *words], env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
