"""Memories of one cell in C++: sequences and gradients are those of PyTorch, wherever episodes start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.core.by_numpy import cpp_cells
from agents.core.by_numpy.program import tensors_of
from agents.core.tracing import as_one, known_as
from agents.networks.cells import GRU, LSTM, Cell
from tests.core.kernels import needs_cpp
from tests.core.test_numpy_in_cpp import in_cpp

pytestmark = needs_cpp
CELLS = {"gru": GRU, "lstm": LSTM}
each_cell = pytest.mark.parametrize("name", CELLS)
# inputs, hidden size, steps and rows
SIZES = [(3, 5, 9, 2), (16, 16, 1, 3), (2, 64, 40, 1), (20, 33, 17, 8)]


def cell_of(name: str, inputs: int, size: int) -> Cell:
    torch.manual_seed(inputs + size)
    cell = CELLS[name](inputs, size)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return cell


def arguments(cell: Cell, inputs: int, steps: int, rows: int, seed: int, share: float = 0.2) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    carry = torch.randn(rows, cell.parts * cell.features, generator=random)
    return (
        torch.randn(steps, rows, inputs, generator=random),
        carry,
        torch.rand(steps, rows, generator=random) < share,
        *(parameter.detach() + 0.01 * seed for parameter in cell.cell.parameters()),
    )


def gradients_of(cell: Cell, asked: Sequence[int], used: str) -> Any:
    """Return a function of a sequence's arguments: a weighted sum of what comes out, and its gradients asked for."""

    def function(*given: Tensor) -> Any:
        with torch.enable_grad():
            tensors = [tensor.clone().requires_grad_(n in asked) for n, tensor in enumerate(given)]
            outputs, after = as_one(cell.sequence, *tensors)
            along = torch.linspace(-1, 2, outputs.numel()).view_as(outputs)
            parts = {"outputs": (outputs * along).sum(), "after": after.square().sum()}
            total = parts[used] if used in parts else parts["outputs"] + parts["after"]
            return total, torch.autograd.grad(total, [tensors[n] for n in asked])

    return function


@each_cell
@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_pytorchs(name: str, size: tuple[int, ...]) -> None:
    """All that is used and asked for is in one program, as compiling takes most of the time."""
    inputs, hidden, steps, rows = size
    cell = cell_of(name, inputs, hidden)
    cases = [(used, asked) for used in ("both", "outputs", "after") for asked in ((3, 4, 5, 6), (0, 1, 3, 4, 5, 6))]
    functions = [gradients_of(cell, asked, used) for used, asked in cases]

    def all_of_them(*given: Tensor) -> Any:
        return tuple([function(*given) for function in functions])

    program = in_cpp(all_of_them, *arguments(cell, inputs, steps, rows, 0))
    assert len(program.calls) == 1, "a cell is left to PyTorch"
    for seed, share in ((1, 0.0), (2, 0.3), (3, 1.0), (2, 0.3)):
        given = arguments(cell, inputs, steps, rows, seed, share)
        exact = all_of_them(*(one.double() if one.is_floating_point() else one for one in given))
        for case, ours, rights in zip(cases, program(*given), exact, strict=True):
            for found, right in zip(tensors_of(ours), tensors_of(rights), strict=True):
                assert (found - right).abs().max() <= 5e-6 * right.abs().max() + 2e-5, case


@each_cell
def test_without_gradients_too(name: str) -> None:
    cell = cell_of(name, 3, 8)

    def function(*given: Tensor) -> Any:
        return as_one(cell.sequence, *given)

    program = in_cpp(function, *arguments(cell, 3, 6, 2, 0))
    assert len(program.calls) == 1
    given = arguments(cell, 3, 6, 2, 1)
    with torch.no_grad():
        torch.testing.assert_close(program(*given), list(function(*given)), rtol=1e-5, atol=1e-6)


@each_cell
def test_what_lies_in_other_orders_is_taken_as_it_is(name: str) -> None:
    cell = cell_of(name, 4, 8)
    function = gradients_of(cell, (0, 3, 4, 5, 6), "both")

    def turned(x: Tensor, *given: Tensor) -> Any:
        total, (of_x, *more) = function(x.transpose(0, 1), *given)
        return total, of_x.transpose(0, 1) * 2, *more

    x, *given = arguments(cell, 4, 7, 3, 1)
    program = in_cpp(turned, x.transpose(0, 1).contiguous() * 0, *map(torch.zeros_like, given))
    x = x.transpose(0, 1).contiguous()
    torch.testing.assert_close(program(x, *given), turned(x, *given), rtol=2e-4, atol=2e-5)


@each_cell
def test_a_large_one_and_other_functions_are_left_to_pytorch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(CELLS[name]):  # type: ignore[misc, name-defined]
        def sequence(self, x: Tensor, *given: Tensor) -> Any:
            return super().sequence(x + 1, *given)

    own = Other(3, 8)
    monkeypatch.setattr(cpp_cells, "MOST_WEIGHTS", 64 * 8 - 1)
    for cell in (own, CELLS[name](3, 64)):
        function = gradients_of(cell, (3, 4, 5, 6), "both")
        program = in_cpp(function, *arguments(cell, 3, 6, 2, 0))
        assert len(program.calls) > 1
        given = arguments(cell, 3, 6, 2, 1)
        torch.testing.assert_close(program(*given), function(*given), rtol=1e-4, atol=1e-5)


def test_a_name_goes_with_a_function_alone() -> None:
    @known_as("lstm")
    def named(x: Tensor) -> Tensor:
        return x

    assert named.known_as == "lstm"
    assert named(torch.ones(1)) == 1
