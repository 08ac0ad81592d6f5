"""Functions in C++: made once for each text, and what is said where they cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from agents.core import cpp_source
from agents.core.cpp_source import CppFunction
from envs.errors import UserError
from tests.core.kernels import needs_cpp

TEXT = """#include <cstdint>
extern "C" void kernel(int64_t ticks, int64_t n, void** given) {
    float* x = (float*)given[0];
    double* y = (double*)given[1];
    for (int64_t i = 0; i < n; ++i) y[i] = ticks * x[i] + 1;
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cpp_source, "compiled_folder", lambda: tmp_path / "compiled")
    return tmp_path / "compiled"


def called(text: str) -> list[float]:
    x, y = torch.tensor([1.0, -2.0, 0.5]), torch.zeros(3, dtype=torch.float64)
    CppFunction(text)(3, 2, [x, y])
    return y.tolist()


@needs_cpp
def test_a_text_is_compiled_once_and_another_is_another_function(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert called(TEXT) == [4.0, -5.0, 0.0]
    assert called(TEXT.replace("+ 1", "+ 2")) == [5.0, -4.0, 0.0]
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr(cpp_source.subprocess, "run", pytest.fail)
    assert called(TEXT) == [4.0, -5.0, 0.0]


@needs_cpp
@pytest.mark.parametrize("left", [b"", b"\x7fELF", None])
def test_a_torn_library_is_made_anew(folder: Path, left: bytes | None) -> None:
    assert called(TEXT) == [4.0, -5.0, 0.0]
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.unlink()  # not written over: it is in use
    file.write_bytes(whole[:6000] if left is None else left)
    assert called(TEXT) == [4.0, -5.0, 0.0]
    assert [each.read_bytes() for each in folder.iterdir()] == [whole]


@needs_cpp
@pytest.mark.skipif(os.name == "nt", reason="there are no such permissions")
def test_what_others_may_have_put_there_is_not_run(folder: Path) -> None:
    assert called(TEXT) == [4.0, -5.0, 0.0]
    folder.chmod(0o777)
    before = sorted(folder.iterdir())
    other = TEXT.replace("+ 1", "+ 3")
    assert called(other) == [6.0, -3.0, 0.0]
    assert sorted(folder.iterdir()) == before


@needs_cpp
def test_where_no_folder_can_be_made_a_library_goes_with_its_process(folder: Path) -> None:
    folder.write_text("a file is in the way")
    assert called(TEXT.replace("+ 1", "+ 4")) == [7.0, -2.0, 0.0]
    assert folder.read_text() == "a file is in the way"


@needs_cpp
def test_a_text_that_is_no_cpp_is_refused_with_what_the_compiler_says(folder: Path) -> None:
    with pytest.raises(UserError, match=r"the C\+\+ compiler, says: .*error"):
        CppFunction(TEXT.replace("double", "dubble"))
    assert list(folder.iterdir()) == []


def test_without_a_compiler_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"there is no C\+\+ compiler \(c\+\+, g\+\+ or clang\+\+"):
        CppFunction(TEXT)
    monkeypatch.setenv("CXX", "/not/there/c++ -O3")
    with pytest.raises(UserError, match=r"/not/there/c\+\+, the C\+\+ compiler, does not run"):
        CppFunction(TEXT)
