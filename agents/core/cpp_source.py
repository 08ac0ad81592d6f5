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
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from envs.errors import UserError

FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
# a product and a sum are rounded one after the other, and numbers of one type lie where those of another lay
EXACT = ("-ffp-contract=off", "-fno-strict-aliasing")
MOST_SECONDS = 120  # for the compiler
# of numbers, by the names that NumPy and PyTorch have for them
TYPES = {
    "float64": "double",
    "float32": "float",
    "int64": "int64_t",
    "int32": "int32_t",
    "uint8": "uint8_t",
    "bool": "bool",
}
# Functions of numbers under Triton's names. `exp` of floats is written out, as compilers can then reckon several at
# once (the polynomial is that of Cephes, expf); a comparison with NaN is false, so that NaN stays.
MATHS = """#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FUSED(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FUSED(a, b, c) ((a) * (b) + (c))
#endif
#if defined(__clang__)
#define APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define APART _Pragma("GCC ivdep")
#endif

static const struct {
    template <class T> T load(const T* p) const { return *p; }
    template <class C, class A, class B> std::common_type_t<A, B> where(C c, A a, B b) const { return c ? a : b; }
    template <class A, class B> std::common_type_t<A, B> maximum(A a, B b) const { return a < b || b != b ? b : a; }
    template <class A, class B> std::common_type_t<A, B> minimum(A a, B b) const { return b < a || b != b ? b : a; }
    template <class T> T abs(T a) const {
        if constexpr (std::is_floating_point_v<T>) return std::fabs(a);
        else return a < 0 ? -a : a;
    }
    template <class T> T sin(T a) const { return std::sin(a); }
    template <class T> T cos(T a) const { return std::cos(a); }
    template <class T> T log(T a) const { return std::log(a); }
    template <class T> T sqrt(T a) const { return std::sqrt(a); }
    template <class T> T floor(T a) const {
        if constexpr (std::is_floating_point_v<T>) return std::floor(a);
        else return a;
    }
    template <class T> T ceil(T a) const {
        if constexpr (std::is_floating_point_v<T>) return std::ceil(a);
        else return a;
    }
    template <class T> T erf(T a) const { return std::erf(a); }
    double exp(double a) const { return std::exp(a); }
    float exp(float a) const {
        const float x = a < -87.0f ? -87.0f : a > 88.7228f ? 88.7228f : a;
        const float n = FUSED(x, 1.44269504f, 12582912.0f) - 12582912.0f;
        const float r = FUSED(n, 2.12194440e-4f, FUSED(-n, 0.693359375f, x));
        float p = 1.9875691500e-4f;
        p = FUSED(p, r, 1.3981999507e-3f);
        p = FUSED(p, r, 8.3334519073e-3f);
        p = FUSED(p, r, 4.1665795894e-2f);
        p = FUSED(p, r, 1.6666665459e-1f);
        p = FUSED(p, r, 5.0000001201e-1f);
        p = FUSED(p * r, r, r) + 1.0f;
        const int32_t bits = ((int32_t)n + 126) << 23;  // 2^(n - 1), as 2^n may be no float
        float power;
        std::memcpy(&power, &bits, 4);
        return a > 88.7228f ? INFINITY : a < -87.0f ? 0.0f : (p + p) * power;
    }
    double tanh(double a) const { return std::tanh(a); }
    float tanh(float a) const {  // near 0 a series, as the other way loses all digits there
        const float s = a * a, near = a * FUSED(s, FUSED(s, FUSED(s, -0.05396825f, 0.13333333f), -0.33333333f), 1.0f);
        return a > -0.25f && a < 0.25f ? near : 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
    }
    float sigmoid(float a) const { return 1.0f / (1.0f + exp(-a)); }
    template <class A, class B> std::common_type_t<A, B> remainder(A a, B b) const {
        using T = std::common_type_t<A, B>;
        T r;
        if constexpr (std::is_floating_point_v<T>) r = std::fmod((T)a, (T)b);
        else r = (T)a % (T)b;
        return r != 0 && (r < 0) != (b < 0) ? r + (T)b : r;
    }
} tl;

// One step of an LSTM. `gates` [4 size] are what each adds up to, and become what its sigmoid or tanh makes of that.
static inline void lstm_step(float* out, float* after, float* squashed, float* gates, const float* cell, int64_t size) {
    APART
    for (int64_t j = 0; j < size; ++j) {
        const float i = tl.sigmoid(gates[j]), f = tl.sigmoid(gates[size + j]), g = tl.tanh(gates[2 * size + j]),
                    o = tl.sigmoid(gates[3 * size + j]), made = f * cell[j] + i * g, s = tl.tanh(made);
        gates[j] = i, gates[size + j] = f, gates[2 * size + j] = g, gates[3 * size + j] = o;
        after[j] = made, squashed[j] = s, out[j] = o * s;
    }
}

// One step of a GRU. `gates` [3 size] are the inputs' share of each, and become as above; `given` [3 size] are the
// hidden state's.
static inline void gru_step(float* out, float* gates, const float* given, const float* hidden, int64_t size) {
    APART
    for (int64_t j = 0; j < size; ++j) {
        const float r = tl.sigmoid(gates[j] + given[j]), z = tl.sigmoid(gates[size + j] + given[size + j]),
                    made = tl.tanh(gates[2 * size + j] + r * given[2 * size + j]);
        gates[j] = r, gates[size + j] = z, gates[2 * size + j] = made;
        out[j] = made + z * (hidden[j] - made);
    }
}

"""


