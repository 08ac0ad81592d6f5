"""Functions in C++, made from source text by the compiler of the system, and kept on the disk."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from agents.core.runtime import compiled_folder
from envs.errors import UserError

FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
MOST_SECONDS = 120  # for the compiler


class CppFunction:
    """The function `extern "C" void kernel(int64_t ticks, int64_t n, void** given)` of a source text.

    Raises:
        UserError: there is no compiler, or it refuses the text.
    """

    def __init__(self, source: str) -> None:
        self._kernel: Any = ctypes.CDLL(str(_library(source))).kernel
        self._kernel.restype = None

    def __call__(self, ticks: int, envs: int, tensors: Sequence[Tensor]) -> None:
        """Run it on tensors of the CPU, each of which fills its memory without gaps."""
        given = (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])
        self._kernel(ctypes.c_int64(ticks), ctypes.c_int64(envs), given)


def compiler() -> list[str]:
    """Return the command of the compiler: `CXX`, or the first of c++, g++ and clang++.

    Raises:
        UserError: there is none.
    """
    if named := shlex.split(os.environ.get("CXX", "")):
        return named
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise UserError("there is no C++ compiler (c++, g++ or clang++; CXX names another): install one")


def _library(source: str) -> Path:
    """Return the compiled file of a source text, for this machine's processor."""
    native = "-march=native" if platform.machine().lower() in ("x86_64", "amd64") else "-mcpu=native"
    command = [*compiler(), *FLAGS, native]
    key = "\0".join([source, *command, platform.node(), platform.machine()])
    folder = compiled_folder()
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
    if file.exists():
        return file
    with tempfile.TemporaryDirectory() as work:
        text, made = Path(work) / "kernel.cpp", Path(work) / "kernel.so"
        text.write_text(source, encoding="utf-8")
        try:
            done = subprocess.run(
                [*command, str(text), "-o", str(made)], capture_output=True, text=True, timeout=MOST_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{command[0]}, the C++ compiler, does not run: {error}") from error
        if done.returncode != 0:
            first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
            raise UserError(f"{command[0]}, the C++ compiler, says: {first}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = file.with_suffix(f".{os.getpid()}")
        shutil.copyfile(made, beside)
        os.replace(beside, file)
    return file
