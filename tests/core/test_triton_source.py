"""Kernels from source text: what runs, and what is said where none can."""

from __future__ import annotations

import sys

import pytest
import torch

from agents.core.triton_source import HEAD, interpreted, kernel_of, product_precision, refuse_no_triton
from envs.errors import UserError
from tests.core.kernels import DEVICE, needs_triton

DOUBLE = (
    HEAD
    + """@triton.jit
def kernel(x, y, n, FACTOR: tl.constexpr):
    i = tl.arange(0, 16)
    tl.store(y + i, tl.load(x + i, mask=i < n, other=0.0) * FACTOR, mask=i < n)
"""
)


@needs_triton
def test_a_kernel_is_made_from_its_text():
    refuse_no_triton(DEVICE)
    x, found = torch.rand(10, dtype=torch.float64, device=DEVICE), []
    for text in (DOUBLE, DOUBLE, DOUBLE.replace("* FACTOR", "+ FACTOR")):
        y = torch.full((12,), -1.0, dtype=torch.float64, device=DEVICE)
        kernel_of(text)[(1,)](x, y, 10, 2)
        found.append(y)
    assert found[0].equal(torch.cat([x * 2, -x.new_ones(2)]))
    assert found[1].equal(found[0])
    assert found[2].equal(torch.cat([x + 2, -x.new_ones(2)]))


@needs_triton
def test_where_no_kernel_runs_the_reason_is_said(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not interpreted()
    with pytest.raises(UserError, match="kernels in Triton run on CUDA, not on cpu"):
        refuse_no_triton(torch.device("cpu"))


def test_without_triton_the_reason_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(UserError, match="Triton, which PyTorch for CUDA brings, is not installed: pip install triton"):
        refuse_no_triton(torch.device("cuda"))


def test_products_are_as_exact_as_those_of_torch():
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        for allowed, wanted in ((True, "tf32"), (False, "ieee")):
            torch.backends.cuda.matmul.allow_tf32 = allowed
            assert product_precision() == wanted
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