def compiled_folder() -> Path:
    """Return the folder of the user's in which compiled code is kept from one run to the next."""
    chosen = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return (Path(chosen) if chosen else Path.home() / ".cache") / "deep-rl-suite" / "compiled"


class CppFunction:
    """The function `extern "C" void kernel(int64_t ticks, int64_t n, void** given)` of a source text.

    Args:
        source: the text.
        flags: for the compiler, beside `FLAGS`.

    Raises:
        UserError: there is no compiler, or it refuses the text.
    """

    def __init__(self, source: str, flags: Sequence[str] = ()) -> None:
        try:
            self._kernel: Any = ctypes.CDLL(str(_library(source, flags))).kernel
        except (OSError, AttributeError) as error:
            raise UserError(f"what the C++ compiler made is not loaded: {error}") from error
        self._kernel.restype = None

    def __call__(self, ticks: int, envs: int, tensors: Sequence[Tensor]) -> None:
        """Run it on tensors of the CPU, each of which fills its memory without gaps."""
        given = (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])
        self._kernel(ctypes.c_int64(ticks), ctypes.c_int64(envs), given)

    def bound(self, which: int, addresses: Sequence[int], count: int = 0) -> Callable[[], None]:
        """Return a call with `ticks` and `n` on what lies at these addresses, which must be kept alive."""
        given = (ctypes.c_void_p * len(addresses))(*addresses)
        return partial(self._kernel, ctypes.c_int64(which), ctypes.c_int64(count), given)


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


def _library(source: str, flags: Sequence[str]) -> Path:
    """Return the compiled file of a source text, for this machine's processor.

    Files are called by what they are made of and by what is in them, so that a torn one is made anew.
    """
    native = "-march=native" if platform.machine().lower() in ("x86_64", "amd64") else "-mcpu=native"
    command = [*compiler(), *FLAGS, *flags, native]
    key = _digest("\0".join([source, *command, platform.node(), platform.machine(), _processor()]).encode())
    folder = compiled_folder()
    if safe := _is_own(folder):
        for file in folder.glob(f"{key}.*.so"):
            with suppress(OSError):
                if file.name == f"{key}.{_digest(file.read_bytes())}.so":
                    return file
                file.unlink()
    with tempfile.TemporaryDirectory() as work:
        text, made = Path(work) / "kernel.cpp", Path(work) / "kernel.so"
        try:
            text.write_text(source, encoding="utf-8")
            done = subprocess.run(
                [*command, str(text), "-o", str(made)], capture_output=True, text=True, timeout=MOST_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{command[0]}, the C++ compiler, does not run: {error}") from error
        if done.returncode != 0:
            first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
            raise UserError(f"{command[0]}, the C++ compiler, says: {first}")
        content = made.read_bytes()
    for place in [folder, Path(_of_this_process().name)] if safe else [Path(_of_this_process().name)]:
        file = place / f"{key}.{_digest(content)}.so"
        with suppress(OSError):
            descriptor, beside = tempfile.mkstemp(dir=place)
            with open(descriptor, "wb") as stream:
                stream.write(content)
            os.replace(beside, file)
            return file
    raise UserError(f"nothing can be written to {folder}, nor to the folder of temporary files")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _is_own(folder: Path) -> bool:
    """Make a folder, and return whether what lies in it may be run: nobody else can have put it there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    return os.name == "nt" or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


@cache
def _of_this_process() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that goes with this process, where there is none of the user's."""
    return tempfile.TemporaryDirectory(prefix="deep-rl-suite-", ignore_cleanup_errors=True)


@cache
def _processor() -> str:
    """Return what the processor can do, as far as the system says: what is compiled for one may not run on another."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return platform.processor()
