"""NumPy programs in C++: the same numbers, whatever shares memory with what, and loops over rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agents.core.by_numpy.cpp_sums import LANES
from agents.core.by_numpy.program import NumpyProgram, ScanProgram
from agents.core.by_numpy.table import Untranslated
from agents.core.cpp_source import CppFunction
from agents.core.runtime import Runtime
from envs.errors import UserError
from tests.core.kernels import needs_cpp
from tests.core.test_numpy_program import FUNCTIONS, inputs, random_function

pytestmark = needs_cpp
ALL_IN_CPP = {
    *("clamped", "gradients of classes", "gradients of losses", "gradients of products", "made", "products"),
    "put together",
}


def in_cpp(function: Callable[..., Any], *args: Tensor) -> NumpyProgram:
    """Return a program that has noted what a function does of these, in C++."""
    program = NumpyProgram(function)
    with torch.no_grad():
        program.record(*args)
    program.compile()
    return program


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_give_what_pytorch_gives(name: str) -> None:
    program = in_cpp(FUNCTIONS[name], *inputs(0))
    for seed in (0, 1, 2):
        expected = FUNCTIONS[name](*inputs(seed))
        torch.testing.assert_close(program(*inputs(seed)), expected, rtol=1e-4, atol=1e-5)
    if name in ALL_IN_CPP:
        assert len(program.calls) == 1, "what C++ has a text for is left to NumPy"


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_comes_out_as_pytorch_gives_it(special: float) -> None:
    x, y = inputs(0)
    x[1, 2] = special
    for name in ("arithmetic", "functions", "clamped", "logic"):
        program = in_cpp(FUNCTIONS[name], *inputs(1))
        torch.testing.assert_close(program(x, y), FUNCTIONS[name](x, y), equal_nan=True, rtol=1e-5, atol=1e-6)


def test_functions_are_as_good_far_from_zero() -> None:
    edges = torch.tensor([-1e30, 1e30, 0.0, -0.0, 1e-30, 1e-8, 1e-5, 1e-4, 0.2499, 0.2501, 88.5, 88.72, 88.73, -87.0])
    x = torch.cat([torch.linspace(-87, 88, 1_001), edges])
    program = in_cpp(lambda x: (x.exp(), x.tanh(), x.sigmoid(), x.abs().log(), 1 / x.abs()), torch.zeros_like(x))
    for found, right in zip(program(x), (x.exp(), x.tanh(), x.sigmoid(), x.abs().log(), 1 / x.abs()), strict=True):
        torch.testing.assert_close(found, right, rtol=2e-6, atol=1e-37)
    assert program(torch.full_like(x, -math.inf))[0].sum() == 0, "what is masked out has a probability"


@pytest.mark.parametrize("seeds", [range(4), range(4, 8), range(8, 12)])
def test_memory_is_shared_only_by_what_is_not_needed_any_more(seeds: range) -> None:
    """Four functions are in one program, as compiling takes most of the time."""
    functions = [random_function(seed) for seed in seeds]

    def all_of_them(x: Tensor, y: Tensor) -> Any:
        return tuple([function(x, y) for function in functions])

    program = in_cpp(all_of_them, *inputs(0))
    torch.testing.assert_close(program(*inputs(1)), all_of_them(*inputs(1)), rtol=1e-4, atol=1e-5)


def test_a_loop_ends_where_a_number_is_read_that_another_pass_of_it_has_written() -> None:
    def function(x: Tensor) -> Any:
        moved, turned, wide = x.clone(), x[:3, :3].clone(), x.clone()
        moved[1:].mul_(2.0)  # entries of one shape at other places of the same memory
        moved[:-1].add_(moved[1:].clone())
        moved[1:].sub_(moved[:-1].clone())
        turned.add_(1.0)
        turned = turned + turned.t()
        wide[0].mul_(3.0)  # a row that all others read then
        picked = wide.add(wide[0])[torch.tensor([5, 0, 0, 2, 1, 4])]
        backwards = (x[:, 0] * 2).index_select(0, torch.tensor([5, 4, 3, 2, 1, 0]))
        return moved, turned, picked, backwards, wide.index_select(0, torch.tensor([1, 1])) * 2

    program = in_cpp(function, torch.zeros(6, 5))
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(program(x), function(x))


def test_products_of_all_shapes_and_orders() -> None:
    sizes = [1, 2, 3, LANES - 1, LANES, LANES + 1, 4 * LANES, 5 * LANES + 3]
    shapes = [(m, k, n) for m in sizes for k in (1, 5, 2 * LANES, 70) for n in sizes]
    random = torch.Generator().manual_seed(0)
    for part in range(4):
        pairs = []
        for m, k, n in shapes[part::4]:
            pairs += [torch.randn(m, k, generator=random), torch.randn(k, n, generator=random)]
            if part % 2:
                pairs[-2] = pairs[-2].t().contiguous().t()
            if part > 1:
                pairs[-1] = pairs[-1].t().contiguous().t()

        def products(*found: Tensor) -> tuple[Tensor, ...]:
            return tuple([a @ b for a, b in zip(found[::2], found[1::2], strict=True)])

        program = in_cpp(products, *map(torch.zeros_like, pairs))
        assert len(program.calls) == 1
        for found, right in zip(program(*pairs), products(*pairs), strict=True):
            torch.testing.assert_close(found, right, rtol=1e-5, atol=3e-5)


def test_places_beyond_an_end_read_and_write_nothing_else() -> None:
    """PyTorch refuses them; what runs without looking stays within its arrays."""
    x, places = torch.arange(6.0).view(3, 2), torch.tensor([0, 1])
    program = in_cpp(lambda x, places: x.index_select(0, places), x, places)
    assert program(x, torch.tensor([-5, 99])).tolist() == [[0.0, 1.0], [4.0, 5.0]]


def test_whole_numbers_are_divided_as_pythons_are() -> None:
    x = torch.arange(-7, 8)
    program = in_cpp(lambda x: (x % 3, x // 3, x.float() % 0.75, x.floor()), x)
    assert len(program.calls) == 1
    large = x + 2**60  # beyond what a float64 tells apart
    torch.testing.assert_close(program(large), (large % 3, large // 3, large.float() % 0.75, large))
    torch.testing.assert_close(program(x)[2], x.float() % 0.75)
    real = torch.tensor([1.0, 3.0, 0.7, -1.0])
    assert in_cpp(lambda x: x // 0.1, real)(real).equal(real // 0.1)


def test_sums_of_many_numbers_are_exact() -> None:
    shapes = [(200_000, 2), (80_000, 3), (3, 70_000), (1_003,)]
    given = [torch.full(shape, 0.1) for shape in shapes]

    def sums(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, ...]:
        return a[:, 0].mean(), b.mean(0), b.t().sum((0, 1)), b.sum(0), c.sum(1), c.mean(1), d.sum(), c.t().sum(0)

    for found, right in zip(in_cpp(sums, *given)(*given), sums(*[x.double() for x in given]), strict=True):
        torch.testing.assert_close(found.double(), right, rtol=3e-5, atol=0)


def test_classes_and_layers_far_from_zero() -> None:
    rows = torch.tensor([[-1e8] * 4, [1e6] * 4, [1e4, 1e4 - 1, 0, 0], [torch.finfo(torch.float32).min] * 4])
    program = in_cpp(lambda x: (x.log_softmax(-1), x.softmax(-1)), rows)
    torch.testing.assert_close(program(rows), (rows.log_softmax(-1), rows.softmax(-1)))
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) + 1e4

    def normal(x: Tensor) -> tuple[Tensor, ...]:
        halves = x.view(-1, 8, 8)
        return F.layer_norm(x, (64,)), F.layer_norm(halves, (8, 8)), F.layer_norm(x[:, :1], (1,))

    for found, right in zip(in_cpp(normal, x)(x), normal(x.double()), strict=True):
        torch.testing.assert_close(found.double(), right, rtol=1e-3, atol=3e-4)


def test_equal_numbers_stay_equal() -> None:
    x = torch.tensor([0.1, 0.3, 0.7, 1.1])
    assert in_cpp(lambda x, y: ((x * x) - (y * y)).sqrt(), x, x)(x, x).tolist() == [0.0] * 4


def test_doubles_and_single_numbers_are_told_of_too() -> None:
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    program = in_cpp(lambda x: (x * 3 + x.exp(), F.softplus(x.float(), 1, 0.5)), x)
    torch.testing.assert_close(program(x), (x * 3 + x.exp(), F.softplus(x.float(), 1, 0.5)))
    one = torch.tensor(2.0)
    torch.testing.assert_close(in_cpp(lambda x: x.softmax(0) + x, one)(one), torch.tensor(3.0))


def test_other_types_get_another_program() -> None:
    runtime = Runtime("on", torch.device("cpu"))
    run = runtime.scanned(lambda f, row: row * f, lambda f, each: each * f, lambda: 0, list, lambda: True)
    for kind in (torch.float32, torch.float64, torch.float32):
        assert run(torch.ones(3, dtype=kind), torch.full((4, 3), 2.0, dtype=kind)).tolist() == [[2.0] * 3] * 4


def test_a_flag_of_any_byte_is_a_flag() -> None:
    """As in memory that was never written, which a window of n steps may reach beyond its end."""
    x = torch.tensor([0, 1, 2, 255] * 4, dtype=torch.uint8).view(torch.bool)
    program = in_cpp(
        lambda x, i: ((x | x).to(torch.uint8) + 1, x.index_select(0, i) & x[:4], x.sum()), x, torch.arange(4)
    )
    found = program(x, torch.arange(4))
    assert [each.tolist() for each in found] == [[1, 2, 2, 2] * 4, [False, True, True, True], 12]


def test_results_are_not_overwritten_by_the_next_call() -> None:
    program = in_cpp(lambda x: {"double": 2 * x, "view": (x + 1)[1:]}, torch.zeros(3))
    first = program(torch.ones(3))
    program(torch.full((3,), 5.0))
    assert (first["double"].tolist(), first["view"].tolist()) == ([2.0] * 3, [2.0] * 2)


def steps(total: Tensor) -> Callable[..., Any]:
    """Return a function that moves `total` and says where it was."""

    def function(fixed: tuple[Tensor, dict[str, Tensor]], row: tuple[Tensor, Tensor]) -> dict[str, Any]:
        data, (places, rate) = fixed[0] + fixed[1]["more"], row
        total.mul_(0.5).add_(data.index_select(0, places).sum(0) * rate)
        return {"total": total * 2, "size": (total.norm(), rate + 1)}

    return function


def test_rows_are_gone_through_one_after_the_other() -> None:
    generator, mine, right = torch.Generator().manual_seed(0), torch.ones(4), torch.ones(4)
    scan = ScanProgram(steps(mine))
    for _ in range(3):
        fixed = torch.randn(10, 4, generator=generator), {"more": torch.randn(4, generator=generator)}
        each = torch.randint(10, (7, 3), generator=generator), torch.rand(7, generator=generator)
        with torch.no_grad():
            expected = [steps(right)(fixed, row) for row in zip(*each, strict=True)]
            found = scan(fixed, each)
        torch.testing.assert_close(found["total"], torch.stack([one["total"] for one in expected]))
        for i in (0, 1):
            torch.testing.assert_close(found["size"][i], torch.stack([one["size"][i] for one in expected]))
        torch.testing.assert_close(mine, right)


def test_a_loop_needs_all_of_its_operations_in_cpp() -> None:
    with pytest.raises(Untranslated, match="no text"):
        ScanProgram(lambda fixed, row: fixed.cumsum(0) + row)(torch.ones(3), torch.ones(2))
    with pytest.raises(Untranslated, match="gaps"):
        ScanProgram(lambda fixed, row: (fixed + row)[::2])(torch.ones(3), torch.ones(2))


@pytest.mark.parametrize("kind", ["in one loop", "cannot be one", "is another function", "hooks"])
def test_the_runtime_scans_or_does_what_it_was_told_otherwise(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    total, otherwise, said = torch.zeros(2), list[int](), list[str]()
    runtime = Runtime("on", torch.device("cpu"))
    runtime.say = said.append

    def step(fixed: Tensor, row: Tensor) -> Tensor:
        total.add_(row)
        return (total * fixed).cumsum(0) if kind == "cannot be one" else total * fixed

    def in_turn(fixed: Tensor, each: Tensor) -> Tensor:
        otherwise.append(len(each))
        return torch.stack([step(fixed, row) for row in each])

    if kind == "is another function":
        monkeypatch.setitem(ScanProgram.__call__.__globals__, "looped", lambda *_: lambda *_: None)
    run = runtime.scanned(step, in_turn, lambda: 0, lambda: [total], lambda: kind != "hooks")
    for n in (3, 3, 1):
        total.zero_()
        found = run(torch.ones(2), torch.ones(n, 2))
        assert total.tolist() == [n, n]
        assert found[-1, 0].item() == n
    assert otherwise == ([] if kind == "in one loop" else [3, 3, 1])
    disagreements = [one for one in said if "not in one loop, runs as it is: Disagreement" in one]
    assert len(disagreements) == len(said) == (2 if kind == "is another function" else 0)


def test_a_compiler_that_fails_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CppFunction, *_: Any) -> None:
        raise UserError("it does not work")

    monkeypatch.setattr(CppFunction, "__init__", fail)
    with pytest.raises(UserError, match="does not work"):
        in_cpp(lambda x: x + 1, torch.ones(1))
