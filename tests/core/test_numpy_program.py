"""Functions repeated by NumPy: the operations, the memory they share, and what is not taken on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.core.by_numpy.arithmetic import LARGE
from agents.core.by_numpy.program import BY_PYTORCH, NumpyProgram, tensors_of
from agents.core.by_numpy.sums import SHARED
from agents.core.by_numpy.table import OPERATIONS, Untranslated
from agents.core.device import on_one_thread
from agents.core.runtime import Runtime
from agents.core.tracing import Tracer, as_one
from agents.core.watch import repeats_itself

ROWS, COLUMNS = 6, 3
safe_softmax = partial(torch.ops.aten._safe_softmax, dim=-1)
INDEX = torch.tensor([[2], [0], [1], [1], [2], [0]])


def gradients(loss_of: Callable[..., Tensor]) -> Callable[..., Any]:
    """Return a function of tensors that returns the gradients of a loss, and the loss."""

    def function(*inputs: Tensor) -> Any:
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in inputs]
            loss = loss_of(*leaves)
            return (*torch.autograd.grad(loss.sum(), leaves, materialize_grads=True), loss.detach())

    return function


def in_place(x: Tensor, y: Tensor) -> Tensor:
    made = x.clone()
    made.add_(y).mul_(2.0).sub_(y).addcmul_(x, y, value=0.5).lerp_(y, 0.25).lerp_(x, 0.75).neg_()
    made[4].sigmoid_()
    made[:, 0].fill_(3.0)
    made[1:3].copy_(y[1:3])
    made[5].zero_()
    return made.masked_fill_(made > 3, 3.0)


def made(x: Tensor, y: Tensor) -> Any:
    wide = torch.full((COLUMNS,), 2.0) + torch.arange(COLUMNS) + torch.linspace(0, 1, COLUMNS)
    ones, zeros = torch.ones(COLUMNS), torch.zeros(COLUMNS)
    ones.mul_(x[0])
    zeros.add_(y[0])  # what is made anew must be made anew in each call
    empty = torch.empty(COLUMNS).copy_(wide)
    more = torch.empty_like(x).copy_(y), x.new_empty(COLUMNS).copy_(ones), torch.scalar_tensor(3.0) * x[0]
    never, ever = torch.zeros(COLUMNS, dtype=torch.bool), torch.ones(COLUMNS, dtype=torch.bool)
    zeros = torch.where(ever, zeros, 7.0) + never
    return wide + ones + zeros + empty + x.new_ones(COLUMNS) + torch.zeros_like(zeros) + torch.ones_like(x[0]), more


def logic(x: Tensor, y: Tensor) -> Any:
    a, b = x > 0, y > 0
    found = [a & b, a | b, ~a, a.logical_and(b), a.logical_or(b), x.logical_not(), x == y, x != y]
    return (*found, x < y, x <= y, x >= y, x > y, x.isfinite(), x.gt(0.5), x.eq(0.5))


def rows_and_columns(x: Tensor, y: Tensor) -> Any:
    a, b = x.gather(1, INDEX), x.sort(dim=1)
    picked = x.index_select(0, torch.tensor([1, 1, 4])), x.index_select(1, torch.tensor([2, 0])), INDEX % 2
    return (
        *picked,
        a,
        b.values,
        b.indices,
        x[:, torch.tensor([2, 0])],
        x[torch.tensor([0, 5])],
        x.repeat(2, 1),
        y.argmax(1),
    )


def put(x: Tensor, y: Tensor) -> Any:
    rows = torch.arange(ROWS)
    twice = torch.tensor([0, 0, 1, 1, 2, 2])
    return (
        x.index_put([rows, INDEX[:, 0]], y[:, 0]),
        x.index_put([rows, twice], y[:, 0], accumulate=True),
        x.index_put([twice], y, accumulate=True),
        torch.zeros_like(x).scatter(1, INDEX, 1.0),
        x.scatter_add(1, INDEX, y[:, :1]),
    )


def reduced(x: Tensor, y: Tensor) -> Any:
    wide, three = x.repeat(1, 5), torch.stack([x, y, x])
    sums = (
        x.sum(),
        x.sum(0),
        x.sum(1),
        x.sum(1, keepdim=True),
        wide.sum(-1),
        three.sum(0),
        three.sum((0, 2)),
        x[:1].sum(0),
    )
    means = x.mean(), x.mean(0), x.mean(1, keepdim=True), wide.mean(-1), three.mean((1, 2))
    most = x.amax(1), wide.amin(-1, keepdim=True), x.max(), *x.max(1), *wide.max(-1, keepdim=True), three.amax((0, 1))
    std = *torch.std_mean(y[:, 0]), *torch.std_mean(y[:, 1], correction=0)
    norms = torch.linalg.vector_norm(y[:, 0]), F.normalize(y[:, 0], dim=0)
    several = torch.var_mean(three, (0, 1), correction=0), torch.var_mean(three, 1, keepdim=True), x.logsumexp(1)
    return (
        sums,
        means,
        most,
        std,
        norms,
        *torch.var_mean(x, 0),
        x.var(correction=0),
        x.var(1),
        *several,
        (x > 0).sum(),
        (x > 0).sum(0),
    )


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "arithmetic": lambda x, y: (
        x + y, x - y, x * y, x / y, x + 2, 2 - x, x - 2, x / 2, x / 3, 1 / y, -x, x**2, y.abs() ** 1.5,
        x.add(y, alpha=0.5),
        torch.sub(x, y, alpha=2), torch.add(x, 3, alpha=2), x // y, torch.maximum(x, y), torch.minimum(x, y),
        torch.addcmul(x, y, y), torch.addcmul(x, y, x[:, :1], value=0.1), torch.lerp(x, y, 0.3),
        x.reciprocal(), x.floor(),
    ),
    "functions": lambda x, y: (
        x.exp(), x.abs().log(), x.abs().sqrt(), x.abs().rsqrt(), x.tanh(), x.sigmoid(), x.sin(), x.cos(), x.expm1(),
        x.abs().log1p(), F.softplus(10 * x), F.relu(x), (50 * x).sigmoid(), x.abs(), F.softmax(x, -1),
        F.log_softmax(y, -1),
        F.softmax(x.repeat(1, 4), -1), F.log_softmax(100 * x.repeat(1, 4), -1), F.logsigmoid(100 * x),
        safe_softmax(x), safe_softmax(x.masked_fill(x > 0, -math.inf).masked_fill(INDEX > 1, -math.inf)),
        x.cumsum(0), x.cumsum(1), x.chunk(2)[1] + 1, *x.unsafe_split(2, dim=1),
    ),
    "clamped": lambda x, y: (
        x.clamp(-0.5, 0.5), x.clamp(min=0.1), x.clamp(max=0.1), x.clamp_min(0.2), x.clamp_max(0.3),
        torch.clamp(x, y, y + 1),
        torch.where(x > y, x, y), torch.where(x > 0, x, 0.0), x.masked_fill(y > 0, 7.0),
    ),
    "activations": lambda x, y: (F.elu(x), F.gelu(x), F.silu(x)),
    "gradients of activations": gradients(lambda x, y: F.elu(3 * x) + F.gelu(3 * x) * y + F.silu(3 * y)),
    "signs": lambda x, y: (x.sign(), y.isnan()),
    "products": lambda x, y: (
        x @ y.T, x.T @ y, x[:, :1] @ y[:1], F.linear(x, y, y[:, 0]), torch.bmm(x.view(2, 3, 3), y.view(2, 3, 3)),
        torch.baddbmm(x[:1], x.view(2, 3, 3), y.view(2, 3, 3)), x @ y[0], x[0] @ y[0],
    ),
    "put together": lambda x, y: (torch.cat([x, y]), torch.cat([x, y[:, :0], y], 1), torch.stack([x, y], 1),
        x.to(torch.float64),
        x.expand(2, ROWS, COLUMNS).reshape(2, -1), x.T.reshape(-1), x.T.contiguous(), x.long(), x.double().float()),
    "in place": in_place,
    "made": made,
    "logic": logic,
    "picked": rows_and_columns,
    "put": put,
    "reduced": reduced,
    "gradients": gradients(lambda x, y: x.tanh() * y.sigmoid() + F.relu(x) * F.softplus(y) + x.exp() / (1 + y**2)),
    "gradients of gates": gradients(lambda x, y: F.logsigmoid(3 * x) * y + x.unsafe_split(2, dim=1)[0].exp().sum()),
    "gradients of classes": gradients(lambda x, y: F.log_softmax(x, -1).gather(1, INDEX).mean() + (F.softmax(y,
        -1) * x).sum()),
    "gradients of losses": gradients(
        lambda x, y: F.mse_loss(x, y) + F.mse_loss(x, y, reduction="sum") + F.smooth_l1_loss(3 * x, y)
        + F.smooth_l1_loss(3 * x, y, reduction="none").sum() + F.huber_loss(x, 3 * y) + F.mse_loss(x, y,
        reduction="none").sum()
        + F.huber_loss(x, 3 * y, reduction="sum")
    ),
    "gradients of a normalised layer": gradients(lambda x, y: F.layer_norm(x, (COLUMNS,), y[0], y[1]) * x),
    "gradients of a layer without weights": gradients(lambda x, y: F.layer_norm(x.repeat(1, 4),
        (4 * COLUMNS,)) * y.repeat(1, 4)),
    "gradients of indices": gradients(lambda x, y: x[:2].sum() + x[:, 1:, None].sum() + x[INDEX[:, 0], INDEX[:,
        0]] * y[:, 0] + (x.sort(1).values * y).sum(1)),
    "gradients of extremes": gradients(lambda x, y: x.amax(1) + y.max() + x.clamp(-0.5,
        0.5).sum() + torch.minimum(x, y).sum()),
    "gradients of products": gradients(lambda x, y: (x @ y.T).tanh() @ x + F.linear(x, y[:3], y[0])),
}  # fmt: skip


def inputs(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, ROWS, COLUMNS, generator=generator)
    return x, y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_give_what_pytorch_gives(name: str) -> None:
    function = FUNCTIONS[name]
    program = NumpyProgram(function)
    with torch.no_grad():
        program.record(*inputs(0))
        for seed in (0, 1, 2):  # numbers that were there when it was noted are not part of it
            expected, found = function(*inputs(seed)), program(*inputs(seed))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_truth_values_and_small_integers_are_counted_in_large_ones() -> None:
    run = Runtime("numpy").compiled(lambda x: x.sum(-1), state=list)
    for values in (torch.tensor([[True, False, True]]), torch.tensor([[1, 2, 3]], dtype=torch.uint8)):
        assert run(values).equal(values.sum(-1))  # the program is made
    assert run(torch.ones(2, 3, dtype=torch.bool)[:1]).tolist() == [3]
    assert run(torch.tensor([[200, 200, 3]], dtype=torch.uint8)).tolist() == [403]


def test_a_whole_way_ends_where_it_leads() -> None:
    run = Runtime("numpy").compiled(lambda x, y: x.lerp(y, 1.0), state=list)
    for _ in range(2):
        assert run(torch.tensor([1e8]), torch.tensor([1.25])).tolist() == [1.25]


def test_many_numbers_are_squashed_as_few_are() -> None:
    program = NumpyProgram(
        lambda x: (x.tanh(), x.view(-1, 2).tanh().t(), F.relu(x), torch.softmax(x[:1].expand(3, -1), -1))
    )
    program.record(torch.zeros(2 * LARGE))
    x = torch.linspace(-30, 30, 2 * LARGE)
    x[:3] = torch.tensor([math.nan, math.inf, -math.inf])
    expected = x.tanh(), x.tanh().view(-1, 2).t(), F.relu(x), torch.softmax(x[:1].expand(3, -1), -1)
    for found, right in zip(program(x), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=2e-7, equal_nan=True)


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_comes_out_as_pytorch_gives_it(special: float) -> None:
    x, y = inputs(0)
    x[1, 2] = special
    for name in ("arithmetic", "functions", "clamped", "logic"):
        program = NumpyProgram(FUNCTIONS[name])
        program.record(*inputs(1))
        torch.testing.assert_close(program(x, y), FUNCTIONS[name](x, y), equal_nan=True, rtol=1e-5, atol=1e-6)


def test_every_operation_is_tested() -> None:
    with Tracer() as tracer, torch.no_grad():
        for function in FUNCTIONS.values():
            function(*inputs(0))
    assert {noted.name.removesuffix("_") for noted in tracer.noted} >= {*OPERATIONS, *BY_PYTORCH}


def random_function(seed: int) -> Callable[[Tensor, Tensor], Any]:
    """Return a function that makes many tensors, views and changes in place of them, and uses some again."""

    def function(x: Tensor, y: Tensor) -> Any:
        random = np.random.default_rng(seed)
        found = [x, y, x + y, x * y]
        for _ in range(40):
            a, b = (found[index] for index in random.integers(len(found), size=2))
            kind = random.integers(9)
            if kind == 6:  # arguments stay as they are
                new = found[random.integers(2, len(found))].mul_(0.5)
            elif kind == 7:
                new = (a + b)[random.permutation(ROWS).tolist()[0] :].sum(0).expand(ROWS, COLUMNS)
            elif kind == 8:
                new = (a.T @ b) @ torch.ones(COLUMNS, COLUMNS) / 9 + a[:3].repeat(1, 1)
                new = torch.cat([new, new])
            else:
                new = [torch.tanh, torch.neg, torch.abs, torch.sigmoid, torch.cos, torch.relu][kind](a) + 0.1 * b
            found.append(new if random.integers(2) and new._base is None else new.clone())
        return found[-1], found[len(found) // 2], found[3].view(-1)[2:5]

    return function


@pytest.mark.parametrize("seed", range(30))
def test_memory_is_shared_only_by_what_is_not_needed_any_more(seed: int) -> None:
    function = random_function(seed)
    program = NumpyProgram(function)
    program.record(*inputs(0))
    torch.testing.assert_close(program(*inputs(1)), function(*inputs(1)), rtol=1e-4, atol=1e-5)


def test_results_are_not_overwritten_by_the_next_call() -> None:
    program = NumpyProgram(lambda x: {"double": 2 * x, "view": (x + 1)[1:]})
    program.record(torch.zeros(3))
    first = program(torch.ones(3))
    program(torch.full((3,), 5.0))
    assert (first["double"].tolist(), first["view"].tolist()) == ([2.0] * 3, [2.0] * 2)


def test_intermediate_results_share_memory() -> None:
    program = NumpyProgram(lambda x: [x := torch.tanh(x) + 1 for _ in range(50)][-1])
    program.record(torch.zeros(1000))
    blocks = {array.__array_interface__["data"][0] for call in program.calls for array in (call.keywords["out"],)}
    assert len(blocks) == 2  # one for what goes through, one for what is kept


def looking(x: Tensor, weight: Tensor, bias: Tensor) -> Sequence[Tensor]:
    """Two tensors, by operations that depend on the values of `x`."""
    rows = (x[:, 0] > 0).nonzero().squeeze(1)
    picked = torch.tanh(x.index_select(0, rows) @ weight)
    return torch.zeros_like(x).index_copy(0, rows, picked) + bias, (x * bias).sum(0)


@pytest.mark.parametrize("used", ["both", "first", "second"])
def test_what_depends_on_values_is_left_to_pytorch(used: str) -> None:
    """Forward and backward, for other values than were noted; of one argument no gradient is wanted."""

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        weight, bias = y[:COLUMNS] * 0.5, y[5] + 1  # which are needed again by the function's gradient alone
        first, second = as_one(looking, x.detach() + 0.1, weight, bias)
        x = (x * 2 + 1) * 3 - (x + 5)
        both = (first.tanh() * x).sum() if used != "second" else y.sum() * 0
        return both + (second * second).sum() if used != "first" else both

    function = gradients(loss_of)
    program = NumpyProgram(function)
    program.record(*inputs(0))
    assert sum(noted == "_put_several" for noted in (call.func.__name__ for call in program.calls)) == 2
    for seed in (1, 2, 1):
        torch.testing.assert_close(program(*inputs(seed)), function(*inputs(seed)), rtol=1e-5, atol=1e-6)


def test_without_gradients_what_depends_on_values_has_none() -> None:
    learns = []

    def seen(*tensors: Tensor) -> Sequence[Tensor]:
        made = looking(*tensors)
        learns.append(any(each.requires_grad for each in made))
        return made

    program = NumpyProgram(lambda x, y: as_one(seen, x, y[:COLUMNS].requires_grad_(), y[5]))
    with torch.no_grad():
        program.record(*inputs(0))
        program(*inputs(1))
    assert len(program.calls) == 1
    assert learns == [False, False]
    torch.testing.assert_close(program(*inputs(1)), looking(inputs(1)[0], inputs(1)[1][:COLUMNS], inputs(1)[1][5]))


LOOKS: dict[str, Callable[[Tensor], Any]] = {
    "a value": lambda x: x * x.sum().item(),
    "a random number": lambda x: x + torch.rand(3),
    "a shape that depends on values": lambda x: x[x > 0].sum(),
    "an operation that is not there": lambda x: torch.linalg.inv(x.view(1, 1, 3).expand(1, 3, 3) + torch.eye(3)),
    "an argument that is not there": lambda x: x.view(1, 3).argmax(),
}


@pytest.mark.parametrize("what", LOOKS)
def test_what_numpy_cannot_repeat_runs_as_it_is(what: str) -> None:
    total, said = torch.zeros(3), list[str]()
    runtime = Runtime("numpy", torch.device("cpu"))
    runtime.say = said.append

    def function(x: Tensor) -> Tensor:
        total.add_(x)
        return LOOKS[what](x)  # type: ignore[no-any-return]

    with pytest.raises(Untranslated):
        NumpyProgram(function).record(torch.ones(3))
    total.zero_()
    run = runtime.compiled(function, state=lambda: [total])
    run(torch.ones(3))
    run(torch.ones(3))
    assert total.tolist() == [2.0] * 3
    assert said == []


def test_each_set_of_shapes_has_its_program() -> None:
    noted = []

    def function(x: Tensor) -> Tensor:
        noted.append(len(x))
        return x.sum() * 2

    run = Runtime("numpy").compiled(function, state=list)
    for size in (3, 1, 3, 1, 3):
        assert run(torch.ones(size)).item() == 2.0 * size
    assert noted == [3, 1]


def test_a_program_that_would_compute_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATIONS, "tanh", OPERATIONS["sin"])
    count, said = torch.zeros(1), list[str]()
    runtime = Runtime("numpy")
    runtime.say = said.append
    run = runtime.compiled(lambda x: count.add_(1) * x.tanh(), state=lambda: [count])
    assert [run(torch.ones(1)).item() for _ in range(2)] == pytest.approx([math.tanh(1), 2 * math.tanh(1)])
    assert len(said) == 1
    assert said[0].startswith("not by NumPy, runs as it is: Disagreement: number 0 of its outputs is 0.08 from")


def test_only_functions_that_give_their_state_and_repeat_themselves_are_taken_on() -> None:
    plain: Callable[..., Any] = torch.neg
    assert Runtime("numpy").compiled(plain) is plain
    calls = list[int]()
    run = Runtime("numpy").compiled(lambda x: calls.append(1) or -x, state=list, repeats=lambda: False)
    for _ in range(3):
        run(torch.ones(1))
    assert len(calls) == 3


class OfAUser(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x


def test_modules_of_others_hooks_and_replaced_methods_may_do_more_than_compute() -> None:
    def module() -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 2), nn.Tanh())

    assert repeats_itself(module())
    assert not repeats_itself(nn.Sequential(module(), OfAUser(2, 2)))
    for register in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
        hooked = module()
        getattr(hooked[0], register)(lambda *_: None)
        assert not repeats_itself(hooked)
    replaced = module()
    replaced[0].forward = lambda x: x  # type: ignore[method-assign]
    assert not repeats_itself(replaced)


def test_only_arguments_that_are_read_are_copied() -> None:
    def function(x: torch.Tensor, unread: torch.Tensor, returned: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x[1:].neg(), returned

    program = NumpyProgram(function)
    program.record(*torch.zeros(3, 4))
    negated, returned = program(*torch.ones(3, 4))
    assert negated.tolist() == [-1] * 3
    assert returned.tolist() == [1] * 4
    assert [array.tolist() for array in program.inputs] == [[1] * 4, [0] * 4, [1] * 4]


def test_several_threads_share_large_products_alone() -> None:
    def function(x: Tensor, weights: Tensor) -> Tensor:
        return (x @ weights.t() + x[:, :1]) @ weights[:, :2]

    generator = torch.Generator().manual_seed(0)
    rows = SHARED // 256**2
    x, weights, other = (torch.randn(n, 256, generator=generator) for n in (rows, 256, rows))
    with on_one_thread():
        for threads, shared in ((1, 0), (2, 1)):
            torch.set_num_threads(threads)
            program = NumpyProgram(function)
            program.record(other, weights)
            assert sum(isinstance(call, partial) and call.func is torch.mm for call in program.calls) == shared
            torch.testing.assert_close(program(x, weights), function(x, weights), rtol=1e-4, atol=1e-3)


def test_tensors_of_walks_through_trees() -> None:
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
    assert [len(t) for t in tensors_of({"a": a, "b": (b, [c, None, "text"])})] == [1, 2, 3]
