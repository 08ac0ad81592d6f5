"""Operations written in Triton and C++: what each is in PyTorch, or a refusal in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.acting.emitted import OPERATIONS
from agents.acting.emitting import ENVS, Refused
from agents.acting.in_cpp import Cpp
from agents.acting.in_triton import Triton
from agents.core.cpp_source import CppFunction
from agents.core.tracing import Tracer
from agents.core.triton_source import kernel_of
from tests.core.kernels import DEVICE, needs_cpp, needs_triton


def evaluated(language, function, *tensors):
    """Return what a function makes of `[N]` or `[k, N]` tensors, run as it is and from what is emitted."""
    device = DEVICE if language is Triton else torch.device("cpu")
    padded = [torch.zeros(*x.shape[:-1], ENVS, dtype=x.dtype, device=device) for x in tensors]
    with torch.no_grad(), Tracer() as tracer:
        result = function(*padded)
    emitter = language(tracer.noted, device, set())
    for i, x in enumerate(padded):
        entries = np.empty(emitter.shape(x), object)
        for k, index in enumerate(np.ndindex(*entries.shape)):
            entries[index] = emitter.name(emitter.read(f"x{i}", f"({k} * n + place)"), fixed=False)
        emitter.give(x, entries)
    emitter.run(OPERATIONS)
    names = enumerate(emitter.names(result).entries.flat)
    lines = [emitter.written("y", f"({k} * n + place)", name) for k, name in names]
    given = [x.to(device) for x in tensors]
    wanted = function(*given)
    y = torch.empty_like(wanted)
    groups = [("x", given), ("p", emitter.held)]
    types = {f"{name}{i}": one.dtype for name, group in groups for i, one in enumerate(group)} | {"y": y.dtype}
    text, arguments = emitter.kernel(types, {}, lines, [], []), (*given, *emitter.held, y)
    if language is Cpp:
        CppFunction(text)(1, tensors[0].shape[-1], arguments)
    else:
        kernel_of(text)[(1,)](1, tensors[0].shape[-1], *arguments)
    return y, wanted


X = torch.tensor([-7.5, -3.0, -1.0, -0.25, 0.0, 0.5, 2.0, 9.75], dtype=torch.float64)
K = torch.tensor([-7, -3, -1, 0, 1, 2, 5, 8])


def one_hot(x, k):
    zeros = torch.zeros(len(x), 3, dtype=torch.int64, device=x.device)
    return zeros.scatter_(-1, (k % 3).unsqueeze(-1), 1).T.contiguous()


def changed_in_place(x, k):
    y = torch.stack([x, x * 2, x * 3])
    y[0] = k
    y[1:] -= 1
    y[2].clamp_(min=0)
    z = y.clone()
    z += y
    return torch.cat([y, z[:1].neg()])


@pytest.mark.parametrize("language", [pytest.param(Triton, marks=needs_triton), pytest.param(Cpp, marks=needs_cpp)])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, k: x % 2.5,
        lambda x, k: x % -2.5,
        lambda x, k: k % 3,
        lambda x, k: k // -3,
        lambda x, k: torch.where(k > 1, 1 / 3, x),  # not rounded to float32
        lambda x, k: k * 0.1 + x,  # float32, then float64
        lambda x, k: k / 3,
        lambda x, k: (x > k) * 1 - (x == k) * 2.0,
        lambda x, k: x + 1e-12 > x,
        lambda x, k: ~(k > 0) | (x < 0),
        lambda x, k: ~k,
        lambda x, k: k & 3 ^ 1,
        lambda x, k: x.long() + k.float().long(),
        lambda x, k: torch.stack([x, k * 1.0, -x]).argmax(0),
        lambda x, k: torch.stack([-x, x, x.abs()]).argmax(0),  # the first of equal ones
        lambda x, k: torch.stack([x, k * 1.0, -x]).amax(0),
        lambda x, k: torch.stack([x, x, x])[1:].sum(0) + torch.stack([x, x])[:, None].transpose(0, 1).reshape(2, -1)[0],
        lambda x, k: torch.maximum(x, torch.tensor(0.3)).clip(max=4.0).sqrt(),
        lambda x, k: x * torch.tensor([1.0, 2.0], dtype=torch.float64, device=x.device)[:, None],
        lambda x, k: torch.full_like(x, 3.5) + torch.ones_like(x) + x**3 + x.floor() + x.ceil(),
        one_hot,
        changed_in_place,
    ],
)
def test_an_operation_is_what_it_is_in_torch(function, language):
    got, wanted = evaluated(language, function, X, K)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)


ELSEWHERE = torch.zeros(ENVS)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, k: x.sum(0), "environments are not apart from each other"),
        (lambda x, k: x.flip(0), "operation flip is not written out"),
        (lambda x, k: x.cumsum(0), "operation cumsum is not written out"),
        (lambda x, k: x.view(1, -1)[:, :100], "environments are not apart from each other"),
        (lambda x, k: k + torch.ones(2).sum().item(), "operation _local_scalar_dense is not written out"),
        (lambda x, k: x.pow(1.5), "a power other than 2, 3, 0.5, 1 and -1 is not written out"),
        (lambda x, k: x + ELSEWHERE, rf"a tensor \[{ENVS}\] comes from elsewhere"),
        (lambda x, k: x.half(), "numbers are torch.float64 and become torch.float16"),
    ],
)
@pytest.mark.parametrize("language", [Triton, Cpp])
def test_what_is_not_of_single_environments_is_refused(function, reason, language):
    inputs = torch.zeros(ENVS, dtype=torch.float64), torch.zeros(ENVS, dtype=torch.int64)
    with torch.no_grad(), Tracer() as tracer:
        function(*inputs)
    emitter = language(tracer.noted, torch.device("cpu"), set())
    for x, name in zip(inputs, "xk", strict=True):
        emitter.give(x, np.array(name, object))
    with pytest.raises(Refused, match=reason):
        emitter.run(OPERATIONS)
